//! A shadow: it works as a store does, over what the file has, and leaves the file as it is.

use std::path::Path;

use super::{
    KEY, Outcome, Record, fresh,
    mls_flow::{self, Member, Provider},
    open, record,
};
use crate::store::{
    Collection, MlsStorage, Namespace, Queue, Shadow, StoreError, StoreKeyMaterial, StoreReader, Tx,
};
use openmls::prelude::*;

const RECORDS: Collection<Record> = Collection::new("records");
const ENTRIES: Queue<Record> = Queue::new("entries");
const ROOM: u64 = 64 * 1024 * 1024;

fn beside(dir: &Path) -> Outcome<(StoreReader, Shadow)> {
    let reader = StoreReader::open(dir, StoreKeyMaterial::Raw(&KEY))?;
    let shadow = reader.shadow(ROOM)?;
    Ok((reader, shadow))
}

fn names(records: Vec<Record>) -> Vec<String> {
    records.into_iter().map(|record| record.name).collect()
}

/// All that tests look at.
fn seen(tx: &Tx<'_>) -> Result<(Vec<String>, Vec<String>), StoreError> {
    let entries = ENTRIES.all(tx)?.into_iter().map(|(_, entry)| entry).collect();
    Ok((names(RECORDS.list(tx, b"room")?), names(entries)))
}

#[test]
fn a_shadow_sees_its_own_changes_over_the_file_which_stays() -> Outcome {
    let (dir, store) = fresh()?;
    store.write(|tx| {
        for name in ["a", "b", "c"] {
            RECORDS.put(tx, b"room", name.as_bytes(), &record(name))?;
            ENTRIES.push(tx, b"room", 5, &record(name))?;
        }
        RECORDS.put(tx, b"other", b"d", &record("d"))
    })?;
    let before = store.read(seen)?;
    let (reader, mut shadow) = beside(dir.path())?;
    let files = files(dir.path())?;
    reader.write_shadow(&mut shadow, |tx| {
        // Each way to a row, before and after others have brought it.
        assert!(RECORDS.delete(tx, b"room", b"a")?);
        assert_eq!(RECORDS.get(tx, b"room", b"a")?, None);
        assert_eq!(RECORDS.count(tx, b"room")?, 2);
        RECORDS.put(tx, b"room", b"b", &record("other b"))?;
        RECORDS.put(tx, b"room", b"e", &record("e"))?;
        assert_eq!(names(RECORDS.list(tx, b"room")?), ["other b", "c", "e"]);
        assert_eq!(RECORDS.delete_scope(tx, b"other")?, 1);
        assert!(!RECORDS.has(tx, b"other", b"d")?);
        assert!(ENTRIES.remove(tx, 1)?);
        ENTRIES.update(tx, 2, 7, &record("other b"))?;
        assert_eq!(ENTRIES.push(tx, b"room", 5, &record("e"))?, 4);
        assert_eq!(ENTRIES.count_scope(tx, b"room")?, 3);
        assert_eq!(ENTRIES.due(tx, 5, 9)?.len(), 2);
        Ok::<_, StoreError>(())
    })?;
    // A step that is undone takes back what it has brought, and no more.
    reader.write_shadow(&mut shadow, |tx| {
        let undone: Result<(), StoreError> = tx.savepoint(|| {
            RECORDS.delete_scope(tx, b"room")?;
            Err(StoreError::Full)
        });
        assert_eq!(undone, Err(StoreError::Full));
        assert_eq!(seen(tx)?.0, ["other b", "c", "e"]);
        assert_eq!(seen(tx)?.1, ["other b", "c", "e"]);
        Ok::<_, StoreError>(())
    })?;
    assert_eq!(self::files(dir.path())?, files);
    drop((reader, shadow));
    assert_eq!(store.read(seen)?, before);
    drop(store);
    assert_eq!(open(dir.path())?.read(seen)?, before);
    Ok(())
}

/// The bytes of the database and its log.
fn files(dir: &Path) -> Outcome<Vec<Vec<u8>>> {
    let read = |name: &str| std::fs::read(dir.join(name));
    Ok(vec![read("matrix-mls.db")?, read("matrix-mls.db-wal").unwrap_or_default()])
}

#[test]
fn a_shadow_is_out_of_date_once_somebody_writes() -> Outcome {
    let (dir, store) = fresh()?;
    let (reader, mut shadow) = beside(dir.path())?;
    reader.write_shadow(&mut shadow, |tx| RECORDS.put(tx, b"", b"a", &record("a")))?;
    // Nobody is in anybody's way.
    store.write(|tx| RECORDS.put(tx, b"", b"b", &record("b")))?;
    let refused = reader.write_shadow(&mut shadow, |tx| RECORDS.count(tx, b""));
    assert!(matches!(refused, Err(StoreError::Changed(_))), "{refused:?}");
    let mut shadow = reader.shadow(ROOM)?;
    assert_eq!(reader.write_shadow(&mut shadow, |tx| RECORDS.count(tx, b""))?, 1);
    Ok(())
}

