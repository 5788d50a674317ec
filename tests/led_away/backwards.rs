//! Commits that come newest first, as from scrollback or from a homeserver that means ill.

use matrix_mls::test_hooks::tried_events;
use matrix_mls_kit::Result;
use serde_json::json;

use super::Trio;

/// How often an event is tried until Alice has taken in so many commits of a member's, in order or
/// with the last one first.
async fn tries_for(commits: usize, newest_first: bool) -> Result<u64> {
    let mut trio = Trio::new().await?;
    let mut events = Vec::new();
    for number in 0..commits {
        let mut content = trio.mallory.renewal(&trio.creator, &trio.at);
        content["padding"] = json!("x".repeat(30_000));
        trio.at = format!("$commit-{number}:embedded.test");
        trio.creator = trio.mallory.name();
        let event = json!({
            "type": "m.room.encrypted", "event_id": trio.at, "sender": trio.mallory.peer.user,
            "content": content,
        });
        events.push(event.to_string());
    }
    if newest_first {
        events.reverse();
    }
    let room = trio.alice.room(&trio.room).await?;
    let last = trio.mallory.peer.group().epoch().as_u64();
    let before = tried_events();
    room.receive_events(events).await?;
    // Some of it may be left for the next calls.
    for _ in 0..20 {
        if room.epochs().await?.iter().any(|epoch| epoch.is_head && epoch.epoch == last) {
            return Ok(tried_events() - before);
        }
        room.receive_events(Vec::new()).await?;
    }
    panic!("of {commits} commits not all were followed; newest first: {newest_first}");
}

/// A commit that waits is tried when what it is based on is there, and not with each that comes.
#[tokio::test]
async fn commits_delivered_backwards_cost_a_bounded_amount_of_work() -> Result {
    let commits = 300;
    assert_eq!(tries_for(commits, false).await?, commits as u64, "in order each is tried once");
    let backwards = tries_for(commits, true).await?;
    assert!(backwards <= 4 * commits as u64, "{commits} commits backwards: {backwards} tries");
    Ok(())
}
