//! Opening and closing machines, using one from many tasks, and giving calls up half-way.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use matrix_mls::{
    LogLevel, LogSink, MachineConfig, MlsError, MlsMachine, MlsReader, RoomSettings, SendPlan,
    StoreKey, Update, UpdateObserver, set_log_sink,
};
use matrix_mls_kit::{
    Fields as _, Homeserver, OrMissing as _, Refused as _, Result, feed,
    together::{pair, pair_without_a_group},
};
use serde_json::{Value, json};

fn config(directory: &Path, store_key: StoreKey) -> MachineConfig {
    MachineConfig { store_key, ..matrix_mls_kit::config("@alice:example.org", "PHONE", directory) }
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

/// The upload that a new device has to send, once it knows that the homeserver has no keys for it:
/// it names the device's keys.
async fn upload(machine: &MlsMachine) -> Result<Vec<u8>> {
    let mut request = machine.outgoing_requests().await?.remove(0);
    if request.path.contains("/keys/query") {
        let nothing = b"{\"device_keys\":{}}".to_vec();
        machine.mark_request_as_sent(request.id, 200, nothing).await?;
        request = machine.outgoing_requests().await?.remove(0);
    }
    assert!(request.path.contains("/keys/upload"), "{request:?}");
    Ok(request.body)
}

#[tokio::test]
async fn a_store_opens_with_its_key_and_a_changed_key_counts() -> Result {
    let directory = tempfile::tempdir()?;
    let machine = open(directory.path(), raw(1)).await?;
    let keys = upload(&machine).await?;
    machine.shutdown().await?;
    for wrong in [raw(2), passphrase("secret"), StoreKey::Unprotected] {
        let error = open(directory.path(), wrong).await.refused()?;
        assert!(matches!(error, MlsError::StoreWrongKey { .. }), "{error}");
    }
    let machine = open(directory.path(), raw(1)).await?;
    machine.change_store_key(passphrase("secret")).await?;
    machine.shutdown().await?;
    assert!(open(directory.path(), raw(1)).await.is_err());
    let machine = open(directory.path(), passphrase("secret")).await?;
    assert_eq!(upload(&machine).await?, keys);
    Ok(())
}

#[tokio::test]
async fn a_store_has_one_opener_and_is_one_devices() -> Result {
    let directory = tempfile::tempdir()?;
    let machine = open(directory.path(), raw(1)).await?;
    let error = open(directory.path(), raw(1)).await.refused()?;
    assert!(matches!(&error, MlsError::StoreInUse { details } if details.retryable), "{error}");
    machine.shutdown().await?;
    for (user, device) in [("@bob:example.org", "PHONE"), ("@alice:example.org", "TABLET")] {
        let mut other = config(directory.path(), raw(1));
        (other.user_id, other.device_id) = (user.into(), device.into());
        let error = MlsMachine::open(other).await.refused()?;
        assert!(
            matches!(&error, MlsError::InvalidInput { details } if details.code == "other_device")
        );
    }
    open(directory.path(), raw(1)).await?;
    Ok(())
}

#[tokio::test]
async fn what_makes_no_machine_is_said() -> Result {
    let directory = tempfile::tempdir()?;
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
        let error = MlsMachine::open(config).await.refused()?;
        assert!(
            matches!(&error, MlsError::InvalidInput { details } if details.reason.contains(argument)),
            "{error}"
        );
    }
    // None of it has left anything behind.
    open(directory.path(), raw(1)).await?;
    Ok(())
}

#[tokio::test]
async fn a_damaged_file_is_told_and_left_alone() -> Result {
    let directory = tempfile::tempdir()?;
    open(directory.path(), raw(1)).await?.shutdown().await?;
    let file = directory.path().join("matrix-mls.db");
    let good = std::fs::read(&file)?;
    for bad in [b"not a database".to_vec(), good[..good.len() / 2].to_vec(), vec![7; good.len()]] {
        std::fs::write(&file, &bad)?;
        let error = open(directory.path(), raw(1)).await.refused()?;
        assert!(matches!(error, MlsError::StoreDamaged { .. }), "{error}");
        assert_eq!(std::fs::read(&file)?, bad);
    }
    std::fs::write(&file, good)?;
    open(directory.path(), raw(1)).await?;
    Ok(())
}

struct Deaf;

impl UpdateObserver for Deaf {
    fn on_update(&self, _: Update) {}
    fn on_end(&self) {}
}

