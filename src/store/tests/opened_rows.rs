//! What a transaction has opened: it is what the rows hold, whatever was written or undone since.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Outcome, Record, fresh, is_damaged, record};
use crate::store::{Collection, Store, StoreError, Tx};

const RECORDS: Collection<Record> = Collection::new("records");

type Model = BTreeMap<(u8, u8), String>;

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8, u8),
    Delete(u8, u8),
    DeleteScope(u8),
    /// Steps that are undone together.
    Undone(Vec<Step>),
    /// Steps that stay.
    Kept(Vec<Step>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..2u8, 0..3u8, 0..3u8).prop_map(|(scope, key, value)| Step::Put(scope, key, value)),
        1 => (0..2u8, 0..3u8).prop_map(|(scope, key)| Step::Delete(scope, key)),
        1 => (0..2u8).prop_map(Step::DeleteScope),
    ];
    let step = step.prop_recursive(3, 24, 6, |step| {
        let some = prop::collection::vec(step, 1..6);
        prop_oneof![some.clone().prop_map(Step::Undone), some.prop_map(Step::Kept)]
    });
    prop::collection::vec(step, 1..20)
}

fn run(tx: &Tx<'_>, model: &mut Model, steps: &[Step]) -> Result<(), StoreError> {
    for step in steps {
        match step {
            Step::Put(scope, key, value) => {
                let name = value.to_string();
                RECORDS.put(tx, &[*scope], &[*key], &record(&name))?;
                model.insert((*scope, *key), name);
            }
            Step::Delete(scope, key) => {
                let was_there = RECORDS.delete(tx, &[*scope], &[*key])?;
                assert_eq!(was_there, model.remove(&(*scope, *key)).is_some());
            }
            Step::DeleteScope(scope) => {
                RECORDS.delete_scope(tx, &[*scope])?;
                model.retain(|(other, _), _| other != scope);
            }
            Step::Undone(steps) => {
                let undone: Result<(), StoreError> = tx.savepoint(|| {
                    run(tx, &mut model.clone(), steps)?;
                    Err(StoreError::Missing)
                });
                assert_eq!(undone, Err(StoreError::Missing));
            }
            Step::Kept(steps) => tx.savepoint(|| run(tx, model, steps))?,
        }
        compare(tx, model)?;
    }
    Ok(())
}

/// The records are those of the model.
fn compare(tx: &Tx<'_>, model: &Model) -> Result<(), StoreError> {
    for scope in 0..2 {
        let of_scope = model.range((scope, 0)..=(scope, u8::MAX)).count();
        assert_eq!(RECORDS.list(tx, &[scope])?.len(), of_scope);
        for key in 0..3 {
            let found = RECORDS.get(tx, &[scope], &[key])?.map(|record| record.name);
            assert_eq!(found.as_ref(), model.get(&(scope, key)));
            assert_eq!(RECORDS.has(tx, &[scope], &[key])?, found.is_some());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_kept_is_what_the_rows_hold(steps in steps()) {
        let checked = || -> Outcome {
            let (_dir, store) = fresh()?;
            let mut model = Model::new();
            store.write(|tx| run(tx, &mut model, &steps))?;
            store.read(|tx| compare(tx, &model))?;
            Ok(())
        };
        checked().map_err(|error| TestCaseError::fail(error.to_string()))?;
    }
}

/// A store with one record, whose row is then damaged within a transaction.
fn damaged(store: &Store, f: impl FnOnce(&Tx<'_>) -> Result<(), StoreError>) -> Outcome {
    store.write(|tx| RECORDS.put(tx, b"", b"", &record("kept")))?;
    let undone = store.write(|tx| {
        assert_eq!(RECORDS.get(tx, b"", b"")?, Some(record("kept")));
        tx.execute("UPDATE record SET value = x'00'", [])?;
        f(tx)?;
        Err::<(), _>(StoreError::Missing)
    });
    assert_eq!(undone, Err(StoreError::Missing));
    Ok(())
}

#[test]
fn no_record_is_opened_twice_until_something_is_undone() -> Outcome {
    let (_dir, store) = fresh()?;
    damaged(&store, |tx| {
        assert_eq!(RECORDS.get(tx, b"", b"")?, Some(record("kept")));
        let undone = tx.savepoint(|| Err::<(), _>(StoreError::Suspended));
        assert_eq!(undone, Err(StoreError::Suspended));
        assert!(is_damaged(RECORDS.get(tx, b"", b"")));
        Ok(())
    })?;
    // The next transaction sees the row itself.
    store.write(|tx| tx.execute("UPDATE record SET value = x'00'", []))?;
    assert!(is_damaged(store.write(|tx| RECORDS.get(tx, b"", b""))));
    Ok(())
}

#[test]
fn a_record_that_stays_as_it_is_is_not_written() -> Outcome {
    let (_dir, store) = fresh()?;
    damaged(&store, |tx| {
        // It would be whole again.
        RECORDS.put(tx, b"", b"", &record("kept"))?;
        let undone = tx.savepoint(|| Err::<(), _>(StoreError::Suspended));
        assert_eq!(undone, Err(StoreError::Suspended));
        assert!(is_damaged(RECORDS.get(tx, b"", b"")));
        RECORDS.put(tx, b"", b"", &record("another"))?;
        assert_eq!(RECORDS.get(tx, b"", b"")?, Some(record("another")));
        Ok(())
    })
}

#[test]
fn long_records_are_opened_each_time() -> Outcome {
    let (_dir, store) = fresh()?;
    let long = "x".repeat(100_000);
    store.write(|tx| {
        RECORDS.put(tx, b"", b"", &record("short"))?;
        RECORDS.put(tx, b"", b"", &record(&long))?;
        assert_eq!(RECORDS.get(tx, b"", b"")?.map(|record| record.name), Some(long.clone()));
        // Many that are not long, one after another, take a bounded space and are all there.
        for number in 0..200u8 {
            RECORDS.put(tx, b"many", &[number], &record(&"y".repeat(30_000)))?;
        }
        for number in 0..200u8 {
            assert!(RECORDS.get(tx, b"many", &[number])?.is_some());
        }
        Ok::<_, StoreError>(())
    })?;
    Ok(())
}
