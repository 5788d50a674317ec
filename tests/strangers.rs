//! What anybody can send a device who knows its name: Welcomes and offers of history, about rooms
//! that the user is not in, that use no MLS, or that do not exist. They change nothing and take
//! little space, and what is early rather than forged works once the room's state shows up.
//!
//! The library's clock is the process's, so the tests take turns.

use matrix_mls::{
    EventOutcome, RoomSettings, SyncChanges, ToDeviceResult, sync_changes_from_response,
};
use matrix_mls_kit::{
    Client, Clock, Homeserver, OrMissing as _, Result, feed,
    other::{Other, join_path},
    peer::{ALGORITHM, WELCOME_ALGORITHM, base64},
    together::{all_talk, head, phone_of, quiet, texts, two_phones},
};
use serde_json::{Value, json};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// A hash that no upload has.
const SHA256: &str = "RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o";

/// A to-device event, with what it says.
fn event(sender: &str, content: &Value) -> String {
    json!({ "type": "m.room.encrypted", "sender": sender, "content": content }).to_string()
}

fn offer(sender: &str, room: &str, bundle_id: &str) -> String {
    let content = json!({
        "algorithm": ALGORITHM.replace("dmls.", "dmls.history."), "room_id": room,
        "sender": [sender, "X"], "commit_event": "$x:evil.example", "bundle_id": bundle_id,
        "bundle": { "url": "mxc://evil.example/x", "size": 2, "sha256": SHA256 },
    });
    event(sender, &content)
}

fn welcome(sender: &str, room: &str, bytes: usize) -> String {
    let content = json!({
        "algorithm": WELCOME_ALGORITHM, "ciphertext": "A".repeat(bytes), "room_id": room,
        "sender": [sender, "X"], "commit_event": "$x:evil.example",
    });
    event(sender, &content)
}

/// Feeds a device to-device events, fifty a sync, as Synapse would; gives how many wait.
async fn flood(client: &Client, events: impl IntoIterator<Item = String>) -> Result<usize> {
    let events: Vec<String> = events.into_iter().collect();
    let mut waiting = 0;
    for events in events.chunks(50) {
        let changes = SyncChanges { to_device: events.to_vec(), ..feed() };
        let results = client.machine()?.receive_sync(changes).await?.to_device;
        let waits = |result: &&ToDeviceResult| matches!(result, ToDeviceResult::Waiting { .. });
        waiting += results.iter().filter(waits).count();
    }
    Ok(waiting)
}

/// How large a device's store is, with its log.
fn size_of_store(client: &Client) -> u64 {
    let files = ["matrix-mls.db", "matrix-mls.db-wal"].map(|file| client.store_path().join(file));
    files.iter().map(|file| file.metadata().map_or(0, |file| file.len())).sum()
}

/// The paths of what a device wants to send.
async fn requests(client: &Client) -> Result<Vec<String>> {
    let requests = client.machine()?.outgoing_requests().await?;
    Ok(requests.into_iter().map(|request| request.path).collect())
}

/// What a sync of this device would bring, without its telling the device.
async fn next_sync(client: &Client) -> Result<SyncChanges> {
    let answer = client.http().get("/_matrix/client/v3/sync?timeout=0").await?;
    Ok(sync_changes_from_response(answer.to_string(), None)?)
}

/// Takes the to-device events out of a sync, as a sync connection of their own would have brought
/// them.
fn take_to_device(changes: &mut SyncChanges) -> SyncChanges {
    SyncChanges { to_device: std::mem::take(&mut changes.to_device), ..feed() }
}

/// The content of a Welcome to a group that somebody made up under a room's id.
async fn made_up_welcome(by: &mut Other, to: &Client, room: &str) -> Result<Value> {
    by.make_own_group(room, 0);
    by.welcome_to(to, room, "$made-up:evil.example").await
}

/// Whether a device has no group in a room, and does not count it as an MLS room.
async fn is_no_mls_room(client: &Client, room: &str) -> Result<bool> {
    let rooms = client.machine()?.rooms().await?;
    Ok(!rooms.contains(&room.to_owned()) && client.epochs(room).await?.is_empty())
}

/// A stranger sends Alice 400 offers of history for rooms she is not in, 50 kB each. They leave
/// next to nothing in her store.
#[tokio::test]
async fn offers_of_strangers_do_not_fill_the_store() -> Result {
    let _clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let before = size_of_store(&alice);
    let rooms = (0..400).map(|number| format!("!{number}:evil.example"));
    let large = rooms.map(|room| offer("@stranger:evil.example", &room, &"A".repeat(50_000)));
    assert_eq!(flood(&alice, large).await?, 0, "no bundle has such an id");
    let grown = size_of_store(&alice).saturating_sub(before) / 1_000;
    assert!(grown < 500, "a stranger has filled {grown} kB of the store");
    Ok(())
}

