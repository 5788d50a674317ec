//! Whole or not at all: errors, panics, savepoints, a full disk, reads beside a write.

use std::{error::Error, panic::AssertUnwindSafe, sync::mpsc, thread};

use super::{Outcome, Record, fresh, open, opened, record};
use crate::store::{Collection, Store, StoreError};

const RECORDS: Collection<Record> = Collection::new("records");

#[derive(Debug, PartialEq, thiserror::Error)]
enum CallerError {
    #[error("the caller gave up")]
    GaveUp,
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn put(store: &Store, key: &str) -> Result<(), StoreError> {
    store.write(|tx| RECORDS.put(tx, b"", key.as_bytes(), &record(key)))
}

fn names(store: &Store) -> Result<Vec<String>, StoreError> {
    let records = store.read(|tx| RECORDS.list_all(tx))?;
    Ok(records.into_iter().map(|record| record.name).collect())
}

#[test]
fn a_store_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Store>();
    shared::<Collection<std::cell::Cell<u8>>>();
}

#[test]
fn an_error_undoes_the_transaction() -> Outcome {
    let (_dir, store) = fresh()?;
    put(&store, "before")?;
    let result = store.write(|tx| {
        RECORDS.put(tx, b"", b"lost", &record("lost"))?;
        RECORDS.delete(tx, b"", b"before")?;
        Err::<(), _>(CallerError::GaveUp)
    });
    assert_eq!(result, Err(CallerError::GaveUp));
    assert_eq!(names(&store)?, ["before"]);
    Ok(())
}

