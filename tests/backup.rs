//! Key backup: a lost phone's history on a new one, through kills, a server that misbehaves, versions
//! that change, and data that somebody has tampered with.

use std::sync::{Arc, Mutex};

use matrix_mls::{
    BackupCounts, BackupState, HistoryFailure, MlsError, RecoveryKey, RestoreScope, Subscription,
    Update, UpdateObserver, key_of_secret,
};
use matrix_mls_kit::{
    Client, Homeserver, RateLimit,
    together::{all_talk, pair, quiet, texts},
};
use serde_json::{Value, json};

#[derive(Default)]
struct Heard(Mutex<Vec<Update>>);

impl UpdateObserver for Heard {
    fn on_update(&self, update: Update) {
        self.0.lock().unwrap().push(update);
    }

    fn on_end(&self) {}
}

impl Heard {
    async fn of(client: &Client) -> (Arc<Self>, Arc<Subscription>) {
        let heard = Arc::new(Self::default());
        let subscription = client.machine().unwrap().subscribe(heard.clone()).await.unwrap();
        (heard, subscription)
    }

    /// Waits until an update of this kind has come, and takes all that came until then.
    async fn wait_for(&self, is_it: impl Fn(&Update) -> bool) -> Update {
        for _ in 0..500 {
            let found = self.0.lock().unwrap().iter().position(&is_it);
            if let Some(at) = found {
                return self.0.lock().unwrap().drain(..=at).next_back().unwrap();
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("not heard; only {:?}", self.0.lock().unwrap());
    }

    /// Waits for the end of a restore: the epochs that it brought, and what was left out.
    async fn restored(&self) -> (u64, Vec<(String, u32)>) {
        match self.wait_for(|update| matches!(update, Update::RestoreFinished { .. })).await {
            Update::RestoreFinished { epochs, failures, .. } => {
                let pair = |failure: HistoryFailure| (failure.code, failure.count);
                (epochs, failures.into_iter().map(pair).collect())
            }
            _ => unreachable!(),
        }
    }

    async fn failed(&self) -> String {
        match self.wait_for(|update| matches!(update, Update::BackupFailed { .. })).await {
            Update::BackupFailed { code, .. } => code,
            _ => unreachable!(),
        }
    }
}

fn backup(client: &Client) -> Arc<matrix_mls::MlsBackup> {
    client.machine().unwrap().backup()
}

async fn state(client: &Client) -> BackupState {
    backup(client).state().await.unwrap()
}

async fn counts(client: &Client) -> BackupCounts {
    backup(client).counts().await.unwrap()
}

/// Messages over as many epochs.
async fn talk(from: &Client, room: &str, epochs: usize) -> Vec<String> {
    let mut said = Vec::new();
    for epoch in 0..epochs {
        from.room(room).await.unwrap().rotate_keys().await.unwrap();
        for message in 0..2 {
            let text = format!("{epoch}.{message} of {}", from.device_id());
            from.send_text(room, &text).await.unwrap();
            said.push(text);
        }
    }
    said
}

/// A backup of Alice's with a new key.
async fn create(client: &Client) -> Arc<RecoveryKey> {
    let key = RecoveryKey::generate().unwrap();
    backup(client).create(key.clone(), false).await.unwrap();
    client.drive().await.unwrap();
    assert!(matches!(state(client).await, BackupState::Enabled { megolm: false, .. }));
    key
}

/// The server's sessions, as a client may read them.
async fn sessions(client: &Client) -> (String, Value) {
    let version = client.http().get("/_matrix/client/v3/room_keys/version").await.unwrap();
    let version = version["version"].as_str().unwrap().to_owned();
    let path = format!("/_matrix/client/v3/room_keys/keys?version={version}");
    let keys = client.http().get(&path).await.unwrap();
    (version, keys)
}

/// Puts these in the place of all the sessions that the server has.
async fn replace_sessions(client: &Client, version: &str, keys: Value) {
    let path = format!("/_matrix/client/v3/room_keys/keys?version={version}");
    client.http().try_json("DELETE", &path, json!({})).await.unwrap();
    client.http().put(&path, keys).await.unwrap();
}

async fn restore_all(client: &Client, key: &Arc<RecoveryKey>) -> (u64, Vec<(String, u32)>) {
    let (heard, _subscription) = Heard::of(client).await;
    backup(client).restore(Some(key.clone()), RestoreScope::AllRooms).await.unwrap();
    client.drive().await.unwrap();
    heard.restored().await
}

#[tokio::test]
async fn a_new_phone_shows_the_old_messages() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, room) = pair(&homeserver).await;
    let mut said = vec!["first".to_owned()];
    said.extend(talk(&alice, &room, 3).await);
    let text = create(&alice).await.text();
    // And what comes after.
    quiet(&[&alice, &bob]).await;
    said.extend(talk(&bob, &room, 3).await);
    quiet(&[&alice, &bob]).await;
    let BackupCounts { backed_up, total, on_server } = counts(&alice).await;
    // Each epoch, and the leaves once: nobody came or went.
    assert!(backed_up >= 7, "{backed_up}");
    assert_eq!((total, on_server), (backed_up, Some(backed_up + 2)));