#[tokio::test]
async fn a_closed_machine_says_so_to_every_call() -> Result {
    let directory = tempfile::tempdir()?;
    let machine = open(directory.path(), raw(1)).await?;
    let room = machine.room("!room:example.org".into())?;
    machine.shutdown().await?;
    machine.shutdown().await?;
    let errors = [
        machine.outgoing_requests().await.err(),
        machine.mark_request_as_sent("1".into(), 200, Vec::new()).await.err(),
        machine.receive_sync(feed()).await.err(),
        machine.rooms().await.err(),
        machine.binding_to_sign().await.err(),
        machine.bind_device("AAAA".into(), HashMap::new()).await.err(),
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
    Ok(())
}

/// Alice seals a number and Bob opens it; gives the ciphertext.
async fn seal_and_open(
    alice: Arc<MlsMachine>,
    bob: Arc<MlsMachine>,
    room: String,
    number: u32,
) -> Result<String> {
    let content = json!({ "body": number }).to_string();
    let sealing = alice.room(room.clone())?;
    let sealed = sealing.encrypt("m.room.message".into(), content.clone()).await?;
    let sealed: Value = serde_json::from_str(&sealed)?;
    let event = json!({ "type": "m.room.encrypted", "sender": alice.user_id(), "content": sealed });
    // A sync in between: turns and reads run beside each other.
    bob.receive_sync(feed()).await?;
    let opened = bob.room(room)?.decrypt(event.to_string()).await?;
    assert_eq!(opened.content, content);
    Ok(sealed.text("ciphertext")?.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_calls_at_once_all_get_their_answer() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let mut tasks = Vec::new();
    for number in 0..1_000 {
        let (alice, bob) = (alice.machine()?.clone(), bob.machine()?.clone());
        tasks.push(tokio::spawn(seal_and_open(alice, bob, room.clone(), number)));
    }
    let mut ciphertexts = Vec::new();
    for task in tasks {
        ciphertexts.push(task.await??);
    }
    ciphertexts.sort();
    ciphertexts.dedup();
    assert_eq!(ciphertexts.len(), 1_000);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_given_up_leaves_the_store_sound() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair_without_a_group(&homeserver).await?;
    let handle = alice.room(&room).await?;
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
        give_up!(alice.machine()?.outgoing_requests());
        give_up!(alice.machine()?.receive_sync(feed()));
    }
    alice.settle().await?;
    alice.send_text(&room, "all the same").await?;
    bob.settle().await?;
    let messages = bob.sync().await?.messages;
    assert_eq!(messages.len(), 1, "{messages:?}");
    Ok(())
}

/// Polls a future once.
async fn futures_poll<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
    std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_ready()))
        .await
}

#[tokio::test]
async fn logs_reach_the_sink_and_hold_no_content() -> Result {
    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);
    impl Lines {
        fn all(&self) -> MutexGuard<'_, Vec<String>> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
    impl LogSink for Lines {
        fn on_log(&self, _: LogLevel, _: String, message: String) {
            self.all().push(message);
        }
    }
    let lines = Arc::new(Lines::default());
    set_log_sink(LogLevel::Debug, Some(lines.clone()))?;
    let directory = tempfile::tempdir()?;
    let machine = open(directory.path(), raw(1)).await?;
    let room = machine.room("!room:example.org".into())?;
    room.enable(RoomSettings::default()).await?;
    let SendPlan::Waiting { .. } = room.prepare_to_send().await? else { panic!("nothing to send") };
    let event = json!({ "type": "m.room.encrypted", "sender": "@a:b", "event_id": "$x",
        "content": { "algorithm": "m.dmls.v1.dhkemx25519-aes128gcm-sha256-ed25519",
            "ciphertext": "c2VjcmV0IHRleHQ", "epoch_creator": ["@a:b", "C"] } });
    room.receive_events(vec![event.to_string()]).await?;
    let lines = lines.all();
    assert!(lines.iter().any(|line| line.contains("$x")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("c2VjcmV0")), "{lines:?}");
    Ok(())
}

/// The last event of a room's history.
fn last(history: &[Value]) -> Result<&Value> {
    history.last().or_missing("event in the room")
}

#[tokio::test]
async fn a_reader_reads_beside_the_machine_and_writes_nothing() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, mut bob, room) = pair(&homeserver).await;
    alice.send_text(&room, "before").await?;
    bob.settle().await?;

    let path = bob.store_path().display().to_string();
    let reader = MlsReader::open(path.clone(), raw(7)).await?;
    let decrypt = async |event: &Value| reader.decrypt(room.clone(), event.to_string()).await;
    let history = bob.history(&room).await?;
    let message = decrypt(last(&history)?).await?;
    assert!(message.content.contains("before"), "{}", message.content);
    assert_eq!(message.sender_user_id, alice.user_id());

    // What the machine commits later, the reader sees; what it has not seen, nobody invents.
    alice.rotate_keys(&room).await?;
    alice.send_text(&room, "after").await?;
    let history = alice.history(&room).await?;
    let early = decrypt(last(&history)?).await.refused()?;
    assert!(matches!(early, MlsError::UnknownEpoch { .. }), "{early}");
    bob.settle().await?;
    let message = decrypt(last(&history)?).await?;
    assert!(message.content.contains("after"), "{}", message.content);

    // It is no second opener: the machine goes away and comes back beside it, and the file it
    // read has not changed while only the reader was there.
    bob.close().await?;
    let file = std::path::Path::new(&path).join("matrix-mls.db");
    let before = std::fs::read(&file)?;
    assert!(decrypt(last(&history)?).await.is_ok());
    drop(reader);
    assert_eq!(std::fs::read(&file)?, before);
    Ok(())
}

#[tokio::test]
async fn a_reader_of_no_store_or_with_the_wrong_key_says_so() -> Result {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("device");
    let open_reader = async |key: StoreKey| MlsReader::open(path.display().to_string(), key).await;
    let error = open_reader(raw(1)).await.refused()?;
    assert_eq!(error.code(), "store_missing");
    assert!(!path.exists(), "a reader makes nothing");
    let machine = open(&path, raw(1)).await?;
    let error = open_reader(raw(2)).await.refused()?;
    assert!(matches!(error, MlsError::StoreWrongKey { .. }), "{error}");
    let error = open_reader(StoreKey::Raw { key: vec![1; 31] }).await.refused()?;
    assert_eq!(error.code(), "bad_store_key");
    let reader = open_reader(raw(1)).await?;
    let error = reader.decrypt("room".into(), "{}".into()).await.refused()?;
    assert_eq!(error.code(), "bad_room_id");
    machine.shutdown().await?;
    Ok(())
}
