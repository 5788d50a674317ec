//! Collections, queues, namespaces: what they keep and in which order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Outcome, Record, fresh, is_damaged, open, raw, record};
use crate::store::{Collection, Namespace, Queue, StoreError};

const RECORDS: Collection<Record> = Collection::new("records");
const OTHERS: Collection<Record> = Collection::new("others");
const QUEUE: Queue<Record> = Queue::new("queue");
const OTHER_QUEUE: Queue<Record> = Queue::new("other queue");

#[test]
fn records_are_kept_by_collection_scope_and_key() -> Outcome {
    let (dir, store) = fresh()?;
    store.write(|tx| {
        RECORDS.put(tx, b"a", b"1", &record("a1"))?;
        RECORDS.put(tx, b"a", b"2", &record("a2"))?;
        RECORDS.put(tx, b"b", b"1", &record("b1"))?;
        OTHERS.put(tx, b"a", b"1", &record("other"))?;
        // Not told apart by joining scope and key.
        RECORDS.put(tx, b"ab", b"", &record("ab+"))?;
        RECORDS.put(tx, b"", b"ab", &record("+ab"))?;
        RECORDS.put(tx, b"a", b"1", &record("a1 again"))
    })?;
    drop(store);
    let store = open(dir.path())?;
    store.read(|tx| {
        assert_eq!(RECORDS.get(tx, b"a", b"1")?, Some(record("a1 again")));
        assert_eq!(RECORDS.get(tx, b"a", b"3")?, None);
        assert_eq!(RECORDS.get(tx, b"ab", b"")?, Some(record("ab+")));
        assert_eq!(OTHERS.get(tx, b"a", b"1")?, Some(record("other")));
        // Overwriting kept the rank.
        assert_eq!(RECORDS.list(tx, b"a")?, [record("a1 again"), record("a2")]);
        let all = ["a1 again", "a2", "b1", "ab+", "+ab"].map(record);
        assert_eq!(RECORDS.list_all(tx)?, all);
        assert_eq!(RECORDS.count(tx, b"a")?, 2);
        assert_eq!(RECORDS.count(tx, b"c")?, 0);
        Ok::<_, StoreError>(())
    })?;
    store.write(|tx| {
        assert!(RECORDS.delete(tx, b"a", b"1")?);
        assert!(!RECORDS.delete(tx, b"a", b"1")?);
        RECORDS.put(tx, b"a", b"1", &record("last"))?;
        assert_eq!(RECORDS.list(tx, b"a")?, [record("a2"), record("last")]);
        assert_eq!(RECORDS.delete_scope(tx, b"a")?, 2);
        assert_eq!(RECORDS.list_all(tx)?.len(), 3);
        assert_eq!(OTHERS.count(tx, b"a")?, 1);
        Ok::<_, StoreError>(())
    })?;
    Ok(())
}

#[test]
fn a_queue_gives_what_is_due_oldest_first_and_never_an_id_twice() -> Outcome {
    let (dir, store) = fresh()?;
    let ids = store.write(|tx| {
        let ids = [
            QUEUE.push(tx, b"room", 100, &record("first"))?,
            OTHER_QUEUE.push(tx, b"room", 0, &record("elsewhere"))?,
            QUEUE.push(tx, b"room", 50, &record("second"))?,
            QUEUE.push(tx, b"user", u64::MAX, &record("never"))?,
        ];
        assert_eq!(QUEUE.due(tx, 49, 10)?, []);
        assert_eq!(QUEUE.due(tx, 99, 10)?, [(ids[2], record("second"))]);
        assert_eq!(QUEUE.due(tx, 100, 1)?, [(ids[0], record("first"))]);
        assert_eq!(QUEUE.due(tx, 100, 0)?, []);
        assert_eq!(QUEUE.due(tx, 1 << 62, 10)?.len(), 2);
        assert_eq!(QUEUE.get(tx, ids[1])?, None, "an entry of another queue");
        assert!(!QUEUE.remove(tx, ids[1])?);
        assert!(is_damaged(QUEUE.update(tx, ids[1], 0, &record("x"))));
        QUEUE.update(tx, ids[0], 10, &record("first, sooner"))?;
        assert_eq!(
            QUEUE.due(tx, 60, 10)?,
            [(ids[0], record("first, sooner")), (ids[2], record("second"))]
        );
        assert_eq!(QUEUE.in_scope(tx, b"user")?, [(ids[3], record("never"))]);
        assert_eq!(QUEUE.count_scope(tx, b"room")?, 2);
        assert_eq!(QUEUE.all(tx)?.len(), 3);
        assert!(QUEUE.remove(tx, ids[3])?);
        assert!(!QUEUE.remove(tx, ids[3])?);
        Ok::<_, StoreError>(ids)
    })?;
    assert!(ids.is_sorted());
    drop(store);
    let store = open(dir.path())?;
    let id = store.write(|tx| QUEUE.push(tx, b"room", 0, &record("new")))?;
    assert!(id > ids[3], "the removed last id came back");
    Ok(())
}