    // The phone is lost. The new one knows nothing but the password, and the key on paper.
    drop(alice);
    let phone = Client::log_in(&homeserver, "alice", "NEW").await.unwrap();
    phone.settle().await.unwrap();
    assert!(texts(&phone, &room).await.is_empty());
    let key = RecoveryKey::parse(text.to_lowercase()).unwrap_err();
    assert!(["recovery_key_prefix", "recovery_key_alphabet"].contains(&key.code()), "{key}");
    let key = RecoveryKey::parse(text).unwrap();
    let (heard, _subscription) = Heard::of(&phone).await;
    backup(&phone).enable(key.clone()).await.unwrap();
    let id = backup(&phone).restore(Some(key), RestoreScope::AllRooms).await.unwrap();
    phone.drive().await.unwrap();
    let progress = heard.wait_for(|update| matches!(update, Update::RestoreProgress { .. })).await;
    let sessions = backed_up + 2;
    assert_eq!(progress, Update::RestoreProgress { restore: id, done: sessions, total: sessions });
    assert_eq!(heard.restored().await, (backed_up, Vec::new()));
    assert!(backup(&phone).restores().await.unwrap().is_empty());
    assert_eq!(texts(&phone, &room).await, said);
    // What was restored need not be uploaded.
    assert_eq!(counts(&phone).await.total, counts(&phone).await.backed_up);

    // And goes on talking; what it is added by it may have restored before.
    all_talk(&[&bob, &phone], &room).await;
    let now = texts(&phone, &room).await;
    assert_eq!(now[..said.len()], said);
    assert_eq!(now.len(), said.len() + 2);
}

#[tokio::test]
async fn an_epoch_that_was_restored_can_still_be_entered() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, room) = pair(&homeserver).await;
    let key = create(&alice).await;
    let phone = Client::log_in(&homeserver, "alice", "NEW").await.unwrap();
    phone.drive().await.unwrap();
    // The old phone adds the new one, and backs that epoch up before the new one has seen the Welcome; and
    // then the epoch after it, of which the new one has not seen the commit.
    alice.settle().await.unwrap();
    alice.send_text(&room, "you are in").await.unwrap();
    let added = talk(&alice, &room, 2).await;
    alice.settle().await.unwrap();
    let (_, failures) = restore_all(&phone, &key).await;
    assert_eq!(failures, []);
    assert!(texts(&phone, &room).await.contains(&added[3]));
    phone.settle().await.unwrap();
    let epochs = phone.room(&room).await.unwrap().epochs().await.unwrap();
    assert!(epochs.iter().any(|epoch| epoch.is_head && epoch.is_full), "{epochs:?}");
    all_talk(&[&alice, &bob, &phone], &room).await;
}

