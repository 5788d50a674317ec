//! The mistakes of somebody who tries the library for the first time. Each gives a sentence that
//! says what to do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use matrix_mls::{
    LogLevel, LogSink, MlsError, MlsMachine, RecoveryKey, RestoreScope, RoomSettings, StoreKey,
    Update, set_log_sink, sync_changes_from_response,
};
use matrix_mls_kit::{
    Heard, Homeserver, OrMissing as _, Refused as _, Result, Target, config,
    together::{log_in, pair, phone_of, quiet, two_phones},
};
use serde_json::{Value, json};

const USER: &str = "@alice:example.org";
const ROOM: &str = "!room:example.org";

/// The error has this code, and its sentence names what to do.
fn says(error: &MlsError, code: &str, what_to_do: &str) {
    assert_eq!(error.code(), code, "{error}");
    assert!(error.reason().contains(what_to_do), "{what_to_do:?} is not in: {error}");
    assert!(error.to_string().contains(error.reason()), "{error}");
}

async fn open(directory: &tempfile::TempDir) -> Result<Arc<MlsMachine>> {
    Ok(MlsMachine::open(config(USER, "PHONE", directory.path())).await?)
}

#[tokio::test]
async fn a_wrong_store_key_names_the_right_one() -> Result {
    let directory = tempfile::tempdir()?;
    open(&directory).await?.shutdown().await?;
    for store_key in [
        StoreKey::Raw { key: vec![8; 32] },
        StoreKey::Passphrase { passphrase: "guess".into() },
        StoreKey::Unprotected,
    ] {
        let config =
            matrix_mls::MachineConfig { store_key, ..config(USER, "PHONE", directory.path()) };
        let error = MlsMachine::open(config).await.refused()?;
        assert!(matches!(error, MlsError::StoreWrongKey { .. }), "{error}");
        says(&error, "store_wrong_key", "give the key or passphrase that it was made with");
    }
    let short = matrix_mls::MachineConfig {
        store_key: StoreKey::Raw { key: vec![8; 16] },
        ..config(USER, "PHONE", directory.path())
    };
    let error = MlsMachine::open(short).await.refused()?;
    says(&error, "bad_store_key", "32 bytes");
    Ok(())
}

#[tokio::test]
async fn a_wrong_user_id_shows_the_form_of_one() -> Result {
    let directory = tempfile::tempdir()?;
    for wrong in ["alice", "@alice", "alice:example.org", "", "#alice:example.org"] {
        let error = MlsMachine::open(config(wrong, "PHONE", directory.path())).await.refused()?;
        says(&error, "bad_user_id", "@alice:example.org");
        assert!(!error.retryable());
    }
    let machine = open(&directory).await?;
    let error = machine.user_identity("bob".into()).await.refused()?;
    says(&error, "bad_user_id", "@alice:example.org");
    let error = machine.room("#room:example.org".into()).refused()?;
    says(&error, "bad_room_id", "!abc:example.org");
    let error = machine.room(ROOM.into())?.set_members(vec!["bob".into()]).await.refused()?;
    says(&error, "bad_user_id", "user_ids");
    Ok(())
}

#[tokio::test]
async fn encrypting_before_preparing_names_the_call() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    bob.leave(&room).await?;
    alice.settle().await?;
    let handle = alice.room(&room).await?;
    let error = handle.encrypt("m.room.message".into(), "{}".into()).await.refused()?;
    assert!(matches!(error, MlsError::NotReady { .. }), "{error}");
    says(&error, "not_ready", "call prepareToSend (prepare_to_send in Rust)");
    assert!(error.retryable());
    alice.prepare(&room).await?;
    handle.encrypt("m.room.message".into(), "{}".into()).await?;
    Ok(())
}

#[tokio::test]
async fn a_body_that_is_no_sync_says_what_to_pass_in() -> Result {
    for garbage in ["", "<html>", "[]", "{}", r#"{"errcode":"M_UNKNOWN_TOKEN"}"#, "\u{0}"] {
        let error = sync_changes_from_response(garbage.into(), None).refused()?;
        says(&error, "bad_sync_response", "pass in the body of a sync");
    }
    Ok(())
}

/// Remembers warnings.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Warnings {
    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogSink for Warnings {
    fn on_log(&self, level: LogLevel, _: String, message: String) {
        if level == LogLevel::Warn {
            self.lines().push(message);
        }
    }
}

