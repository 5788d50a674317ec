//! What comes from a backup, a file or a member lies beside this device's own epochs: it opens
//! messages, seals none, and opens nothing that was to be read once.

use matrix_mls::{RecoveryKey, RestoreScope, RoomSettings, ToDeviceResult, Update};
use matrix_mls_kit::{
    Client, Heard, Homeserver, OrMissing as _, Refused as _, Result,
    peer::ALGORITHM,
    together::{all_talk, log_in, pair, phone_of, quiet, say_in_a_new_epoch, texts, two_phones},
};
use serde_json::{Value, json};

const PASSPHRASE: &str = "correct horse";

fn once() -> RoomSettings {
    RoomSettings { read_once: true, ..RoomSettings::default() }
}

/// Alice's phone and tablet and Bob's phone in one group.
async fn with_a_tablet(homeserver: &Homeserver) -> Result<(Client, Client, Client, String)> {
    let (alice, bob, room) = pair(homeserver).await;
    let tablet = log_in(homeserver, "alice", "TABLET").await?;
    quiet(&[&alice, &bob, &tablet]).await;
    alice.send_text(&room, "hello, tablet").await?;
    quiet(&[&alice, &bob, &tablet]).await;
    Ok((alice, bob, tablet, room))
}

/// The tablet reads the room once, and has read and said something so.
async fn read_once_on(tablet: &Client, all: &[&Client], room: &str) -> Result {
    tablet.set_settings(room, once()).await?;
    tablet.send_text(room, "sent once").await?;
    quiet(all).await;
    all[0].send_text(room, "read once").await?;
    quiet(all).await;
    Ok(())
}

/// What the tablet says from now on is read by the others, and nothing of it is lost.
async fn is_heard(tablet: &Client, others: &[&Client], room: &str) -> Result {
    for number in 0..3 {
        tablet.send_text(room, &format!("the tablet's {number}")).await?;
    }
    tablet.settle().await?;
    for other in others {
        quiet(&[other]).await;
        for event in other.read(room).await? {
            if let Err(error) = &event.message {
                panic!("{} cannot read an event: {error}", other.name());
            }
        }
        let read = texts(other, room).await;
        assert!(read.contains(&"the tablet's 2".to_owned()), "{}: {read:?}", other.name());
    }
    Ok(())
}

async fn assert_closed(tablet: &Client, room: &str) {
    let read = texts(tablet, room).await;
    for text in ["sent once", "read once"] {
        assert!(!read.contains(&text.to_owned()), "{text:?} opens a second time");
    }
}

/// Alice's tablet reads a room once; her phone, which does not, has a key backup. The tablet
/// restores it. What it has sent there or read stays unreadable on it, and what it sends from then
/// on is its own and can be read.
#[tokio::test]
async fn a_restore_leaves_a_read_once_room_as_it_is() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, tablet, room) = with_a_tablet(&homeserver).await?;
    let all = [&alice, &bob, &tablet];
    read_once_on(&tablet, &all, &room).await?;
    let key = alice.back_up_history().await?;
    let Err(error) = tablet.restore_history(&key).await else { panic!("all was taken") };
    assert!(error.to_string().contains("read_once"), "{error}");
    alice.send_text(&room, "read once, later").await?;
    quiet(&all).await;
    assert!(!texts(&tablet, &room).await.contains(&"read once, later".to_owned()));
    is_heard(&tablet, &[&alice, &bob], &room).await?;
    assert_closed(&tablet, &room).await;
    Ok(())
}