#[tokio::test]
async fn nothing_is_lost_when_the_app_is_killed() {
    let homeserver = Homeserver::embedded().unwrap();
    let (mut alice, bob, room) = pair(&homeserver).await;
    let said = talk(&alice, &room, 4).await;
    let key = RecoveryKey::generate().unwrap();
    backup(&alice).create(key.clone(), false).await.unwrap();
    // Killed after each request was made, after each was sent, and after each answer.
    let mut uploads = Vec::new();
    for _ in 0..20 {
        alice.crash().await.unwrap();
        let requests = alice.machine().unwrap().outgoing_requests().await.unwrap();
        alice.crash().await.unwrap();
        let again = alice.machine().unwrap().outgoing_requests().await.unwrap();
        assert_eq!(requests, again);
        let Some(request) = requests.first() else { break };
        alice.transmit(request).await.unwrap();
        alice.crash().await.unwrap();
        alice.send_request(request).await.unwrap();
        uploads.push(request.path.clone());
    }
    assert!(uploads.iter().any(|path| path.contains("/room_keys/keys")), "{uploads:?}");
    let BackupCounts { backed_up, total, .. } = counts(&alice).await;
    assert_eq!((backed_up, total), (total, 5 + 1));
    let (_, keys) = sessions(&alice).await;
    assert_eq!(keys["rooms"][&room]["sessions"].as_object().unwrap().len(), 6 + 2);

    let mut phone = Client::log_in(&homeserver, "alice", "NEW").await.unwrap();
    phone.settle().await.unwrap();
    backup(&phone).restore(Some(key), RestoreScope::AllRooms).await.unwrap();
    for _ in 0..20 {
        phone.crash().await.unwrap();
        let requests = phone.machine().unwrap().outgoing_requests().await.unwrap();
        phone.crash().await.unwrap();
        let Some(request) = requests.first() else { break };
        phone.send_request(request).await.unwrap();
    }
    phone.crash().await.unwrap();
    phone.drive().await.unwrap();
    assert!(backup(&phone).restores().await.unwrap().is_empty());
    let read = texts(&phone, &room).await;
    assert_eq!(read[read.len() - said.len()..], said);
    drop(bob);
}

#[tokio::test]
async fn a_key_is_proved_before_it_is_used() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, _bob, room) = pair(&homeserver).await;
    let (heard, _subscription) = Heard::of(&alice).await;
    assert_eq!(state(&alice).await, BackupState::Unknown);
    let wrong = RecoveryKey::generate().unwrap();
    backup(&alice).enable(wrong.clone()).await.unwrap();
    assert_eq!(state(&alice).await, BackupState::Working);
    alice.drive().await.unwrap();
    assert_eq!(heard.failed().await, "no_backup");
    assert_eq!(state(&alice).await, BackupState::Absent);

    let key = create(&alice).await;
    assert_eq!(backup(&alice).recovery_key().await.unwrap().unwrap().text(), key.text());
    let phone = Client::log_in(&homeserver, "alice", "NEW").await.unwrap();
    let (heard, _subscription) = Heard::of(&phone).await;
    phone.settle().await.unwrap();
    backup(&phone).enable(wrong.clone()).await.unwrap();
    phone.drive().await.unwrap();
    assert_eq!(heard.failed().await, "wrong_key");
    let locked = BackupState::Locked { version: "1".to_owned(), megolm: false, passphrase: None };
    assert_eq!(state(&phone).await, locked);
    assert_eq!(restore_all(&phone, &wrong).await, (0, vec![("wrong_key".to_owned(), 1)]));
    assert!(texts(&phone, &room).await.is_empty());
    let error = backup(&phone).restore(None, RestoreScope::AllRooms).await.unwrap_err();
    assert_eq!(error.code(), "no_key");

    // One that is there is replaced only where that is wanted.
    backup(&phone).create(wrong.clone(), false).await.unwrap();
    phone.drive().await.unwrap();
    assert_eq!(heard.failed().await, "backup_exists");
    backup(&phone).enable(key).await.unwrap();
    phone.drive().await.unwrap();
    assert!(matches!(state(&phone).await, BackupState::Enabled { .. }));
    backup(&phone).disable().await.unwrap();
    assert_eq!(state(&phone).await, locked);
}

