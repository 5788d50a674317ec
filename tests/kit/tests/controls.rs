//! What can be ordered of the embedded homeserver through its controls.

use std::time::{Duration, Instant};

use matrix_mls_kit::{Client, Controls, Homeserver, Http, KitError, RateLimit, Result, Target};
use serde_json::{Value, json};

struct Device {
    user_id: String,
    http: Http,
}

impl Device {
    async fn register(server: &Homeserver, username: &str) -> Result<Self, KitError> {
        let device_id = username.to_uppercase();
        let (user_id, http) = Http::register(server.base_url(), username, &device_id).await?;
        Ok(Self { user_id, http })
    }

    async fn room(&self) -> Result<String, KitError> {
        let answer = self.http.post("/_matrix/client/v3/createRoom", json!({})).await?;
        Ok(answer["room_id"].as_str().unwrap_or_default().to_owned())
    }

    /// Sends once, without repeating.
    async fn send(&self, room_id: &str, txn: &str) -> Result<matrix_mls_kit::Answer, KitError> {
        let path = format!("/_matrix/client/v3/rooms/{room_id}/send/org.example/{txn}");
        self.http.try_json("PUT", &path, json!({ "txn": txn })).await
    }

    /// The transaction ids that reached the room, in order.
    async fn sent(&self, room_id: &str) -> Result<Vec<String>, KitError> {
        let path = format!("/_matrix/client/v3/rooms/{room_id}/messages?dir=f&limit=100");
        let answer = self.http.get(&path).await?;
        let events = answer["chunk"].as_array().cloned().unwrap_or_default();
        let txns = events.iter().filter_map(|event| event["content"]["txn"].as_str());
        Ok(txns.map(str::to_owned).collect())
    }

    async fn to_device(&self, to: &Device, txn: &str) -> Result<(), KitError> {
        let path = format!("/_matrix/client/v3/sendToDevice/org.example/{txn}");
        let body = json!({ "messages": { &to.user_id: { "*": { "txn": txn } } } });
        self.http.put(&path, body).await.map(drop)
    }

    /// What to-device messages a sync brings, and its token.
    async fn receive(&self, since: Option<&str>) -> Result<(Vec<String>, String), KitError> {
        let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
        let sync = self.http.get(&format!("/_matrix/client/v3/sync?timeout=0{since}")).await?;
        let events = sync["to_device"]["events"].as_array().cloned().unwrap_or_default();
        let txns = events.iter().filter_map(|event| event["content"]["txn"].as_str());
        let next = sync["next_batch"].as_str().unwrap_or_default().to_owned();
        Ok((txns.map(str::to_owned).collect(), next))
    }
}

fn controls(server: &Homeserver) -> Result<&Controls, KitError> {
    server.controls().ok_or_else(|| KitError::Setup("no controls".to_owned()))
}

#[tokio::test]
async fn a_dropped_request_has_no_effect_and_a_dropped_answer_has() -> Result {
    let server = Homeserver::embedded()?;
    let controls = controls(&server)?;
    let alice = Device::register(&server, "alice").await?;
    let room_id = alice.room().await?;
    controls.drop_requests(Target::path("/send/"), 1);
    assert!(matches!(alice.send(&room_id, "one").await, Err(KitError::NoAnswer { .. })));
    assert!(alice.sent(&room_id).await?.is_empty());
    controls.drop_answers(Target::path("/send/"), 1);
    assert!(matches!(alice.send(&room_id, "two").await, Err(KitError::NoAnswer { .. })));
    assert_eq!(alice.sent(&room_id).await?, ["two"]);
    // Repeated with the same transaction id, it is answered and sends nothing new.
    assert_eq!(alice.send(&room_id, "two").await?.status, 200);
    assert_eq!(alice.sent(&room_id).await?, ["two"]);
    Ok(())
}

#[tokio::test]
async fn a_partition_cuts_off_one_device_only() -> Result {
    let server = Homeserver::embedded()?;
    let controls = controls(&server)?;
    let alice = Device::register(&server, "alice").await?;
    let bob = Device::register(&server, "bob").await?;
    let (of_alice, of_bob) = (alice.room().await?, bob.room().await?);
    let partition = controls.partition(Target::everything().user(&alice.user_id).device("ALICE"));
    for txn in ["a", "b"] {
        assert!(alice.send(&of_alice, txn).await.is_err());
        assert_eq!(bob.send(&of_bob, txn).await?.status, 200);
    }
    assert_eq!(partition.hits(), 2);
    partition.stop();
    assert_eq!(alice.send(&of_alice, "c").await?.status, 200);
    assert_eq!(alice.sent(&of_alice).await?, ["c"]);
    assert_eq!(bob.sent(&of_bob).await?, ["a", "b"]);
    Ok(())
}