fn is_changed<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Changed(_)))
}

#[test]
fn a_generation_only_rises_and_goes_with_its_namespace() -> Outcome {
    let (_dir, store) = fresh()?;
    store.write(|tx| {
        let (first, second) = (tx.new_namespace()?, tx.new_namespace()?);
        assert!(Namespace::GLOBAL < first && first < second);
        assert_eq!(tx.generation(first)?, 0);
        tx.take_generations(first, 0, 5)?;
        tx.take_generations(first, 5, 5)?;
        tx.take_generations(second, 0, u32::MAX)?;
        assert!(is_damaged(tx.take_generations(first, 5, 4)));
        assert_eq!((tx.generation(first)?, tx.generation(second)?), (5, u32::MAX));
        tx.delete_namespace(second)?;
        assert_eq!(tx.generation(second)?, 0);
        assert!(is_damaged(tx.take_generations(second, 0, 1)));
        assert!(tx.new_namespace()? > second, "a namespace's id came back");
        assert!(is_damaged(tx.delete_namespace(Namespace::GLOBAL)));
        Ok::<_, StoreError>(())
    })?;
    Ok(())
}

/// Another opener has taken generations since this one looked.
#[test]
fn generations_that_somebody_else_took_are_not_taken_again() -> Outcome {
    let (_dir, store) = fresh()?;
    store.write(|tx| {
        let namespace = tx.new_namespace()?;
        tx.take_generations(namespace, 0, 2)?;
        for seen in [0, 1, 3] {
            assert!(is_changed(tx.take_generations(namespace, seen, seen + 2)), "{seen}");
        }
        assert_eq!(tx.generation(namespace)?, 2);
        tx.take_generations(namespace, 2, 4)?;
        Ok::<_, StoreError>(())
    })?;
    Ok(())
}

