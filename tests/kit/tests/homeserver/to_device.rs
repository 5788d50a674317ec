//! To-device messages and device lists.

use matrix_mls_kit::{Homeserver, Result};
use serde_json::{Value, json};

use super::device::{Device, list, strings};

async fn send(from: &Device, to: &Device, txn: &str, device_id: &str, content: Value) -> Result {
    let body = json!({ "messages": { &to.user_id: { device_id: content } } });
    from.put(&format!("/sendToDevice/m.room.encrypted/{txn}"), body).await?;
    Ok(())
}

fn next(sync: &Value) -> &str {
    sync["next_batch"].as_str().unwrap_or_default()
}

pub async fn messages_stay_until_acknowledged(server: &Homeserver) -> Result {
    let alice = Device::register(server, "td-alice").await?;
    let bob = Device::register(server, "td-bob").await?;
    let second = Device::log_in(server, "td-bob", "SECOND").await?;
    let since = bob.caught_up().await?;
    send(&alice, &bob, "t1", "FIRST", json!({ "n": 1 })).await?;
    send(&alice, &bob, "t2", "*", json!({ "n": 2 })).await?;
    send(&alice, &bob, "t3", "NONE", json!({ "n": 3 })).await?;
    let event = |n: u32| {
        json!({
            "type": "m.room.encrypted", "sender": alice.user_id, "content": { "n": n },
        })
    };
    let first = bob.sync(Some(&since)).await?;
    assert_eq!(list(&first, "/to_device/events"), [event(1), event(2)]);
    // The answer may have been lost: the same token brings the same again.
    let again = bob.sync(Some(&since)).await?;
    assert_eq!(list(&again, "/to_device/events"), [event(1), event(2)]);
    let acknowledged = bob.sync(Some(next(&again))).await?;
    assert_eq!(acknowledged.get("to_device"), None);
    // Now they are gone for good. (The other timeout makes this another request: see
    // `a_repeated_sync_gets_the_same_answer`.)
    let late = bob.get(&format!("/sync?timeout=1&since={since}")).await?;
    assert!(list(&late, "/to_device/events").is_empty());
    let other = second.sync(None).await?;
    assert_eq!(list(&other, "/to_device/events"), [event(2)]);
    Ok(())
}

pub async fn a_transaction_id_delivers_once(server: &Homeserver) -> Result {
    let alice = Device::register(server, "tdo-alice").await?;
    let bob = Device::register(server, "tdo-bob").await?;
    let since = bob.caught_up().await?;
    send(&alice, &bob, "same", "FIRST", json!({ "n": 1 })).await?;
    send(&alice, &bob, "same", "FIRST", json!({ "n": 2 })).await?;
    let sync = bob.sync(Some(&since)).await?;
    let contents: Vec<&Value> =
        list(&sync, "/to_device/events").iter().map(|event| &event["content"]).collect();
    assert_eq!(contents, [&json!({ "n": 1 })]);
    Ok(())
}

pub async fn a_message_is_limited_in_size(server: &Homeserver) -> Result {
    let alice = Device::register(server, "tds-alice").await?;
    let body = |length: usize| {
        let content = json!({ "c": "x".repeat(length) });
        json!({ "messages": { &alice.user_id: { "FIRST": content } } })
    };
    let path = |txn: &str| format!("/sendToDevice/m.room.encrypted/{txn}");
    // The content with its braces and name is eight bytes longer.
    alice.put(&path("fits"), body(65_536 - 8)).await?;
    let refused = alice.refusal("PUT", &path("does-not"), body(65_536 - 7)).await?;
    assert_eq!(refused, (413, "M_TOO_LARGE".to_owned()));
    Ok(())
}

pub async fn messages_come_a_hundred_at_a_time(server: &Homeserver) -> Result {
    let alice = Device::register(server, "tdh-alice").await?;
    let bob = Device::register(server, "tdh-bob").await?;
    let since = bob.caught_up().await?;
    for number in 0..130 {
        send(&alice, &bob, &format!("t{number}"), "FIRST", json!({ "n": number })).await?;
    }
    let first = bob.sync(Some(&since)).await?;
    let second = bob.sync(Some(next(&first))).await?;
    let third = bob.sync(Some(next(&second))).await?;
    assert_eq!(list(&first, "/to_device/events").len(), 100);
    assert_eq!(list(&second, "/to_device/events").len(), 30);
    assert_eq!(list(&second, "/to_device/events")[0]["content"], json!({ "n": 100 }));
    assert_eq!(third.get("to_device"), None);
    Ok(())
}

fn lists(sync: &Value) -> (Vec<String>, Vec<String>) {
    (strings(sync, "/device_lists/changed"), strings(sync, "/device_lists/left"))
}

