//! Opening: keys, the lock, half-made stores, files that are no store of ours.

use std::{fs, path::PathBuf};

use rusqlite::Connection;
use tempfile::TempDir;

use super::{KEY, Outcome, Record, fresh, is_damaged, open, opened, record};
use crate::store::handle::DATABASE;
use crate::store::{Collection, Store, StoreError, StoreKeyMaterial};

const RECORDS: Collection<Record> = Collection::new("records");

const KEYS: [StoreKeyMaterial<'static>; 5] = [
    StoreKeyMaterial::Raw(&KEY),
    StoreKeyMaterial::Raw(&[0; 32]),
    StoreKeyMaterial::Passphrase("correct horse"),
    StoreKeyMaterial::Passphrase(""),
    StoreKeyMaterial::None,
];

fn database(dir: &TempDir) -> PathBuf {
    dir.path().join(DATABASE)
}

fn error(result: Result<Store, StoreError>) -> StoreError {
    result.expect_err("the store opened")
}

#[test]
fn a_store_opens_with_the_key_it_was_made_with_and_no_other() -> Outcome {
    for (made, key) in KEYS.into_iter().enumerate() {
        let dir = TempDir::new()?;
        let store = Store::open(dir.path(), key)?;
        store.write(|tx| RECORDS.put(tx, b"", b"", &record("kept")))?;
        drop(store);
        let before = fs::read(database(&dir))?;
        for (tried, wrong) in KEYS.into_iter().enumerate().filter(|(tried, _)| *tried != made) {
            let result = error(Store::open(dir.path(), wrong));
            assert_eq!(result, StoreError::WrongKey, "made {made}, tried {tried}");
        }
        assert_eq!(fs::read(database(&dir))?, before, "a wrong key changed the file");
        let store = Store::open(dir.path(), key)?;
        let found = store.read(|tx| RECORDS.get(tx, b"", b""))?;
        assert_eq!(found, Some(record("kept")));
    }
    Ok(())
}

#[test]
fn a_changed_key_opens_the_store_and_the_old_one_does_not() -> Outcome {
    let (dir, store) = fresh()?;
    store.write(|tx| RECORDS.put(tx, b"", b"", &record("kept")))?;
    let mut current = StoreKeyMaterial::Raw(&KEY);
    let mut store = Some(store);
    for next in [
        StoreKeyMaterial::Raw(&[9; 32]),
        StoreKeyMaterial::Passphrase("correct horse"),
        StoreKeyMaterial::None,
    ] {
        let open_store = match store.take() {
            Some(store) => store,
            None => Store::open(dir.path(), current)?,
        };
        open_store.change_key(next)?;
        let found = open_store.read(|tx| RECORDS.get(tx, b"", b""))?;
        assert_eq!(found, Some(record("kept")));
        drop(open_store);
        assert_eq!(error(Store::open(dir.path(), current)), StoreError::WrongKey);
        current = next;
    }
    let store = Store::open(dir.path(), current)?;
    let found = store.read(|tx| RECORDS.get(tx, b"", b""))?;
    assert_eq!(found, Some(record("kept")));
    Ok(())
}

#[test]
fn the_old_sealed_cipher_is_gone_after_a_change_of_key() -> Outcome {
    let (dir, store) = fresh()?;
    let sealed: Vec<u8> = opened(&store.writer).query_row(
        "SELECT value FROM meta WHERE name = 'cipher'",
        [],
        |row| row.get(0),
    )?;
    store.change_key(StoreKeyMaterial::Raw(&[9; 32]))?;
    let tail = &sealed[sealed.len() - 40..];
    for entry in fs::read_dir(dir.path())? {
        let bytes = fs::read(entry?.path())?;
        assert!(!bytes.windows(tail.len()).any(|window| window == tail));
    }
    Ok(())
}

#[test]
fn a_second_opener_is_refused_until_the_first_is_gone() -> Outcome {
    let (dir, store) = fresh()?;
    assert_eq!(error(open(dir.path())), StoreError::InUse);
    // Before the key is looked at.
    assert_eq!(error(Store::open(dir.path(), StoreKeyMaterial::None)), StoreError::InUse);
    drop(store);
    open(dir.path())?;
    Ok(())
}

#[test]
fn plaintext_and_lookup_keys_are_not_in_the_files() -> Outcome {
    let (dir, store) = fresh()?;
    store.write(|tx| {
        RECORDS.put(tx, b"!scope:example.org", b"@key:example.org", &record("secret"))
    })?;
    let mut seen = 0;
    for entry in fs::read_dir(dir.path())? {
        let bytes = fs::read(entry?.path())?;
        let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        assert!(!has(b"example.org") && !has(b"secret"));
        seen += usize::from(has(b"records"));
    }
    assert!(seen > 0, "the search looks in the right files");
    Ok(())
}

