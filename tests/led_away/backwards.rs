//! Commits that come newest first, as from scrollback or from a homeserver that means ill.

use std::time::{Duration, Instant};

use matrix_mls_kit::Result;
use serde_json::json;

use super::Trio;

/// The shortest of three tries: the machine has other work, too.
async fn shortest_time_for(commits: usize, newest_first: bool) -> Result<Duration> {
    let mut shortest = time_for(commits, newest_first).await?;
    for _ in 0..2 {
        shortest = shortest.min(time_for(commits, newest_first).await?);
    }
    Ok(shortest)
}

/// How long Alice takes to take in so many commits of a member's, in order or with the last one
/// first.
async fn time_for(commits: usize, newest_first: bool) -> Result<Duration> {
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
    let began = Instant::now();
    room.receive_events(events).await?;
    // Some of it may be left for the next calls.
    for _ in 0..20 {
        if room.epochs().await?.iter().any(|epoch| epoch.is_head && epoch.epoch == last) {
            return Ok(began.elapsed());
        }
        room.receive_events(Vec::new()).await?;
    }
    panic!("of {commits} commits not all were followed; newest first: {newest_first}");
}

/// Twice as many may take four times as long, and the same ones four times as long as in order: no
/// more.
#[tokio::test]
async fn commits_delivered_backwards_cost_a_bounded_amount_of_work() -> Result {
    // What is looked for is quadratic work, which took most of a minute here; a busy machine does not.
    let slack = Duration::from_secs(10);
    let in_order = shortest_time_for(300, false).await?;
    let half = shortest_time_for(150, true).await?;
    let all = shortest_time_for(300, true).await?;
    let found =
        format!("300 commits in order {in_order:.1?}; backwards 150 {half:.1?}, 300 {all:.1?}");
    assert!(all <= half * 4 + slack && all <= in_order * 4 + slack, "{found}");
    Ok(())
}
