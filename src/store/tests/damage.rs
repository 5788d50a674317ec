//! Damage: altered, cut, swapped and foreign bytes are reported from every read, never a panic.

use std::{collections::BTreeSet, fs, panic::catch_unwind};

use openmls_traits::storage::StorageProvider;
use tempfile::TempDir;

use super::{Outcome, Record, fresh, is_damaged, mls_rows::Item, open, opened, raw, record};
use crate::store::handle::DATABASE;
use crate::store::{Collection, MlsStorage, Namespace, Queue, Store, StoreError};

const RECORDS: Collection<Record> = Collection::new("records");
const QUEUE: Queue<Record> = Queue::new("queue");

/// Bytes in place of a sealed value: none, cut, altered, too long, of another version.
fn broken(sealed: &[u8]) -> Vec<Vec<u8>> {
    let mut broken: Vec<_> = [0, 1, 2, 10, 27, sealed.len() / 2, sealed.len() - 1]
        .iter()
        .map(|cut| sealed[..*cut].to_vec())
        .collect();
    for at in (0..sealed.len()).step_by(sealed.len().div_ceil(40).max(1)) {
        let mut bytes = sealed.to_vec();
        bytes[at] ^= 1 << (at % 8);
        broken.push(bytes);
    }
    broken.push([sealed, b"x"].concat());
    broken.push(vec![0xff; sealed.len()]);
    broken.push((0..200u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 9) as u8).collect());
    broken
}

fn blob(store: &Store, sql: &str) -> Outcome<Vec<u8>> {
    Ok(opened(&store.writer).query_row(sql, [], |row| row.get(0))?)
}

#[test]
fn altered_records_are_damage_from_every_read() -> Outcome {
    let (_dir, store) = fresh()?;
    store.write(|tx| {
        RECORDS.put(tx, b"a", b"1", &record("1"))?;
        RECORDS.put(tx, b"a", b"2", &record("2"))?;
        RECORDS.put(tx, b"b", b"1", &record("3"))
    })?;
    let check = |what: &str| {
        assert!(is_damaged(store.read(|tx| RECORDS.get(tx, b"a", b"1"))), "get: {what}");
        assert!(is_damaged(store.read(|tx| RECORDS.list(tx, b"a"))), "list: {what}");
        assert!(is_damaged(store.read(|tx| RECORDS.list_all(tx))), "list_all: {what}");
        assert!(store.read(|tx| RECORDS.get(tx, b"b", b"1")).is_ok());
    };
    let sealed = blob(&store, "SELECT value FROM record WHERE id = 1")?;
    for bytes in broken(&sealed) {
        raw(&store, "UPDATE record SET value = ?1 WHERE id = 1", [&bytes])?;
        check(&format!("{bytes:?}"));
    }
    raw(&store, "UPDATE record SET value = 'text' WHERE id = 1", [])?;
    check("text");
    raw(&store, "UPDATE record SET value = 5 WHERE id = 1", [])?;
    check("a number");
    for other in [2, 3] {
        let sql = "UPDATE record SET value = (SELECT value FROM record WHERE id = ?1) WHERE id = 1";
        raw(&store, sql, [other])?;
        check("another row's value");
    }
    raw(&store, "UPDATE record SET value = ?1 WHERE id = 1", [&sealed])?;
    assert_eq!(store.read(|tx| RECORDS.list(tx, b"a"))?, [record("1"), record("2")]);
    // The whole row put elsewhere.
    raw(
        &store,
        "UPDATE record SET scope = (SELECT scope FROM record WHERE id = 3) WHERE id = 2",
        [],
    )?;
    assert!(is_damaged(store.read(|tx| RECORDS.list(tx, b"b"))));
    raw(&store, "UPDATE record SET collection = 'others'", [])?;
    let others: Collection<Record> = Collection::new("others");
    assert!(is_damaged(store.read(|tx| others.list_all(tx))));
    Ok(())
}