#[tokio::test]
async fn a_passphrase_brings_the_backup_back() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, _bob, room) = pair(&homeserver).await;
    let key = RecoveryKey::from_new_passphrase("correct horse".to_owned()).await.unwrap();
    backup(&alice).create(key.clone(), false).await.unwrap();
    alice.drive().await.unwrap();
    let phone = Client::log_in(&homeserver, "alice", "NEW").await.unwrap();
    phone.settle().await.unwrap();
    backup(&phone).look().await.unwrap();
    phone.drive().await.unwrap();
    let BackupState::Locked { passphrase: Some(how), .. } = state(&phone).await else {
        panic!("{:?}", state(&phone).await)
    };
    assert_eq!(how.rounds, 500_000);
    let again = RecoveryKey::from_passphrase("correct horse".to_owned(), how.salt, how.rounds);
    let again = again.await.unwrap();
    assert_eq!(again.text(), key.text());
    assert_eq!(restore_all(&phone, &again).await.1, []);
    assert_eq!(texts(&phone, &room).await, ["first"]);
    assert_eq!(format!("{again:?}"), "RecoveryKey(..)");
    let huge = RecoveryKey::from_passphrase("a".to_owned(), "salt".to_owned(), u32::MAX).await;
    assert_eq!(huge.unwrap_err().code(), "bad_rounds");
}

#[tokio::test]
async fn what_was_tampered_with_is_left_out_and_the_rest_restored() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, room) = pair(&homeserver).await;
    let other = alice.create_group(&[&bob], Default::default()).await.unwrap();
    alice.send_text(&other, "in the other room").await.unwrap();
    let said = talk(&alice, &room, 5).await;
    let key = create(&alice).await;
    let (version, good) = sessions(&alice).await;
    let ids = |keys: &Value, room: &str| -> Vec<String> {
        let sessions = keys["rooms"][room]["sessions"].as_object().unwrap();
        sessions.keys().filter(|id| !id.starts_with("leaves")).cloned().collect()
    };
    let epochs = ids(&good, &room);
    assert_eq!(epochs.len(), 7);
    let mut bad = good.clone();
    let all = bad["rooms"].as_object_mut().unwrap();
    let theirs = all[&other]["sessions"][&ids(&good, &other)[1]].clone();
    let ours = all[&room]["sessions"].as_object_mut().unwrap();
    // Swapped with another epoch, cut, garbage, no session data, and one that is right.
    let second = ours[&epochs[2]].clone();
    ours.insert(epochs[1].clone(), second);
    let cut = ours[&epochs[2]]["session_data"]["ciphertext"].as_str().unwrap()[..40].to_owned();
    ours[&epochs[2]]["session_data"]["ciphertext"] = cut.into();
    ours[&epochs[3]]["session_data"]["mac"] = "%%".into();
    ours[&epochs[4]]["session_data"] = json!([1, 2]);
    // Of the other room, under an id that nobody has.
    ours.insert("9|AAAA".to_owned(), theirs.clone());
    ours.insert("notours".to_owned(), json!({ "session_data": { "ephemeral": "x" } }));
    // The same session in a room that it is not of, where its id would fit.
    let id = ids(&good, &other)[1].clone();
    all.insert("!third:example.org".to_owned(), json!({ "sessions": { id: theirs } }));
    all.insert("no room".to_owned(), json!({ "sessions": { "1|AA": {} } }));
    replace_sessions(&alice, &version, bad).await;

    let phone = Client::log_in(&homeserver, "alice", "NEW").await.unwrap();
    phone.settle().await.unwrap();
    let (restored, failures) = restore_all(&phone, &key).await;
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
    replace_sessions(&alice, &version, good).await;
    assert_eq!(restore_all(&phone, &key).await, (4, Vec::new()));
    assert_eq!(texts(&phone, &room).await[1..], said);
}

