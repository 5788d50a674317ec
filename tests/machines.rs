//! Opening and closing machines, using one from many tasks, and giving calls up half-way.

use std::{path::Path, sync::Arc};

use matrix_mls::{
    LogLevel, LogSink, MachineConfig, MlsError, MlsMachine, MlsReader, Publishing, RoomSettings,
    SendPlan, StoreKey, SyncChanges, Update, UpdateObserver, set_log_sink,
};
use matrix_mls_kit::{Client, Homeserver};
use serde_json::{Value, json};

fn config(directory: &Path, store_key: StoreKey) -> MachineConfig {
    MachineConfig {
        user_id: "@alice:example.org".into(),
        device_id: "PHONE".into(),
        store_path: directory.display().to_string(),
        store_key,
        publishing: Publishing::Alone,
    }
}

fn raw(byte: u8) -> StoreKey {
    StoreKey::Raw { key: vec![byte; 32] }
}

fn passphrase(text: &str) -> StoreKey {
    StoreKey::Passphrase { passphrase: text.into() }
}

async fn open(directory: &Path, key: StoreKey) -> Result<Arc<MlsMachine>, MlsError> {
    MlsMachine::open(config(directory, key)).await
}

/// The one upload that a new device has to send: it names the device's keys.
async fn upload(machine: &MlsMachine) -> Vec<u8> {
    machine.outgoing_requests().await.unwrap().remove(0).body
}

#[tokio::test]
async fn a_store_opens_with_its_key_and_a_changed_key_counts() {
    let directory = tempfile::tempdir().unwrap();
    let machine = open(directory.path(), raw(1)).await.unwrap();
    let keys = upload(&machine).await;
    machine.shutdown().await.unwrap();
    for wrong in [raw(2), passphrase("secret"), StoreKey::Unprotected] {
        let error = open(directory.path(), wrong).await.err().unwrap();
        assert!(matches!(error, MlsError::StoreWrongKey { .. }), "{error}");
    }
    let machine = open(directory.path(), raw(1)).await.unwrap();
    machine.change_store_key(passphrase("secret")).await.unwrap();
    machine.shutdown().await.unwrap();
    assert!(open(directory.path(), raw(1)).await.is_err());
    let machine = open(directory.path(), passphrase("secret")).await.unwrap();
    assert_eq!(upload(&machine).await, keys);
}

#[tokio::test]
async fn a_store_has_one_opener_and_is_one_devices() {
    let directory = tempfile::tempdir().unwrap();
    let machine = open(directory.path(), raw(1)).await.unwrap();
    let error = open(directory.path(), raw(1)).await.err().unwrap();
    assert!(matches!(&error, MlsError::StoreInUse { details } if details.retryable), "{error}");
    machine.shutdown().await.unwrap();
    for (user, device) in [("@bob:example.org", "PHONE"), ("@alice:example.org", "TABLET")] {
        let mut other = config(directory.path(), raw(1));
        (other.user_id, other.device_id) = (user.into(), device.into());
        let error = MlsMachine::open(other).await.err().unwrap();
        assert!(
            matches!(&error, MlsError::InvalidInput { details } if details.code == "other_device")
        );
    }
    open(directory.path(), raw(1)).await.unwrap();
}

#[tokio::test]
async fn what_makes_no_machine_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let mut bad = Vec::new();
    for key in
        [StoreKey::Raw { key: vec![1; 31] }, StoreKey::Raw { key: Vec::new() }, passphrase("")]
    {
        bad.push((config(directory.path(), key), "store_key"));
    }
    for user in ["", "alice", "@alice", "#alice:example.org"] {
        let mut config = config(directory.path(), raw(1));
        config.user_id = user.into();
        bad.push((config, "user_id"));
    }
    let mut nameless = config(directory.path(), raw(1));
    nameless.device_id.clear();
    bad.push((nameless, "device_id"));
    for (config, argument) in bad {
        let error = MlsMachine::open(config).await.err().unwrap();
        assert!(
            matches!(&error, MlsError::InvalidInput { details } if details.reason.contains(argument)),
            "{error}"
        );
    }
    // None of it has left anything behind.
    open(directory.path(), raw(1)).await.unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_told_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path(), raw(1)).await.unwrap().shutdown().await.unwrap();
    let file = directory.path().join("matrix-mls.db");
    let good = std::fs::read(&file).unwrap();
    for bad in [b"not a database".to_vec(), good[..good.len() / 2].to_vec(), vec![7; good.len()]] {
        std::fs::write(&file, &bad).unwrap();
        let error = open(directory.path(), raw(1)).await.err().unwrap();
        assert!(matches!(error, MlsError::StoreDamaged { .. }), "{error}");
        assert_eq!(std::fs::read(&file).unwrap(), bad);
    }
    std::fs::write(&file, good).unwrap();
    open(directory.path(), raw(1)).await.unwrap();
}

