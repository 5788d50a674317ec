//! What a report of a bug holds, and what it must not.

use std::{collections::BTreeMap, fs, path::Path};

use matrix_mls::{Diagnostics, MlsError, MlsReader, RoomSettings};
use matrix_mls_kit::{
    Client, Homeserver, OrMissing as _, Refused as _, Result, config, feed, news, store_key,
    together::{pair, quiet},
};
use serde_json::{Value, json};

async fn report(client: &Client) -> Result<(Diagnostics, Value)> {
    let diagnostics = client.machine()?.diagnostics().await?;
    let json = serde_json::from_str(&diagnostics.json)?;
    Ok((diagnostics, json))
}

/// Alice and Bob, who have just committed on one epoch at once.
async fn forked(homeserver: &Homeserver) -> Result<(Client, Client, String)> {
    let (alice, bob, room) = pair(homeserver).await;
    bob.send_text(&room, "a secret text").await?;
    quiet(&[&alice, &bob]).await;
    let settings = RoomSettings { rotate_after_messages: 1, ..RoomSettings::default() };
    for client in [&alice, &bob] {
        client.set_settings(&room, settings.clone()).await?;
        client.prepare(&room).await?;
        client.set_settings(&room, RoomSettings::default()).await?;
    }
    quiet(&[&alice, &bob]).await;
    Ok((alice, bob, room))
}

#[tokio::test]
async fn a_report_has_the_room_its_fork_and_its_epochs() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, _bob, room) = forked(&homeserver).await?;
    let (diagnostics, json) = report(&alice).await?;
    let list = json["rooms"]["list"].as_array().or_missing("rooms")?;
    assert_eq!(list.len(), 1, "{json}");
    let known = &list[0];
    assert_eq!(known["standing"], "member");
    assert_eq!(known["forks"], 1, "{known}");
    assert_eq!(known["knows_members"], true, "{known}");
    let epochs = known["epochs"].as_array().or_missing("epochs")?;
    let of_room = alice.epochs(&room).await?;
    assert_eq!(epochs.len(), of_room.len());
    for (epoch, expected) in epochs
        .iter()
        .filter(|epoch| epoch["is_head"] == true)
        .zip(of_room.iter().filter(|epoch| epoch.is_head))
    {
        assert_eq!(epoch["number"], expected.epoch);
        assert!(expected.id.starts_with(epoch["id"].as_str().or_missing("an id")?));
        assert_eq!(epoch["devices"], 2);
    }
    assert!(diagnostics.text.contains("1 forks"), "{}", diagnostics.text);
    assert!(diagnostics.text.contains("own keys on the homeserver: ours"), "{}", diagnostics.text);
    Ok(())
}

#[tokio::test]
async fn a_report_says_what_waits_what_failed_and_how_long_calls_took() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    quiet(&[&alice, &bob]).await;
    let handle = alice.room(&room).await?;
    // A message of an epoch whose commit does not come.
    let text = json!({ "msgtype": "m.text", "body": "hello" }).to_string();
    bob.prepare(&room).await?;
    let sealed = bob.room(&room).await?.encrypt("m.room.message".to_owned(), text).await?;
    let mut content: Value = serde_json::from_str(&sealed)?;
    content["commit_event"] = json!("$nowhere");
    let event = json!({
        "type": "m.room.encrypted", "sender": bob.user_id(), "event_id": "$early",
        "origin_server_ts": 1, "room_id": room, "content": content,
    });
    alice.machine()?.receive_sync(feed_of(&room, &event)).await?;
    let of_another_kind = json!({
        "type": "m.room.encrypted", "sender": bob.user_id(), "event_id": "$other",
        "content": { "algorithm": "m.megolm.v1.aes-sha2" },
    });
    handle.decrypt(of_another_kind.to_string()).await.refused()?;
    // Requests that get no answer.
    alice.rotate_keys(&room).await?;
    handle.prepare_to_send().await?;
    for request in alice.machine()?.outgoing_requests().await? {
        alice.machine()?.mark_request_as_sent(request.id, 0, Vec::new()).await?;
    }
    let (diagnostics, json) = report(&alice).await?;
    let known = &json["rooms"]["list"][0];
    assert_eq!(known["waiting_events"], 1, "{json}");
    assert!(known["waiting_for_ms"].is_u64(), "{known}");
    let calls = &json["calls"];
    assert!(calls["times"]["receive_sync"]["count"].as_u64() > Some(0), "{calls}");
    assert_eq!(calls["times"]["decrypt"]["failed"], 1, "{calls}");
    assert_eq!(calls["unreadable"]["not_yet_here"], 1, "{calls}");
    assert_eq!(calls["unreadable"]["other_encryption"], 1, "{calls}");
    let (due, put_off) = (&json["requests"]["due"], &json["requests"]["put_off"]);
    assert!(due.as_u64() > Some(0) || put_off.as_u64() > Some(0), "{}", json["requests"]);
    let kinds = json["requests"]["kinds"].as_object().or_missing("kinds")?;
    assert!(kinds.values().any(|kind| kind["failures"].as_u64() > Some(0)), "{kinds:?}");
    for line in ["1 events wait", "not readable, not_yet_here: 1", "decrypt: 1 calls, 1 failed"] {
        assert!(diagnostics.text.contains(line), "{line:?} is not in:\n{}", diagnostics.text);
    }
    Ok(())
}

fn feed_of(room: &str, event: &Value) -> matrix_mls::SyncChanges {
    let mut fed = feed();
    fed.rooms.push(news(room, vec![event.to_string()]));
    fed
}

