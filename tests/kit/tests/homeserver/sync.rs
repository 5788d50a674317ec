//! Sync, pages of the timeline, and access tokens.

use std::time::{Duration, Instant};

use matrix_mls_kit::{Homeserver, Result};
use serde_json::{Value, json};

use super::device::{Device, list};

pub fn timeline<'a>(sync: &'a Value, part: &str, room_id: &str) -> &'a [Value] {
    list(sync, &format!("/rooms/{part}/{room_id}/timeline/events"))
}

pub async fn a_long_timeline_is_cut_and_can_be_paged(server: &Homeserver) -> Result {
    let alice = Device::register(server, "long-alice").await?;
    let bob = Device::register(server, "long-bob").await?;
    let room_id = alice.room_with(&[&bob]).await?;
    let since = bob.caught_up().await?;
    let mut sent = Vec::new();
    for number in 0..25 {
        sent.push(alice.send(&room_id, &format!("t{number}"), json!({ "n": number })).await?);
        if number == 5 {
            let path = format!("/rooms/{room_id}/state/org.example.state/key");
            alice.put(&path, json!({ "in": "the gap" })).await?;
        }
    }
    let sync = bob.sync(Some(&since)).await?;
    let room = &sync["rooms"]["join"][&room_id];
    assert_eq!(room["timeline"]["limited"], json!(true));
    let ids = |events: &[Value]| -> Vec<String> {
        events.iter().filter_map(|event| event["event_id"].as_str().map(str::to_owned)).collect()
    };
    assert_eq!(ids(timeline(&sync, "join", &room_id)), sent[15..]);
    let gap_state = list(room, "/state/events");
    assert_eq!(gap_state.len(), 1, "{gap_state:?}");
    assert_eq!(gap_state[0]["content"], json!({ "in": "the gap" }));

    // Back from the gap in pages.
    let mut from = room["timeline"]["prev_batch"].as_str().unwrap_or_default().to_owned();
    let mut back = Vec::new();
    while back.len() < 16 {
        let path = format!("/rooms/{room_id}/messages?dir=b&limit=6&from={from}");
        let page = bob.get(&path).await?;
        back.extend(ids(list(&page, "/chunk")));
        from = page["end"].as_str().unwrap_or_default().to_owned();
    }
    back.truncate(16);
    back.reverse();
    assert_eq!(back.iter().filter(|id| sent.contains(id)).count(), 15);
    assert_eq!(back[0], sent[0]);
    assert_eq!(back[15], sent[14]);

    // Forward from the old token to its end.
    let mut from = since.clone();
    let mut forward = Vec::new();
    loop {
        let path = format!("/rooms/{room_id}/messages?dir=f&limit=10&from={from}");
        let page = bob.get(&path).await?;
        forward.extend(ids(list(&page, "/chunk")));
        match page["end"].as_str() {
            Some(end) if !list(&page, "/chunk").is_empty() => from = end.to_owned(),
            _ => break,
        }
    }
    forward.retain(|id| sent.contains(id));
    assert_eq!(forward, sent);

    // A filter says another length.
    let filter = "%7B%22room%22%3A%7B%22timeline%22%3A%7B%22limit%22%3A100%7D%7D%7D";
    let sync = bob.get(&format!("/sync?timeout=0&since={since}&filter={filter}")).await?;
    assert_eq!(timeline(&sync, "join", &room_id).len(), 26);
    assert_eq!(sync["rooms"]["join"][&room_id]["timeline"]["limited"], json!(false));
    Ok(())
}

pub async fn who_left_reads_up_to_then(server: &Homeserver) -> Result {
    let alice = Device::register(server, "left-alice").await?;
    let bob = Device::register(server, "left-bob").await?;
    let room_id = alice.room_with(&[&bob]).await?;
    let since = bob.caught_up().await?;
    let before = alice.send(&room_id, "before", json!({ "body": "before" })).await?;
    alice.post(&format!("/rooms/{room_id}/kick"), json!({ "user_id": bob.user_id })).await?;
    let after = alice.send(&room_id, "after", json!({ "body": "after" })).await?;
    let sync = bob.sync(Some(&since)).await?;
    let left = timeline(&sync, "leave", &room_id);
    assert_eq!(left.len(), 2, "{left:?}");
    assert_eq!(left[0]["event_id"], json!(before));
    assert_eq!(left[1]["content"]["membership"], json!("leave"));
    assert_eq!(sync["rooms"].get("join"), None);
    bob.get(&format!("/rooms/{room_id}/event/{before}")).await?;
    let hidden =
        bob.refusal("GET", &format!("/rooms/{room_id}/event/{after}"), Value::Null).await?;
    assert_eq!(hidden, (404, "M_NOT_FOUND".to_owned()));
    let history = bob.get(&format!("/rooms/{room_id}/messages?dir=b&limit=50")).await?;
    let has = |id: &str| list(&history, "/chunk").iter().any(|event| event["event_id"] == id);
    assert!(has(&before) && !has(&after));
    Ok(())
}

