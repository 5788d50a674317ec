//! What is deleted is gone: neither the database nor its log has the sealed bytes of keys that were
//! used up, once a bounded time has passed.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use matrix_mls::{MlsReader, RoomSettings};
use matrix_mls_kit::{
    Client, Homeserver, OrMissing as _, Result, store_key,
    together::{pair, phone_of, quiet, say_in_a_new_epoch, texts},
};

/// How long deleted keys may stay: the library's three seconds, and time for a busy machine.
const MOST: Duration = Duration::from_secs(30);

fn file(client: &Client, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", client.store_path().join("matrix-mls.db").display()))
}

/// The sealed values of OpenMLS's rows and of the pieces that they share.
fn sealed_values(store: &Path) -> Result<BTreeSet<Vec<u8>>> {
    let database = rusqlite::Connection::open(store)?;
    let mut values = BTreeSet::new();
    for sql in [
        "SELECT value FROM mls_row WHERE value IS NOT NULL",
        "SELECT value FROM mls_chunk",
        "SELECT value FROM record WHERE collection IN ('epoch_export', 'restored_export')",
    ] {
        let mut statement = database.prepare(sql)?;
        let rows = statement.query_map([], |row| row.get(0))?;
        values.extend(rows.collect::<rusqlite::Result<Vec<Vec<u8>>>>()?);
    }
    Ok(values)
}

/// How many of a value's bytes lie in a file, in runs of 16. A page of the file has 4,096 bytes, so
/// a value need not lie there in one piece.
fn found(value: &[u8], windows: &BTreeSet<&[u8]>) -> usize {
    let (runs, _) = value.as_chunks::<16>();
    runs.iter().filter(|run| windows.contains(run.as_slice())).count()
}

/// Waits until the log was cut, then looks for values that are not in use any more.
async fn assert_gone(client: &Client, before: &BTreeSet<Vec<u8>>, what: &str) -> Result {
    let now = sealed_values(&file(client, ""))?;
    let gone: Vec<_> = before.iter().filter(|value| !now.contains(*value)).collect();
    assert!(!gone.is_empty(), "nothing was deleted: {what}");
    let began = Instant::now();
    while std::fs::metadata(file(client, "-wal"))?.len() > 0 {
        assert!(began.elapsed() < MOST, "the log is not cut: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for suffix in ["", "-wal"] {
        let bytes = std::fs::read(file(client, suffix))?;
        let windows: BTreeSet<&[u8]> = bytes.windows(16).collect();
        for value in &gone {
            let left = found(value, &windows);
            assert_eq!(left, 0, "{what}: of {} bytes runs are left in {suffix:?}", value.len());
        }
    }
    Ok(())
}

/// A message that is read once: its key is in neither file soon after, while nothing else happens.
/// And a test that finds nothing would find it before.
#[tokio::test]
async fn the_key_of_a_message_that_was_read_once_is_gone() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    bob.set_settings(&room, RoomSettings { read_once: true, ..RoomSettings::default() }).await?;
    bob.send_text(&room, "from now on").await?;
    quiet(&[&alice, &bob]).await;
    alice.send_text(&room, "read once").await?;
    let event = alice.history(&room).await?.pop().or_missing("event")?.to_string();
    let before = sealed_values(&file(&bob, ""))?;
    let handle = bob.room(&room).await?;
    handle.decrypt(event).await?;
    // At once it is still in the log.
    let now = sealed_values(&file(&bob, ""))?;
    let bytes = [std::fs::read(file(&bob, ""))?, std::fs::read(file(&bob, "-wal"))?].concat();
    let windows: BTreeSet<&[u8]> = bytes.windows(16).collect();
    let left = before.difference(&now).any(|value| found(value, &windows) > 0);
    assert!(left, "there was nothing to cut");
    assert_gone(&bob, &before, "opened").await?;
    // What it sealed itself is gone as well.
    let before = sealed_values(&file(&bob, ""))?;
    bob.send_text(&room, "said once").await?;
    assert_gone(&bob, &before, "sealed").await?;
    Ok(())
}

/// A reader beside the machine, here and in the machine itself, holds no state for longer than a
/// message takes.
#[tokio::test]
async fn a_reader_is_not_in_the_way() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let path = bob.store_path().to_string_lossy().into_owned();
    let reader = MlsReader::open(path, store_key()).await?;
    let first = alice.history(&room).await?;
    let event = first.last().or_missing("event")?.to_string();
    reader.decrypt(room.clone(), event.clone()).await?;
    texts(&bob, &room).await;
    bob.set_settings(&room, RoomSettings { read_once: true, ..RoomSettings::default() }).await?;
    bob.send_text(&room, "from now on").await?;
    quiet(&[&alice, &bob]).await;
    let before = sealed_values(&file(&bob, ""))?;
    alice.send_text(&room, "read once").await?;
    quiet(&[&bob]).await;
    reader.decrypt(room.clone(), event).await?;
    assert_gone(&bob, &before, "beside a reader").await?;
    Ok(())
}

/// Somebody reads an old state of the file for a while: the log is cut when they have ended.
#[tokio::test]
async fn a_cut_that_was_in_the_way_is_made_up_for() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    bob.set_settings(&room, RoomSettings { read_once: true, ..RoomSettings::default() }).await?;
    bob.send_text(&room, "from now on").await?;
    quiet(&[&alice, &bob]).await;
    let before = sealed_values(&file(&bob, ""))?;
    let other = rusqlite::Connection::open(file(&bob, ""))?;
    other.execute_batch("BEGIN; SELECT count(*) FROM record")?;
    alice.send_text(&room, "read once").await?;
    quiet(&[&bob]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(std::fs::metadata(file(&bob, "-wal"))?.len() > 0, "a reader needs the log");
    // Meanwhile the device goes on.
    let began = Instant::now();
    bob.send_text(&room, "not held up").await?;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    other.execute_batch("COMMIT")?;
    assert_gone(&bob, &before, "after a reader").await?;
    Ok(())
}

/// The private keys of epochs that take commits no longer.
#[tokio::test]
async fn the_private_keys_of_pruned_epochs_are_gone() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let settings = RoomSettings { kept_epochs: 1, ..RoomSettings::default() };
    bob.set_settings(&room, settings).await?;
    say_in_a_new_epoch(&alice, &room, "one").await?;
    quiet(&[&bob]).await;
    let before = sealed_values(&file(&bob, ""))?;
    for text in ["two", "three", "four"] {
        say_in_a_new_epoch(&alice, &room, text).await?;
        quiet(&[&bob]).await;
    }
    assert_gone(&bob, &before, "pruned").await
}

/// The private keys of a key package that somebody has added the device with.
#[tokio::test]
async fn the_private_keys_of_a_used_key_package_are_gone() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, _bob, room) = pair(&homeserver).await;
    let carol = phone_of(&homeserver, "carol").await?;
    let before = sealed_values(&file(&carol, ""))?;
    alice.invite(&room, carol.user_id()).await?;
    carol.join(&room).await?;
    alice.settle().await?;
    alice.send_text(&room, "welcome").await?;
    quiet(&[&alice, &carol]).await;
    assert_gone(&carol, &before, "a used key package").await
}