#[tokio::test]
async fn a_report_has_no_id_no_text_and_no_key() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = forked(&homeserver).await?;
    let recovery_key = alice.back_up_history().await?;
    let (machine, _) = report(&alice).await?;
    let path = alice.store_path().display().to_string();
    let reader = MlsReader::open(path, store_key()).await?.diagnostics().await?;
    let mut secrets = vec![
        room.clone(),
        "a secret text".to_owned(),
        "m.room".to_owned(),
        recovery_key.replace(' ', ""),
        recovery_key,
        "example.org".to_owned(),
        "embedded.test".to_owned(),
        "BwcHBwcH".to_owned(),
        "07070707".to_owned(),
    ];
    for client in [&alice, &bob] {
        secrets.push(client.user_id().to_owned());
        secrets.push(client.user_id().trim_start_matches('@').split(':').take(1).collect());
        secrets.push(client.device_id().to_owned());
    }
    for epoch in alice.epochs(&room).await? {
        secrets.push(epoch.id);
        secrets.extend(epoch.commit_event);
    }
    for Diagnostics { text, json } in [machine, reader] {
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{secret} is in:\n{text}");
            assert!(!json.contains(secret.as_str()), "{secret} is in:\n{json}");
        }
        // What is not a number, a name of the library's own or a short name has no place here.
        let mut texts = Vec::new();
        strings(&serde_json::from_str(&json)?, &mut texts);
        let is_short = |text: &str| text.len() <= 24 && !text.contains(['@', '!', '$', ' ']);
        for text in texts {
            assert!(is_short(&text), "{text:?}");
        }
    }
    Ok(())
}

/// All strings among the values of a JSON value.
fn strings(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| strings(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| strings(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The files of a directory with what is in them.
fn files(directory: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // SQLite's index of the log: made anew by every process, and without content.
        if !name.ends_with("-shm") {
            found.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(found)
}

#[tokio::test]
async fn a_report_writes_nothing() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, _bob, room) = forked(&homeserver).await?;
    let before = files(&alice.store_path())?;
    let (machine, _) = report(&alice).await?;
    let path = alice.store_path().display().to_string();
    let reader = MlsReader::open(path, store_key()).await?;
    let beside: Value = serde_json::from_str(&reader.diagnostics().await?.json)?;
    assert!(before == files(&alice.store_path())?, "a report has changed the store's files");
    // The reader says the same of the store, and nothing of what only the machine knows.
    let machine: Value = serde_json::from_str(&machine.json)?;
    assert_eq!(beside["requests"], machine["requests"]);
    assert_eq!(beside["rooms"]["list"][0]["room"], machine["rooms"]["list"][0]["room"]);
    assert!(beside["calls"].is_null() && beside["device"].is_null());
    assert!(alice.room(&room).await?.is_enabled().await?);
    Ok(())
}

#[tokio::test]
async fn a_closed_machine_and_a_wrong_key_are_told() -> Result {
    let directory = tempfile::tempdir()?;
    let opened = matrix_mls::MlsMachine::open(config("@a:b.c", "PHONE", directory.path())).await?;
    opened.diagnostics().await?;
    opened.suspend().await?;
    assert!(matches!(opened.diagnostics().await, Err(MlsError::Suspended { .. })));
    opened.resume().await?;
    opened.shutdown().await?;
    assert!(matches!(opened.diagnostics().await, Err(MlsError::Closed { .. })));
    Ok(())
}

#[tokio::test]
async fn a_report_of_very_many_rooms_is_bounded() -> Result {
    let directory = tempfile::tempdir()?;
    let opened = matrix_mls::MlsMachine::open(config("@a:b.c", "PHONE", directory.path())).await?;
    let mut fed = feed();
    for at in 0..600 {
        let id = format!("!{at}:b.c");
        let event = |kind: &str, key: &str, content: Value| {
            json!({
                "type": kind, "state_key": key, "sender": "@a:b.c", "content": content,
                "event_id": format!("${kind}-{key}-{at}"), "origin_server_ts": 1,
            })
            .to_string()
        };
        let algorithm = json!({ "algorithm": matrix_mls_kit::peer::ALGORITHM });
        let mut changes = news(
            &id,
            vec![
                event("m.room.create", "", json!({ "room_version": "11" })),
                event("m.room.encryption", "", algorithm),
            ],
        );
        changes.timeline.extend((0..17).map(|user| {
            let user = format!("@user{at}x{user}:b.c");
            event("m.room.member", &user, json!({ "membership": "join" }))
        }));
        fed.rooms.push(changes);
    }
    opened.receive_sync(fed).await?;
    let began = std::time::Instant::now();
    let diagnostics = opened.diagnostics().await?;
    let took = began.elapsed();
    let json: Value = serde_json::from_str(&diagnostics.json)?;
    let rooms = &json["rooms"];
    assert_eq!((&rooms["known"], &rooms["left_out"]), (&json!(600), &json!(100)), "{rooms}");
    assert_eq!(rooms["list"].as_array().map(Vec::len), Some(500));
    assert_eq!(json["store"]["records"]["member"], 600 * 17);
    assert!(diagnostics.json.len() < 700_000, "{} bytes", diagnostics.json.len());
    assert!(diagnostics.text.contains("100 rooms were not looked at"));
    // It takes some 50 ms on a quiet machine.
    assert!(took.as_secs() < 10, "{took:?}");
    Ok(())
}
