//! Everything that comes from outside, damaged: cut, altered, with fields of the wrong kind or
//! swapped between events. Each gives a typed answer, none a panic, and the room works afterwards.

use matrix_mls::{
    EventOutcome, MlsError, MlsMachine, OutgoingRequest, RoomSettings, SendPlan, SyncChanges,
    ToDeviceResult, sync_changes_from_response,
};
use matrix_mls_kit::{
    Client, Fields as _, Homeserver, OrMissing as _, Refused as _, Result, config, feed,
    together::{log_in, phone_of, two_phones},
};
use serde_json::{Value, json};

/// A room in use, and real inputs recorded on the way.
struct Recorded {
    alice: Client,
    bob: Client,
    room: String,
    /// The timeline as Alice's homeserver has it.
    events: Vec<Value>,
    /// The to-device event with Bob's Welcome.
    welcome: Value,
    /// A sync response that held it.
    sync: Value,
}

async fn recorded(homeserver: &Homeserver) -> Result<Recorded> {
    let (alice, bob) = two_phones(homeserver).await?;
    let room = alice.create_group(&[&bob], RoomSettings::default()).await?;
    alice.send_text(&room, "from alice").await?;
    let sync = bob.sync().await?.response;
    let welcome = sync["to_device"]["events"][0].clone();
    assert!(welcome.is_object(), "{sync}");
    bob.settle().await?;
    bob.send_text(&room, "from bob").await?;
    alice.settle().await?;
    bob.rotate_keys(&room).await?;
    bob.send_text(&room, "in a new epoch").await?;
    alice.settle().await?;
    let events = alice.history(&room).await?;
    Ok(Recorded { alice, bob, room, events, welcome, sync })
}

async fn works(recorded: &Recorded) -> Result {
    let Recorded { alice, bob, room, .. } = recorded;
    for (from, to, text) in [(alice, bob, "alice goes on"), (bob, alice, "bob goes on")] {
        from.settle().await?;
        from.send_text(room, text).await?;
        to.settle().await?;
        let messages = to.sync().await?.messages;
        assert!(messages.iter().any(|message| message.content.contains(text)), "{messages:?}");
    }
    Ok(())
}

/// Texts that are almost the one given: cut, and with bytes altered.
fn damaged(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let step = (text.len() / 60).max(1);
    for at in (0..text.len()).step_by(step) {
        if let Some(cut) = text.get(..at) {
            out.push(cut.to_owned());
        }
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'"' { b'{' } else { bytes[at] ^ 1 };
        out.extend(String::from_utf8(bytes));
    }
    out
}

/// The same JSON with one value at a time, anywhere in it, replaced by each of these.
fn replaced(value: &Value) -> Result<Vec<Value>> {
    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
    let others = [
        Value::Null,
        json!(-1),
        json!(18_446_744_073_709_551_615_u64),
        json!(1.5),
        json!(""),
        json!("x".repeat(70_000)),
        json!([]),
        json!({ "url": "mxc://a/b", "size": 1, "sha256": "AAAA" }),
        deep,
    ];
    let mut paths = Vec::new();
    collect(value, &mut String::new(), &mut paths);
    let mut out = Vec::new();
    for path in paths {
        for other in &others {
            let mut changed = value.clone();
            *changed.pointer_mut(&path).or_missing("value at that path")? = other.clone();
            out.push(changed);
        }
        if let Some((parent, field)) = path.rsplit_once('/') {
            let mut changed = value.clone();
            if let Some(object) = changed.pointer_mut(parent).and_then(Value::as_object_mut) {
                object.remove(&field.replace("~1", "/").replace("~0", "~"));
                out.push(changed);
            }
        }
    }
    Ok(out)
}