#[test]
fn a_store_whose_making_was_interrupted_is_made_again() -> Outcome {
    let (whole, store) = fresh()?;
    drop(store);
    let bytes = fs::read(database(&whole))?;
    for cut in [0, 1, 100, bytes.len() / 2, bytes.len()] {
        let dir = TempDir::new()?;
        let draft = dir.path().join(format!("{DATABASE}.new"));
        fs::write(&draft, &bytes[..cut])?;
        fs::write(dir.path().join(format!("{DATABASE}.new-journal")), b"left over")?;
        fs::write(dir.path().join(format!("{DATABASE}-wal")), &bytes[..cut])?;
        let store = open(dir.path())?;
        assert_eq!(store.read(|tx| RECORDS.list_all(tx))?, []);
        store.write(|tx| RECORDS.put(tx, b"", b"", &record("works")))?;
        drop(store);
        assert!(!draft.exists());
        let store = open(dir.path())?;
        assert_eq!(store.read(|tx| RECORDS.list_all(tx))?, [record("works")]);
    }
    Ok(())
}

#[test]
fn what_is_no_store_of_ours_is_damage_and_left_alone() -> Outcome {
    let (whole, store) = fresh()?;
    let large = Record { name: String::new(), bytes: vec![200; 50_000] };
    store.write(|tx| RECORDS.put(tx, b"", b"", &large))?;
    drop(store);
    let good = fs::read(database(&whole))?;
    let foreign = {
        let dir = TempDir::new()?;
        let connection = Connection::open(database(&dir))?;
        connection.execute_batch("CREATE TABLE theirs (x)")?;
        drop(connection);
        fs::read(database(&dir))?
    };
    let garbage: Vec<u8> =
        (0..20_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let cuts = [1, 15, 16, 99, 100, 1024, 4096, 5000, 8192, good.len() - 4096];
    let cut = cuts.iter().map(|cut| good[..*cut].to_vec());
    for bytes in [Vec::new(), b"not a database".to_vec(), garbage, foreign].into_iter().chain(cut) {
        let dir = TempDir::new()?;
        fs::write(database(&dir), &bytes)?;
        let result = open(dir.path());
        assert!(is_damaged(result), "{} bytes", bytes.len());
        assert_eq!(fs::read(database(&dir))?, bytes);
    }
    // A last page cut short shows only when it is read.
    let dir = TempDir::new()?;
    fs::write(database(&dir), &good[..good.len() - 4000])?;
    let store = open(dir.path())?;
    assert!(is_damaged(store.read(|tx| RECORDS.list_all(tx))));
    Ok(())
}

#[test]
fn a_directory_that_cannot_be_used_is_an_io_error() -> Outcome {
    let dir = TempDir::new()?;
    let file = dir.path().join("file");
    fs::write(&file, b"")?;
    assert!(matches!(error(open(&file)), StoreError::Io(_)));
    assert!(matches!(error(open(&file.join("below"))), StoreError::Io(_)));
    // The database is a directory.
    fs::create_dir(database(&dir))?;
    assert!(matches!(error(open(dir.path())), StoreError::Io(_)));
    Ok(())
}

#[test]
fn both_connections_keep_a_log_that_is_flushed_where_it_is_asked_for() -> Outcome {
    let (_dir, store) = fresh()?;
    for connection in [&store.writer, &store.reader.connection] {
        let connection = opened(connection);
        let setting = |name: &str| -> rusqlite::Result<String> {
            connection.query_row(
                &format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}"),
                [],
                |row| row.get(0),
            )
        };
        assert_eq!(setting("journal_mode")?, "wal");
        assert_eq!(setting("synchronous")?, "1", "NORMAL: see store::flush");
        assert_eq!(setting("foreign_keys")?, "1");
        assert_eq!(setting("secure_delete")?, "1");
        assert_eq!(setting("temp_store")?, "2", "MEMORY");
    }
    Ok(())
}

#[test]
fn sealing_adds_little() -> Outcome {
    let (_dir, store) = fresh()?;
    for len in [0, 100, 100_000] {
        let bytes = vec![1; len];
        let value = Record { name: String::new(), bytes };
        let mut plain = Vec::new();
        ciborium::into_writer(&value, &mut plain)?;
        store.write(|tx| RECORDS.put(tx, b"", b"", &value))?;
        let sealed: usize =
            opened(&store.writer)
                .query_row("SELECT length(value) FROM record", [], |row| row.get::<_, u32>(0))?
                as usize;
        // Place 16, version 1, length up to 3, nonce 24, authentication tag 16.
        assert!((57..=60).contains(&(sealed - plain.len())), "{len}: {}", sealed - plain.len());
    }
    Ok(())
}