/// The same from a file; and when the room is read again and again from then on, what was read once
/// stays closed.
#[tokio::test]
async fn a_file_opens_nothing_that_was_read_once() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, mut tablet, room) = with_a_tablet(&homeserver).await?;
    let all = [&alice, &bob, &tablet];
    read_once_on(&tablet, &all, &room).await?;
    let file = alice.machine()?.backup().export_history(None, PASSPHRASE.to_owned()).await?;
    let import = async |tablet: &Client| -> Result<(u64, Vec<String>)> {
        let backup = tablet.machine()?.backup();
        let summary = backup.import_history(file.clone(), PASSPHRASE.to_owned()).await?;
        let codes = summary.failures.into_iter().map(|failure| failure.code);
        Ok((summary.epochs, codes.collect()))
    };
    assert_eq!(import(&tablet).await?, (0, vec!["read_once".to_owned()]));
    assert_closed(&tablet, &room).await;
    is_heard(&tablet, &[&alice, &bob], &room).await?;

    // It keeps what comes from now on. The epochs that it was in while it read once stay closed.
    tablet.set_settings(&room, RoomSettings::default()).await?;
    tablet.send_text(&room, "kept again").await?;
    quiet(&[&alice, &bob, &tablet]).await;
    for _ in 0..2 {
        let (_, codes) = import(&tablet).await?;
        assert_eq!(codes, ["read_once"]);
        assert_closed(&tablet, &room).await;
        assert!(texts(&tablet, &room).await.contains(&"kept again".to_owned()));
        is_heard(&tablet, &[&alice, &bob], &room).await?;
        tablet.restart().await?;
    }
    Ok(())
}

/// Somebody reads a room once that was imported before: the imports go with the setting, at once.
#[tokio::test]
async fn imports_go_when_a_room_is_read_once() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    say_in_a_new_epoch(&alice, &room, "before the tablet").await?;
    quiet(&[&alice, &bob]).await;
    let tablet = log_in(&homeserver, "alice", "TABLET").await?;
    quiet(&[&alice, &bob, &tablet]).await;
    alice.send_text(&room, "hello, tablet").await?;
    quiet(&[&alice, &bob, &tablet]).await;
    let key = alice.back_up_history().await?;
    assert!(tablet.restore_history(&key).await? > 0);
    let early = "before the tablet".to_owned();
    assert!(texts(&tablet, &room).await.contains(&early));
    tablet.set_settings(&room, once()).await?;
    assert!(!texts(&tablet, &room).await.contains(&early));
    is_heard(&tablet, &[&alice, &bob], &room).await?;
    Ok(())
}

/// In an ordinary room a restore brings what is older, and what the device has itself stays its
/// own: it goes on with its own generations, also after a restart, and also where the backup came
/// before the group did.
#[tokio::test]
async fn a_restore_leaves_own_epochs_alone() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let key = alice.back_up_history().await?;
    let mut tablet = log_in(&homeserver, "alice", "TABLET").await?;
    quiet(&[&alice, &bob]).await;
    alice.send_text(&room, "hello, tablet").await?;
    alice.settle().await?;
    // Before its Welcome is taken in, the backup has the epoch that it will send in.
    let restored = tablet.restore_history(&key).await?;
    assert!(restored >= 2, "{restored}");
    quiet(&[&tablet, &alice, &bob]).await;
    assert_eq!(texts(&tablet, &room).await, ["first", "hello, tablet"]);
    for round in 0..2 {
        is_heard(&tablet, &[&alice, &bob], &room).await?;
        // Now it knows the epoch itself, and the backup has it from the phone.
        assert_eq!(tablet.restore_history(&key).await?, 0, "{round}");
        is_heard(&tablet, &[&alice, &bob], &room).await?;
        tablet.restart().await?;
    }
    for client in [&alice, &bob, &tablet] {
        let read = texts(client, &room).await;
        let own = read.iter().filter(|text| text.starts_with("the tablet's"));
        assert_eq!(own.count(), 12, "{}: {read:?}", client.name());
    }
    all_talk(&[&alice, &bob, &tablet], &room).await;
    Ok(())
}

/// An offer of history, as the homeserver got it.
async fn bring_with_history(by: &Client, room: &str, who: &Client) -> Result<Value> {
    by.invite(room, who.user_id()).await?;
    who.join(room).await?;
    by.settle().await?;
    by.send_text(room, "welcome").await?;
    by.settle().await?;
    let sync = who.http().get("/_matrix/client/v3/sync?timeout=0").await?;
    let events = sync["to_device"]["events"].as_array().or_missing("to-device events")?;
    let offer = events.iter().find(|event| event["content"].get("bundle_id").is_some());
    Ok(offer.or_missing("offer of history")?["content"].clone())
}

