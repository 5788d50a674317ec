//! Reading needs no sending: a device that is in a Matrix room and not in its group gets in by
//! itself, after a while, though its user never says anything. Many rooms do not make a storm of
//! it.
//!
//! The clock belongs to the process, so these tests run one after the other.

use matrix_mls::RoomSettings;
use matrix_mls_kit::{
    Client, Clock, Fields as _, Homeserver, OrMissing as _, Result,
    other::Other,
    peer::{ALGORITHM, from_base64},
    together::{all_talk, log_in, pair, quiet, texts, two_phones},
};
use openmls::prelude::MlsGroup;
use serde_json::json;

const SECOND_MS: u64 = 1_000;
const DAY_MS: u64 = 24 * 60 * 60 * SECOND_MS;

/// The commits that a device has sent to a room.
async fn commits_of(client: &Client, room: &str) -> Result<usize> {
    let commits = client.commits(room).await?.into_iter();
    let own = commits.filter(|event| event["sender"] == client.user_id());
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

/// Rooms of Carol's that Bob is in, each with a group in which she is alone.
async fn rooms_of(carol: &mut Other, bob: &Client, many: usize) -> Result<Vec<(String, MlsGroup)>> {
    let mut rooms = Vec::with_capacity(many);
    for _ in 0..many {
        let request = json!({
            "preset": "private_chat", "invite": [bob.user_id()],
            "creation_content": { "encryption": { "algorithm": ALGORITHM } },
        });
        let answer = carol.http.post("/_matrix/client/v3/createRoom", request).await?;
        let room = answer.text("room_id")?.to_owned();
        bob.join(&room).await?;
        carol.peer.create(&room, true);
        let state = carol.peer.group_info();
        carol.send(&room, carol.announcement(&state)).await;
        rooms.push((room, carol.peer.group.take().or_missing("group")?));
    }
    Ok(rooms)
}

/// Nobody adds the new phone, in many rooms. It comes into all of them, no faster than a homeserver
/// allows a user to send, and what its user says comes first.
#[tokio::test]
async fn a_new_device_in_many_rooms_makes_no_storm() -> Result {
    /// With the phones of Alice and Bob in them.
    const ALICES: usize = 4;
    /// With them, those of Carol's.
    const ROOMS: usize = 100;
    let clock = Clock::take().await;
    clock.stop();
    let homeserver = Homeserver::embedded()?;
    let controls = homeserver.controls().or_missing("controls")?;
    let (alice, bob, first) = pair(&homeserver).await;
    let mut alices = vec![first];
    for _ in 1..ALICES {
        let room = alice.create_group(&[&bob], RoomSettings::default()).await?;
        alice.send_text(&room, "hello").await?;
        alices.push(room);
    }
    quiet(&[&alice, &bob]).await;
    let mut carol = Other::register(&homeserver, "carol").await;
    let carols = rooms_of(&mut carol, &bob, ROOMS - ALICES).await?;
    let tablet = log_in(&homeserver, "bob", "TABLET").await?;
    controls.clear_requests();
    // Half of what Synapse allows by default is for others: ten at once, and one in five seconds.
    // The commit that comes with what the user says is one more.
    let allowed = |ms: u64| -> Result<usize> {
        Ok(5 + 1 + usize::try_from(ms.saturating_sub(30 * SECOND_MS) / (10 * SECOND_MS))?)
    };
    // What it has sent by when, but for what its user says.
    let mut made: Vec<(u64, usize)> = Vec::new();
    let (mut all, mut passed_ms) = (0, 0);
    for step in 0..ROOMS {
        // Closely at first.
        let pause_ms = if step < 12 { 5 } else { 40 } * SECOND_MS;
        clock.pass(pause_ms);
        passed_ms += pause_ms;
        tablet.settle().await?;
        let is_said = step == 10;
        if is_said {
            // In the middle of it, in a room that it is not in yet. Nobody else is to be added.
            let mut waiting = None;
            for room in &alices {
                if commits_of(&tablet, room).await? == 0 {
                    waiting = Some(room);
                    break;
                }
            }
            let room = waiting.or_missing("room to come into")?;
            tablet.send_text(room, "me first").await?;
            assert_eq!(commits_of(&tablet, room).await?, 1);
        }
        let requests = controls.requests().into_iter();
        controls.clear_requests();
        let own = requests.filter(|sent| sent.device_id.as_deref() == Some("TABLET"));
        let sent = own.filter(|sent| sent.path.contains("/send/")).count() - usize::from(is_said);
        all += sent;
        made.push((passed_ms, all));
        assert!(sent <= 5, "{sent} at once: {made:?}");
        assert!(all <= allowed(passed_ms)?, "{all} after {passed_ms} ms: {made:?}");
        if all == ROOMS {
            break;
        }
    }
    assert_eq!(all, ROOMS, "{made:?}");
    // The others take it in.
    quiet(&[&alice, &bob, &tablet]).await;
    for room in alices.iter().chain(carols.iter().map(|(room, _)| room)) {
        assert_eq!(commits_of(&tablet, room).await?, 1, "{room}");
    }
    for room in &alices {
        assert_eq!(alice.members(room).await?.len(), 3, "{room}");
    }
    for (room, group) in carols {
        carol.peer.group = Some(group);
        let commit = tablet.commits(&room).await?.pop().or_missing("commit")?;
        carol.peer.process(&from_base64(commit["content"].text("ciphertext")?));
        assert_eq!(carol.peer.group().members().count(), 2, "{room}");
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
