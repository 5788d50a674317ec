//! Reading needs no sending: a device that is in a Matrix room and not in its group gets in by
//! itself, after a while, though its user never says anything. Many rooms do not make a storm of
//! it.
//!
//! The clock belongs to the process, so these tests run one after the other.

use matrix_mls::RoomSettings;
use matrix_mls_kit::{
    Client, Clock, Homeserver, OrMissing as _, Result, is_commit,
    together::{all_talk, log_in, pair, quiet, texts, two_phones},
};

const SECOND_MS: u64 = 1_000;
const DAY_MS: u64 = 24 * 60 * 60 * SECOND_MS;

/// The commits that a device has sent to a room.
async fn commits_of(client: &Client, room: &str) -> Result<usize> {
    let history = client.history(room).await?.into_iter();
    let own = history.filter(|event| is_commit(event) && event["sender"] == client.user_id());
    Ok(own.filter(|event| event["content"]["sender"][1] == client.device_id()).count())
}

#[tokio::test]
async fn a_reader_whose_welcome_was_lost_gets_in_by_itself() -> Result {
    let clock = Clock::take().await;
    clock.stop();
    let homeserver = Homeserver::embedded()?;
    let controls = homeserver.controls().or_missing("controls")?;
    let (alice, bob) = two_phones(&homeserver).await?;
    // No to-device message ever reaches Bob.
    controls.hold_to_device(bob.user_id());
    let room = alice.create_group(&[&bob], RoomSettings::default()).await?;
    alice.send_text(&room, "lost on him").await?;
    assert_eq!(alice.members(&room).await?.len(), 2);
    quiet(&[&alice, &bob]).await;
    assert_eq!(commits_of(&bob, &room).await?, 0, "a Welcome may take a while");
    assert!(texts(&bob, &room).await.is_empty());
    // He syncs and drives, and says nothing.
    clock.pass(40 * SECOND_MS);
    quiet(&[&alice, &bob]).await;
    assert_eq!(commits_of(&bob, &room).await?, 1);
    alice.send_text(&room, "he reads this").await?;
    quiet(&[&alice, &bob]).await;
    assert_eq!(texts(&bob, &room).await, ["he reads this"]);
    assert_eq!(alice.members(&room).await?.len(), 2, "his leaf was replaced");
    for _ in 0..10 {
        clock.pass(DAY_MS / 20);
        quiet(&[&alice, &bob]).await;
    }
    assert_eq!(commits_of(&bob, &room).await?, 1, "once is enough");
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

#[tokio::test]
async fn a_welcome_in_time_needs_no_commit() -> Result {
    let clock = Clock::take().await;
    clock.stop();
    let homeserver = Homeserver::embedded()?;
    let controls = homeserver.controls().or_missing("controls")?;
    let (alice, bob) = two_phones(&homeserver).await?;
    controls.hold_to_device(bob.user_id());
    let room = alice.create_group(&[&bob], RoomSettings::default()).await?;
    alice.send_text(&room, "first").await?;
    quiet(&[&alice, &bob]).await;
    clock.pass(20 * SECOND_MS);
    bob.settle().await?;
    controls.release_to_device(bob.user_id());
    bob.settle().await?;
    clock.pass(DAY_MS);
    quiet(&[&alice, &bob]).await;
    assert_eq!(commits_of(&bob, &room).await?, 0);
    assert_eq!(texts(&bob, &room).await, ["first"]);
    Ok(())
}

/// Nobody adds the new phone, in many rooms. It comes into all of them, no faster than a homeserver
/// allows a user to send, and what its user says comes first.
#[tokio::test]
async fn a_new_device_in_many_rooms_makes_no_storm() -> Result {
    const ROOMS: usize = 16;
    let clock = Clock::take().await;
    clock.stop();
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, first) = pair(&homeserver).await;
    let mut rooms = vec![first];
    for _ in 1..ROOMS {
        let room = alice.create_group(&[&bob], RoomSettings::default()).await?;
        alice.send_text(&room, "hello").await?;
        rooms.push(room);
    }
    quiet(&[&alice, &bob]).await;
    let tablet = log_in(&homeserver, "bob", "TABLET").await?;
    let mut made: Vec<(u64, usize)> = Vec::new();
    let began = clock.now_ms();
    for step in 0..60 {
        clock.pass(5 * SECOND_MS);
        tablet.settle().await?;
        if step == 10 {
            // In the middle of it.
            let last = rooms.last().or_missing("room")?;
            tablet.send_text(last, "me first").await?;
            assert_eq!(commits_of(&tablet, last).await?, 1);
        }
        let mut all = 0;
        for room in &rooms {
            all += commits_of(&tablet, room).await?;
        }
        made.push((clock.now_ms() - began, all));
        if all == ROOMS {
            break;
        }
    }
    assert_eq!(made.last().map(|(_, all)| *all), Some(ROOMS), "{made:?}");
    // Half of what Synapse allows by default is for others: ten at once, and one in five seconds.
    for (at, all) in &made {
        let most = 5 + usize::try_from(at.saturating_sub(30 * SECOND_MS) / (10 * SECOND_MS))?;
        assert!(*all <= most + 1, "{all} after {at} ms: {made:?}");
    }
    quiet(&[&alice, &bob, &tablet]).await;
    for room in &rooms {
        assert_eq!(alice.members(room).await?.len(), 3);
        assert!(commits_of(&tablet, room).await? == 1);
    }
    Ok(())
}

/// A room that nobody has made a group for is left alone.
#[tokio::test]
async fn a_room_without_a_group_is_no_reason_to_look_for_one() -> Result {
    let clock = Clock::take().await;
    clock.stop();
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let room = alice.create_room(&[&bob]).await?;
    bob.join(&room).await?;
    quiet(&[&alice, &bob]).await;
    let controls = homeserver.controls().or_missing("controls")?;
    controls.clear_requests();
    clock.pass(DAY_MS);
    quiet(&[&alice, &bob]).await;
    let pages = controls.requests().into_iter().filter(|made| made.path.contains("/messages"));
    assert_eq!(pages.count(), 0);
    // The group is made in the end, and both are in it.
    alice.enable(&room, RoomSettings::default()).await?;
    alice.send_text(&room, "first").await?;
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}