#[tokio::test]
async fn the_next_requests_fail_with_a_status() -> Result {
    let server = Homeserver::embedded()?;
    let controls = controls(&server)?;
    let alice = Device::register(&server, "alice").await?;
    let room_id = alice.room().await?;
    controls.fail(Target::path("/send/"), 2, 502);
    let first = alice.send(&room_id, "a").await?;
    assert_eq!((first.status, first.json()), (502, Value::Null));
    assert_eq!(alice.send(&room_id, "a").await?.status, 502);
    assert_eq!(alice.send(&room_id, "a").await?.status, 200);
    controls.fail(Target::path("/send/"), 1, 429);
    let limited = alice.send(&room_id, "b").await?;
    assert_eq!(limited.status, 429);
    assert!(limited.json()["retry_after_ms"].is_u64());
    assert_eq!(alice.sent(&room_id).await?, ["a"]);
    Ok(())
}

#[tokio::test]
async fn held_requests_are_overtaken() -> Result {
    let server = Homeserver::embedded()?;
    let controls = controls(&server)?;
    let alice = Device::register(&server, "alice").await?;
    let room_id = alice.room().await?;
    let hold = controls.hold(Target::path("/first"));
    let (first, second) = tokio::join!(alice.send(&room_id, "first"), async {
        let answer = alice.send(&room_id, "second").await;
        while hold.hits() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        hold.stop();
        answer
    });
    assert_eq!((first?.status, second?.status), (200, 200));
    assert_eq!(alice.sent(&room_id).await?, ["second", "first"]);
    Ok(())
}

#[tokio::test]
async fn requests_are_delayed_and_healed() -> Result {
    let server = Homeserver::embedded()?;
    let controls = controls(&server)?;
    let alice = Device::register(&server, "alice").await?;
    let room_id = alice.room().await?;
    controls.delay(Target::path("/send/"), Duration::from_millis(200));
    let began = Instant::now();
    alice.send(&room_id, "a").await?;
    assert!(began.elapsed() >= Duration::from_millis(200));
    let partition = controls.partition(Target::everything());
    controls.heal();
    let began = Instant::now();
    alice.send(&room_id, "b").await?;
    assert!(began.elapsed() < Duration::from_millis(200), "{:?}", began.elapsed());
    assert_eq!(partition.hits(), 0);
    Ok(())
}

#[tokio::test]
async fn a_rate_limit_says_when_to_come_again() -> Result {
    let server = Homeserver::embedded()?;
    let controls = controls(&server)?;
    let alice = Device::register(&server, "alice").await?;
    let bob = Device::register(&server, "bob").await?;
    let (of_alice, of_bob) = (alice.room().await?, bob.room().await?);
    let interval = Duration::from_millis(300);
    controls.set_rate_limit(Some(RateLimit { path: "/send/".to_owned(), burst: 2, interval }));
    assert_eq!(alice.send(&of_alice, "a").await?.status, 200);
    assert_eq!(alice.send(&of_alice, "b").await?.status, 200);
    let limited = alice.send(&of_alice, "c").await?;
    assert_eq!(limited.status, 429);
    assert_eq!(limited.json()["errcode"], json!("M_LIMIT_EXCEEDED"));
    let wait = limited.json()["retry_after_ms"].as_u64().unwrap_or_default();
    assert!((1..=300).contains(&wait), "{wait}");
    // Another user has an allowance of their own, and other requests do not count.
    assert_eq!(bob.send(&of_bob, "a").await?.status, 200);
    assert_eq!(alice.sent(&of_alice).await?, ["a", "b"]);
    tokio::time::sleep(Duration::from_millis(wait)).await;
    assert_eq!(alice.send(&of_alice, "c").await?.status, 200);
    controls.set_rate_limit(None);
    for number in 0..10 {
        assert_eq!(alice.send(&of_alice, &format!("n{number}")).await?.status, 200);
    }
    Ok(())
}

#[tokio::test]
async fn an_inbox_is_held_and_released_in_another_order() -> Result {
    let server = Homeserver::embedded()?;
    let controls = controls(&server)?;
    let alice = Device::register(&server, "alice").await?;
    let bob = Device::register(&server, "bob").await?;
    let (_, since) = bob.receive(None).await?;
    controls.hold_to_device(&bob.user_id);
    for txn in ["a", "b", "c"] {
        alice.to_device(&bob, txn).await?;
    }
    let (held, since) = bob.receive(Some(&since)).await?;
    assert!(held.is_empty());
    controls.release_to_device_reversed(&bob.user_id);
    let (released, since) = bob.receive(Some(&since)).await?;
    assert_eq!(released, ["c", "b", "a"]);
    alice.to_device(&bob, "d").await?;
    let (next, _) = bob.receive(Some(&since)).await?;
    assert_eq!(next, ["d"]);
    Ok(())
}

