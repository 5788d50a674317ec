//! Synapse's default limits on how often a user may send.

use std::time::Duration;

use matrix_mls_kit::{Homeserver, HomeserverKind, Result};
use serde_json::{Value, json};

use super::device::Device;

#[tokio::test]
async fn embedded() -> Result {
    limits_are_those_of_synapse(HomeserverKind::Embedded).await
}

#[tokio::test]
async fn synapse() -> Result {
    limits_are_those_of_synapse(HomeserverKind::Synapse).await
}

async fn limits_are_those_of_synapse(kind: HomeserverKind) -> Result {
    let server = Homeserver::start_limited(kind).await?;
    let alice = Device::register(&server, "alice").await?;
    let bob = Device::register(&server, "bob").await?;
    // Creating a room counts as one event, and so does each invitation; what the room begins with
    // does not.
    let room_id = alice.create_room(json!({ "preset": "public_chat" })).await?;
    alice.post(&format!("/rooms/{room_id}/invite"), json!({ "user_id": bob.user_id })).await?;
    bob.post(&format!("/rooms/{room_id}/join"), json!({})).await?;
    let send = |txn: u32| format!("/rooms/{room_id}/send/m.room.encrypted/t{txn}");
    for txn in 1..=7 {
        let answer = alice.ask("PUT", &send(txn), json!({ "n": txn })).await?;
        assert_eq!(answer.status, 200, "{txn}: {}", answer.json());
    }
    let state = format!("/rooms/{room_id}/state/org.example.state/");
    alice.put(&state, json!({ "n": 1 })).await?;
    // The eleventh event is too early, whichever it is. A request that was answered before is
    // answered.
    let early = alice.ask("PUT", &send(8), json!({ "n": 8 })).await?;
    assert_eq!(early.status, 429);
    assert_eq!(early.json()["errcode"], json!("M_LIMIT_EXCEEDED"));
    let wait = early.json()["retry_after_ms"].as_u64().unwrap_or_default();
    assert!((1..=5000).contains(&wait), "{wait}");
    for (method, path, body) in [
        ("PUT", state, json!({ "n": 2 })),
        ("POST", format!("/rooms/{room_id}/kick"), json!({ "user_id": bob.user_id })),
    ] {
        assert_eq!(alice.ask(method, &path, body).await?.status, 429, "{path}");
    }
    assert_eq!(alice.ask("PUT", &send(1), json!({ "n": 1 })).await?.status, 200);
    // Others may send, and what is no event is not limited.
    bob.put(&send(1), json!({ "n": 1 })).await?;
    for number in 0..20 {
        let keys = json!({ "one_time_keys": { format!("org.example:{number}"): "x" } });
        assert_eq!(alice.ask("POST", "/keys/upload", keys).await?.status, 200);
        let message = json!({ "messages": { &bob.user_id: { "FIRST": { "n": number } } } });
        let path = format!("/sendToDevice/m.room.encrypted/t{number}");
        assert_eq!(alice.ask("PUT", &path, message).await?.status, 200);
        let path = format!("/rooms/{room_id}/messages?dir=b");
        assert_eq!(alice.ask("GET", &path, Value::Null).await?.status, 200);
    }
    // After the time that was asked for, one more is allowed, and no second.
    tokio::time::sleep(Duration::from_millis(wait)).await;
    assert_eq!(alice.ask("PUT", &send(8), json!({ "n": 8 })).await?.status, 200);
    assert_eq!(alice.ask("PUT", &send(9), json!({ "n": 9 })).await?.status, 429);
    Ok(())
}
