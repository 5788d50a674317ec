//! History for whoever comes in by themselves: nobody has added them, so they ask.

use matrix_mls::{RoomSettings, SyncChanges};
use matrix_mls_kit::{
    Client, Clock, Homeserver, OrMissing as _, Result,
    cross_signing::CrossSigning,
    feed, is_commit,
    together::{all_talk, phone_of, quiet, texts, two_phones},
};
use serde_json::{Value, json};

const MINUTE_MS: u64 = 60 * 1000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

fn sharing() -> RoomSettings {
    RoomSettings { share_history: true, ..RoomSettings::default() }
}

/// Alice and Bob in a room that shows its past, where they have said something.
async fn room(alice: &Client, bob: &Client) -> Result<String> {
    let room = alice.create_group(&[bob], sharing()).await?;
    quiet(&[alice, bob]).await;
    bob.set_settings(&room, sharing()).await?;
    alice.send_text(&room, "hello").await?;
    quiet(&[alice, bob]).await;
    bob.send_text(&room, "hello, Alice").await?;
    quiet(&[alice, bob]).await;
    Ok(room)
}

/// Carol comes into the room by herself, while everybody else is away.
async fn come_in(carol: &Client, alice: &Client, room: &str) -> Result {
    alice.invite(room, carol.user_id()).await?;
    carol.join(room).await?;
    carol.settle().await?;
    carol.set_settings(room, sharing()).await?;
    carol.join_externally(room).await?;
    carol.settle().await?;
    carol.members(room).await?;
    Ok(())
}

async fn reads_the_past(carol: &Client, room: &str) -> bool {
    texts(carol, room).await.starts_with(&["hello".to_owned(), "hello, Alice".to_owned()])
}

#[tokio::test]
async fn who_comes_in_alone_is_given_what_was_said_before() -> Result {
    let clock = Clock::take().await;
    clock.stop();
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let room = room(&alice, &bob).await?;
    let carol = phone_of(&homeserver, "carol").await?;
    CrossSigning::bootstrap(&carol).await?;
    come_in(&carol, &alice, &room).await?;
    assert!(!reads_the_past(&carol, &room).await);
    quiet(&[&alice, &bob, &carol]).await;
    assert!(reads_the_past(&carol, &room).await, "{:?}", texts(&carol, &room).await);
    all_talk(&[&alice, &bob, &carol], &room).await;
    Ok(())
}

/// Whoever is asked first is away for good. The next is asked ten minutes later.
#[tokio::test]
async fn another_member_is_asked_where_one_is_away() -> Result {
    for away in ["alice", "bob"] {
        let clock = Clock::take().await;
        clock.stop();
        let homeserver = Homeserver::embedded()?;
        let (alice, bob) = two_phones(&homeserver).await?;
        let room = room(&alice, &bob).await?;
        let carol = phone_of(&homeserver, "carol").await?;
        CrossSigning::bootstrap(&carol).await?;
        come_in(&carol, &alice, &room).await?;
        let here = if away == "alice" { &bob } else { &alice };
        for _ in 0..3 {
            quiet(&[here, &carol]).await;
            clock.pass(11 * MINUTE_MS);
        }
        assert!(reads_the_past(&carol, &room).await, "{away} is away");
    }
    Ok(())
}

/// A homeserver can let a device of its own in where the policy allows that. It is told nothing of
/// the past, until its owner has signed it.
#[tokio::test]
async fn a_device_that_nobody_has_signed_is_given_nothing() -> Result {
    let clock = Clock::take().await;
    clock.stop();
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let room = room(&alice, &bob).await?;
    let carol = phone_of(&homeserver, "carol").await?;
    come_in(&carol, &alice, &room).await?;
    for _ in 0..3 {
        quiet(&[&alice, &bob, &carol]).await;
        clock.pass(11 * MINUTE_MS);
    }
    all_talk(&[&alice, &bob, &carol], &room).await;
    assert!(!reads_the_past(&carol, &room).await);
    CrossSigning::bootstrap(&carol).await?;
    quiet(&[&alice, &bob, &carol]).await;
    assert!(reads_the_past(&carol, &room).await);
    Ok(())
}

/// A member asks without end, for devices that there are not. It gets nothing, and whoever comes in
/// honestly still does.
#[tokio::test]
async fn questions_without_end_cost_little_and_stop_nobody() -> Result {
    let clock = Clock::take().await;
    clock.stop();
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let room = room(&alice, &bob).await?;
    let events = alice.history(&room).await?;
    let commit = events.iter().find(|event| is_commit(event)).or_missing("commit")?;
    let commit = commit["event_id"].as_str().or_missing("event id")?.to_owned();
    let ask = |device: &str| -> Value {
        json!({
            "type": "m.room.encrypted", "sender": bob.user_id(),
            "content": {
                "algorithm": "org.matrix.msc2883.v1.dmls.history_request.dhkemx25519-aes128gcm-sha256-ed25519",
                "room_id": room, "sender": [bob.user_id(), device], "commit_event": commit,
            },
        })
    };
    for number in 0..200 {
        let event = ask(&format!("DEVICE{number}")).to_string();
        let changes = SyncChanges { to_device: vec![event], ..feed() };
        alice.machine()?.receive_sync(changes).await?;
    }
    let carol = phone_of(&homeserver, "carol").await?;
    CrossSigning::bootstrap(&carol).await?;
    come_in(&carol, &alice, &room).await?;
    for _ in 0..3 {
        quiet(&[&alice, &carol]).await;
        clock.pass(11 * MINUTE_MS);
    }
    assert!(reads_the_past(&carol, &room).await);
    clock.pass(2 * DAY_MS);
    quiet(&[&alice, &bob, &carol]).await;
    all_talk(&[&alice, &bob, &carol], &room).await;
    Ok(())
}