#[tokio::test]
async fn epochs_without_their_leaves_are_left_out() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, _bob, room) = pair(&homeserver).await;
    let key = create(&alice).await;
    let (version, good) = sessions(&alice).await;
    let mut bad = good.clone();
    let ours = bad["rooms"][&room]["sessions"].as_object_mut().unwrap();
    ours.retain(|id, _| !id.starts_with("leaves"));
    replace_sessions(&alice, &version, bad).await;
    let phone = Client::log_in(&homeserver, "alice", "NEW").await.unwrap();
    phone.settle().await.unwrap();
    assert_eq!(restore_all(&phone, &key).await, (0, vec![("missing_leaves".to_owned(), 2)]));
    replace_sessions(&alice, &version, good).await;
    assert_eq!(restore_all(&phone, &key).await.0, 2);
    assert_eq!(texts(&phone, &room).await, ["first"]);
}

#[tokio::test]
async fn one_message_brings_its_epoch_alone() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, _bob, room) = pair(&homeserver).await;
    let said = talk(&alice, &room, 4).await;
    let key = create(&alice).await;
    let phone = Client::log_in(&homeserver, "alice", "NEW").await.unwrap();
    phone.settle().await.unwrap();
    backup(&phone).enable(key).await.unwrap();
    phone.drive().await.unwrap();
    let (heard, _subscription) = Heard::of(&phone).await;
    let unread = phone.read(&room).await.unwrap();
    let last = unread.last().unwrap();
    let code = last.message.as_ref().unwrap_err().code();
    assert!(["unknown_epoch", "before_joining"].contains(&code), "{code}");
    let event = phone.history(&room).await.unwrap();
    let event = event.iter().find(|event| event["event_id"] == *last.event_id).unwrap();
    let message = RestoreScope::Message { event: event.to_string(), room_id: room.clone() };
    // The leaves are not here yet: the room's sessions come with the first one.
    backup(&phone).restore(None, message.clone()).await.unwrap();
    phone.drive().await.unwrap();
    let (epochs, failures) = heard.restored().await;
    assert_eq!((epochs, failures), (6, Vec::new()));
    assert_eq!(texts(&phone, &room).await[1..], said);

    // From then on one is enough; and what is not there says so.
    let later = talk(&alice, &room, 1).await;
    alice.drive().await.unwrap();
    let event = phone.history(&room).await.unwrap().pop().unwrap();
    let of =
        |event: &Value| RestoreScope::Message { event: event.to_string(), room_id: room.clone() };
    backup(&phone).restore(None, of(&event)).await.unwrap();
    phone.drive().await.unwrap();
    assert_eq!(heard.restored().await, (1, Vec::new()));
    assert!(texts(&phone, &room).await.contains(&later[1]));
    let mut unknown = event.clone();
    unknown["content"]["epoch_creator"] = json!(["@carol:example.org", "PHONE"]);
    backup(&phone).restore(None, of(&unknown)).await.unwrap();
    phone.drive().await.unwrap();
    assert_eq!(heard.restored().await, (0, vec![("not_in_backup".to_owned(), 1)]));
    let no_message = RestoreScope::Message { event: "{}".to_owned(), room_id: room.clone() };
    assert!(matches!(
        backup(&phone).restore(None, no_message).await,
        Err(MlsError::Rejected { .. })
    ));
}

