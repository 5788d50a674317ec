//! A homeserver that shows one message twice, and a member who seals another's message again: the
//! first event counts, whoever asks and after a restart.

use matrix_mls::{EventOutcome, MlsReader, RoomSettings};
use matrix_mls_kit::{
    Client, Homeserver, OrMissing as _, Refused as _, Result,
    other::{Other, group_of_two, group_of_two_with, name_of},
    peer::{Peer, from_base64},
    store_key,
    together::{pair, quiet, texts},
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

/// Mallory seals a message that says of itself which of hers it is, or says nothing.
async fn says(
    mallory: &mut Other,
    (alice, room, at): (&Client, &str, &str),
    generation: Option<u32>,
) -> Result<Option<String>> {
    let mut plaintext: Value = serde_json::from_slice(&Peer::plaintext(room, "pay Carol"))?;
    if let Some(generation) = generation {
        plaintext["generation"] = generation.into();
    }
    let plaintext = plaintext.to_string().into_bytes();
    let content = mallory.message(&plaintext, &name_of(alice), at);
    mallory.send(room, content).await;
    let event = alice.history(room).await?.pop().or_missing("event")?;
    code(alice, room, &event.to_string()).await
}

/// What a member signs names its generation, so whoever seals it again needs that very one.
#[tokio::test]
async fn a_message_that_a_member_seals_again_is_refused() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, mut mallory, room, at) = group_of_two(&homeserver).await?;
    let to = (&alice, &*room, &*at);
    // Her first message, of a client that names no generation.
    assert_eq!(says(&mut mallory, to, None).await?, None);
    assert_eq!(says(&mut mallory, to, Some(1)).await?, None);
    assert_eq!(says(&mut mallory, to, Some(1)).await?.as_deref(), Some("sealed_again"));
    assert_eq!(says(&mut mallory, to, Some(7)).await?.as_deref(), Some("sealed_again"));
    assert_eq!(says(&mut mallory, to, Some(4)).await?, None);
    Ok(())
}

/// Keys of messages that are read once are gone when they come again; what they said is known.
#[tokio::test]
async fn a_message_that_is_sealed_again_is_not_read_twice() -> Result {
    let homeserver = Homeserver::embedded()?;
    let settings = RoomSettings { read_once: true, ..RoomSettings::default() };
    let (mut alice, mut mallory, room, at) = group_of_two_with(&homeserver, settings).await?;
    assert_eq!(says(&mut mallory, (&alice, &room, &at), Some(0)).await?, None);
    alice.restart().await?;
    let to = (&alice, &*room, &*at);
    assert_eq!(says(&mut mallory, to, Some(0)).await?.as_deref(), Some("replayed"));
    assert_eq!(says(&mut mallory, to, Some(2)).await?, None);
    Ok(())
}

#[tokio::test]
async fn a_device_signs_which_of_its_messages_it_is() -> Result {
    for read_once in [false, true] {
        let homeserver = Homeserver::embedded()?;
        let settings = RoomSettings { read_once, ..RoomSettings::default() };
        let (mut alice, mut mallory, room, _) = group_of_two_with(&homeserver, settings).await?;
        let mut generations = Vec::new();
        for text in ["first", "second", "third"] {
            alice.send_text(&room, text).await?;
            alice.restart().await?;
        }
        quiet(&[&alice]).await;
        for event in alice.history(&room).await? {
            if event["type"] == "m.room.encrypted" && event["content"]["sender"].is_null() {
                let ciphertext = event["content"]["ciphertext"].as_str().or_missing("bytes")?;
                let opened = mallory.peer.process(&from_base64(ciphertext));
                let plaintext: Value = serde_json::from_slice(&opened.or_missing("plaintext")?)?;
                generations.push(plaintext["generation"].as_u64().or_missing("generation")?);
            }
        }
        assert_eq!(generations.len(), 3);
        assert!(generations.windows(2).all(|two| two[0] < two[1]), "{generations:?}");
    }
    Ok(())
}

/// Who reads once and who keeps what they read are in one room.
#[tokio::test]
async fn what_one_device_seals_to_be_read_once_the_others_can_keep() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (mut alice, bob, room) = pair(&homeserver).await;
    let settings = RoomSettings { read_once: true, ..RoomSettings::default() };
    alice.set_settings(&room, settings).await?;
    for text in ["first", "second", "third"] {
        alice.send_text(&room, text).await?;
        alice.restart().await?;
    }
    quiet(&[&bob]).await;
    let read = texts(&bob, &room).await;
    assert!(read.ends_with(&["first".into(), "second".into(), "third".into()]), "{read:?}");
    Ok(())
}