fn collect(value: &Value, path: &mut String, paths: &mut Vec<String>) {
    let length = path.len();
    let fields: Vec<(String, &Value)> = match value {
        Value::Object(object) => object.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(array) => {
            array.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect()
        }
        _ => Vec::new(),
    };
    for (name, value) in fields {
        path.push('/');
        path.push_str(&name.replace('~', "~0").replace('/', "~1"));
        paths.push(path.clone());
        collect(value, path, paths);
        path.truncate(length);
    }
}

/// None of these is an error of the library's own making.
fn is_answer(error: &MlsError) -> bool {
    !matches!(error, MlsError::Internal { .. }) && !error.code().is_empty()
}

#[tokio::test]
async fn damaged_events_are_answered_one_by_one() -> Result {
    let homeserver = Homeserver::embedded()?;
    let recorded = recorded(&homeserver).await?;
    let handle = recorded.alice.room(&recorded.room).await?;
    let mut events: Vec<String> = Vec::new();
    for event in recorded.events.iter().filter(|event| event["type"] == "m.room.encrypted") {
        events.extend(damaged(&event.to_string()));
        // Under another event id, or the known commits would be told by that alone.
        let mut fresh = event.clone();
        fresh["event_id"] = json!("$fresh:example.org");
        events.extend(replaced(&fresh)?.iter().map(Value::to_string));
    }
    assert!(events.len() > 1_000);
    let sent = events.len();
    let results = handle.receive_events(events.clone()).await?;
    assert!(results.len() >= sent);
    for result in &results {
        if let EventOutcome::Failed { error } | EventOutcome::Waiting { error } = &result.outcome {
            assert!(is_answer(error), "{result:?}");
        }
        assert!(!matches!(result.outcome, EventOutcome::Commit { .. }), "{result:?}");
    }
    for event in &events {
        if let Err(error) = handle.decrypt(event.clone()).await {
            assert!(is_answer(&error), "{error}");
        }
    }
    works(&recorded).await
}

#[tokio::test]
async fn parts_swapped_between_events_do_not_pass() -> Result {
    let homeserver = Homeserver::embedded()?;
    let recorded = recorded(&homeserver).await?;
    let handle = recorded.alice.room(&recorded.room).await?;
    let encrypted: Vec<&Value> =
        recorded.events.iter().filter(|event| event["type"] == "m.room.encrypted").collect();
    let fields = ["ciphertext", "epoch_creator", "commit_event", "sender", "public_group_state"];
    for one in &encrypted {
        for other in &encrypted {
            for field in fields {
                let mut swapped = (*one).clone();
                swapped["event_id"] = json!("$swapped:example.org");
                swapped["content"][field] = other["content"][field].clone();
                let results = handle.receive_events(vec![swapped.to_string()]).await?;
                for result in results {
                    let moved = matches!(result.outcome, EventOutcome::Commit { .. });
                    assert!(!moved, "{field}: {result:?}");
                }
            }
            let mut by_another = (*one).clone();
            by_another["sender"] = other["sender"].clone();
            if by_another["sender"] != one["sender"] {
                handle.decrypt(by_another.to_string()).await.refused()?;
            }
        }
    }
    works(&recorded).await
}

#[tokio::test]
async fn a_value_that_the_media_repository_does_not_have_holds_up_nothing() -> Result {
    let homeserver = Homeserver::embedded()?;
    let recorded = recorded(&homeserver).await?;
    let handle = recorded.alice.room(&recorded.room).await?;
    let commits = recorded.events.iter().filter(|event| event["content"]["resolves"].is_array());
    let mut seen = 0;
    for event in commits {
        seen += 1;
        let mut large = event.clone();
        large["event_id"] = json!("$large:example.org");
        large["content"]["ciphertext"] =
            json!({ "url": "mxc://example.org/abc", "size": 70_000, "sha256": "A".repeat(43) });
        large["content"]["sender"] = json!([event["sender"], "X"]);
        let result = handle.receive_events(vec![large.to_string()]).await?.remove(0);
        let EventOutcome::Waiting { error: MlsError::UnknownEpoch { details } } = result.outcome
        else {
            panic!("{result:?}")
        };
        assert_eq!(details.code, "value_in_media");
        let requests = recorded.alice.machine()?.outgoing_requests().await?;
        let download = "/_matrix/client/v1/media/download/example.org/abc";
        assert!(requests.iter().any(|request| request.path == download), "{requests:?}");
    }
    assert!(seen > 0);
    works(&recorded).await
}