#[tokio::test]
async fn requests_that_are_never_marked_are_warned_of() -> Result {
    let directory = tempfile::tempdir()?;
    let machine = open(&directory).await?;
    let warnings = Arc::new(Warnings::default());
    set_log_sink(LogLevel::Warn, Some(warnings.clone()))?;
    let of_unmarked = || {
        let lines = warnings.lines();
        lines.iter().filter(|line| line.contains("markRequestAsSent")).count()
    };
    for _ in 0..4 {
        machine.outgoing_requests().await?;
    }
    assert_eq!(of_unmarked(), 0, "two loops may have the same request for a while");
    let request = machine.outgoing_requests().await?.pop().or_missing("a request")?;
    assert_eq!(of_unmarked(), 1, "{:?}", warnings.lines());
    machine.outgoing_requests().await?;
    assert_eq!(of_unmarked(), 1, "once is enough");
    // An app that says that there was no answer does what it should.
    for _ in 0..10 {
        machine.mark_request_as_sent(request.id.clone(), 0, Vec::new()).await?;
        machine.network_available().await?;
        assert!(machine.outgoing_requests().await?.contains(&request));
    }
    assert_eq!(of_unmarked(), 1);
    Ok(())
}

#[tokio::test]
async fn a_second_machine_on_one_store_is_told_to_share_the_first() -> Result {
    let directory = tempfile::tempdir()?;
    let first = open(&directory).await?;
    let error = MlsMachine::open(config(USER, "PHONE", directory.path())).await.refused()?;
    assert!(matches!(error, MlsError::StoreInUse { .. }), "{error}");
    says(&error, "store_in_use", "close the machine that has it open");
    first.shutdown().await?;
    let error = MlsMachine::open(config("@bob:example.org", "PHONE", directory.path())).await;
    says(&error.refused()?, "other_device", "a directory of its own");
    Ok(())
}

#[tokio::test]
async fn a_machine_that_was_shut_down_says_to_open_it_again() -> Result {
    let directory = tempfile::tempdir()?;
    let machine = open(&directory).await?;
    let room = machine.room(ROOM.into())?;
    machine.shutdown().await?;
    machine.shutdown().await?;
    let errors = [
        machine.outgoing_requests().await.refused()?,
        machine.room(ROOM.into())?.prepare_to_send().await.refused()?,
        room.encrypt("m.room.message".into(), "{}".into()).await.refused()?,
        machine.backup().state().await.refused()?,
    ];
    for error in errors {
        assert!(matches!(error, MlsError::Closed { .. }), "{error}");
        says(&error, "closed", "open it again");
    }
    Ok(())
}