/// Whoever has no key can delete a generation, or move another's there, but can set none.
#[test]
fn an_edited_generation_is_noticed() -> Outcome {
    let edits = [
        "UPDATE namespace SET counter = NULL",
        "UPDATE namespace SET counter = NULL, generation = 0",
        "UPDATE namespace SET counter = 0",
        "UPDATE namespace SET counter = x''",
        "UPDATE namespace SET counter = (SELECT counter FROM namespace WHERE id = 2)",
        "UPDATE namespace SET counter = (SELECT value FROM record)",
    ];
    for edit in edits {
        let (_dir, store) = fresh()?;
        let first = store.write(|tx| {
            let (first, _) = (tx.new_namespace()?, tx.new_namespace()?);
            tx.take_generations(first, 0, 5)?;
            RECORDS.put(tx, b"room", b"a", &record("a"))?;
            Ok::<_, StoreError>(first)
        })?;
        raw(&store, edit, [])?;
        store.write(|tx| {
            assert!(is_changed(tx.generation(first)), "{edit}");
            assert!(is_changed(tx.take_generations(first, 0, 1)), "{edit}");
            assert!(is_changed(tx.take_generations(first, 5, 6)), "{edit}");
            Ok::<_, StoreError>(())
        })?;
    }
    Ok(())
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Delete(u8, u8),
    DeleteScope(u8),
    Push(u8, u8),
    PutOff(usize, u8),
    Remove(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3u8, 0..4u8).prop_map(|(s, k)| Step::Put(s, k)),
        2 => (0..3u8, 0..4u8).prop_map(|(s, k)| Step::Delete(s, k)),
        1 => (0..3u8).prop_map(Step::DeleteScope),
        4 => (0..3u8, any::<u8>()).prop_map(|(s, due)| Step::Push(s, due)),
        2 => (any::<usize>(), any::<u8>()).prop_map(|(at, due)| Step::PutOff(at, due)),
        2 => any::<usize>().prop_map(Step::Remove),
    ];
    prop::collection::vec(step, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    /// Against lists in memory: the same contents in the same order after any steps.
    #[test]
    fn order_is_kept_through_any_steps(steps in steps(), now: u8) {
        let (_dir, store) = fresh()?;
        let mut records: Vec<((u8, u8), Record)> = Vec::new();
        let mut entries: BTreeMap<i64, (u8, u8, Record)> = BTreeMap::new();
        store.write(|tx| {
            for (rank, step) in steps.into_iter().enumerate() {
                let value = record(&format!("{rank}"));
                match step {
                    Step::Put(scope, key) => {
                        RECORDS.put(tx, &[scope], &[key], &value)?;
                        match records.iter_mut().find(|(place, _)| *place == (scope, key)) {
                            Some(record) => record.1 = value,
                            None => records.push(((scope, key), value)),
                        }
                    }
                    Step::Delete(scope, key) => {
                        let had = RECORDS.delete(tx, &[scope], &[key])?;
                        let before = records.len();
                        records.retain(|(place, _)| *place != (scope, key));
                        assert_eq!(had, records.len() < before);
                    }
                    Step::DeleteScope(scope) => {
                        let had = RECORDS.delete_scope(tx, &[scope])?;
                        let before = records.len();
                        records.retain(|(place, _)| place.0 != scope);
                        assert_eq!(had as usize, before - records.len());
                    }
                    Step::Push(scope, due) => {
                        let id = QUEUE.push(tx, &[scope], due.into(), &value)?;
                        assert!(entries.last_key_value().is_none_or(|(last, _)| *last < id));
                        entries.insert(id, (scope, due, value));
                    }
                    Step::PutOff(at, due) => {
                        let nth = at % entries.len().max(1);
                        if let Some((id, entry)) = entries.iter_mut().nth(nth) {
                            QUEUE.update(tx, *id, due.into(), &value)?;
                            (entry.1, entry.2) = (due, value);
                        }
                    }
                    Step::Remove(at) => {
                        let nth = at % entries.len().max(1);
                        if let Some(id) = entries.keys().nth(nth).copied() {
                            assert!(QUEUE.remove(tx, id)?);
                            entries.remove(&id);
                        }
                    }
                }
            }
            Ok::<_, StoreError>(())
        })?;
        store.read(|tx| {
            let all: Vec<_> = records.iter().map(|(_, record)| record.clone()).collect();
            assert_eq!(RECORDS.list_all(tx)?, all);
            let due = entries.iter().filter(|(_, entry)| entry.1 <= now);
            let due: Vec<_> = due.map(|(id, entry)| (*id, entry.2.clone())).collect();
            assert_eq!(QUEUE.due(tx, now.into(), usize::MAX)?, due);
            for scope in 0..3u8 {
                let here = records.iter().filter(|(place, _)| place.0 == scope);
                let here: Vec<_> = here.map(|(_, record)| record.clone()).collect();
                assert_eq!(RECORDS.count(tx, &[scope])? as usize, here.len());
                assert_eq!(RECORDS.list(tx, &[scope])?, here);
                let here = entries.iter().filter(|(_, entry)| entry.0 == scope);
                let here: Vec<_> = here.map(|(id, entry)| (*id, entry.2.clone())).collect();
                assert_eq!(QUEUE.in_scope(tx, &[scope])?, here);
            }
            Ok::<_, StoreError>(())
        })?;
    }
}