pub async fn an_invite_is_seen_before_joining(server: &Homeserver) -> Result {
    let alice = Device::register(server, "invite-alice").await?;
    let bob = Device::register(server, "invite-bob").await?;
    let since = bob.caught_up().await?;
    let request = json!({ "invite": [bob.user_id], "name": "the room" });
    let room_id = alice.create_room(request).await?;
    let before = alice.send(&room_id, "t", json!({ "body": "before the join" })).await?;
    let sync = bob.sync(Some(&since)).await?;
    let invite = list(&sync, &format!("/rooms/invite/{room_id}/invite_state/events"));
    let own = invite.iter().find(|event| event["state_key"] == bob.user_id);
    assert_eq!(own.map(|event| event["content"]["membership"].clone()), Some(json!("invite")));
    assert!(invite.iter().any(|event| event["type"] == "m.room.create"));

    let since = bob.caught_up().await?;
    bob.post(&format!("/join/{room_id}"), json!({})).await?;
    let sync = bob.sync(Some(&since)).await?;
    let room = &sync["rooms"]["join"][&room_id];
    let all: Vec<&Value> = list(room, "/state/events")
        .iter()
        .chain(timeline(&sync, "join", &room_id))
        .filter(|event| event["type"] == "m.room.create")
        .collect();
    assert_eq!(all.len(), 1, "the whole state comes with the join");
    // With shared history, what was sent before the join is readable.
    let event = bob.get(&format!("/rooms/{room_id}/event/{before}")).await?;
    assert_eq!(event["content"]["body"], json!("before the join"));
    Ok(())
}

pub async fn a_sync_waits_for_news(server: &Homeserver) -> Result {
    let alice = Device::register(server, "wait-alice").await?;
    let bob = Device::register(server, "wait-bob").await?;
    let room_id = alice.room_with(&[&bob]).await?;
    let since = bob.caught_up().await?;
    let began = Instant::now();
    let path = format!("/sync?timeout=10000&since={since}");
    let (sync, sent) = tokio::join!(bob.get(&path), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        alice.send(&room_id, "t", json!({ "body": "news" })).await
    });
    let sync = sync?;
    assert!(began.elapsed() > Duration::from_millis(250), "{:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(timeline(&sync, "join", &room_id)[0]["event_id"], json!(sent?));
    let since = sync["next_batch"].as_str().unwrap_or_default();
    let began = Instant::now();
    let sync = bob.get(&format!("/sync?timeout=400&since={since}")).await?;
    assert!(began.elapsed() > Duration::from_millis(350), "{:?}", began.elapsed());
    assert_eq!(sync.get("rooms"), None);
    Ok(())
}

/// For two minutes, a repeated sync is answered from a cache: what happened since is missing, and
/// what was acknowledged since comes once more. A client must live with both.
pub async fn a_repeated_sync_gets_the_same_answer(server: &Homeserver) -> Result {
    let alice = Device::register(server, "repeat-alice").await?;
    let bob = Device::register(server, "repeat-bob").await?;
    let room_id = alice.room_with(&[&bob]).await?;
    let since = bob.caught_up().await?;
    let message = json!({ "messages": { &bob.user_id: { "FIRST": { "n": 1 } } } });
    alice.put("/sendToDevice/m.room.encrypted/t", message).await?;
    alice.send(&room_id, "t1", json!({ "n": 1 })).await?;
    let first = bob.sync(Some(&since)).await?;
    let next = first["next_batch"].as_str().unwrap_or_default();
    let second = bob.sync(Some(next)).await?;
    alice.send(&room_id, "t2", json!({ "n": 2 })).await?;
    let again = bob.sync(Some(&since)).await?;
    assert_eq!(again["next_batch"], first["next_batch"]);
    assert_eq!(list(&again, "/to_device/events").len(), 1);
    assert_eq!(timeline(&again, "join", &room_id).len(), 1);
    let after = bob.sync(second["next_batch"].as_str()).await?;
    assert_eq!(timeline(&after, "join", &room_id)[0]["content"]["n"], json!(2));
    // The same of an initial sync.
    let initial = bob.get("/sync?timeout=77").await?;
    alice.send(&room_id, "t3", json!({ "n": 3 })).await?;
    let again = bob.get("/sync?timeout=77").await?;
    assert_eq!(again["next_batch"], initial["next_batch"]);
    Ok(())
}

pub async fn tokens_are_checked(server: &Homeserver) -> Result {
    let alice = Device::register(server, "tokens").await?;
    let who = alice.get("/account/whoami").await?;
    assert_eq!(who["user_id"], json!(alice.user_id));
    assert_eq!(who["device_id"], json!("FIRST"));
    alice.post("/logout", json!({})).await?;
    let refused = alice.refusal("GET", "/account/whoami", Value::Null).await?;
    assert_eq!(refused, (401, "M_UNKNOWN_TOKEN".to_owned()));
    let nobody = matrix_mls_kit::Http::new(server.base_url(), "nobody")?;
    let answer = nobody.try_json("GET", "/_matrix/client/v3/sync", Value::Null).await?;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.json()["errcode"], json!("M_MISSING_TOKEN"));
    let answer = nobody.try_json("GET", "/_matrix/client/v3/nonsense", Value::Null).await?;
    assert_eq!((answer.status, answer.json()["errcode"].clone()), (404, json!("M_UNRECOGNIZED")));
    let taken = Device::register(server, "tokens").await.err().map(|error| error.to_string());
    assert!(taken.as_ref().is_some_and(|error| error.contains("M_USER_IN_USE")), "{taken:?}");
    Ok(())
}