#[tokio::test]
async fn another_version_is_noticed_and_followed_with_the_same_key_only() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, room) = pair(&homeserver).await;
    let key = create(&alice).await;
    let laptop = Client::log_in(&homeserver, "alice", "LAPTOP").await.unwrap();
    laptop.settle().await.unwrap();
    backup(&laptop).create(key.clone(), true).await.unwrap();
    laptop.drive().await.unwrap();
    // The phone learns of it when it uploads, and goes on with all it has.
    talk(&alice, &room, 1).await;
    alice.settle().await.unwrap();
    let enabled = BackupState::Enabled { version: "2".to_owned(), megolm: false };
    assert_eq!(state(&alice).await, enabled);
    let BackupCounts { backed_up, total, .. } = counts(&alice).await;
    assert_eq!(backed_up, total);
    let epochs = alice.room(&room).await.unwrap().epochs().await.unwrap().len() as u64;
    assert_eq!(backed_up, epochs);

    // A third one has another key.
    let other = RecoveryKey::generate().unwrap();
    let (heard, _subscription) = Heard::of(&alice).await;
    backup(&laptop).create(other.clone(), true).await.unwrap();
    laptop.drive().await.unwrap();
    talk(&alice, &room, 1).await;
    alice.settle().await.unwrap();
    assert_eq!(heard.failed().await, "wrong_key");
    let locked = BackupState::Locked { version: "3".to_owned(), megolm: false, passphrase: None };
    assert_eq!(state(&alice).await, locked);
    backup(&alice).enable(other.clone()).await.unwrap();
    alice.settle().await.unwrap();
    assert!(matches!(state(&alice).await, BackupState::Enabled { .. }));

    // Deleted by one, noticed by the other; the second version is current again.
    backup(&laptop).delete().await.unwrap();
    laptop.drive().await.unwrap();
    talk(&alice, &room, 1).await;
    alice.settle().await.unwrap();
    assert_eq!(heard.failed().await, "wrong_key");
    assert!(matches!(state(&alice).await, BackupState::Locked { version, .. } if version == "2"));
    backup(&alice).enable(key).await.unwrap();
    alice.settle().await.unwrap();
    let BackupCounts { backed_up, total, .. } = counts(&alice).await;
    assert_eq!(backed_up, total);
    drop(bob);
}

#[tokio::test]
async fn a_server_that_is_slow_or_deaf_gets_all_in_the_end() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, _bob, room) = pair(&homeserver).await;
    let controls = homeserver.controls().unwrap();
    controls.set_rate_limit(Some(RateLimit {
        path: "room_keys".to_owned(),
        burst: 1,
        interval: std::time::Duration::from_millis(100),
    }));
    alice.forget_answers("/room_keys/version", 1);
    alice.forget_answers("/room_keys/keys", 1);
    let key = create(&alice).await;
    for _ in 0..3 {
        talk(&alice, &room, 1).await;
        alice.drive().await.unwrap();
    }
    let BackupCounts { backed_up, total, .. } = counts(&alice).await;
    assert_eq!((backed_up, total), (5, 5));
    let phone = Client::log_in(&homeserver, "alice", "NEW").await.unwrap();
    phone.forget_answers("/room_keys", 2);
    phone.settle().await.unwrap();
    assert_eq!(restore_all(&phone, &key).await, (5, Vec::new()));
}

#[tokio::test]
async fn a_restore_can_be_stopped() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, _bob, room) = pair(&homeserver).await;
    let key = create(&alice).await;
    let phone = Client::log_in(&homeserver, "alice", "NEW").await.unwrap();
    phone.settle().await.unwrap();
    let id = backup(&phone).restore(Some(key.clone()), RestoreScope::AllRooms).await.unwrap();
    // The same again is the same.
    let again = backup(&phone).restore(Some(key.clone()), RestoreScope::AllRooms).await.unwrap();
    assert_eq!(id, again);
    let requests = phone.machine().unwrap().outgoing_requests().await.unwrap();
    phone.send_request(&requests[0]).await.unwrap();
    let requests = phone.machine().unwrap().outgoing_requests().await.unwrap();
    assert!(requests[0].path.contains("/room_keys/keys"));
    assert!(backup(&phone).cancel_restore(id).await.unwrap());
    assert!(!backup(&phone).cancel_restore(id).await.unwrap());
    // The answer comes all the same.
    phone.send_request(&requests[0]).await.unwrap();
    assert!(phone.machine().unwrap().outgoing_requests().await.unwrap().is_empty());
    assert!(texts(&phone, &room).await.is_empty());
    let room_only = RestoreScope::Room { room_id: room.clone() };
    backup(&phone).restore(Some(key), room_only).await.unwrap();
    phone.drive().await.unwrap();
    assert_eq!(texts(&phone, &room).await, ["first"]);
}

