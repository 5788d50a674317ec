//! Rooms, events and membership.

use matrix_mls_kit::{Homeserver, Result};
use serde_json::{Value, json};

use super::{
    device::{Device, list},
    sync::timeline,
};

pub async fn a_transaction_id_sends_once(server: &Homeserver) -> Result {
    let alice = Device::register(server, "txn-once").await?;
    let second = Device::log_in(server, "txn-once", "SECOND").await?;
    let room_id = alice.room_with(&[]).await?;
    let first = alice.send(&room_id, "t1", json!({ "body": "one" })).await?;
    let again = alice.send(&room_id, "t1", json!({ "body": "something else" })).await?;
    assert_eq!(first, again);
    assert_ne!(first, alice.send(&room_id, "t2", json!({ "body": "one" })).await?);
    // A transaction id is the device's own.
    assert_ne!(first, second.send(&room_id, "t1", json!({ "body": "one" })).await?);
    let history = alice.get(&format!("/rooms/{room_id}/messages?dir=b&limit=50")).await?;
    let bodies: Vec<&str> = list(&history, "/chunk")
        .iter()
        .filter(|event| event["type"] == "org.example.message")
        .filter_map(|event| event["content"]["body"].as_str())
        .collect();
    assert_eq!(bodies, ["one", "one", "one"]);
    Ok(())
}

pub async fn only_the_sending_device_sees_the_transaction_id(server: &Homeserver) -> Result {
    let alice = Device::register(server, "txn-seen").await?;
    let second = Device::log_in(server, "txn-seen", "SECOND").await?;
    let room_id = alice.room_with(&[]).await?;
    let event_id = alice.send(&room_id, "mine", json!({ "body": "x" })).await?;
    for (device, expected) in [(&alice, json!("mine")), (&second, Value::Null)] {
        let sync = device.sync(None).await?;
        let event = timeline(&sync, "join", &room_id).last().cloned().unwrap_or_default();
        assert_eq!(event["event_id"], json!(event_id));
        assert_eq!(event["unsigned"]["transaction_id"], expected);
        assert_eq!(event.get("room_id"), None);
        let event = device.get(&format!("/rooms/{room_id}/event/{event_id}")).await?;
        assert_eq!(event["room_id"], json!(room_id));
        assert_eq!(event["unsigned"]["transaction_id"], expected);
    }
    Ok(())
}

pub async fn an_event_is_limited_in_size(server: &Homeserver) -> Result {
    let alice = Device::register(server, "big-event").await?;
    let room_id = alice.room_with(&[]).await?;
    let path = |txn: &str| format!("/rooms/{room_id}/send/m.room.encrypted/{txn}");
    alice.put(&path("64000"), json!({ "ciphertext": "x".repeat(64_000) })).await?;
    let refused = alice.refusal("PUT", &path("66000"), json!({ "c": "x".repeat(66_000) })).await?;
    assert_eq!(refused, (413, "M_TOO_LARGE".to_owned()));
    // The refusal is not remembered: the same transaction id can send something smaller.
    alice.put(&path("66000"), json!({ "c": "x" })).await?;
    let state = format!("/rooms/{room_id}/state/org.example.state/key");
    let refused = alice.refusal("PUT", &state, json!({ "c": "x".repeat(66_000) })).await?;
    assert_eq!(refused, (413, "M_TOO_LARGE".to_owned()));
    // Where exactly: what the server adds to the content is some 600 bytes.
    let mut largest = (64_000, 66_000);
    while largest.1 - largest.0 > 1 {
        let middle = (largest.0 + largest.1) / 2;
        let answer = alice
            .ask("PUT", &path(&format!("b{middle}")), json!({ "c": "x".repeat(middle) }))
            .await?;
        match answer.status {
            200 => largest.0 = middle,
            _ => largest.1 = middle,
        }
    }
    // The server's name is in it twice: in the sender and at the signature.
    let (_, server_name) = alice.user_id.split_once(':').unwrap_or_default();
    assert_eq!(largest.0 + 2 * server_name.len(), 64_965);
    Ok(())
}

pub async fn content_must_be_canonical_json(server: &Homeserver) -> Result {
    let alice = Device::register(server, "canonical").await?;
    let room_id = alice.room_with(&[]).await?;
    for (txn, content) in [("f", json!({ "n": 1.5 })), ("big", json!({ "n": 1_u64 << 53 }))] {
        let path = format!("/rooms/{room_id}/send/org.example.message/{txn}");
        let refused = alice.refusal("PUT", &path, content).await?;
        assert_eq!(refused, (400, "M_BAD_JSON".to_owned()));
    }
    let path = "/_matrix/client/v3/keys/query";
    for (body, errcode) in [("{", "M_NOT_JSON"), ("[]", "M_BAD_JSON")] {
        let answer = alice.http.send("POST", path, "application/json", body.into()).await?;
        assert_eq!(answer.status, 400);
        assert_eq!(answer.json()["errcode"], json!(errcode), "{body}");
    }
    Ok(())
}

