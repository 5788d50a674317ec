//! Stores of other versions, without space, and with another device's keys; and a process whose
//! logs go elsewhere.

use std::{fs, path::Path, sync::Arc};

use matrix_mls::{
    LogLevel, LogSink, MlsMachine, MlsReader, SyncChanges, ToDeviceResult, set_log_sink,
    test_hooks::fill_disk,
};
use matrix_mls_kit::{
    Homeserver, Refused as _, Result, config, feed,
    peer::WELCOME_ALGORITHM,
    store_key,
    together::{pair, phone_of},
};
use rusqlite::Connection;
use serde_json::json;

use super::says;

/// A notification extension of the new version runs before the app has.
#[tokio::test]
async fn a_reader_waits_for_the_machine_to_bring_the_store_up_to_date() -> Result {
    let store = tempfile::tempdir()?;
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/store/v2/matrix-mls.db");
    fs::copy(old, store.path().join("matrix-mls.db"))?;
    let path = store.path().to_string_lossy().into_owned();
    let error = MlsReader::open(path, store_key()).await.map(drop).refused()?;
    says(&error, "store_not_upgraded", "open it with a machine of this version first");
    assert!(error.details().retryable);
    Ok(())
}

/// A megabyte of Welcomes comes for rooms that are still to be shown, and the disk has no space.
#[tokio::test]
async fn a_store_has_no_space() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let welcome = |number: u32| {
        let sender = format!("@{number}:example.org");
        let content = json!({
            "algorithm": WELCOME_ALGORITHM, "ciphertext": "A".repeat(60_000),
            "room_id": format!("!{number}:example.org"), "sender": [sender, "X"],
            "commit_event": "$x:example.org",
        });
        json!({ "type": "m.room.encrypted", "sender": sender, "content": content }).to_string()
    };
    let changes = || SyncChanges { to_device: (0..16).map(welcome).collect(), ..feed() };
    let machine = alice.machine()?;
    fill_disk(&alice.store_path(), true);
    for _ in 0..2 {
        let error = machine.receive_sync(changes()).await.map(drop).refused()?;
        says(&error, "store_full", "no space is left");
        assert!(error.details().retryable);
    }
    // What is there can be read, and the same sync is taken in once there is space.
    assert_eq!(machine.rooms().await?, [""; 0]);
    fill_disk(&alice.store_path(), false);
    let taken = machine.receive_sync(changes()).await?.to_device;
    let waits = |result: &ToDeviceResult| matches!(result, ToDeviceResult::Waiting { .. });
    assert!(taken.len() == 16 && taken.iter().all(waits), "{taken:?}");
    Ok(())
}

/// The row of a store with the device's own keys.
const OWN: &str = "collection = 'identity'";

/// Somebody who has the key of Alice's store makes another device of hers in it, under the name
/// that she has: nothing is sealed with keys for the leaf of the first.
#[tokio::test]
async fn a_device_seals_for_its_own_leaf() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (mut alice, _bob, room) = pair(&homeserver).await;
    alice.close().await?;
    let file = |directory: &Path| directory.join("matrix-mls.db");
    let other = tempfile::tempdir()?;
    fs::copy(file(&alice.store_path()), file(other.path()))?;
    Connection::open(file(other.path()))?.execute_batch(
        "DELETE FROM record; DELETE FROM queue_entry; DELETE FROM mls_row;
         DELETE FROM mls_piece; DELETE FROM mls_chunk; DELETE FROM namespace WHERE id > 0;
         DELETE FROM meta WHERE name NOT IN ('key_mode', 'cipher')",
    )?;
    let machine = MlsMachine::open(config(alice.user_id(), "PHONE", other.path())).await?;
    machine.shutdown().await?;
    drop(machine);
    let read = format!("SELECT value FROM record WHERE {OWN}");
    let keys: Vec<u8> =
        Connection::open(file(other.path()))?.query_row(&read, [], |row| row.get(0))?;
    let put = format!("UPDATE record SET value = ?1 WHERE {OWN}");
    assert_eq!(Connection::open(file(&alice.store_path()))?.execute(&put, [keys])?, 1);
    alice.restart().await?;
    let handle = alice.room(&room).await?;
    let error = handle.encrypt("m.room.message".to_owned(), "{}".to_owned()).await.refused()?;
    says(&error, "not_own_leaf", "not for this device's leaf");
    assert!(error.details().retryable);
    // From then on the device is one that has to join anew.
    let error = handle.encrypt("m.room.message".to_owned(), "{}".to_owned()).await.refused()?;
    says(&error, "not_ready", "prepare");
    Ok(())
}

struct Sink;

impl LogSink for Sink {
    fn on_log(&self, _level: LogLevel, _target: String, _message: String) {}
}

/// This process has a subscriber, so no other test of it hears logs.
#[test]
fn a_process_has_one_subscriber() -> Result {
    tracing::subscriber::set_global_default(tracing_subscriber::registry())?;
    // However often it is tried: no sink is taken that would hear nothing.
    for _ in 0..2 {
        let error = set_log_sink(LogLevel::Info, Some(Arc::new(Sink))).refused()?;
        says(&error, "subscriber_set", "read the logs there");
    }
    Ok(())
}