async fn offer_to(from: &Client, to: &Client, offer: Value) -> Result<Vec<ToDeviceResult>> {
    let messages = json!({ "messages": { to.user_id(): { to.device_id(): offer } } });
    let path = "/_matrix/client/v3/sendToDevice/m.room.encrypted/again";
    from.http().put(path, messages).await?;
    let mut results = to.sync().await?.summary.to_device;
    for _ in 0..3 {
        to.drive().await?;
        results.extend(to.sync().await?.summary.to_device);
    }
    Ok(results)
}

/// A member offers a device the history of epochs that the device was in itself: the one that it
/// reads once, and one that it sends in. Nothing of the device's own changes.
#[tokio::test]
async fn offered_history_changes_nothing_of_own_epochs() -> Result {
    let homeserver = Homeserver::embedded()?;
    for reads_once in [true, false] {
        let homeserver = if reads_once { &homeserver } else { &Homeserver::embedded()? };
        let (alice, bob) = two_phones(homeserver).await?;
        let carol = phone_of(homeserver, "carol").await?;
        let request = json!({
            "preset": "private_chat", "invite": [bob.user_id()],
            "creation_content": { "encryption": { "algorithm": ALGORITHM } },
            "initial_state": [{
                "type": "m.room.history_visibility", "state_key": "",
                "content": { "history_visibility": "shared" },
            }],
        });
        let room = alice.create_room_from(request).await?;
        bob.join(&room).await?;
        alice.settle().await?;
        let sharing = RoomSettings { share_history: true, ..RoomSettings::default() };
        alice.enable(&room, sharing).await?;
        alice.send_text(&room, "hello").await?;
        quiet(&[&alice, &bob]).await;
        if reads_once {
            bob.set_settings(&room, once()).await?;
            bob.send_text(&room, "sent once").await?;
            quiet(&[&alice, &bob]).await;
            alice.send_text(&room, "read once").await?;
            quiet(&[&alice, &bob]).await;
        }
        let offer = bring_with_history(&alice, &room, &carol).await?;
        quiet(&[&bob]).await;
        let results = offer_to(&alice, &bob, offer).await?;
        if reads_once {
            let refused = results.iter().any(|result| {
                matches!(result, ToDeviceResult::Failed { error } if error.code() == "read_once")
            });
            assert!(refused, "{results:?}");
            assert_closed(&bob, &room).await;
        }
        quiet(&[&carol]).await;
        is_heard(&bob, &[&alice, &carol], &room).await?;
        let own = bob.read(&room).await?;
        for event in own {
            if let Ok(message) = event.message {
                assert_eq!(message.shared_by, None, "a member's word took the own one's place");
            }
        }
    }
    Ok(())
}

/// A single message of a read-once room is not restored either.
#[tokio::test]
async fn a_message_of_a_read_once_room_is_not_restored() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, tablet, room) = with_a_tablet(&homeserver).await?;
    let all = [&alice, &bob, &tablet];
    read_once_on(&tablet, &all, &room).await?;
    let key = RecoveryKey::parse(alice.back_up_history().await?)?;
    let events = alice.history(&room).await?;
    let event = events.last().or_missing("event")?.to_string();
    let (heard, _subscription) = Heard::of(&tablet).await?;
    let scope = RestoreScope::Message { event: event.clone(), room_id: room.clone() };
    tablet.machine()?.backup().restore(Some(key), scope).await?;
    tablet.drive().await?;
    let tell = |update: &Update| match update {
        Update::RestoreFinished { epochs, failures, .. } => Some((*epochs, failures.clone())),
        _ => None,
    };
    let (epochs, failures) = heard.hear(tell).await?;
    assert_eq!(epochs, 0);
    assert!(failures.iter().all(|failure| failure.code == "read_once"), "{failures:?}");
    let error = tablet.room(&room).await?.decrypt(event).await.refused()?;
    assert_eq!(error.code(), "read_once");
    is_heard(&tablet, &[&alice, &bob], &room).await?;
    Ok(())
}