pub async fn state_is_sent_once_and_needs_power(server: &Homeserver) -> Result {
    let alice = Device::register(server, "state-alice").await?;
    let bob = Device::register(server, "state-bob").await?;
    let room_id = alice.room_with(&[&bob]).await?;
    let path = format!("/rooms/{room_id}/state/org.example.state/key");
    let first = alice.put(&path, json!({ "a": 1 })).await?;
    assert_eq!(first, alice.put(&path, json!({ "a": 1 })).await?);
    assert_ne!(first, alice.put(&path, json!({ "a": 2 })).await?);
    assert_eq!(bob.get(&path).await?, json!({ "a": 2 }));
    let refused = bob.refusal("PUT", &path, json!({ "a": 3 })).await?;
    assert_eq!(refused, (403, "M_FORBIDDEN".to_owned()));
    let none = format!("/rooms/{room_id}/state/org.example.state/none");
    assert_eq!(bob.refusal("GET", &none, Value::Null).await?, (404, "M_NOT_FOUND".to_owned()));
    Ok(())
}

pub async fn membership_decides_who_may_do_what(server: &Homeserver) -> Result {
    let alice = Device::register(server, "member-alice").await?;
    let bob = Device::register(server, "member-bob").await?;
    let forbidden = (403, "M_FORBIDDEN".to_owned());
    let room_id = alice.room_with(&[]).await?;
    let send = format!("/rooms/{room_id}/send/org.example.message/t");
    let join = format!("/rooms/{room_id}/join");
    let members = format!("/rooms/{room_id}/joined_members");
    let bob_only = json!({ "user_id": bob.user_id });
    assert_eq!(bob.refusal("PUT", &send, json!({ "body": "x" })).await?, forbidden);
    assert_eq!(bob.refusal("POST", &join, json!({})).await?, forbidden);
    assert_eq!(bob.refusal("GET", &members, Value::Null).await?, forbidden);
    let messages = format!("/rooms/{room_id}/messages?dir=b");
    assert_eq!(bob.refusal("GET", &messages, Value::Null).await?, forbidden);
    let invite = format!("/rooms/{room_id}/invite");
    assert_eq!(bob.refusal("POST", &invite, bob_only.clone()).await?, forbidden);

    alice.post(&invite, bob_only.clone()).await?;
    assert_eq!(bob.refusal("PUT", &send, json!({ "body": "x" })).await?, forbidden);
    bob.post(&join, json!({})).await?;
    // Joining again changes nothing.
    bob.post(&join, json!({})).await?;
    bob.put(&send, json!({ "body": "x" })).await?;
    assert_eq!(alice.refusal("POST", &invite, bob_only.clone()).await?, forbidden);
    let joined = alice.get(&members).await?;
    assert_eq!(joined["joined"].as_object().map(|joined| joined.len()), Some(2));

    let kick = format!("/rooms/{room_id}/kick");
    let alice_only = json!({ "user_id": alice.user_id });
    assert_eq!(bob.refusal("POST", &kick, alice_only).await?, forbidden);
    alice.post(&kick, bob_only.clone()).await?;
    assert_eq!(bob.refusal("PUT", &send.replace("/t", "/u"), json!({})).await?, forbidden);
    assert_eq!(bob.refusal("POST", &join, json!({})).await?, forbidden);
    assert_eq!(alice.refusal("POST", &kick, bob_only.clone()).await?, forbidden);

    alice.post(&invite, bob_only).await?;
    bob.post(&join, json!({})).await?;
    bob.post(&format!("/rooms/{room_id}/leave"), json!({})).await?;
    let all = alice.get(&format!("/rooms/{room_id}/members")).await?;
    let of_bob = list(&all, "/chunk").iter().find(|event| event["state_key"] == bob.user_id);
    assert_eq!(of_bob.map(|event| event["content"]["membership"].clone()), Some(json!("leave")));
    let joined = alice.get(&format!("/rooms/{room_id}/members?membership=join")).await?;
    assert_eq!(list(&joined, "/chunk").len(), 1);
    Ok(())
}

pub async fn a_creation_content_and_initial_state_are_kept(server: &Homeserver) -> Result {
    let alice = Device::register(server, "creation").await?;
    let encryption = json!({ "algorithm": "org.matrix.msc2883.v1.dmls.x" });
    let request = json!({
        "creation_content": { "encryption": encryption },
        "initial_state": [{ "type": "m.room.encryption", "state_key": "", "content": encryption }],
    });
    let room_id = alice.create_room(request).await?;
    let sync = alice.sync(None).await?;
    let events: Vec<Value> = list(&sync, &format!("/rooms/join/{room_id}/state/events"))
        .iter()
        .chain(timeline(&sync, "join", &room_id))
        .cloned()
        .collect();
    let content = |event_type: &str| {
        let event = events.iter().find(|event| event["type"] == event_type);
        event.map(|event| event["content"].clone()).unwrap_or_default()
    };
    assert_eq!(content("m.room.create")["encryption"], encryption);
    assert_eq!(content("m.room.create")["room_version"], json!("12"));
    assert_eq!(content("m.room.encryption"), encryption);
    assert_eq!(content("m.room.join_rules"), json!({ "join_rule": "invite" }));
    assert_eq!(content("m.room.history_visibility"), json!({ "history_visibility": "shared" }));
    assert!(!room_id.contains(':'), "{room_id}");
    Ok(())
}