#[test]
fn altered_queue_entries_are_damage_from_every_read() -> Outcome {
    let (_dir, store) = fresh()?;
    store.write(|tx| {
        QUEUE.push(tx, b"a", 5, &record("1"))?;
        QUEUE.push(tx, b"a", 5, &record("2"))
    })?;
    let check = |what: &str| {
        assert!(is_damaged(store.read(|tx| QUEUE.get(tx, 1))), "get: {what}");
        assert!(is_damaged(store.read(|tx| QUEUE.all(tx))), "all: {what}");
        assert!(is_damaged(store.read(|tx| QUEUE.due(tx, 9, 9))), "due: {what}");
        assert!(is_damaged(store.read(|tx| QUEUE.in_scope(tx, b"a"))), "in_scope: {what}");
        assert!(store.read(|tx| QUEUE.get(tx, 2)).is_ok());
    };
    let sealed = blob(&store, "SELECT value FROM queue_entry WHERE id = 1")?;
    for bytes in broken(&sealed) {
        raw(&store, "UPDATE queue_entry SET value = ?1 WHERE id = 1", [&bytes])?;
        check(&format!("{bytes:?}"));
    }
    let sql = "UPDATE queue_entry SET value =
               (SELECT value FROM queue_entry WHERE id = 2) WHERE id = 1";
    raw(&store, sql, [])?;
    check("another row's value");
    raw(&store, "UPDATE queue_entry SET value = ?1, due_ms = 4 WHERE id = 1", [&sealed])?;
    check("another due time");
    raw(&store, "UPDATE queue_entry SET due_ms = 5 WHERE id = 1", [])?;
    assert_eq!(store.read(|tx| QUEUE.all(tx))?.len(), 2);
    raw(&store, "UPDATE sqlite_sequence SET seq = 9223372036854775807", [])?;
    assert!(is_damaged(store.write(|tx| QUEUE.push(tx, b"a", 5, &record("3")))));
    Ok(())
}

#[test]
fn altered_openmls_rows_are_damage_from_every_read() -> Outcome {
    let (_dir, store) = fresh()?;
    let group = Item::new("group");
    let (parent, child, last) = store.write(|tx| {
        let (parent, child, last) = (tx.new_namespace()?, tx.new_namespace()?, tx.new_namespace()?);
        let storage = MlsStorage::new(tx, parent);
        storage.write_message_secrets(&group, &Item::new("secrets"))?;
        storage.queue_proposal(&group, &Item::new("reference"), &Item::new("proposal"))?;
        storage.write_tree(&group, &Item::new("tree"))?;
        Ok::<_, StoreError>((parent, child, last))
    })?;
    let rows: Vec<(i64, Vec<u8>)> = {
        let writer = opened(&store.writer);
        let mut statement = writer.prepare("SELECT rowid, value FROM mls_row")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<Result<_, _>>()?
    };
    assert_eq!(rows.len(), 4);
    let check = |what: &str| {
        for storage in [(parent, None), (child, Some(parent))] {
            let read = |f: &dyn Fn(&MlsStorage<'_>) -> Result<(), StoreError>| {
                store.read(|tx| match storage.1 {
                    None => f(&MlsStorage::new(tx, storage.0)),
                    Some(parent) => f(&MlsStorage::child(tx, parent, storage.0)),
                })
            };
            let tree = read(&|s| s.tree::<_, Item>(&group).map(|_| ()));
            assert!(is_damaged(tree), "tree: {what}");
            let secrets = read(&|s| s.message_secrets_bytes(&group).map(|_| ()));
            assert!(is_damaged(secrets), "message_secrets_bytes: {what}");
            let secrets = read(&|s| s.message_secrets::<_, Item>(&group).map(|_| ()));
            assert!(is_damaged(secrets), "message_secrets: {what}");
            let refs = read(&|s| s.queued_proposal_refs::<_, Item>(&group).map(|_| ()));
            assert!(is_damaged(refs), "queued_proposal_refs: {what}");
            let proposals = read(&|s| s.queued_proposals::<_, Item, Item>(&group).map(|_| ()));
            assert!(is_damaged(proposals), "queued_proposals: {what}");
        }
        assert!(is_damaged(store.write(|tx| tx.detach_namespace(last, parent))), "{what}");
        let removed = store.write(|tx| {
            MlsStorage::new(tx, parent).remove_proposal(&group, &Item::new("reference"))
        });
        assert!(is_damaged(removed), "remove_proposal: {what}");
    };
    for step in 0..broken(&rows[0].1).len() {
        for (id, sealed) in &rows {
            let broken = broken(sealed);
            let bytes = &broken[step.min(broken.len() - 1)];
            raw(&store, "UPDATE mls_row SET value = ?2 WHERE rowid = ?1", (id, bytes))?;
        }
        check(&format!("step {step}"));
    }
    for at in 0..rows.len() {
        let (id, other) = (rows[at].0, &rows[(at + 1) % rows.len()].1);
        raw(&store, "UPDATE mls_row SET value = ?2 WHERE rowid = ?1", (id, other))?;
    }
    check("swapped");
    // A row of one epoch moved to another.
    for (id, sealed) in &rows {
        raw(&store, "UPDATE mls_row SET value = ?2 WHERE rowid = ?1", (id, sealed))?;
    }
    raw(&store, "UPDATE mls_row SET namespace = ?1", [child.id()])?;
    let moved = store.read(|tx| MlsStorage::new(tx, child).tree::<_, Item>(&group));
    assert!(is_damaged(moved));
    Ok(())
}

