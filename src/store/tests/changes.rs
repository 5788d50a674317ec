//! Changes: what is told is all that has changed since a mark, or nothing.

use super::{Outcome, fresh, open};
use crate::store::{ChangeMark, Changes, StoreError, Tx};

const CHANGES: Changes<u32> = Changes::new("changes", 4);

fn note(tx: &Tx<'_>, changed: impl IntoIterator<Item = u32>) -> Result<(), StoreError> {
    changed.into_iter().try_for_each(|one| CHANGES.note(tx, b"scope", one))
}

fn mark(tx: &Tx<'_>) -> Result<ChangeMark, StoreError> {
    CHANGES.mark(tx, b"scope")
}

fn since(tx: &Tx<'_>, mark: &ChangeMark) -> Result<Option<Vec<u32>>, StoreError> {
    CHANGES.since(tx, b"scope", mark)
}

#[test]
fn what_has_changed_since_a_mark_is_told() -> Outcome {
    let (_dir, store) = fresh()?;
    store.write(|tx| {
        let first = mark(tx)?;
        assert_eq!(since(tx, &first)?, Some(vec![]));
        note(tx, [7])?;
        let second = mark(tx)?;
        note(tx, [8, 8])?;
        assert_eq!(since(tx, &first)?, Some(vec![7, 8, 8]));
        assert_eq!(since(tx, &second)?, Some(vec![8, 8]));
        assert_eq!(since(tx, &mark(tx)?)?, Some(vec![]));
        assert_eq!(CHANGES.since(tx, b"other", &first)?, None, "another scope");
        Ok::<_, StoreError>(())
    })?;
    Ok(())
}

#[test]
fn nothing_is_noted_before_somebody_looks() -> Outcome {
    let (_dir, store) = fresh()?;
    store.write(|tx| {
        note(tx, [1, 2])?;
        assert!(CHANGES.last(tx, b"scope")?.is_none());
        Ok::<_, StoreError>(())
    })?;
    Ok(())
}

#[test]
fn more_changes_than_are_kept_cannot_be_told() -> Outcome {
    let (_dir, store) = fresh()?;
    store.write(|tx| {
        let first = mark(tx)?;
        note(tx, [1, 2, 3])?;
        assert_eq!(since(tx, &first)?, Some(vec![1, 2, 3]));
        note(tx, [4])?;
        assert_eq!(since(tx, &first)?, None);
        let later = mark(tx)?;
        note(tx, 0..100)?;
        assert_eq!(since(tx, &later)?, None);
        Ok::<_, StoreError>(())
    })?;
    Ok(())
}

#[test]
fn a_mark_of_what_was_undone_does_not_count() -> Outcome {
    let (_dir, store) = fresh()?;
    let before = store.write(mark)?;
    let mut undone = None;
    let failed = store.write(|tx| {
        note(tx, [1])?;
        undone = Some(mark(tx)?);
        Err::<(), _>(StoreError::Io("undone".to_owned()))
    });
    assert!(failed.is_err());
    let undone = undone.ok_or("nothing was marked")?;
    store.write(|tx| {
        assert_eq!(since(tx, &undone)?, None);
        // Another change has the number of the one that was undone.
        note(tx, [2])?;
        assert_eq!(mark(tx)?.number, undone.number);
        assert_eq!(since(tx, &undone)?, None);
        assert_eq!(since(tx, &before)?, Some(vec![2]));
        Ok::<_, StoreError>(())
    })?;
    Ok(())
}

#[test]
fn a_mark_does_not_count_in_an_older_copy_of_the_file() -> Outcome {
    let (dir, store) = fresh()?;
    store.write(mark)?;
    store.cut_log();
    let copy = tempfile::tempdir()?;
    for entry in std::fs::read_dir(dir.path())? {
        let entry = entry?;
        std::fs::copy(entry.path(), copy.path().join(entry.file_name()))?;
    }
    let later = store.write(|tx| {
        note(tx, [1])?;
        mark(tx)
    })?;
    open(copy.path())?.write(|tx| {
        assert_eq!(since(tx, &later)?, None);
        note(tx, [2, 3])?;
        assert_eq!(since(tx, &later)?, None);
        Ok::<_, StoreError>(())
    })?;
    Ok(())
}
