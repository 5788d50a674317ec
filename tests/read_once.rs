//! A room whose messages are read once: nothing that was read can be read again, by anybody who has
//! the store.

use matrix_mls::{EventOutcome, MlsReader, RoomSettings, test_hooks::set_clock_ms};
use matrix_mls_kit::{
    Client, Fields as _, Homeserver, OrMissing as _, Refused as _, Result, store_key,
    together::{pair, quiet, texts},
};
use serde_json::Value;

const HOUR_MS: u64 = 60 * 60 * 1_000;

fn once() -> RoomSettings {
    RoomSettings { read_once: true, ..RoomSettings::default() }
}

async fn heard(client: &Client) -> Result<Vec<String>> {
    client.drive().await?;
    let mut texts = Vec::new();
    for message in client.sync().await?.messages {
        let content: Value = serde_json::from_str(&message.content)?;
        texts.push(content.text("body")?.to_owned());
    }
    Ok(texts)
}

#[tokio::test]
async fn what_was_read_cannot_be_read_again() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (mut alice, mut bob, room) = pair(&homeserver).await;
    for client in [&alice, &bob] {
        let handle = client.room(&room).await?;
        handle.set_settings(once()).await?;
        assert_eq!(handle.settings().await?, once());
        client.sync().await?;
    }
    for text in ["one", "two", "three"] {
        alice.send_text(&room, text).await?;
    }
    quiet(&[&alice]).await;
    assert_eq!(heard(&bob).await?, ["one", "two", "three"]);
    bob.send_text(&room, "four").await?;
    assert_eq!(heard(&alice).await?, ["four"]);
    // "first" was read before that was wanted. Its keys go with its epoch, on which late commits
    // may still come.
    assert_eq!(texts(&bob, &room).await, ["first"]);
    let later = std::time::UNIX_EPOCH.elapsed()?.as_millis() as u64 + 2 * HOUR_MS;
    set_clock_ms(later);
    for client in [&mut alice, &mut bob] {
        client.drive().await?;
        assert_eq!(texts(client, &room).await, [""; 0]);
        client.restart().await?;
        for event in client.read(&room).await? {
            let error = event.message.refused()?;
            assert!(["read_once", "history_deleted"].contains(&error.code()), "{error}");
        }
    }
    // The same from a sync that comes twice; others of the batch are read.
    alice.send_text(&room, "five").await?;
    let events = alice.history(&room).await?;
    let [.., before, last] = events.as_slice() else { panic!("{events:?}") };
    let handle = bob.room(&room).await?;
    let batch = vec![before.to_string(), last.to_string(), last.to_string()];
    let results = handle.receive_events(batch).await?;
    let read = |at: usize| matches!(results[at].outcome, EventOutcome::Message { .. });
    assert_eq!([read(0), read(1), read(2)], [false, true, false], "{results:?}");
    // Nor does a reader, or a backup, get what it could read.
    alice.send_text(&room, "six").await?;
    let event = alice.history(&room).await?.pop().or_missing("event")?.to_string();
    let path = bob.store_path().to_string_lossy().into_owned();
    let reader = MlsReader::open(path, store_key()).await?;
    let refused = reader.decrypt(room.clone(), event.clone()).await.refused()?;
    assert_eq!(refused.code(), "read_once");
    let message = handle.decrypt(event.clone()).await?;
    assert!(message.content.contains("six"));
    assert_eq!(handle.decrypt(event).await.refused()?.code(), "read_once");
    let backup = bob.machine()?.backup();
    let file = backup.export_history(None, "a".to_owned()).await?;
    let laptop = Client::log_in(&homeserver, "bob", "LAPTOP").await?;
    let laptop_backup = laptop.machine()?.backup();
    assert_eq!(laptop_backup.import_history(file, "a".to_owned()).await?.epochs, 0);
    Ok(())
}

#[tokio::test]
async fn messages_come_out_of_order_and_after_a_commit() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let handle = bob.room(&room).await?;
    handle.set_settings(once()).await?;
    // One side alone is enough: it is each device's own matter.
    bob.send_text(&room, "from now on").await?;
    quiet(&[&alice, &bob]).await;
    let since = alice.history(&room).await?.len();
    for number in 0..60 {
        alice.send_text(&room, &format!("number {number}")).await?;
    }
    bob.rotate_keys(&room).await?;
    let mut events: Vec<_> = alice.history(&room).await?.split_off(since);
    events.reverse();
    let batch = events.iter().map(ToString::to_string).collect();
    let results = handle.receive_events(batch).await?;
    let read = results
        .iter()
        .filter(|result| matches!(result.outcome, EventOutcome::Message { .. }))
        .count();
    assert_eq!(read, 60, "{results:?}");
    // A message on an epoch that is no longer the head, but kept.
    bob.send_text(&room, "a new epoch").await?;
    alice.send_text(&room, "on the old one, or not").await?;
    quiet(&[&bob, &alice]).await;
    assert!(texts(&alice, &room).await.contains(&"a new epoch".to_owned()));
    let both = RoomSettings { keep_history_ms: Some(1), ..once() };
    assert_eq!(handle.set_settings(both).await.refused()?.code(), "bad_settings");
    // And back: what is said from then on can be read again and again.
    handle.set_settings(RoomSettings::default()).await?;
    bob.send_text(&room, "kept again").await?;
    assert!(texts(&bob, &room).await.contains(&"kept again".to_owned()));
    Ok(())
}