#[tokio::test]
async fn damaged_welcomes_and_other_to_device_events_join_nothing() -> Result {
    let homeserver = Homeserver::embedded()?;
    let recorded = recorded(&homeserver).await?;
    // Somebody who has never seen the room, so that no Welcome is known already.
    let carol = phone_of(&homeserver, "carol").await?;
    let mut events = damaged(&recorded.welcome.to_string());
    events.extend(replaced(&recorded.welcome)?.iter().map(Value::to_string));
    // Bob's own Welcome, which is not for her.
    events.push(recorded.welcome.to_string());
    for client in [&carol, &recorded.bob] {
        let changes = SyncChanges { to_device: events.clone(), ..feed() };
        let summary = client.machine()?.receive_sync(changes).await?;
        assert_eq!(summary.to_device.len(), events.len());
        for result in &summary.to_device {
            match result {
                ToDeviceResult::Ignored => {}
                ToDeviceResult::Failed { error } | ToDeviceResult::Waiting { error } => {
                    assert!(is_answer(error), "{error}");
                }
                ToDeviceResult::Joined { .. } => panic!("joined by a damaged Welcome"),
                ToDeviceResult::HistoryShared { .. } => panic!("a Welcome is no history"),
                ToDeviceResult::SecretsReceived { .. } => panic!("a Welcome has no secrets"),
            }
        }
    }
    works(&recorded).await
}

#[tokio::test]
async fn damaged_sync_responses_are_refused_or_read_as_far_as_they_go() -> Result {
    let homeserver = Homeserver::embedded()?;
    let recorded = recorded(&homeserver).await?;
    let carol = phone_of(&homeserver, "carol").await?;
    let mut responses = damaged(&recorded.sync.to_string());
    // Each value of the outer layers; events were damaged above.
    let mut outer = recorded.sync.clone();
    for room in outer["rooms"].object_mut("join")?.values_mut() {
        room["timeline"]["events"] = json!([{ "type": "m.room.member" }]);
        room["state"] = json!({ "events": [3, null] });
    }
    outer["to_device"]["events"] = json!([null]);
    responses.extend(replaced(&outer)?.iter().map(Value::to_string));
    let mut read = 0;
    for response in responses {
        match sync_changes_from_response(response, None) {
            Ok(changes) => {
                read += 1;
                carol.machine()?.receive_sync(changes).await?;
            }
            Err(error) => assert!(matches!(error, MlsError::InvalidInput { .. }), "{error}"),
        }
    }
    assert!(read > 10);
    works(&recorded).await
}