#[tokio::test]
async fn a_megolm_backup_is_shared_and_left_as_it_is() {
    let homeserver = Homeserver::embedded().unwrap();
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
    http.post("/_matrix/client/v3/room_keys/version", megolm.clone()).await.unwrap();
    let session = json!({
        "first_message_index": 3, "forwarded_count": 0, "is_verified": false,
        "session_data": { "ephemeral": "AA", "ciphertext": "AA", "mac": "AA" },
    });
    let theirs = json!({ "sessions": { "bTNnb2xtIHNlc3Npb24": session } });
    let path = "/_matrix/client/v3/room_keys/keys?version=1";
    http.put(path, json!({ "rooms": { "!olm:example.org": theirs } })).await.unwrap();

    let key = RecoveryKey::parse(text.to_owned()).unwrap();
    backup(&alice).enable(key.clone()).await.unwrap();
    alice.drive().await.unwrap();
    assert_eq!(state(&alice).await, BackupState::Enabled { version: "1".to_owned(), megolm: true });
    let secret = backup(&alice).secret().await.unwrap().unwrap();
    assert_eq!(secret.name, "m.megolm_backup.v1");
    assert!(backup(&alice).secret_names().contains(&secret.name));
    assert_eq!(key_of_secret(secret.value.clone()).unwrap().text(), key.text());
    assert!(!format!("{secret:?}").contains(std::str::from_utf8(&secret.value).unwrap()));
    assert_eq!(key_of_secret(b"AAAA".to_vec()).unwrap_err().code(), "recovery_key_length");
    assert_eq!(key_of_secret(vec![0xFF]).unwrap_err().code(), "bad_secret");

    let (_, keys) = sessions(&alice).await;
    assert_eq!(keys["rooms"]["!olm:example.org"], theirs);
    assert!(keys["rooms"][&room]["sessions"].as_object().unwrap().len() > 2);
    let info = http.get("/_matrix/client/v3/room_keys/version").await.unwrap();
    assert_eq!(info["auth_data"], megolm["auth_data"]);
    let phone = Client::log_in(&homeserver, "alice", "NEW").await.unwrap();
    phone.settle().await.unwrap();
    assert_eq!(restore_all(&phone, &key).await.1, []);
    assert_eq!(texts(&phone, &room).await, ["first"]);
    let wrong = RecoveryKey::generate().unwrap();
    assert_eq!(restore_all(&phone, &wrong).await, (0, vec![("wrong_key".to_owned(), 1)]));
}

#[tokio::test]
async fn a_file_moves_the_history_without_a_server() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, room) = pair(&homeserver).await;
    let other = alice.create_group(&[&bob], Default::default()).await.unwrap();
    alice.send_text(&other, "in the other room").await.unwrap();
    let said = talk(&alice, &room, 3).await;
    let (one, pass) = (Some(vec![room.clone()]), "correct horse".to_owned());
    let one = backup(&alice).export_history(one, pass.clone()).await.unwrap();
    let all = backup(&alice).export_history(None, pass.clone()).await.unwrap();
    let phone = Client::log_in(&homeserver, "alice", "NEW").await.unwrap();
    phone.settle().await.unwrap();
    let wrong = backup(&phone).import_history(one.clone(), "battery".to_owned()).await;
    assert_eq!(wrong.unwrap_err().code(), "wrong_passphrase");
    let cut = backup(&phone).import_history(one[..300].to_owned(), pass.clone()).await;
    assert_eq!(cut.unwrap_err().code(), "bad_file");
    let summary = backup(&phone).import_history(one.clone(), pass.clone()).await.unwrap();
    assert_eq!((summary.epochs, summary.failures.len()), (5, 0));
    assert_eq!(texts(&phone, &room).await[1..], said);
    assert!(texts(&phone, &other).await.is_empty());
    let summary = backup(&phone).import_history(all, pass.clone()).await.unwrap();
    assert_eq!((summary.epochs, summary.failures.len()), (2, 0));
    assert_eq!(texts(&phone, &other).await, ["in the other room"]);
    assert_eq!(backup(&phone).import_history(one, pass).await.unwrap().epochs, 0);
    let none = backup(&alice).export_history(None, String::new()).await.unwrap_err();
    assert_eq!(none.code(), "empty_passphrase");
}