#[test]
fn a_panic_undoes_the_transaction_and_leaves_the_store_usable() -> Outcome {
    let (_dir, store) = fresh()?;
    put(&store, "before")?;
    let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| {
        store.write(|tx| -> Result<(), StoreError> {
            RECORDS.put(tx, b"", b"lost", &record("lost"))?;
            tx.savepoint(|| -> Result<(), StoreError> {
                RECORDS.put(tx, b"", b"lost too", &record("lost too"))?;
                std::panic::resume_unwind(Box::new("the closure's own panic"))
            })
        })
    }));
    assert!(panicked.is_err());
    let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| {
        store.read(|tx| -> Result<(), StoreError> {
            RECORDS.list_all(tx)?;
            std::panic::resume_unwind(Box::new("the closure's own panic"))
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(names(&store)?, ["before"]);
    put(&store, "after")?;
    assert_eq!(names(&store)?, ["before", "after"]);
    Ok(())
}

#[test]
fn a_failed_savepoint_is_undone_alone() -> Outcome {
    let (_dir, store) = fresh()?;
    store.write(|tx| {
        RECORDS.put(tx, b"", b"1", &record("outer"))?;
        let failed = tx.savepoint(|| {
            RECORDS.put(tx, b"", b"2", &record("undone"))?;
            tx.savepoint(|| RECORDS.put(tx, b"", b"3", &record("undone with it")))?;
            Err::<(), _>(CallerError::GaveUp)
        });
        assert_eq!(failed, Err(CallerError::GaveUp));
        tx.savepoint(|| {
            RECORDS.put(tx, b"", b"4", &record("kept"))?;
            let inner = tx.savepoint(|| {
                RECORDS.put(tx, b"", b"4", &record("undone"))?;
                RECORDS.delete(tx, b"", b"1")?;
                Err::<(), _>(CallerError::GaveUp)
            });
            assert_eq!(inner, Err(CallerError::GaveUp));
            Ok::<_, CallerError>(())
        })?;
        RECORDS.put(tx, b"", b"5", &record("last"))?;
        Ok::<_, CallerError>(())
    })?;
    assert_eq!(names(&store)?, ["outer", "kept", "last"]);
    Ok(())
}

/// The other thread is gone.
fn hung_up(error: impl Error) -> StoreError {
    StoreError::Io(error.to_string())
}

#[test]
fn a_read_sees_one_state_while_a_write_runs() -> Outcome {
    let (_dir, store) = fresh()?;
    put(&store, "before")?;
    let (started, wait_started) = mpsc::channel();
    let (go, wait_go) = mpsc::channel();
    // The scope owns `go`: when the scope fails, `go` is dropped, and the writer waits no longer.
    let store = &store;
    thread::scope(move |scope| {
        let writer = scope.spawn(move || {
            store.write(|tx| {
                RECORDS.put(tx, b"", b"new", &record("new"))?;
                started.send(()).map_err(hung_up)?;
                wait_go.recv().map_err(hung_up)
            })
        });
        wait_started.recv()?;
        assert_eq!(names(store)?, ["before"], "a read waits for no writer");
        store.read(|tx| {
            assert_eq!(RECORDS.count(tx, b"")?, 1);
            go.send(()).map_err(hung_up)?;
            // Blocks until the other thread has committed.
            put(store, "third")?;
            assert_eq!(RECORDS.count(tx, b"")?, 1, "the snapshot moved");
            Ok::<_, StoreError>(())
        })?;
        writer.join().map_err(|_| "the writer panicked")??;
        Outcome::Ok(())
    })?;
    assert_eq!(names(store)?, ["before", "new", "third"]);
    Ok(())
}

#[test]
fn writing_in_a_read_fails() -> Outcome {
    let (_dir, store) = fresh()?;
    let result = store.read(|tx| RECORDS.put(tx, b"", b"", &record("no")));
    assert!(matches!(result, Err(StoreError::Io(_))), "{result:?}");
    assert_eq!(names(&store)?, [""; 0]);
    Ok(())
}

/// The disk is full for SQLite when the database may have no more pages.
fn set_pages(store: &Store, pages: i64) -> Result<(), StoreError> {
    let writer = opened(&store.writer);
    let set: i64 =
        writer.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get(0))?;
    assert!(set >= pages);
    Ok(())
}

#[test]
fn a_full_disk_undoes_the_transaction_and_passes() -> Outcome {
    let (dir, store) = fresh()?;
    put(&store, "before")?;
    let pages: i64 = opened(&store.writer).query_row("PRAGMA page_count", [], |row| row.get(0))?;
    set_pages(&store, pages + 8)?;
    let large = Record { name: "large".to_owned(), bytes: vec![200; 100_000] };
    let full = store.write(|tx| {
        RECORDS.put(tx, b"", b"small", &record("small"))?;
        RECORDS.put(tx, b"", b"large", &large)
    });
    assert_eq!(full, Err(StoreError::Full));
    assert_eq!(names(&store)?, ["before"]);
    // SQLite undoes the whole transaction, so a caller that goes on learns that nothing is kept.
    let full = store.write(|tx| {
        let full = tx.savepoint(|| RECORDS.put(tx, b"", b"large", &large));
        assert_eq!(full, Err(StoreError::Full));
        let after = RECORDS.put(tx, b"", b"small", &record("small"));
        assert_eq!(after, Err(StoreError::Full));
        Ok::<_, StoreError>(())
    });
    assert_eq!(full, Err(StoreError::Full));
    assert_eq!(names(&store)?, ["before"]);
    put(&store, "small")?;
    assert_eq!(names(&store)?, ["before", "small"]);
    set_pages(&store, 1 << 30)?;
    store.write(|tx| RECORDS.put(tx, b"", b"large", &large))?;
    drop(store);
    let store = open(dir.path())?;
    assert_eq!(names(&store)?, ["before", "small", "large"]);
    Ok(())
}

#[test]
fn nothing_is_committed_piecemeal_once_sqlite_has_undone_the_transaction() -> Outcome {
    let (_dir, store) = fresh()?;
    put(&store, "before")?;
    let result = store.write(|tx| {
        RECORDS.put(tx, b"", b"lost", &record("lost"))?;
        // What SQLite does by itself after some I/O errors.
        tx.run("ROLLBACK")?;
        let after = RECORDS.put(tx, b"", b"piece", &record("piece"));
        assert!(matches!(after, Err(StoreError::Io(_))));
        Ok::<_, StoreError>(())
    });
    assert!(matches!(result, Err(StoreError::Io(_))));
    assert_eq!(names(&store)?, ["before"]);
    put(&store, "after")?;
    assert_eq!(names(&store)?, ["before", "after"]);
    Ok(())
}
