//! Whether the store is older than what this device has sent since: the count that the app keeps
//! outside the file (`RollbackGuard`), where the app gives one.
//!
//! The store has the same count in a sealed row. It rises in the transaction that takes
//! generations, and the app is told before a message leaves. So a copy that lacks a taken
//! generation has a lower count than the app. A kill in between leaves the store ahead, which is no
//! copy.
//!
//! A store that was brought back in place shows nothing else of it: each of its rows is sealed, and
//! was true once.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use crate::{
    exported::RollbackGuard,
    store::{Collection, StoreError, Tx},
};

const COUNT: Collection<u64> = Collection::new("rollback_count");

/// The app's guard, if it has one.
#[derive(Default)]
pub(crate) struct Rollback(Option<Arc<dyn RollbackGuard>>);

/// A count that the app has to be told once its transaction is on disk.
#[must_use]
pub(crate) struct Untold(Option<u64>);

impl Rollback {
    /// Watches with this guard.
    pub(crate) fn new(guard: Option<Arc<dyn RollbackGuard>>) -> Self {
        Self(guard)
    }

    /// Whether the store is behind the count that the app keeps. From then on it is level.
    pub(crate) fn is_behind(&self, tx: &Tx<'_>) -> Result<bool, StoreError> {
        let Some(guard) = &self.0 else { return Ok(false) };
        let Some(kept) = called(|| guard.load()).flatten() else { return Ok(false) };
        let stored = COUNT.get(tx, b"", b"")?.unwrap_or(0);
        if kept <= stored {
            return Ok(false);
        }
        COUNT.put(tx, b"", b"", &kept)?;
        Ok(true)
    }

    /// Keys are about to be used that were not used before.
    pub(crate) fn count_up(&self, tx: &Tx<'_>) -> Result<Untold, StoreError> {
        if self.0.is_none() {
            return Ok(Untold(None));
        }
        let count = COUNT.get(tx, b"", b"")?.unwrap_or(0).saturating_add(1);
        COUNT.put(tx, b"", b"", &count)?;
        Ok(Untold(Some(count)))
    }

    /// The transaction is on disk, and nothing has left yet.
    pub(crate) fn tell(&self, untold: Untold) {
        if let (Some(guard), Untold(Some(count))) = (&self.0, untold) {
            called(|| guard.store(count));
        }
    }
}

/// Calls the app, which may throw.
fn called<T>(call: impl FnOnce() -> T) -> Option<T> {
    let answer = catch_unwind(AssertUnwindSafe(call));
    if answer.is_err() {
        tracing::warn!("the app's rollback guard has failed");
    }
    answer.ok()
}

#[cfg(test)]
mod tests {
    use std::{error::Error, sync::Mutex};

    use super::*;
    use crate::store::{Store, StoreKeyMaterial};

    type Outcome = Result<(), Box<dyn Error>>;

    #[derive(Default)]
    struct Kept(Mutex<Option<u64>>);

    impl Kept {
        fn number(&self) -> Option<u64> {
            *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }

    impl RollbackGuard for Kept {
        fn load(&self) -> Option<u64> {
            self.number()
        }

        fn store(&self, count: u64) {
            *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(count);
        }
    }

    struct Broken;

    impl RollbackGuard for Broken {
        fn load(&self) -> Option<u64> {
            panic!("a guard that throws")
        }

        fn store(&self, _: u64) {
            panic!("a guard that throws")
        }
    }

    #[test]
    fn a_store_that_is_behind_is_so_once() -> Outcome {
        let directory = tempfile::tempdir()?;
        let store = Store::open(directory.path(), StoreKeyMaterial::None)?;
        let kept = Arc::new(Kept::default());
        let rollback = Rollback::new(Some(kept.clone()));
        let is_behind = || store.write(|tx| rollback.is_behind(tx));
        assert!(!is_behind()?);
        for count in 1..4 {
            let untold = store.write(|tx| rollback.count_up(tx))?;
            assert_eq!(kept.number(), Some(count - 1).filter(|count| *count > 0));
            // The app was killed before it was told: the store is ahead.
            assert!(!is_behind()?);
            rollback.tell(untold);
            assert_eq!(kept.number(), Some(count));
            assert!(!is_behind()?);
        }
        kept.store(9);
        assert!(is_behind()?);
        assert!(!is_behind()?);
        rollback.tell(store.write(|tx| rollback.count_up(tx))?);
        assert_eq!(kept.number(), Some(10));
        Ok(())
    }

    #[test]
    fn no_guard_and_one_that_throws_change_nothing() -> Outcome {
        let directory = tempfile::tempdir()?;
        let store = Store::open(directory.path(), StoreKeyMaterial::None)?;
        for rollback in [Rollback::default(), Rollback::new(Some(Arc::new(Broken)))] {
            assert!(!store.write(|tx| rollback.is_behind(tx))?);
            rollback.tell(store.write(|tx| rollback.count_up(tx))?);
            assert!(!store.write(|tx| rollback.is_behind(tx))?);
        }
        Ok(())
    }
}
