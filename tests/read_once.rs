//! A room whose messages are read once: nothing that was read can be read again, by anybody who has the store.

use matrix_mls::{EventOutcome, MlsReader, RoomSettings, StoreKey, test_hooks::set_clock_ms};
use matrix_mls_kit::{
    Client, Homeserver,
    together::{pair, quiet, texts},
};

const HOUR_MS: u64 = 60 * 60 * 1_000;

fn once() -> RoomSettings {
    RoomSettings { read_once: true, ..RoomSettings::default() }
}

async fn heard(client: &Client) -> Vec<String> {
    client.drive().await.unwrap();
    let messages = client.sync().await.unwrap().messages;
    let text = |content: &str| {
        let content: serde_json::Value = serde_json::from_str(content).unwrap();
        content["body"].as_str().unwrap().to_owned()
    };
    messages.iter().map(|message| text(&message.content)).collect()
}

#[tokio::test]
async fn what_was_read_cannot_be_read_again() {
    let homeserver = Homeserver::embedded().unwrap();
    let (mut alice, mut bob, room) = pair(&homeserver).await;
    for client in [&alice, &bob] {
        let handle = client.room(&room).await.unwrap();
        handle.set_settings(once()).await.unwrap();
        assert_eq!(handle.settings().await.unwrap(), once());
        client.sync().await.unwrap();
    }
    for text in ["one", "two", "three"] {
        alice.send_text(&room, text).await.unwrap();
    }
    quiet(&[&alice]).await;
    assert_eq!(heard(&bob).await, ["one", "two", "three"]);
    bob.send_text(&room, "four").await.unwrap();
    assert_eq!(heard(&alice).await, ["four"]);
    // "first" was read before that was wanted. Its keys go with its epoch, on which late commits may still come.
    assert_eq!(texts(&bob, &room).await, ["first"]);
    let later = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64 + 2 * HOUR_MS;
    set_clock_ms(later);
    for client in [&mut alice, &mut bob] {
        client.drive().await.unwrap();
        assert_eq!(texts(client, &room).await, [""; 0]);
        client.restart().await.unwrap();
        for event in client.read(&room).await.unwrap() {
            let error = event.message.unwrap_err();
            assert!(["read_once", "history_deleted"].contains(&error.code()), "{error}");
        }
    }
    // The same from a sync that comes twice; others of the batch are read.
    alice.send_text(&room, "five").await.unwrap();
    let events = alice.history(&room).await.unwrap();
    let [.., before, last] = events.as_slice() else { panic!("{events:?}") };
    let handle = bob.room(&room).await.unwrap();
    let batch = vec![before.to_string(), last.to_string(), last.to_string()];
    let results = handle.receive_events(batch).await.unwrap();
    let read = |at: usize| matches!(results[at].outcome, EventOutcome::Message { .. });
    assert_eq!([read(0), read(1), read(2)], [false, true, false], "{results:?}");
    // Nor does a reader, or a backup, get what it could read.
    alice.send_text(&room, "six").await.unwrap();
    let event = alice.history(&room).await.unwrap().pop().unwrap().to_string();
    let path = bob.store_path().to_string_lossy().into_owned();
    let reader = MlsReader::open(path, StoreKey::Raw { key: vec![7; 32] }).await.unwrap();
    let refused = reader.decrypt(room.clone(), event.clone()).await.unwrap_err();
    assert_eq!(refused.code(), "read_once");
    let message = handle.decrypt(event.clone()).await.unwrap();
    assert!(message.content.contains("six"));
    assert_eq!(handle.decrypt(event).await.unwrap_err().code(), "read_once");
    let backup = bob.machine().unwrap().backup();
    let file = backup.export_history(None, "a".to_owned()).await.unwrap();
    let laptop = Client::log_in(&homeserver, "bob", "LAPTOP").await.unwrap();
    let laptop_backup = laptop.machine().unwrap().backup();
    assert_eq!(laptop_backup.import_history(file, "a".to_owned()).await.unwrap().epochs, 0);
}

#[tokio::test]
async fn messages_come_out_of_order_and_after_a_commit() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, room) = pair(&homeserver).await;
    let handle = bob.room(&room).await.unwrap();
    handle.set_settings(once()).await.unwrap();
    // One side alone is enough: it is each device's own matter.
    bob.send_text(&room, "from now on").await.unwrap();
    quiet(&[&alice, &bob]).await;
    let since = alice.history(&room).await.unwrap().len();
    for number in 0..60 {
        alice.send_text(&room, &format!("number {number}")).await.unwrap();
    }
    bob.room(&room).await.unwrap().rotate_keys().await.unwrap();
    let mut events: Vec<_> = alice.history(&room).await.unwrap().split_off(since);
    events.reverse();
    let batch = events.iter().map(ToString::to_string).collect();
    let results = handle.receive_events(batch).await.unwrap();
    let read = results
        .iter()
        .filter(|result| matches!(result.outcome, EventOutcome::Message { .. }))
        .count();
    assert_eq!(read, 60, "{results:?}");
    // A message on an epoch that is no longer the head, but kept.
    bob.send_text(&room, "a new epoch").await.unwrap();
    alice.send_text(&room, "on the old one, or not").await.unwrap();
    quiet(&[&bob, &alice]).await;
    assert!(texts(&alice, &room).await.contains(&"a new epoch".to_owned()));
    let both = RoomSettings { keep_history_ms: Some(1), ..once() };
    assert_eq!(handle.set_settings(both).await.unwrap_err().code(), "bad_settings");
    // And back: what is said from then on can be read again and again.
    handle.set_settings(RoomSettings::default()).await.unwrap();
    bob.send_text(&room, "kept again").await.unwrap();
    assert!(texts(&bob, &room).await.contains(&"kept again".to_owned()));
}
