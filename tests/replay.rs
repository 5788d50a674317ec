//! A homeserver that shows one message twice: the first event counts, whoever asks and after a restart.

use matrix_mls::{EventOutcome, MlsReader};
use matrix_mls_kit::{
    Client, Homeserver, OrMissing as _, Refused as _, Result, store_key, together::pair,
};
use serde_json::Value;

/// The message that Alice sent last, and the same under another event id.
async fn twice(client: &Client, room: &str) -> Result<(String, String)> {
    let event = client.history(room).await?.pop().or_missing("event")?;
    assert_eq!(event["type"], "m.room.encrypted");
    let mut again: Value = event.clone();
    again["event_id"] = "$another".into();
    Ok((event.to_string(), again.to_string()))
}

async fn code(client: &Client, room: &str, event: &str) -> Result<Option<String>> {
    let result = client.room(room).await?.decrypt(event.to_owned()).await;
    Ok(result.err().map(|error| error.code().to_owned()))
}

#[tokio::test]
async fn a_message_is_one_event_s() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, mut bob, room) = pair(&homeserver).await;
    alice.send_text(&room, "pay Carol").await?;
    let (event, again) = twice(&alice, &room).await?;
    let handle = bob.room(&room).await?;
    for _ in 0..2 {
        let results = handle.receive_events(vec![event.clone(), again.clone()]).await?;
        assert!(matches!(results[0].outcome, EventOutcome::Message { .. }));
        let EventOutcome::Failed { error } = &results[1].outcome else { panic!("{results:?}") };
        assert_eq!(error.code(), "replayed");
    }
    drop(handle);
    for _ in 0..2 {
        assert_eq!(code(&bob, &room, &event).await?, None);
        assert_eq!(code(&bob, &room, &again).await?.as_deref(), Some("replayed"));
        bob.crash().await?;
    }
    let path = bob.store_path().to_string_lossy().into_owned();
    let reader = MlsReader::open(path, store_key()).await?;
    assert!(reader.decrypt(room.clone(), event).await.is_ok());
    let refused = reader.decrypt(room, again).await.refused()?;
    assert_eq!(refused.code(), "replayed");
    Ok(())
}

#[tokio::test]
async fn what_was_only_read_is_remembered_too() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, mut bob, room) = pair(&homeserver).await;
    alice.send_text(&room, "pay Carol").await?;
    let (event, again) = twice(&alice, &room).await?;
    // Read before any sync brings it, by a call that writes nothing.
    assert_eq!(code(&bob, &room, &event).await?, None);
    assert_eq!(code(&bob, &room, &again).await?.as_deref(), Some("replayed"));
    bob.restart().await?;
    assert_eq!(code(&bob, &room, &again).await?.as_deref(), Some("replayed"));
    assert_eq!(code(&bob, &room, &event).await?, None);
    // Its own messages are no exception.
    assert_eq!(code(&alice, &room, &again).await?, None);
    assert_eq!(code(&alice, &room, &event).await?.as_deref(), Some("replayed"));
    // An event that does not say its id shows a message and binds nothing.
    let mut nameless: Value = serde_json::from_str(&event)?;
    nameless.as_object_mut().or_missing("object")?.remove("event_id");
    assert_eq!(code(&alice, &room, &nameless.to_string()).await?, None);
    Ok(())
}