/// The same with offers and Welcomes that are well formed, by one stranger and by a thousand.
#[tokio::test]
async fn what_strangers_send_is_bounded_in_number_and_in_bytes() -> Result {
    let _clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let before = size_of_store(&alice);
    let one = |number: u32| offer("@one:evil.example", &format!("!{number}:evil.example"), "AAAA");
    let waiting = flood(&alice, (0..1_000).map(one)).await?;
    assert!((10..70).contains(&waiting), "{waiting} of one stranger wait");
    let large =
        |number: u32| welcome("@large:evil.example", &format!("!{number}:evil.example"), 60_000);
    let waiting = flood(&alice, (0..100).map(large)).await?;
    assert!((1..10).contains(&waiting), "{waiting} large ones of one stranger wait");
    let grown = size_of_store(&alice).saturating_sub(before) / 1_000;
    assert!(grown < 2_000, "two strangers have filled {grown} kB of the store");
    let many = (0..1_000u32).map(|number| {
        let sender = format!("@many{number}:evil{}.example", number % 7);
        welcome(&sender, &format!("!{number}:evil.example"), 60_000)
    });
    flood(&alice, many).await?;
    let grown = size_of_store(&alice).saturating_sub(before) / 1_000;
    assert!(grown < 15_000, "strangers have filled {grown} kB of the store");
    let asked = requests(&alice).await?;
    assert!(asked.is_empty(), "nothing is asked for because of it: {asked:?}");
    assert!(alice.machine()?.rooms().await?.is_empty());
    Ok(())
}

/// Mallory makes a group under a room's id and lets Bob in: a room that uses no encryption, one
/// that uses Megolm, one that Bob has left, and one that does not exist.
#[tokio::test]
async fn a_welcome_makes_no_room_an_mls_room() -> Result {
    let _clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let mut mallory = Other::register(&homeserver, "mallory").await;
    let plain = json!({ "preset": "private_chat", "invite": [bob.user_id()] });
    let plain = alice.create_room_from(plain).await?;
    let megolm = json!({
        "preset": "private_chat", "invite": [bob.user_id(), mallory.peer.user],
        "initial_state": [{
            "type": "m.room.encryption", "state_key": "",
            "content": { "algorithm": "m.megolm.v1.aes-sha2" },
        }],
    });
    let megolm = alice.create_room_from(megolm).await?;
    mallory.http.post(&join_path(&megolm), json!({})).await?;
    for room in [&plain, &megolm] {
        bob.join(room).await?;
    }
    quiet(&[&alice, &bob]).await;
    let left = alice.create_group(&[&bob], RoomSettings::default()).await?;
    alice.send_text(&left, "before he left").await?;
    quiet(&[&alice, &bob]).await;
    bob.leave(&left).await?;
    quiet(&[&alice, &bob]).await;
    let before = bob.epochs(&left).await?.len();
    // What a connection that begins anew asks for is asked for.
    bob.machine()?.receive_sync(feed()).await?;
    bob.drive().await?;
    for room in [&plain, &megolm, &left, "!made-up:embedded.test"] {
        let content = made_up_welcome(&mut mallory, &bob, room).await?;
        let mut large = content.clone();
        large["ratchet_tree"] =
            json!({ "url": "mxc://evil.example/tree", "size": 40_000_000, "sha256": SHA256 });
        let sent = [event(&mallory.peer.user, &content), event(&mallory.peer.user, &large)];
        let changes = SyncChanges { to_device: sent.to_vec(), ..feed() };
        let results = bob.machine()?.receive_sync(changes).await?.to_device;
        for result in results {
            let ToDeviceResult::Waiting { error } = result else { panic!("{room}: {result:?}") };
            assert_eq!(error.code(), "no_room_yet", "{room}");
        }
        let asked = requests(&bob).await?;
        assert!(asked.is_empty(), "{room}: {asked:?}");
    }
    for room in [&plain, &megolm, "!made-up:embedded.test"] {
        assert!(is_no_mls_room(&bob, room).await?, "{room}");
    }
    assert_eq!(bob.epochs(&left).await?.len(), before);
    bob.settle().await?;
    // What is encrypted otherwise stays that: nothing is sealed for Mallory.
    for room in [&plain, &megolm] {
        assert!(bob.send_text(room, "as ever").await.is_err(), "{room}");
        assert!(is_no_mls_room(&bob, room).await?, "{room}");
    }
    Ok(())
}

