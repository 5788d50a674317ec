//! Two devices talk in an MLS room: the README's ten lines, with HTTP around them.
//!
//! `cargo run --example two_devices -- http://localhost:8008`, with any homeserver that lets
//! accounts be registered. Without an address the example brings a homeserver of its own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use matrix_mls::{MlsMachine, OutgoingRequest, RoomSettings, SendPlan};
use matrix_mls_kit::{Client, Homeserver, Result};
use serde_json::Value;

/// What an app writes: encrypt a text for a room, doing first what has to come first.
async fn encrypt(app: &Client, machine: &MlsMachine, room_id: &str, text: &str) -> Result<Value> {
    let room = machine.room(room_id.to_owned())?;
    while let SendPlan::Waiting { requests, retry_after_ms } = room.prepare_to_send().await? {
        if let Some(wait) = retry_after_ms.map(Duration::from_millis) {
            tokio::time::sleep(wait).await;
        }
        for request in requests {
            let (status, body) = send(app, &request).await?;
            machine.mark_request_as_sent(request.id, status, body).await?;
        }
    }
    let content = serde_json::json!({ "msgtype": "m.text", "body": text }).to_string();
    let content = room.encrypt("m.room.message".to_owned(), content).await?;
    Ok(serde_json::from_str(&content)?)
}

/// Any HTTP client with the app's base URL and access token.
async fn send(app: &Client, request: &OutgoingRequest) -> Result<(u16, Vec<u8>)> {
    let OutgoingRequest { method, path, content_type, body, .. } = request;
    let answer = app.http().send(method, path, content_type, body.clone()).await?;
    Ok((answer.status, answer.body))
}

#[tokio::main]
async fn main() -> Result {
    let homeserver = match std::env::args().nth(1) {
        Some(address) => Homeserver::at(&address),
        None => Homeserver::embedded()?,
    };
    let tag = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    // `Client` logs in, keeps a store in a temporary directory, and feeds syncs to its machine.
    let alice = Client::register(&homeserver, &format!("alice-{tag}"), "PHONE").await?;
    let bob = Client::register(&homeserver, &format!("bob-{tag}"), "PHONE").await?;
    for app in [&alice, &bob] {
        app.settle().await?;
    }
    let room_id = alice.create_room(&[&bob]).await?;
    bob.join(&room_id).await?;
    alice.settle().await?;

    alice.machine()?.room(room_id.clone())?.enable(RoomSettings::default()).await?;
    for (sender, reader, text) in [(&alice, &bob, "Hello, Bob"), (&bob, &alice, "Hello, Alice")] {
        let content = encrypt(sender, sender.machine()?, &room_id, text).await?;
        println!("{} sends {content}\n", sender.name());
        sender.send_unencrypted(&room_id, "m.room.encrypted", content).await?;
        reader.settle().await?;
        for message in reader.sync().await?.messages {
            println!("{} reads {} in epoch {}\n", reader.name(), message.content, message.epoch);
        }
    }
    Ok(())
}