#[test]
fn a_reference_without_its_proposal_is_damage() -> Outcome {
    let (_dir, store) = fresh()?;
    let group = Item::new("group");
    let result = store.write(|tx| {
        let storage = MlsStorage::new(tx, tx.new_namespace()?);
        storage.queue_proposal(&group, &Item::new("reference"), &Item::new("proposal"))?;
        tx.run("DELETE FROM mls_row WHERE rowid = 2")?;
        storage.queued_proposals::<_, Item, Item>(&group)
    });
    assert!(is_damaged(result));
    Ok(())
}

#[test]
fn a_write_into_a_namespace_that_does_not_exist_is_refused() -> Outcome {
    let (_dir, store) = fresh()?;
    let gone = store.write(|tx| {
        let namespace = tx.new_namespace()?;
        tx.delete_namespace(namespace)?;
        Ok::<_, StoreError>(namespace)
    });
    let gone: Namespace = gone?;
    let group = Item::new("group");
    let result = store.write(|tx| MlsStorage::new(tx, gone).write_tree(&group, &group));
    assert!(is_damaged(result));
    Ok(())
}

#[test]
fn missing_tables_and_settings_are_damage() -> Outcome {
    for sql in [
        "DROP TABLE record",
        "DELETE FROM meta WHERE name = 'cipher'",
        "DELETE FROM meta WHERE name = 'key_mode'",
        "UPDATE meta SET value = x'00' WHERE name = 'cipher'",
        "UPDATE meta SET value = x'00' WHERE name = 'key_mode'",
        "UPDATE meta SET value = 5 WHERE name = 'cipher'",
        "UPDATE meta SET value = substr(value, 1, 30) WHERE name = 'cipher'",
        "DROP TABLE meta",
        "PRAGMA user_version = 0",
        "PRAGMA user_version = -1",
    ] {
        let (dir, store) = fresh()?;
        opened(&store.writer).execute_batch(sql)?;
        drop(store);
        let result = open(dir.path())
            .and_then(|store| store.write(|tx| RECORDS.put(tx, b"", b"", &record(""))));
        assert!(is_damaged(result), "{sql}");
    }
    Ok(())
}

/// Flips bits all over the file, then opens it and reads everything.
#[test]
fn no_flipped_bit_in_the_file_makes_a_panic_or_a_false_record() -> Outcome {
    let (whole, store) = fresh()?;
    let names: Vec<_> = (0..40).map(|n| format!("record {n}")).collect();
    store.write(|tx| {
        for name in &names {
            RECORDS.put(tx, b"a", name.as_bytes(), &record(name))?;
            QUEUE.push(tx, b"a", 5, &record(name))?;
        }
        Ok::<_, StoreError>(())
    })?;
    drop(store);
    let known: BTreeSet<_> = names.iter().map(|name| record(name)).collect();
    let good = fs::read(whole.path().join(DATABASE))?;
    // Densely over the header and the first cells, then every so often.
    let places = (0..160).chain((160..good.len()).step_by(211));
    let (mut damaged, mut sound) = (0, 0);
    for at in places {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        let dir = TempDir::new()?;
        fs::write(dir.path().join(DATABASE), &bytes)?;
        let result = catch_unwind(|| {
            let store = open(dir.path())?;
            store.read(|tx| {
                let mut found = RECORDS.list(tx, b"a")?;
                found.extend(QUEUE.all(tx)?.into_iter().map(|(_, record)| record));
                Ok::<_, StoreError>(found)
            })
        });
        match result.unwrap_or_else(|_| panic!("byte {at} made a panic")) {
            Ok(found) => {
                sound += 1;
                assert!(found.iter().all(|record| known.contains(record)), "byte {at}");
            }
            Err(_) => damaged += 1,
        }
    }
    assert!(damaged > 50 && sound > 0, "damaged {damaged}, sound {sound}");
    Ok(())
}
