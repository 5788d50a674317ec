//! Keys: proved before they are used, made from passphrases, shared with Megolm.

use super::*;

#[tokio::test]
async fn a_key_is_proved_before_it_is_used() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, _bob, room) = pair(&homeserver).await;
    let (heard, _subscription) = Heard::of(&alice).await?;
    assert_eq!(state(&alice).await?, BackupState::Unknown);
    let wrong = RecoveryKey::generate()?;
    backup(&alice)?.enable(wrong.clone()).await?;
    assert_eq!(state(&alice).await?, BackupState::Working);
    alice.drive().await?;
    assert_eq!(failed(&heard).await?, "no_backup");
    assert_eq!(state(&alice).await?, BackupState::Absent);
    assert_eq!(restore_all(&alice, &wrong).await?, (0, vec![("no_backup".to_owned(), 1)]));

    let key = create(&alice).await?;
    backup(&alice)?.disable().await?;
    let locked = BackupState::Locked { version: "1".to_owned(), megolm: false, passphrase: None };
    assert_eq!(state(&alice).await?, locked);
    backup(&alice)?.enable(key.clone()).await?;
    alice.drive().await?;
    assert_eq!(backup(&alice)?.recovery_key().await?.or_missing("key")?.text(), key.text());
    let phone = Client::log_in(&homeserver, "alice", "NEW").await?;
    let (heard, _subscription) = Heard::of(&phone).await?;
    phone.settle().await?;
    backup(&phone)?.enable(wrong.clone()).await?;
    phone.drive().await?;
    assert_eq!(failed(&heard).await?, "wrong_key");
    assert_eq!(state(&phone).await?, locked);
    assert_eq!(restore_all(&phone, &wrong).await?, (0, vec![("wrong_key".to_owned(), 1)]));
    assert!(texts(&phone, &room).await.is_empty());
    let error = backup(&phone)?.restore(None, RestoreScope::AllRooms).await.refused()?;
    assert_eq!(error.code(), "no_key");

    // One that is there is replaced only where that is wanted.
    backup(&phone)?.create(wrong.clone(), false).await?;
    phone.drive().await?;
    assert_eq!(failed(&heard).await?, "backup_exists");
    backup(&phone)?.enable(key).await?;
    phone.drive().await?;
    assert!(matches!(state(&phone).await?, BackupState::Enabled { .. }));
    backup(&phone)?.disable().await?;
    assert_eq!(state(&phone).await?, locked);
    Ok(())
}

#[tokio::test]
async fn a_passphrase_brings_the_backup_back() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, _bob, room) = pair(&homeserver).await;
    let key = RecoveryKey::from_new_passphrase("correct horse".to_owned()).await?;
    backup(&alice)?.create(key.clone(), false).await?;
    alice.drive().await?;
    let phone = log_in(&homeserver, "alice", "NEW").await?;
    backup(&phone)?.look().await?;
    phone.drive().await?;
    let BackupState::Locked { passphrase: Some(how), .. } = state(&phone).await? else {
        panic!("{:?}", state(&phone).await?)
    };
    assert_eq!(how.rounds, 500_000);
    let again = RecoveryKey::from_passphrase("correct horse".to_owned(), how.salt, how.rounds);
    let again = again.await?;
    assert_eq!(again.text(), key.text());
    assert_eq!(restore_all(&phone, &again).await?.1, []);
    assert_eq!(texts(&phone, &room).await, ["first"]);
    assert_eq!(format!("{again:?}"), "RecoveryKey(..)");
    let huge = RecoveryKey::from_passphrase("a".to_owned(), "salt".to_owned(), u32::MAX).await;
    assert_eq!(huge.refused()?.code(), "bad_rounds");
    Ok(())
}

#[tokio::test]
async fn a_backup_of_another_kind_is_told_and_left_alone() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, _bob, _room) = pair(&homeserver).await;
    let newer = json!({ "algorithm": "m.backup.of.tomorrow", "auth_data": { "key": 1 } });
    alice.http().post("/_matrix/client/v3/room_keys/version", newer.clone()).await?;
    let (heard, _subscription) = Heard::of(&alice).await?;
    let key = RecoveryKey::generate()?;
    backup(&alice)?.enable(key.clone()).await?;
    alice.drive().await?;
    assert_eq!(failed(&heard).await?, "unsupported_backup");
    let algorithm = "m.backup.of.tomorrow".to_owned();
    assert_eq!(
        state(&alice).await?,
        BackupState::Unsupported { version: "1".to_owned(), algorithm }
    );
    assert_eq!(restore_all(&alice, &key).await?, (0, vec![("unsupported_backup".to_owned(), 1)]));
    let (version, keys) = sessions(&alice).await?;
    assert_eq!((version.as_str(), &keys["rooms"]), ("1", &json!({})));
    Ok(())
}

#[tokio::test]
async fn a_megolm_backup_is_shared_and_left_as_it_is() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, _bob, room) = pair(&homeserver).await;
    // The Matrix spec's example key, and its public key (RFC 7748, section 6.1).
    let text = "EsTcLW2KPGiFwKEA3As5g5c4BXwkqeeJZJV8Q9fugUMNUE4d";
    let megolm = json!({
        "algorithm": "m.megolm_backup.v1.curve25519-aes-sha2",
        "auth_data": {
            "public_key": "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo", "signatures": {},
            "private_key_salt": "pepper", "private_key_iterations": 500_000,
        },
    });
    let http = alice.http();
    http.post("/_matrix/client/v3/room_keys/version", megolm.clone()).await?;
    let session = json!({
        "first_message_index": 3, "forwarded_count": 0, "is_verified": false,
        "session_data": { "ephemeral": "AA", "ciphertext": "AA", "mac": "AA" },
    });
    let theirs = json!({ "sessions": { "bTNnb2xtIHNlc3Npb24": session } });
    let path = "/_matrix/client/v3/room_keys/keys?version=1";
    http.put(path, json!({ "rooms": { "!olm:example.org": theirs } })).await?;

    let key = RecoveryKey::parse(text.to_owned())?;
    backup(&alice)?.enable(key.clone()).await?;
    alice.drive().await?;
    assert_eq!(
        state(&alice).await?,
        BackupState::Enabled { version: "1".to_owned(), megolm: true }
    );
    let secret = backup(&alice)?.secret().await?.or_missing("secret")?;
    assert_eq!(secret.name, "m.megolm_backup.v1");
    assert!(backup(&alice)?.secret_names().contains(&secret.name));
    assert_eq!(key_of_secret(secret.value.clone())?.text(), key.text());
    assert!(!format!("{secret:?}").contains(std::str::from_utf8(&secret.value)?));
    assert_eq!(key_of_secret(b"AAAA".to_vec()).refused()?.code(), "recovery_key_length");
    assert_eq!(key_of_secret(vec![0xFF]).refused()?.code(), "bad_secret");

    let (_, keys) = sessions(&alice).await?;
    assert_eq!(keys["rooms"]["!olm:example.org"], theirs);
    assert!(keys["rooms"][&room].object("sessions")?.len() > 2);
    let info = http.get("/_matrix/client/v3/room_keys/version").await?;
    assert_eq!(info["auth_data"], megolm["auth_data"]);
    let phone = log_in(&homeserver, "alice", "NEW").await?;
    assert_eq!(restore_all(&phone, &key).await?.1, []);
    assert_eq!(texts(&phone, &room).await, ["first"]);
    let wrong = RecoveryKey::generate()?;
    assert_eq!(restore_all(&phone, &wrong).await?, (0, vec![("wrong_key".to_owned(), 1)]));
    Ok(())
}
