//! A message whose keys are at hand is sealed on the caller's thread, and only such a message: a
//! call of an app's main thread never waits for the disk or for another call
//! (docs/decisions/041).

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use matrix_mls::{MlsError, MlsRoom, SendPlan};
use matrix_mls_kit::{Client, Homeserver, Result, together::pair};
use serde_json::{Value, json};

/// What a call gives, and whether it gave that when it was first looked at.
async fn look<T>(call: impl Future<Output = T>) -> (T, bool) {
    let mut call = pin!(call);
    match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => (value, true),
        Poll::Pending => (call.await, false),
    }
}

async fn seal(room: &MlsRoom, content: &str) -> (Result<String, MlsError>, bool) {
    look(room.encrypt("m.room.message".into(), content.into())).await
}

/// Seals so many messages; gives those that were not sealed at once, by number, and all contents.
async fn seal_many(room: &MlsRoom, number: usize) -> Result<(Vec<usize>, Vec<String>)> {
    let (mut later, mut sealed) = (Vec::new(), Vec::new());
    for message in 1..=number {
        let content = json!({ "msgtype": "m.text", "body": message.to_string() }).to_string();
        let (content, at_once) = seal(room, &content).await;
        sealed.push(content?);
        if !at_once {
            later.push(message);
        }
    }
    Ok((later, sealed))
}

async fn ready(client: &Client, room: &str) -> Result {
    client.settle().await?;
    let plan = client.room(room).await?.prepare_to_send().await?;
    assert!(matches!(plan, SendPlan::Ready), "{plan:?}");
    Ok(())
}

#[tokio::test]
async fn a_message_is_sealed_at_once_unless_generations_have_to_be_reserved() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    ready(&alice, &room).await?;
    bob.settle().await?;
    let alices = alice.room(&room).await?;
    // The first message of the room has taken one generation. After that 2, 4 … 32 are reserved
    // at a time.
    let (later, sealed) = seal_many(&alices, 70).await?;
    assert!(later.iter().all(|number| [1, 3, 7, 15, 31, 63].contains(number)), "{later:?}");
    // Each has a generation of its own, and opens.
    let bobs = bob.room(&room).await?;
    for (number, content) in sealed.iter().enumerate() {
        let content: Value = serde_json::from_str(content)?;
        let event = json!({
            "type": "m.room.encrypted", "event_id": format!("$message{number}:example.org"),
            "sender": alice.user_id(), "content": content,
        });
        let message = bobs.decrypt(event.to_string()).await?;
        assert!(message.content.contains(&format!("\"{}\"", number + 1)), "{}", message.content);
    }
    Ok(())
}

#[tokio::test]
async fn what_may_have_changed_is_looked_up_elsewhere() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, _bob, room) = pair(&homeserver).await;
    ready(&alice, &room).await?;
    let alices = alice.room(&room).await?;
    seal_many(&alices, 3).await?;
    let (sealed, at_once) = seal(&alices, "{}").await;
    assert!(sealed.is_ok() && at_once);
    // Any call that changes something may have changed the room, and preparing looks at it.
    alice.machine()?.network_available().await?;
    // Another thread may be done before this one looks, so only the result is certain.
    assert!(seal(&alices, "{}").await.0.is_ok());
    alice.machine()?.network_available().await?;
    assert!(matches!(alices.prepare_to_send().await?, SendPlan::Ready));
    let (sealed, at_once) = seal(&alices, "{}").await;
    assert!(sealed.is_ok() && at_once);
    // What takes long is not for the caller's thread.
    let long = json!({ "body": "x".repeat(20_000) }).to_string();
    assert!(seal(&alices, &long).await.0.is_ok());
    // Nothing is decided otherwise at once.
    let (refused, at_once) = seal(&alices, "[]").await;
    let code = refused.err().map(|error| error.code().to_owned());
    assert_eq!((code.as_deref(), at_once), (Some("bad_content"), true));
    // A machine that is suspended, or closed, seals nothing.
    let machine = alice.machine()?;
    machine.suspend().await?;
    let (refused, _) = seal(&alices, "{}").await;
    assert!(matches!(refused, Err(MlsError::Suspended { .. })), "{refused:?}");
    machine.resume().await?;
    machine.shutdown().await?;
    let (refused, _) = seal(&alices, "{}").await;
    assert!(matches!(refused, Err(MlsError::Closed { .. })), "{refused:?}");
    Ok(())
}
