//! The specification (`docs/spec`): what is sent fits its schemas, and each requirement names a
//! test.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output},
};

use matrix_mls::RoomSettings;
use matrix_mls_kit::{
    Fields as _, Homeserver, OrMissing as _, Result, Synapse,
    cross_signing::CrossSigning,
    other::group_of_two,
    peer::from_base64,
    schema,
    together::{all_talk, newcomer, phone_of, quiet, two_phones},
};
use serde_json::{Value, json};

/// A room in which everything happens that anything is sent for.
#[tokio::test]
async fn everything_that_is_sent_fits_a_schema() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let sharing = RoomSettings { share_history: true, ..RoomSettings::default() };
    // A room that was not encrypted from its beginning.
    let plain = alice.create_room_from(json!({ "preset": "private_chat" })).await?;
    alice.settle().await?;
    alice.enable(&plain, RoomSettings::default()).await?;
    let room = alice.create_group(&[&bob], sharing.clone()).await?;
    quiet(&[&alice, &bob]).await;
    bob.set_settings(&room, sharing.clone()).await?;
    alice.send_text(&room, "hello").await?;
    let first = alice.send_text(&room, "what is answered").await?;
    let reply = json!({
        "msgtype": "m.text", "body": "an answer",
        "m.relates_to": { "m.in_reply_to": { "event_id": first } },
    });
    bob.settle().await?;
    bob.send(&room, "m.room.message", reply).await?;
    quiet(&[&alice, &bob]).await;
    // Somebody is added, and given what was said.
    let carol = newcomer(&homeserver, "carol", &alice, &room).await?;
    alice.settle().await?;
    alice.send_text(&room, "welcome").await?;
    quiet(&[&alice, &bob, &carol]).await;
    // Somebody joins by herself, and asks for it.
    let dora = phone_of(&homeserver, "dora").await?;
    CrossSigning::bootstrap(&dora).await?;
    alice.invite(&room, dora.user_id()).await?;
    dora.join(&room).await?;
    dora.settle().await?;
    dora.set_settings(&room, sharing).await?;
    dora.join_externally(&room).await?;
    quiet(&[&dora, &alice, &bob, &carol]).await;
    alice.restart_group(&room).await?;
    quiet(&[&alice, &bob, &carol, &dora]).await;
    all_talk(&[&alice, &bob, &carol, &dora], &room).await;
    alice.back_up_history().await?;
    let seen = schema::seen();
    for name in [
        "backup_upload",
        "backup_version",
        "commit",
        "device_keys",
        "encryption",
        "history_offer",
        "history_request",
        "key_upload",
        "message",
        "push_rule",
        "restart",
        "welcome",
    ] {
        assert!(seen.get(name).is_some_and(|times| *times > 0), "no {name} was sent: {seen:?}");
    }
    Ok(())
}

/// What is inside a message is seen by a client of plain OpenMLS.
#[tokio::test]
async fn what_a_message_says_fits_its_schema() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, mut other, room, _) = group_of_two(&homeserver).await?;
    let content = json!({ "msgtype": "m.text", "body": "hello" });
    let sealed =
        alice.room(&room).await?.encrypt("m.room.message".into(), content.to_string()).await?;
    let sealed: Value = serde_json::from_str(&sealed)?;
    let opened = other.peer.process(&from_base64(sealed.text("ciphertext")?));
    let plaintext: Value = serde_json::from_slice(&opened.or_missing("message")?)?;
    assert_eq!(schema::fits("plaintext", &plaintext), Ok(()));
    assert_eq!((&plaintext["content"], &plaintext["room_id"]), (&content, &json!(room)));
    Ok(())
}

/// The schemas tell what fits from what does not.
#[test]
fn what_does_not_fit_is_told() {
    let reference = json!({
        "url": "mxc://example.org/abc", "size": 70_000,
        "sha256": "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0",
    });
    let commit = json!({
        "algorithm": "org.matrix.msc2883.v1.dmls.dhkemx25519-aes128gcm-sha256-ed25519",
        "ciphertext": "", "epoch_creator": ["@a:b", "D"], "sender": ["@a:b", "D"],
        "resolves": [["4", ["@a:b", "E"]]], "commit_event": "$e", "public_group_state": "AAAA",
        "ratchet_tree": reference,
    });
    assert_eq!(schema::fits("commit", &commit), Ok(()));
    assert_eq!(schema::fits("media_reference", &reference), Ok(()));
    let worse = |field: &str, value: Value| {
        let mut worse = commit.clone();
        worse[field] = value;
        worse
    };
    for value in [
        worse("algorithm", json!("m.megolm.v1.aes-sha2")),
        worse("ciphertext", json!("not base64!")),
        worse("ciphertext", json!("padded==")),
        worse("sender", json!("@a:b|D")),
        worse("sender", json!(["@a:b", "D", "more"])),
        worse("resolves", json!([[4, ["@a:b", "E"]]])),
        worse("commit_event", json!("no event id")),
        worse("ratchet_tree", json!({ "url": "https://example.org", "size": 1, "sha256": "" })),
        worse("no_such_field", json!(1)),
        json!({}),
    ] {
        assert!(schema::fits("commit", &value).is_err(), "{value}");
    }
}