pub async fn new_and_deleted_devices_change_the_list(server: &Homeserver) -> Result {
    let alice = Device::register(server, "lists-alice").await?;
    let bob = Device::register(server, "lists-bob").await?;
    let stranger = Device::register(server, "lists-stranger").await?;
    alice.room_with(&[&bob]).await?;
    let since = bob.caught_up().await?;
    let strangers = stranger.caught_up().await?;
    let alice_only = (vec![alice.user_id.clone()], Vec::new());

    let second = Device::log_in(server, "lists-alice", "SECOND").await?;
    let sync = bob.sync(Some(&since)).await?;
    assert_eq!(lists(&sync), alice_only);
    let upload = json!({ "device_keys": {
        "user_id": alice.user_id, "device_id": "SECOND", "algorithms": [], "keys": {},
        "signatures": {},
    } });
    second.post("/keys/upload", upload.clone()).await?;
    let sync = bob.sync(Some(next(&sync))).await?;
    assert_eq!(lists(&sync), alice_only);
    // The same keys again are no change, and key packages are none either.
    second.post("/keys/upload", upload).await?;
    second.post("/keys/upload", json!({ "one_time_keys": { "a:b": "x" } })).await?;
    let sync = bob.sync(Some(next(&sync))).await?;
    assert_eq!(lists(&sync), (Vec::new(), Vec::new()));
    // Logging in again as the same device keeps its keys and both tokens, and is no change.
    let again = Device::log_in(server, "lists-alice", "SECOND").await?;
    second.get("/account/whoami").await?;
    let counts = again.post("/keys/upload", json!({})).await?;
    assert_eq!(counts["one_time_key_counts"]["a"], json!(1));
    let sync = bob.sync(Some(next(&sync))).await?;
    assert_eq!(lists(&sync), (Vec::new(), Vec::new()));

    again.post("/logout", json!({})).await?;
    let refused = second.refusal("GET", "/account/whoami", Value::Null).await?;
    assert_eq!(refused, (401, "M_UNKNOWN_TOKEN".to_owned()));
    let sync = bob.sync(Some(next(&sync))).await?;
    assert_eq!(lists(&sync), alice_only);
    let query = json!({ "device_keys": { &alice.user_id: [] } });
    let answer = bob.post("/keys/query", query).await?;
    assert_eq!(answer["device_keys"][&alice.user_id], json!({}));
    let claim = json!({ "one_time_keys": { &alice.user_id: { "SECOND": "a" } } });
    let answer = bob.post("/keys/claim", claim).await?;
    assert_eq!(answer["one_time_keys"], json!({}));
    // Alice is told about her own devices, a stranger is not.
    let own = alice.sync(Some(&alice.caught_up().await?)).await?;
    assert_eq!(lists(&own), (Vec::new(), Vec::new()));
    let sync = stranger.sync(Some(&strangers)).await?;
    assert_eq!(lists(&sync), (Vec::new(), Vec::new()));
    Ok(())
}

pub async fn sharing_rooms_changes_whose_lists_are_followed(server: &Homeserver) -> Result {
    let alice = Device::register(server, "follow-alice").await?;
    let bob = Device::register(server, "follow-bob").await?;
    let room_id = alice.room_with(&[]).await?;
    let of_alice = alice.caught_up().await?;
    let of_bob = bob.caught_up().await?;
    let bob_only = json!({ "user_id": bob.user_id });
    alice.post(&format!("/rooms/{room_id}/invite"), bob_only.clone()).await?;
    let sync = alice.sync(Some(&of_alice)).await?;
    let only_bob = vec![bob.user_id.clone()];
    assert_eq!(lists(&sync).0, only_bob, "an invited user is followed");
    bob.post(&format!("/rooms/{room_id}/join"), json!({})).await?;
    let sync = alice.sync(Some(next(&sync))).await?;
    assert_eq!(lists(&sync).0, only_bob);
    let joined = bob.sync(Some(&of_bob)).await?;
    let mut both = vec![alice.user_id.clone(), bob.user_id.clone()];
    both.sort();
    assert_eq!(lists(&joined).0, both, "everybody in the room, oneself too");

    alice.post(&format!("/rooms/{room_id}/kick"), bob_only).await?;
    let sync = alice.sync(Some(next(&sync))).await?;
    assert_eq!(lists(&sync), (Vec::new(), vec![bob.user_id.clone()]));
    let kicked = bob.sync(Some(next(&joined))).await?;
    assert_eq!(lists(&kicked), (Vec::new(), vec![alice.user_id.clone()]));
    Ok(())
}