#[tokio::test]
async fn a_room_that_was_not_enabled_says_to_enable_it() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let room = alice.create_room_from(json!({ "preset": "private_chat" })).await?;
    alice.settle().await?;
    let handle = alice.room(&room).await?;
    for error in [
        handle.prepare_to_send().await.refused()?,
        handle.encrypt("m.room.message".into(), "{}".into()).await.refused()?,
        handle.members().await.refused()?,
        handle.join_externally().await.refused()?,
        handle.restart().await.refused()?,
    ] {
        assert!(matches!(error, MlsError::NotInGroup { .. }), "{error}");
        says(&error, "not_enabled", "call enable");
        assert!(!error.retryable(), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_room_that_was_left_is_told_apart_from_one_that_is_not_joined_yet() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let room = alice.create_group(&[&bob], RoomSettings::default()).await?;
    alice.drive().await?;
    bob.sync().await?;
    let handle = bob.room(&room).await?;
    for error in [
        handle.members().await.refused()?,
        handle.rotate_keys().await.refused()?,
        handle.encrypt("m.room.message".into(), "{}".into()).await.refused()?,
    ] {
        says(&error, "not_joined_yet", "send the machine's requests");
        assert!(error.retryable(), "{error}");
    }
    let error = handle.enable(RoomSettings::default()).await.refused()?;
    says(&error, "group_exists", "prepare the room");
    quiet(&[&alice, &bob]).await;
    alice.send_text(&room, "welcome").await?;
    quiet(&[&alice, &bob]).await;
    handle.members().await?;

    handle.leave().await?;
    bob.leave(&room).await?;
    bob.settle().await?;
    for error in [
        handle.prepare_to_send().await.refused()?,
        handle.encrypt("m.room.message".into(), "{}".into()).await.refused()?,
        handle.members().await.refused()?,
        handle.restart().await.refused()?,
    ] {
        assert!(matches!(error, MlsError::NotInGroup { .. }), "{error}");
        says(&error, "left_group", "joined the Matrix room again");
        assert!(!error.retryable(), "{error}");
    }
    Ok(())
}

fn megolm_event() -> Value {
    json!({
        "type": "m.room.encrypted", "sender": "@bob:example.org", "event_id": "$megolm",
        "content": {
            "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "AwgAEn", "sender_key": "abc",
            "session_id": "def", "device_id": "DEV",
        },
    })
}

#[tokio::test]
async fn a_megolm_event_and_a_megolm_room_belong_to_another_engine() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let encryption = json!({
        "type": "m.room.encryption", "state_key": "",
        "content": { "algorithm": "m.megolm.v1.aes-sha2" },
    });
    let room = alice
        .create_room_from(json!({ "preset": "private_chat", "initial_state": [encryption] }))
        .await?;
    alice.settle().await?;
    let handle = alice.room(&room).await?;
    let error = handle.decrypt(megolm_event().to_string()).await.refused()?;
    says(&error, "not_mls", "such as the Olm machine for Megolm");
    for error in [
        handle.prepare_to_send().await.refused()?,
        handle.encrypt("m.room.message".into(), "{}".into()).await.refused()?,
        handle.members().await.refused()?,
        handle.enable(RoomSettings::default()).await.refused()?,
    ] {
        assert!(matches!(error, MlsError::InvalidInput { .. }), "{error}");
        says(&error, "other_algorithm", "create a new room");
        assert!(error.reason().contains("m.megolm.v1.aes-sha2") && !error.retryable(), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_mistyped_recovery_key_says_what_to_look_for() -> Result {
    let key = RecoveryKey::generate()?;
    let text = key.text().replace(' ', "");
    let swap = |at: usize, to: char| -> String {
        text.chars().enumerate().map(|(index, c)| if index == at { to } else { c }).collect()
    };
    let other = if text.chars().nth(20) == Some('A') { 'B' } else { 'A' };
    for (typed, code, what_to_do) in [
        (swap(20, other), "recovery_key_parity", "compare the key with what was written down"),
        (swap(20, '0'), "recovery_key_alphabet", "character 21"),
        (text[1..].to_owned(), "recovery_key_length", "none is missing"),
    ] {
        says(&RecoveryKey::parse(typed).refused()?, code, what_to_do);
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_recovery_key_says_which_one_to_type() -> Result {
    let homeserver = Homeserver::embedded()?;
    let phone = phone_of(&homeserver, "alice").await?;
    phone.back_up_history().await?;
    let alice = log_in(&homeserver, "alice", "TABLET").await?;
    let (heard, _subscription) = Heard::of(&alice).await?;
    let wrong = RecoveryKey::generate()?;
    alice.machine()?.backup().enable(wrong.clone()).await?;
    alice.drive().await?;
    let (code, reason) = heard
        .hear(|update| match update {
            Update::BackupFailed { code, reason } => Some((code.clone(), reason.clone())),
            _ => None,
        })
        .await?;
    assert_eq!(code, "wrong_key");
    assert!(reason.contains("type the recovery key of the current backup"), "{reason}");
    let id = alice.machine()?.backup().restore(Some(wrong), RestoreScope::AllRooms).await?;
    alice.drive().await?;
    let failures = heard
        .hear(|update| match update {
            Update::RestoreFinished { restore, failures, .. } if *restore == id => {
                Some(failures.clone())
            }
            _ => None,
        })
        .await?;
    let failure = failures.first().or_missing("a failure")?;
    assert_eq!((failure.code.as_str(), failures.len()), ("wrong_key", 1));
    assert_eq!(failure.reason, reason);
    Ok(())
}

#[tokio::test]
async fn a_refused_access_token_ends_the_wait_and_says_so() -> Result {
    let homeserver = Homeserver::embedded()?;
    let controls = homeserver.controls().or_missing("controls")?;
    let (alice, bob, room) = pair(&homeserver).await;
    bob.leave(&room).await?;
    alice.settle().await?;
    let (heard, _subscription) = Heard::of(&alice).await?;
    let fault = controls.fail(Target::path("/_matrix/").user(alice.user_id()), u64::MAX, 401);
    alice.rotate_keys(&room).await?;
    let error = alice.prepare(&room).await.refused()?;
    let told = error.of_engine().or_missing("an error of the engine")?;
    assert!(matches!(told, MlsError::Unauthorized { .. }), "{told}");
    heard.wait_for(|update| matches!(update, Update::Unauthorized { .. })).await?;
    assert!(fault.hits() > 0);
    Ok(())
}

#[tokio::test]
async fn too_many_restores_at_once_are_told_to_wait() -> Result {
    let directory = tempfile::tempdir()?;
    let machine = open(&directory).await?;
    let key = RecoveryKey::generate()?;
    let mut refused = None;
    for at in 0..1_000 {
        let scope = RestoreScope::Room { room_id: format!("!{at}:example.org") };
        if let Err(error) = machine.backup().restore(Some(key.clone()), scope).await {
            refused = Some(error);
            break;
        }
    }
    let error = refused.or_missing("a refusal")?;
    says(&error, "too_many_restores", "wait for one to end");
    assert!(error.retryable());
    Ok(())
}