#[test]
fn a_shadow_locks_nothing_between_its_transactions_and_stops_no_writer() -> Outcome {
    let (dir, store) = fresh()?;
    let (reader, mut shadow) = beside(dir.path())?;
    reader.write_shadow(&mut shadow, |tx| {
        RECORDS.put(tx, b"", b"a", &record("a"))?;
        store.write(|tx| RECORDS.put(tx, b"", b"b", &record("b")))?;
        // It sees one state.
        assert_eq!(names(RECORDS.list(tx, b"")?), ["a"]);
        Ok::<_, StoreError>(())
    })?;
    reader.suspend();
    assert!(matches!(reader.shadow(ROOM), Err(StoreError::Suspended)));
    drop(shadow);
    drop(store);
    // Whoever opened the file last writes the log back: there is none left.
    let store = open(dir.path())?;
    assert_eq!(store.read(|tx| RECORDS.count(tx, b""))?, 1);
    Ok(())
}

#[test]
fn a_shadow_takes_a_bounded_space() -> Outcome {
    let (dir, store) = fresh()?;
    store.write(|tx| {
        for number in 0..64_u8 {
            let bytes = vec![number; 32 * 1024];
            RECORDS.put(tx, b"room", &[number], &Record { name: number.to_string(), bytes })?;
        }
        Ok::<_, StoreError>(())
    })?;
    let reader = StoreReader::open(dir.path(), StoreKeyMaterial::Raw(&KEY))?;
    let mut shadow = reader.shadow(1024 * 1024)?;
    // What the file has.
    let refused = reader.write_shadow(&mut shadow, |tx| RECORDS.count(tx, b"room"));
    assert_eq!(refused, Err(StoreError::NoRoom));
    assert!(reader.write_shadow(&mut shadow, |tx| RECORDS.has(tx, b"room", &[7]))?);
    // What is written.
    let refused = reader.write_shadow(&mut shadow, |tx| {
        for number in 0..64_u8 {
            let bytes = vec![number; 32 * 1024];
            RECORDS.put(tx, b"new", &[number], &Record { name: number.to_string(), bytes })?;
        }
        Ok::<_, StoreError>(())
    });
    assert_eq!(refused, Err(StoreError::NoRoom));
    assert!(!reader.write_shadow(&mut shadow, |tx| RECORDS.has(tx, b"new", &[7]))?);
    Ok(())
}

#[test]
fn a_group_moves_on_in_a_shadow_with_its_tree_in_pieces() -> Outcome {
    let (dir, store) = fresh()?;
    // Large enough for its tree to be in pieces.
    let (namespace, signer) = store.write(|tx| {
        let namespace = tx.new_namespace()?;
        let provider = Provider::new(MlsStorage::new(tx, namespace));
        let me = Member::new("me", &provider)?;
        me.create(&provider)?;
        let mut group = mls_flow::load(&provider)?;
        let others = (0..150)
            .map(|number| {
                Member::new(&format!("other {number}"), &provider)?.key_package(&provider)
            })
            .collect::<Outcome<Vec<_>>>()?;
        group.add_members(&provider, &me.signer, &others)?;
        group.merge_pending_commit(&provider)?;
        Outcome::Ok((namespace, me.signer))
    })?;
    let pieces = |tx: &Tx<'_>| -> Outcome<(u64, u64)> {
        Ok((tx.rows_len(namespace)?, load(tx, namespace)?.epoch().as_u64()))
    };
    let before = store.read(pieces)?;
    assert!(before.0 > 24 * 1024, "the tree is in pieces");
    let (reader, mut shadow) = beside(dir.path())?;
    let child = reader.write_shadow(&mut shadow, |tx| {
        let child = tx.new_namespace()?;
        let provider = Provider::new(MlsStorage::child(tx, namespace, child));
        let mut group = mls_flow::load(&provider)?;
        group.self_update(&provider, &signer, LeafNodeParameters::default())?;
        group.merge_pending_commit(&provider)?;
        tx.detach_namespace(child, namespace)?;
        // The pieces that both have stay for the child.
        tx.delete_namespace(namespace)?;
        Outcome::Ok(child)
    })?;
    reader.write_shadow(&mut shadow, |tx| {
        assert_eq!(load(tx, child)?.epoch().as_u64(), 2);
        assert_eq!(load(tx, child)?.members().count(), 151);
        assert!(!tx.has_rows(namespace)?);
        Outcome::Ok(())
    })?;
    assert_eq!(store.read(pieces)?, before);
    Ok(())
}

fn load(tx: &Tx<'_>, namespace: Namespace) -> Outcome<MlsGroup> {
    mls_flow::load(&Provider::new(MlsStorage::new(tx, namespace)))
}
