//! What a server, or whoever has been at its data, does to a backup.

use super::*;

#[tokio::test]
async fn what_was_tampered_with_is_left_out_and_the_rest_restored() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let other = alice.create_group(&[&bob], Default::default()).await?;
    alice.send_text(&other, "in the other room").await?;
    let said = talk(&alice, &room, 5).await?;
    let key = create(&alice).await?;
    let (version, good) = sessions(&alice).await?;
    let ids = |keys: &Value, room: &str| -> Result<Vec<String>> {
        let sessions = keys["rooms"][room].object("sessions")?;
        Ok(sessions.keys().filter(|id| !id.starts_with("leaves")).cloned().collect())
    };
    let epochs = ids(&good, &room)?;
    assert_eq!(epochs.len(), 7);
    let mut bad = good.clone();
    let all = bad.object_mut("rooms")?;
    let theirs = all[&other]["sessions"][&ids(&good, &other)?[1]].clone();
    let ours = all[&room].object_mut("sessions")?;
    // Swapped with another epoch, cut, garbage, no session data, and one that is right.
    let second = ours[&epochs[2]].clone();
    ours.insert(epochs[1].clone(), second);
    let cut = ours[&epochs[2]]["session_data"].text("ciphertext")?[..40].to_owned();
    ours[&epochs[2]]["session_data"]["ciphertext"] = cut.into();
    ours[&epochs[3]]["session_data"]["mac"] = "%%".into();
    ours[&epochs[4]]["session_data"] = json!([1, 2]);
    // Of the other room, under an id that nobody has.
    ours.insert("9|AAAA".to_owned(), theirs.clone());
    ours.insert("notours".to_owned(), json!({ "session_data": { "ephemeral": "x" } }));
    // The same session in a room that it is not of, where its id would fit.
    let id = ids(&good, &other)?[1].clone();
    all.insert("!third:example.org".to_owned(), json!({ "sessions": { id: theirs } }));
    all.insert("no room".to_owned(), json!({ "sessions": { "1|AA": {} } }));
    replace_sessions(&alice, &version, bad).await?;

    let phone = log_in(&homeserver, "alice", "NEW").await?;
    let (restored, failures) = restore_all(&phone, &key).await?;
    let failures: Vec<(&str, u32)> = failures.iter().map(|(code, n)| (&**code, *n)).collect();
    assert_eq!(
        failures,
        [("damaged_session", 3), ("malformed_session", 2), ("other_room", 2)],
        "restored {restored}"
    );
    // The first epochs were of the group's making, and held no messages or one.
    assert_eq!(restored, 3 + 2);
    let read = texts(&phone, &room).await;
    assert!(!read.is_empty() && read.iter().all(|text| said.contains(text) || text == "first"));
    assert_eq!(texts(&phone, &other).await, ["in the other room"]);

    // With the good ones back nothing is missing.
    replace_sessions(&alice, &version, good).await?;
    assert_eq!(restore_all(&phone, &key).await?, (4, Vec::new()));
    assert_eq!(texts(&phone, &room).await[1..], said);
    Ok(())
}

#[tokio::test]
async fn epochs_without_their_leaves_are_left_out() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, _bob, room) = pair(&homeserver).await;
    let key = create(&alice).await?;
    let (version, good) = sessions(&alice).await?;
    let mut bad = good.clone();
    let ours = bad["rooms"][&room].object_mut("sessions")?;
    ours.retain(|id, _| !id.starts_with("leaves"));
    replace_sessions(&alice, &version, bad).await?;
    let phone = log_in(&homeserver, "alice", "NEW").await?;
    assert_eq!(restore_all(&phone, &key).await?, (0, vec![("missing_leaves".to_owned(), 2)]));
    replace_sessions(&alice, &version, good).await?;
    assert_eq!(restore_all(&phone, &key).await?.0, 2);
    assert_eq!(texts(&phone, &room).await, ["first"]);
    Ok(())
}

#[tokio::test]
async fn another_version_is_noticed_and_followed_with_the_same_key_only() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let key = create(&alice).await?;
    let laptop = log_in(&homeserver, "alice", "LAPTOP").await?;
    backup(&laptop)?.create(key.clone(), true).await?;
    laptop.drive().await?;
    // The phone learns of it when it uploads, and goes on with all it has.
    talk(&alice, &room, 1).await?;
    alice.settle().await?;
    let enabled = BackupState::Enabled { version: "2".to_owned(), megolm: false };
    assert_eq!(state(&alice).await?, enabled);
    let BackupCounts { backed_up, total, .. } = counts(&alice).await?;
    assert_eq!(backed_up, total);
    let epochs = alice.epochs(&room).await?.len() as u64;
    assert_eq!(backed_up, epochs);

    // A third one has another key.
    let other = RecoveryKey::generate()?;
    let (heard, _subscription) = Heard::of(&alice).await?;
    backup(&laptop)?.create(other.clone(), true).await?;
    laptop.drive().await?;
    talk(&alice, &room, 1).await?;
    alice.settle().await?;
    assert_eq!(failed(&heard).await?, "wrong_key");
    let locked = BackupState::Locked { version: "3".to_owned(), megolm: false, passphrase: None };
    assert_eq!(state(&alice).await?, locked);
    backup(&alice)?.enable(other.clone()).await?;
    alice.settle().await?;
    assert!(matches!(state(&alice).await?, BackupState::Enabled { .. }));

    // Deleted by one, noticed by the other; the second version is current again.
    backup(&laptop)?.delete().await?;
    laptop.drive().await?;
    talk(&alice, &room, 1).await?;
    alice.settle().await?;
    assert_eq!(failed(&heard).await?, "wrong_key");
    assert!(matches!(state(&alice).await?, BackupState::Locked { version, .. } if version == "2"));
    backup(&alice)?.enable(key).await?;
    alice.settle().await?;
    let BackupCounts { backed_up, total, .. } = counts(&alice).await?;
    assert_eq!(backed_up, total);
    drop(bob);
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_slow_or_deaf_gets_all_in_the_end() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, _bob, room) = pair(&homeserver).await;
    let controls = homeserver.controls().or_missing("controls")?;
    controls.set_rate_limit(Some(RateLimit {
        path: "room_keys".to_owned(),
        burst: 1,
        interval: std::time::Duration::from_millis(100),
    }));
    alice.forget_answers("/room_keys/version", 1);
    alice.forget_answers("/room_keys/keys", 1);
    let key = create(&alice).await?;
    for _ in 0..3 {
        talk(&alice, &room, 1).await?;
        alice.drive().await?;
    }
    // What failed waits a second before it is sent again.
    for _ in 0..100 {
        if counts(&alice).await?.backed_up == 5 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        alice.drive().await?;
    }
    let BackupCounts { backed_up, total, .. } = counts(&alice).await?;
    assert_eq!((backed_up, total), (5, 5));
    let phone = Client::log_in(&homeserver, "alice", "NEW").await?;
    phone.forget_answers("/room_keys", 2);
    phone.settle().await?;
    assert_eq!(restore_all(&phone, &key).await?, (5, Vec::new()));
    Ok(())
}