/// What Python's standard library and one package compute is what the library has written.
#[test]
fn the_vectors_hold_without_the_library() -> Result {
    let check = |vectors: &Path| -> Result<Output> {
        let mut python = Command::new(Synapse::python()?);
        Ok(python.arg(vectors.join("check.py")).output()?)
    };
    let vectors = Path::new("docs/spec/vectors");
    let output = check(vectors)?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    // The check finds what is wrong.
    let copy = tempfile::tempdir()?;
    for entry in fs::read_dir(vectors)? {
        let entry = entry?;
        fs::copy(entry.path(), copy.path().join(entry.file_name()))?;
    }
    for (file, right, wrong) in [
        ("identifiers.json", r#""size":3"#, r#""size":4"#),
        ("identifiers.json", r#""key_package":"0001"#, r#""key_package":"0002"#),
        ("bindings.json", r#""valid":false"#, r#""valid":true"#),
        ("backups.json", r#""proves":false"#, r#""proves":true"#),
        ("exports.json", r#""chunks":["a1"#, r#""chunks":["a2"#),
        ("handovers.json", r#""device_id":"PHONE""#, r#""device_id":"OTHER""#),
        ("trees.json", r#""fits":false"#, r#""fits":true"#),
        ("trees.json", r#""difference":"a2"#, r#""difference":"a3"#),
        ("restarts.json", r#""counts":null"#, r#""counts":"$one:example.org""#),
        ("heads.json", r#""left":true"#, r#""left":false"#),
    ] {
        let path = copy.path().join(file);
        let text = fs::read_to_string(&path)?;
        assert!(text.contains(right), "{file} has no {right}");
        fs::write(&path, text.replacen(right, wrong, 1))?;
        assert!(!check(copy.path())?.status.success(), "{file}: {wrong} is not found");
        fs::write(&path, text)?;
    }
    Ok(())
}

/// What the vectors have of events and of keys is what may be sent.
#[test]
fn what_is_sent_in_the_vectors_fits_a_schema() -> Result {
    let vectors = |name: &str, list: &str| -> Result<Vec<Value>> {
        let text = fs::read_to_string(Path::new("docs/spec/vectors").join(name))?;
        let file: Value = serde_json::from_str(&text)?;
        file[list].as_array().cloned().or_missing(list)
    };
    let fits = |name: &'static str, value: &Value| assert_eq!(schema::fits(name, value), Ok(()));
    for case in vectors("handovers.json", "handovers")? {
        fits("secrets", &case["content"]);
    }
    for case in vectors("trees.json", "published_trees")? {
        fits("tree_difference", &case["tree_difference"]);
    }
    for case in vectors("backups.json", "sealed")? {
        fits("sealed", &case["session_data"]);
    }
    for case in vectors("histories.json", "bundles")? {
        for session in case["sessions"].as_array().or_missing("sessions")? {
            fits("session", session);
        }
    }
    for case in vectors("restarts.json", "restarts")? {
        let commits = case["commits"].as_array().or_missing("commits")?;
        let announcements = case["announcements"].as_object().or_missing("announcements")?;
        for event in commits.iter().chain(announcements.values()) {
            fits("commit", &event["content"]);
        }
        for devices in case["device_keys"].as_object().or_missing("lists")?.values() {
            for keys in devices.as_object().or_missing("devices")?.values() {
                fits("device_keys", keys);
            }
        }
        for state in case["state"].as_array().or_missing("state")? {
            // A number below 1 is no restart's.
            let is_one = state["content"]["number"] != 0;
            assert_eq!(schema::fits("restart", &state["content"]).is_ok(), is_one, "{state}");
        }
    }
    Ok(())
}

/// Requirements are told apart by their names, and say which test shows them.
#[test]
fn each_requirement_has_a_name_and_a_test() -> Result {
    let (mut names, mut faults) = (BTreeSet::new(), Vec::new());
    for entry in fs::read_dir("docs/spec")? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let mut requirement: Option<(String, bool)> = None;
        let mut end = |requirement: &mut Option<(String, bool)>| {
            if let Some((name, false)) = requirement.take() {
                faults.push(format!("{}: {name} names no test", path.display()));
            }
        };
        for line in text.lines() {
            let name = line.strip_prefix("**").and_then(|rest| rest.split_once("** "));
            let name = name.map(|(name, _)| name.to_owned()).filter(|name| is_name(name));
            if name.is_some() || line.starts_with('#') {
                end(&mut requirement);
            }
            if let Some(name) = name {
                assert!(names.insert(name.clone()), "two requirements are called {name}");
                requirement = Some((name, false));
            }
            if let Some((_, named)) = &mut requirement {
                *named |= line.contains(".rs::");
            }
        }
        end(&mut requirement);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(names.len() > 50, "{names:?}");
    Ok(())
}

/// A letter and a number.
fn is_name(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_ascii_uppercase())
        && letters.clone().next().is_some()
        && letters.all(|letter| letter.is_ascii_digit())
}
