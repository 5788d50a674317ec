//! The test client's own promises: its loop, its sync token, its errors. What the engine promises
//! is tested elsewhere.

use std::path::PathBuf;

use matrix_mls::{OutgoingRequest, RoomSettings};
use matrix_mls_kit::{
    Client, ClientOptions, Homeserver, KitError, OrMissing as _, Result, Target, bail,
};
use serde_json::json;

async fn people_talk_over_restarts(server: &Homeserver) -> Result {
    let alice = Client::register(server, "talk-alice", "PHONE").await?;
    let mut bob = Client::register(server, "talk-bob", "LAPTOP").await?;
    alice.settle().await?;
    bob.settle().await?;
    let query = json!({ "device_keys": { bob.user_id(): [] } });
    let answer = alice.http().post("/_matrix/client/v3/keys/query", query).await?;
    assert!(answer["device_keys"][bob.user_id()].get("LAPTOP").is_some(), "{answer}");

    let room_id = alice.create_group(&[&bob], RoomSettings::default()).await?;
    let first = alice.send_text(&room_id, "one").await?;
    bob.settle().await?;
    let messages = bob.sync().await?.messages;
    let ids: Vec<&str> =
        messages.iter().filter_map(|message| message.event_id.as_deref()).collect();
    assert_eq!(ids, [first.as_str()]);

    bob.restart().await?;
    alice.send_text(&room_id, "two").await?;
    let messages = bob.sync().await?.messages;
    assert_eq!(messages.len(), 1, "the sync goes on where it was: {messages:?}");
    assert!(bob.sync().await?.messages.is_empty());
    bob.send_text(&room_id, "three").await?;
    alice.settle().await?;
    for client in [&alice, &bob] {
        client.settle().await?;
        assert_eq!(client.read_texts(&room_id).await?, ["one", "two", "three"]);
    }
    Ok(())
}

#[tokio::test]
async fn people_talk_over_restarts_on_the_embedded_homeserver() -> Result {
    people_talk_over_restarts(&Homeserver::embedded()?).await
}

#[tokio::test]
async fn people_talk_over_restarts_on_synapse() -> Result {
    people_talk_over_restarts(&*Homeserver::shared_synapse().await?).await
}

#[tokio::test]
async fn a_second_device_logs_in_and_is_deleted() -> Result {
    let homeservers = [Homeserver::embedded()?, Homeserver::synapse().await?];
    for server in &homeservers {
        let alice = Client::register(server, "devices", "FIRST").await?;
        let second = Client::log_in(server, "devices", "SECOND").await?;
        second.drive().await?;
        alice.delete_devices(&["SECOND"]).await?;
        let refused = second.sync().await.err().and_then(|error| error.status());
        assert_eq!(refused, Some(401));
        alice.log_out().await?;
    }
    Ok(())
}

#[tokio::test]
async fn lost_answers_are_asked_for_again() -> Result {
    let server = Homeserver::embedded()?;
    let controls = server.controls().or_missing("controls")?;
    let alice = Client::register(&server, "alice", "PHONE").await?;
    alice.forget_answers("/keys/upload", 1);
    let driven = alice.drive().await?;
    assert!(driven.accepted > 0);
    assert!(driven.refused.is_empty(), "{:?}", driven.refused);
    let uploads = controls
        .requests()
        .into_iter()
        .filter(|request| request.path.contains("/keys/upload") && request.status == Some(200));
    assert!(uploads.count() >= 2);
    Ok(())
}