struct Deaf;

impl UpdateObserver for Deaf {
    fn on_update(&self, _: Update) {}
    fn on_end(&self) {}
}

#[tokio::test]
async fn a_closed_machine_says_so_to_every_call() {
    let directory = tempfile::tempdir().unwrap();
    let machine = open(directory.path(), raw(1)).await.unwrap();
    let room = machine.room("!room:example.org".into()).unwrap();
    machine.shutdown().await.unwrap();
    machine.shutdown().await.unwrap();
    let errors = [
        machine.outgoing_requests().await.err(),
        machine.mark_request_as_sent("1".into(), 200, Vec::new()).await.err(),
        machine.receive_sync(SyncChanges::default()).await.err(),
        machine.rooms().await.err(),
        machine.sign_device_keys("{}".into()).await.err(),
        machine.change_store_key(raw(2)).await.err(),
        machine.subscribe(Arc::new(Deaf)).await.err(),
        room.is_enabled().await.err(),
        room.enable(RoomSettings::default()).await.err(),
        room.set_members(Vec::new()).await.err(),
        room.prepare_to_send().await.err(),
        room.encrypt("m.room.message".into(), "{}".into()).await.err(),
        room.receive_events(Vec::new()).await.err(),
        room.decrypt("{}".into()).await.err(),
        room.rotate_keys().await.err(),
        room.members().await.err(),
        room.epochs().await.err(),
        room.leave().await.err(),
    ];
    for (number, error) in errors.into_iter().enumerate() {
        assert!(matches!(error, Some(MlsError::Closed { .. })), "call {number}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_calls_at_once_all_get_their_answer() {
    let homeserver = Homeserver::embedded().unwrap();
    let alice = Client::register(&homeserver, "alice", "PHONE").await.unwrap();
    let bob = Client::register(&homeserver, "bob", "PHONE").await.unwrap();
    for client in [&alice, &bob] {
        client.settle().await.unwrap();
    }
    let room = alice.create_group(&[&bob], RoomSettings::default()).await.unwrap();
    alice.prepare(&room).await.unwrap();
    bob.settle().await.unwrap();
    let tasks = (0..1_000).map(|number| {
        let (alice, bob) = (alice.machine().unwrap().clone(), bob.machine().unwrap().clone());
        let (room, sender) = (room.clone(), alice.user_id());
        tokio::spawn(async move {
            let content = json!({ "body": number }).to_string();
            let room_of_alice = alice.room(room.clone()).unwrap();
            let sealed = room_of_alice.encrypt("m.room.message".into(), content.clone()).await;
            let sealed: Value = serde_json::from_str(&sealed.unwrap()).unwrap();
            let event = json!({ "type": "m.room.encrypted", "sender": sender, "content": sealed });
            // A sync in between: turns and reads run beside each other.
            bob.receive_sync(SyncChanges::default()).await.unwrap();
            let room_of_bob = bob.room(room).unwrap();
            let opened = room_of_bob.decrypt(event.to_string()).await.unwrap();
            assert_eq!(opened.content, content);
            sealed["ciphertext"].as_str().unwrap().to_owned()
        })
    });
    let mut ciphertexts = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        ciphertexts.push(task.await.unwrap());
    }
    ciphertexts.sort();
    ciphertexts.dedup();
    assert_eq!(ciphertexts.len(), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_given_up_leaves_the_store_sound() {
    let homeserver = Homeserver::embedded().unwrap();
    let alice = Client::register(&homeserver, "alice", "PHONE").await.unwrap();
    let bob = Client::register(&homeserver, "bob", "PHONE").await.unwrap();
    for client in [&alice, &bob] {
        client.settle().await.unwrap();
    }
    let room = alice.create_room(&[&bob]).await.unwrap();
    bob.join(&room).await.unwrap();
    alice.settle().await.unwrap();
    let handle = alice.room(&room).await.unwrap();
    // Polled once, so that its work has begun, and dropped: what it did it did as a whole.
    macro_rules! give_up {
        ($call:expr) => {{
            let mut call = Box::pin($call);
            let _ = futures_poll(call.as_mut()).await;
            drop(call);
        }};
    }
    for _ in 0..20 {
        give_up!(handle.enable(RoomSettings::default()));
        give_up!(handle.prepare_to_send());
        give_up!(handle.encrypt("m.room.message".into(), "{}".into()));
        give_up!(handle.rotate_keys());
        give_up!(alice.machine().unwrap().outgoing_requests());
        give_up!(alice.machine().unwrap().receive_sync(SyncChanges::default()));
    }
    alice.settle().await.unwrap();
    alice.send_text(&room, "all the same").await.unwrap();
    bob.settle().await.unwrap();
    let messages = bob.sync().await.unwrap().messages;
    assert_eq!(messages.len(), 1, "{messages:?}");
}

/// Polls a future once.
async fn futures_poll<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
    std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_ready()))
        .await
}