/// Somebody in a room without encryption announces a group for it. Only the room's state says what
/// the room uses.
#[tokio::test]
async fn an_announcement_makes_no_room_an_mls_room() -> Result {
    let _clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let (mut mallory, room) = Other::in_room_of(&homeserver, "mallory", &alice, &[&bob]).await?;
    quiet(&[&alice, &bob]).await;
    mallory.peer.create(&room, true);
    let state = mallory.peer.group_info();
    let mut content = mallory.commit(&[], &mallory.name(), "");
    content["public_group_state"] = json!(base64(&state));
    mallory.send(&room, content).await;
    quiet(&[&alice, &bob]).await;
    for client in [&alice, &bob] {
        assert!(is_no_mls_room(client, &room).await?);
        let asked = requests(client).await?;
        assert!(asked.is_empty(), "{asked:?}");
    }
    // When the room does use MLS, the announcement counts as any other, and all three talk.
    let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.encryption/");
    alice.http().put(&path, json!({ "algorithm": ALGORITHM })).await?;
    quiet(&[&alice, &bob]).await;
    for client in [&alice, &bob] {
        assert!(client.machine()?.rooms().await?.contains(&room));
    }
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// To-device events come on a connection of their own, before the room's state. Strangers fill the
/// place where the Welcome waits, and the app starts anew: Bob comes in by the Welcome all the
/// same.
#[tokio::test]
async fn an_honest_welcome_that_is_early_outlasts_strangers() -> Result {
    let _clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let (alice, mut bob) = two_phones(&homeserver).await?;
    let room = alice.create_group(&[&bob], RoomSettings::default()).await?;
    alice.send_text(&room, "hello, Bob").await?;
    alice.settle().await?;
    let there = head(&alice, &room).await;
    let mut sync = next_sync(&bob).await?;
    let early = take_to_device(&mut sync);
    let results = bob.machine()?.receive_sync(early).await?.to_device;
    assert!(matches!(results[..], [ToDeviceResult::Waiting { .. }]), "{results:?}");
    let strangers = (0..2_000u32).map(|number| {
        let sender = format!("@many{}:evil{}.example", number % 600, number % 3);
        welcome(&sender, &format!("!{number}:evil.example"), 20_000)
    });
    flood(&bob, strangers).await?;
    bob.restart().await?;
    bob.machine()?.receive_sync(sync).await?;
    assert_eq!(head(&bob, &room).await, there);
    quiet(&[&alice, &bob]).await;
    let read = texts(&bob, &room).await;
    assert!(read.contains(&"hello, Bob".to_owned()), "{read:?}");
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// One sync brings both, as the first sync of a new device does: the Welcome is answered as joined.
#[tokio::test]
async fn a_welcome_beside_the_state_of_its_room_works_at_once() -> Result {
    let _clock = Clock::take().await;
    for moved in [false, true] {
        let homeserver = Homeserver::embedded()?;
        let (alice, bob) = two_phones(&homeserver).await?;
        let room = alice.create_group(&[&bob], RoomSettings::default()).await?;
        alice.send_text(&room, "hello, Bob").await?;
        alice.settle().await?;
        let mut sync = next_sync(&bob).await?;
        for changes in sync.rooms.iter_mut().filter(|_| moved) {
            // As with MSC4222, and with sliding sync: the state stands behind the timeline.
            let is_state = |json: &String| json.contains("\"state_key\"");
            let all =
                std::mem::take(&mut changes.state).into_iter().chain(changes.timeline.drain(..));
            (changes.state_after, changes.timeline) = all.partition(is_state);
        }
        let summary = bob.machine()?.receive_sync(sync).await?;
        assert!(
            matches!(&summary.to_device[..], [ToDeviceResult::Joined { room_id, .. }] if *room_id == room),
            "{summary:?}"
        );
        let events = summary.rooms.iter().flat_map(|room| &room.events);
        let told = events.filter_map(|event| match &event.outcome {
            EventOutcome::Message { message } => Some(message.content.as_str()),
            _ => None,
        });
        let told: Vec<_> = told.collect();
        assert!(told.iter().any(|content| content.contains("hello, Bob")), "{told:?}");
        quiet(&[&alice, &bob]).await;
        all_talk(&[&alice, &bob], &room).await;
    }
    Ok(())
}

/// A room without encryption, and one with Megolm, come to use MLS. The Welcome is there first.
#[tokio::test]
async fn a_welcome_that_waits_works_once_the_room_uses_mls() -> Result {
    let _clock = Clock::take().await;
    for before in [None, Some("m.megolm.v1.aes-sha2")] {
        let homeserver = Homeserver::embedded()?;
        let (alice, bob) = two_phones(&homeserver).await?;
        let state = before.map(|algorithm| {
            json!({
                "type": "m.room.encryption", "state_key": "",
                "content": { "algorithm": algorithm },
            })
        });
        let request = json!({
            "preset": "private_chat", "invite": [bob.user_id()],
            "initial_state": state.into_iter().collect::<Vec<_>>(),
        });
        let room = alice.create_room_from(request).await?;
        bob.join(&room).await?;
        quiet(&[&alice, &bob]).await;
        if before.is_some() {
            let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.encryption/");
            alice.http().put(&path, json!({ "algorithm": ALGORITHM })).await?;
            alice.settle().await?;
        }
        alice.enable(&room, RoomSettings::default()).await?;
        alice.send_text(&room, "from now on").await?;
        alice.settle().await?;
        let there = head(&alice, &room).await;
        let mut sync = next_sync(&bob).await?;
        let early = take_to_device(&mut sync);
        bob.machine()?.receive_sync(early).await?;
        assert!(is_no_mls_room(&bob, &room).await?);
        bob.machine()?.receive_sync(sync).await?;
        assert_eq!(head(&bob, &room).await, there);
        quiet(&[&alice, &bob]).await;
        assert!(texts(&bob, &room).await.contains(&"from now on".to_owned()));
    }
    Ok(())
}

/// An invitation is accepted weeks after it came, with the Welcome: within 30 days Bob comes in by
/// the Welcome. Later he joins by himself.
#[tokio::test]
async fn a_welcome_waits_for_thirty_days() -> Result {
    let clock = Clock::take().await;
    for (days, is_in) in [(29, true), (31, false)] {
        let homeserver = Homeserver::embedded()?;
        let (alice, bob) = two_phones(&homeserver).await?;
        let room = alice.create_group(&[&bob], RoomSettings::default()).await?;
        alice.send_text(&room, "hello, Bob").await?;
        alice.settle().await?;
        let there = head(&alice, &room).await;
        let mut sync = next_sync(&bob).await?;
        let early = take_to_device(&mut sync);
        bob.machine()?.receive_sync(early).await?;
        clock.pass(days * DAY_MS);
        bob.machine()?.outgoing_requests().await?;
        bob.machine()?.receive_sync(sync).await?;
        let epochs = bob.epochs(&room).await?;
        assert_eq!(epochs.iter().any(|epoch| epoch.id == there), is_in, "after {days} days");
        clock.is_right();
        bob.join_externally(&room).await?;
        quiet(&[&alice, &bob]).await;
        all_talk(&[&alice, &bob], &room).await;
    }
    Ok(())
}

/// In a room that uses MLS, Welcomes of strangers wait for their senders to come in. They push out
/// nobody's, nothing is fetched for them, and Bob's group stays as it is.
#[tokio::test]
async fn welcomes_of_strangers_to_a_room_that_uses_mls_cost_little() -> Result {
    let _clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let room = alice.create_group(&[&bob], RoomSettings::default()).await?;
    alice.send_text(&room, "first").await?;
    quiet(&[&alice, &bob]).await;
    let commit = bob.head(&room).await?.commit_event.or_missing("event of the commit")?;
    let sent = (0..500u32).map(|number| {
        let sender = format!("@many{number}:evil.example");
        let url = format!("mxc://evil.example/{number}");
        let content = json!({
            "algorithm": WELCOME_ALGORITHM, "ciphertext": "A".repeat(20_000), "room_id": room,
            "sender": [sender, "X"], "commit_event": format!("{commit}{number}"),
            "ratchet_tree": { "url": url, "size": 40_000_000, "sha256": SHA256 },
        });
        event(&sender, &content)
    });
    let before = size_of_store(&bob);
    flood(&bob, sent).await?;
    let grown = size_of_store(&bob).saturating_sub(before) / 1_000;
    assert!(grown < 6_000, "strangers have filled {grown} kB of the store");
    let asked = requests(&bob).await?;
    assert!(!asked.iter().any(|path| path.contains("media")), "{asked:?}");
    assert_eq!(head(&bob, &room).await, head(&alice, &room).await);
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}