#[tokio::test]
async fn a_homeserver_that_is_never_there_is_given_up_on() -> Result {
    let server = Homeserver::embedded()?;
    let controls = server.controls().or_missing("controls")?;
    let options = ClientOptions {
        patience: std::time::Duration::from_millis(300),
        ..ClientOptions::default()
    };
    let alice = Client::register_with(&server, "alice", "PHONE", options).await?;
    let partition = controls.partition(Target::everything().user(alice.user_id()));
    match alice.drive().await {
        Err(KitError::GaveUp { device, reason, .. }) => {
            assert_eq!(device, "@alice:embedded.test/PHONE");
            // It asks first which keys the homeserver has for it.
            assert!(reason.contains("put_off: 1"), "{reason}");
        }
        other => bail!("it should have given up: {other:?}"),
    }
    partition.stop();
    // What the engine postponed is due again at the latest when it says so.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert!(alice.drive().await?.accepted > 0);
    Ok(())
}

#[tokio::test]
async fn errors_name_the_device_and_the_answer() -> Result {
    let server = Homeserver::embedded()?;
    let alice = Client::register(&server, "alice", "PHONE").await?;
    let error = alice.join("!nowhere").await.err().map(|error| error.to_string());
    let error = error.unwrap_or_default();
    for part in ["@alice:embedded.test/PHONE", "/join", "404", "M_NOT_FOUND"] {
        assert!(error.contains(part), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_store_directory_can_be_continued_or_wiped() -> Result {
    let server = Homeserver::embedded()?;
    let directory = tempfile::tempdir()?;
    let own = |name: &str| -> PathBuf { directory.path().join(name) };
    let options = || ClientOptions { directory: Some(own("alice")), ..ClientOptions::default() };
    let mut alice = Client::register_with(&server, "alice", "PHONE", options()).await?;
    alice.settle().await?;
    let room_id = alice.create_room(&[]).await?;
    alice.settle().await?;
    alice.close().await?;
    drop(alice);

    let mut alice = Client::log_in_with(&server, "alice", "PHONE", options()).await?;
    let synced = alice.sync().await?;
    assert_eq!(synced.response.get("rooms"), None, "the sync token was kept");
    alice.wipe().await?;
    let synced = alice.sync().await?;
    assert!(synced.response["rooms"]["join"].get(&room_id).is_some(), "and now it is gone");
    assert!(own("alice").join("since").exists());
    Ok(())
}

#[tokio::test]
async fn a_request_is_sent_as_the_engine_says_and_answered_to_the_byte() -> Result {
    let server = Homeserver::embedded()?;
    let controls = server.controls().or_missing("controls")?;
    let alice = Client::register(&server, "alice", "PHONE").await?;
    let request = |method: &str, path: &str, content_type: &str, body: &[u8]| OutgoingRequest {
        id: "of no engine".to_owned(),
        method: method.to_owned(),
        path: path.to_owned(),
        content_type: content_type.to_owned(),
        body: body.to_vec(),
    };
    let blob: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    controls.clear_requests();
    let path = "/_matrix/media/v3/upload";
    let upload = request("POST", path, "application/octet-stream", &blob);
    let uri = alice.transmit(&upload).await?.json()["content_uri"].clone();
    let name = uri.as_str().and_then(|uri| uri.strip_prefix("mxc://")).or_missing("URI")?;
    let path = format!("/_matrix/client/v1/media/download/{name}");
    let download = request("GET", &path, "application/json", &[]);
    let answer = alice.transmit(&download).await?;
    assert_eq!(answer.status, 200);
    assert!(answer.body == blob);

    let seen: Vec<(String, Option<String>, u64)> = controls
        .requests()
        .into_iter()
        .map(|request| (request.method, request.content_type, request.request_bytes))
        .collect();
    let octets = Some("application/octet-stream".to_owned());
    let expected = [("POST".to_owned(), octets, 3_000_000), ("GET".to_owned(), None, 0)];
    assert_eq!(seen, expected);

    alice.forget_answers("/media/download/", 1);
    let forgotten = alice.transmit(&download).await?;
    assert_eq!((forgotten.status, forgotten.body.len()), (0, 0));
    controls.drop_requests(Target::path("/media/download/"), 1);
    assert_eq!(alice.transmit(&download).await?.status, 0);
    assert_eq!(alice.transmit(&download).await?.status, 200);
    Ok(())
}