#[test]
fn what_is_no_sync_response_is_refused() {
    for body in ["{}", r#"{"errcode":"M_UNKNOWN_TOKEN","error":"?"}"#, r#"{"pos":"1"}"#, "[]", ""] {
        match sync_changes_from_response(body.to_owned(), None) {
            Err(MlsError::InvalidInput { details }) => {
                assert_eq!(details.code, "bad_sync_response", "{body}");
            }
            other => panic!("{body}: {other:?}"),
        }
    }
    let empty = sync_changes_from_response(r#"{"next_batch":"s1"}"#.to_owned(), None);
    assert!(empty.is_ok_and(|changes| changes.next_batch == "s1"));
}

#[tokio::test]
async fn damaged_answers_leave_the_request_to_be_sent_again() -> Result {
    let homeserver = Homeserver::embedded()?;
    let recorded = recorded(&homeserver).await?;
    let Recorded { alice, room, .. } = &recorded;
    let _bobs_laptop = log_in(&homeserver, "bob", "LAPTOP").await?;
    alice.sync().await?;
    let handle = alice.room(room).await?;
    let machine = alice.machine()?;
    // A query, a claim, a commit, Welcomes: each answered wrongly many times, then rightly.
    while let SendPlan::Waiting { requests, .. } = handle.prepare_to_send().await? {
        for OutgoingRequest { id, method, path, content_type, body } in requests {
            let good = alice.http().send(&method, &path, &content_type, body).await?;
            let text = String::from_utf8(good.body.clone())?;
            for bad in damaged(&text).into_iter().filter(|bad| !is_json_object(bad)) {
                let bad = bad.into_bytes();
                let outcome = machine.mark_request_as_sent(id.clone(), 200, bad).await;
                assert!(outcome.is_ok(), "{path}: {outcome:?}");
            }
            machine.mark_request_as_sent(id, good.status, good.body).await?;
        }
    }
    assert_eq!(handle.members().await?.len(), 3);
    works(&recorded).await
}

fn is_json_object(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object())
}

#[tokio::test]
async fn a_store_with_altered_bytes_gives_typed_errors_and_no_false_message() -> Result {
    let homeserver = Homeserver::embedded()?;
    let mut recorded = recorded(&homeserver).await?;
    let message = recorded.events.iter().rev().find(|event| {
        event["type"] == "m.room.encrypted" && event["content"].get("resolves").is_none()
    });
    let message = message.or_missing("message")?.to_string();
    recorded.alice.prepare(&recorded.room).await?;
    recorded.alice.close().await?;
    let original = recorded.alice.store_path().join("matrix-mls.db");
    let bytes = std::fs::read(&original)?;
    let (mut opened, mut refused) = (0, 0);
    for at in (0..bytes.len()).step_by(bytes.len() / 150) {
        let directory = tempfile::tempdir()?;
        let mut altered = bytes.clone();
        for byte in altered.iter_mut().skip(at).take(64) {
            *byte ^= 0x55;
        }
        std::fs::write(directory.path().join("matrix-mls.db"), altered)?;
        let alice = &recorded.alice;
        let config = config(alice.user_id(), alice.device_id(), directory.path());
        let machine = match MlsMachine::open(config).await {
            Ok(machine) => machine,
            Err(error) => {
                assert!(is_answer(&error), "byte {at}: {error}");
                refused += 1;
                continue;
            }
        };
        opened += 1;
        let room = machine.room(recorded.room.clone())?;
        if let Ok(read) = room.decrypt(message.clone()).await {
            assert!(read.content.contains("in a new epoch"), "byte {at}");
        }
        let errors = [
            room.decrypt(message.clone()).await.err(),
            room.members().await.err(),
            room.epochs().await.err(),
            room.encrypt("m.room.message".into(), "{}".into()).await.err(),
            room.rotate_keys().await.err(),
            room.prepare_to_send().await.err(),
            machine.outgoing_requests().await.err(),
            room.receive_events(vec![message.clone()]).await.err(),
        ];
        for error in errors.into_iter().flatten() {
            assert!(is_answer(&error), "byte {at}: {error}");
        }
    }
    assert!(opened > 10 && refused > 0, "{opened} opened, {refused} refused");
    Ok(())
}