#[tokio::test]
async fn logs_reach_the_sink_and_hold_no_content() {
    #[derive(Default)]
    struct Lines(std::sync::Mutex<Vec<String>>);
    impl LogSink for Lines {
        fn on_log(&self, _: LogLevel, _: String, message: String) {
            self.0.lock().unwrap().push(message);
        }
    }
    let lines = Arc::new(Lines::default());
    set_log_sink(LogLevel::Debug, Some(lines.clone())).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let machine = open(directory.path(), raw(1)).await.unwrap();
    let room = machine.room("!room:example.org".into()).unwrap();
    room.enable(RoomSettings::default()).await.unwrap();
    let SendPlan::Waiting { .. } = room.prepare_to_send().await.unwrap() else {
        panic!("nothing to send")
    };
    let event = json!({ "type": "m.room.encrypted", "sender": "@a:b", "event_id": "$x",
        "content": { "algorithm": "m.dmls.v1.dhkemx25519-aes128gcm-sha256-ed25519",
            "ciphertext": "c2VjcmV0IHRleHQ", "epoch_creator": ["@a:b", "C"] } });
    room.receive_events(vec![event.to_string()]).await.unwrap();
    let lines = lines.0.lock().unwrap();
    assert!(lines.iter().any(|line| line.contains("$x")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("c2VjcmV0")), "{lines:?}");
}

#[tokio::test]
async fn a_reader_reads_beside_the_machine_and_writes_nothing() {
    let homeserver = Homeserver::embedded().unwrap();
    let alice = Client::register(&homeserver, "alice", "PHONE").await.unwrap();
    let mut bob = Client::register(&homeserver, "bob", "PHONE").await.unwrap();
    alice.settle().await.unwrap();
    bob.settle().await.unwrap();
    let room = alice.create_group(&[&bob], RoomSettings::default()).await.unwrap();
    alice.send_text(&room, "before").await.unwrap();
    bob.settle().await.unwrap();

    let path = bob.store_path().display().to_string();
    let reader = MlsReader::open(path.clone(), raw(7)).await.unwrap();
    let decrypt = async |event: &Value| reader.decrypt(room.clone(), event.to_string()).await;
    let history = bob.history(&room).await.unwrap();
    let message = decrypt(history.last().unwrap()).await.unwrap();
    assert!(message.content.contains("before"), "{}", message.content);
    assert_eq!(message.sender_user_id, alice.user_id());

    // What the machine commits later, the reader sees; what it has not seen, nobody invents.
    alice.room(&room).await.unwrap().rotate_keys().await.unwrap();
    alice.send_text(&room, "after").await.unwrap();
    let history = alice.history(&room).await.unwrap();
    let early = decrypt(history.last().unwrap()).await.unwrap_err();
    assert!(matches!(early, MlsError::UnknownEpoch { .. }), "{early}");
    bob.settle().await.unwrap();
    let message = decrypt(history.last().unwrap()).await.unwrap();
    assert!(message.content.contains("after"), "{}", message.content);

    // It is no second opener: the machine goes away and comes back beside it, and the file it
    // read has not changed while only the reader was there.
    bob.close().await.unwrap();
    let file = std::path::Path::new(&path).join("matrix-mls.db");
    let before = std::fs::read(&file).unwrap();
    assert!(decrypt(history.last().unwrap()).await.is_ok());
    drop(reader);
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

#[tokio::test]
async fn a_reader_of_no_store_or_with_the_wrong_key_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("device");
    let open_reader = async |key: StoreKey| MlsReader::open(path.display().to_string(), key).await;
    let error = open_reader(raw(1)).await.err().unwrap();
    assert_eq!(error.code(), "store_missing");
    assert!(!path.exists(), "a reader makes nothing");
    let machine = open(&path, raw(1)).await.unwrap();
    let error = open_reader(raw(2)).await.err().unwrap();
    assert!(matches!(error, MlsError::StoreWrongKey { .. }), "{error}");
    let error = open_reader(StoreKey::Raw { key: vec![1; 31] }).await.err().unwrap();
    assert_eq!(error.code(), "bad_store_key");
    let reader = open_reader(raw(1)).await.unwrap();
    let error = reader.decrypt("room".into(), "{}".into()).await.unwrap_err();
    assert_eq!(error.code(), "bad_room_id");
    machine.shutdown().await.unwrap();
}