#[tokio::test]
async fn a_timeline_is_shown_backwards() -> Result {
    let server = Homeserver::embedded()?;
    let controls = controls(&server)?;
    let alice = Device::register(&server, "alice").await?;
    let room_id = alice.room().await?;
    for txn in ["a", "b", "c"] {
        alice.send(&room_id, txn).await?;
    }
    controls.reverse_timelines(&alice.user_id, true);
    let sync = alice.http.get("/_matrix/client/v3/sync").await?;
    let pointer = format!("/rooms/join/{room_id}/timeline/events");
    let events = sync.pointer(&pointer).and_then(Value::as_array).cloned().unwrap_or_default();
    let txns: Vec<&str> =
        events.iter().filter_map(|event| event["content"]["txn"].as_str()).collect();
    assert_eq!(txns, ["c", "b", "a"]);
    Ok(())
}

#[tokio::test]
async fn answers_are_tampered_with() -> Result {
    let server = Homeserver::embedded()?;
    let controls = controls(&server)?;
    let alice = Device::register(&server, "alice").await?;
    let lie = controls.tamper(Target::path("/whoami"), |answer| {
        answer["user_id"] = json!("@mallory:embedded.test");
    });
    let path = "/_matrix/client/v3/account/whoami";
    assert_eq!(alice.http.get(path).await?["user_id"], json!("@mallory:embedded.test"));
    lie.stop();
    assert_eq!(alice.http.get(path).await?["user_id"], json!(alice.user_id));
    Ok(())
}

#[tokio::test]
async fn requests_are_recorded() -> Result {
    let server = Homeserver::embedded()?;
    let controls = controls(&server)?;
    let alice = Device::register(&server, "alice").await?;
    let room_id = alice.room().await?;
    controls.clear_requests();
    controls.drop_answers(Target::path("/lost"), 1);
    alice.send(&room_id, "kept").await?;
    assert!(alice.send(&room_id, "lost").await.is_err());
    let requests = controls.requests();
    let statuses: Vec<Option<u16>> = requests.iter().map(|request| request.status).collect();
    assert_eq!(statuses, [Some(200), None]);
    assert!(requests.iter().all(|request| {
        request.user_id.as_deref() == Some(&alice.user_id)
            && request.device_id.as_deref() == Some("ALICE")
            && request.method == "PUT"
            && request.request_bytes == r#"{"txn":"kept"}"#.len() as u64
    }));
    Ok(())
}

#[tokio::test]
async fn media_is_lost_changed_and_refused() -> Result {
    let server = Homeserver::embedded()?;
    let controls = controls(&server)?;
    let alice = Client::register(&server, "alice", "PHONE").await?;
    let blob: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    let uri = alice.upload_media(blob.clone()).await?;
    assert_eq!(controls.media_uris(), [uri.as_str()]);
    assert_eq!(controls.media(&uri), Some(blob.clone()));

    // On the way: the next answer only, and not what is stored.
    let lie = controls.tamper_bytes(Target::path("/media/download/"), |bytes| {
        bytes[1000] ^= 1;
        bytes.truncate(150_000);
    });
    let mut changed = blob[..150_000].to_vec();
    changed[1000] ^= 1;
    assert!(alice.download_media(&uri).await? == changed);
    lie.stop();
    assert!(alice.download_media(&uri).await? == blob);
    controls.fail(Target::path("/media/download/"), 1, 404);
    let refused = alice.download_media(&uri).await.err();
    assert!(refused.is_some_and(|error| error.to_string().contains("M_NOT_FOUND")));
    controls.drop_answers(Target::path("/media/download/"), 1);
    assert!(matches!(alice.download_media(&uri).await, Err(KitError::NoAnswer { .. })));
    assert!(alice.download_media(&uri).await? == blob);

    // In the repository.
    assert!(controls.replace_media(&uri, b"something else".to_vec()));
    assert_eq!(alice.download_media(&uri).await?, b"something else");
    assert!(controls.delete_media(&uri));
    let lost = alice.download_media(&uri).await.err().and_then(|error| error.status());
    assert_eq!(lost, Some(404));
    assert_eq!((controls.media(&uri), controls.media_uris().len()), (None, 0));
    for gone in [uri.as_str(), "mxc://elsewhere.test/x", "no URI"] {
        assert!(!controls.delete_media(gone) && !controls.replace_media(gone, Vec::new()));
    }

    controls.set_upload_limit(1000);
    let refused = alice.upload_media(vec![0; 1001]).await.err().and_then(|error| error.status());
    assert_eq!(refused, Some(413));
    alice.upload_media(vec![0; 1000]).await?;
    Ok(())
}
