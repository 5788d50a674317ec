//! The lock that keeps a second opener out.
//!
//! It is an advisory lock of the operating system on a file of its own beside the database, not
//! SQLite's: the system frees it when the process dies, however it dies, and holding it does not
//! stop backup tools from copying the database. Two handles exclude each other within one process
//! as well. Lock order: this one is taken before the database is touched and given up after the
//! connections are closed.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::Path,
};

use super::StoreError;

/// Holds the lock until dropped.
pub(super) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the lock without waiting.
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }
}