#[tokio::test]
async fn what_an_app_passes_is_checked() -> Result {
    let homeserver = Homeserver::embedded()?;
    let Recorded { alice, room, .. } = recorded(&homeserver).await?;
    let machine = alice.machine()?;
    for room_id in ["", "room", "#room:example.org", "@user:example.org"] {
        let error = machine.room(room_id.to_owned()).refused()?;
        assert!(
            matches!(&error, MlsError::InvalidInput { details } if details.reason.contains("room_id"))
        );
    }
    let handle = alice.room(&room).await?;
    for content in ["", "{", "[]", "3", "null", "{\"a\":}"] {
        let error = handle.encrypt("m.room.message".into(), content.into()).await.refused()?;
        assert!(
            matches!(&error, MlsError::InvalidInput { details } if details.reason.contains("content"))
        );
    }
    alice.prepare(&room).await?;
    let large = json!({ "body": "x".repeat(60_000) }).to_string();
    let error = handle.encrypt("m.room.message".into(), large).await.refused()?;
    assert!(matches!(error, MlsError::TooLarge { .. }), "{error}");
    let error = handle.set_members(vec!["nobody".into()]).await.refused()?;
    assert!(
        matches!(&error, MlsError::InvalidInput { details } if details.reason.contains("user_ids"))
    );
    let settings = RoomSettings { rotate_after_messages: 0, ..RoomSettings::default() };
    let error = handle.enable(settings).await.refused()?;
    assert!(
        matches!(&error, MlsError::InvalidInput { details } if details.reason.contains("settings"))
    );
    let error = handle.enable(RoomSettings::default()).await.refused()?;
    assert_eq!(error.code(), "already_enabled");
    Ok(())
}

/// The code of what became of an event.
fn code_of(outcome: EventOutcome) -> String {
    match outcome {
        EventOutcome::Waiting { error } | EventOutcome::Failed { error } => error.code().to_owned(),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn each_kind_of_damage_has_its_code() -> Result {
    let homeserver = Homeserver::embedded()?;
    let recorded = recorded(&homeserver).await?;
    let Recorded { alice, bob, room, events, .. } = &recorded;
    let handle = alice.room(room).await?;
    let is_commit = |event: &&Value| matrix_mls::is_commit_event(event.to_string());
    let is_message = |event: &&Value| event["type"] == "m.room.encrypted" && !is_commit(event);
    let commit = events.iter().rfind(is_commit).or_missing("a commit")?;
    let message = events.iter().rfind(is_message).or_missing("a message")?;

    let mut no_base64 = message.clone();
    no_base64["content"]["ciphertext"] = json!("%%%");
    let error = handle.decrypt(no_base64.to_string()).await.refused()?;
    assert_eq!(error.code(), "not_base64", "{error}");

    let mut nameless = commit.clone();
    nameless.as_object_mut().or_missing("an event")?.remove("event_id");
    let results = bob.room(room).await?.receive_events(vec![nameless.to_string()]).await?;
    let result = results.into_iter().next().or_missing("a result")?;
    assert_eq!(code_of(result.outcome), "no_event_id");

    works(&recorded).await
}

/// A text is base64 or it is not, whatever a lenient decoder makes of it: clients that read one
/// commit differently would part.
#[tokio::test]
async fn what_is_almost_base64_is_none() -> Result {
    let homeserver = Homeserver::embedded()?;
    let recorded = recorded(&homeserver).await?;
    let Recorded { alice, room, events, .. } = &recorded;
    let handle = alice.room(room).await?;
    let is_message = |event: &&Value| {
        event["type"] == "m.room.encrypted" && !matrix_mls::is_commit_event(event.to_string())
    };
    let mut message = events.iter().rfind(is_message).or_missing("a message")?.clone();
    let mut code = async |text: &str| -> Result<String> {
        message["content"]["ciphertext"] = json!(text);
        Ok(handle.decrypt(message.to_string()).await.refused()?.code().to_owned())
    };
    // Of the alphabet for URLs, with white space, with bits behind the last byte, of no length.
    for text in ["AAE-", "AAE_", "AA AA", "AAAA\n", "AB", "AAB", "A", "AAAAA"] {
        assert_eq!(code(text).await?, "not_base64", "{text}");
    }
    for text in ["AA", "AA==", "AAE+", "AAE/", "AAA", "AAA="] {
        assert_eq!(code(text).await?, "malformed_mls", "{text}");
    }
    works(&recorded).await
}
