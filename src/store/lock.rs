//! The lock that keeps a second opener out.
//!
//! It is an advisory lock of the operating system on a file of its own beside the database, not
//! SQLite's lock. The system releases it when the process dies, however it dies, and backup tools
//! can copy the database while it is held. Two handles in one process exclude each other as well. A
//! suspended store does not hold it. Lock order: this lock is taken before the database is touched
//! and released after the connections are closed.
//!
//! On iOS the lock's file is in the app's own temporary directory. The store may be in an app
//! group's container there, and the system kills an app that is suspended while it holds a lock on
//! a file in such a container (0xdead10cc; SQLite's own files are excepted). Each extension of an
//! app has a temporary directory of its own, so on iOS the lock holds within the app only. An
//! extension opens the store for reading.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
};

use super::StoreError;

/// Holds the lock until dropped.
pub(super) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the lock without waiting.
    pub(super) fn take(directory: &Path) -> Result<Self, StoreError> {
        let path = path(directory)?;
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }
}

#[cfg(not(target_os = "ios"))]
pub(super) fn path(directory: &Path) -> Result<PathBuf, StoreError> {
    Ok(directory.join("matrix-mls.lock"))
}

#[cfg(target_os = "ios")]
pub(super) fn path(directory: &Path) -> Result<PathBuf, StoreError> {
    use sha2::{Digest, Sha256};

    let directory = directory.canonicalize()?;
    let digest = Sha256::digest(directory.as_os_str().as_encoded_bytes());
    let name: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(std::env::temp_dir().join(format!("matrix-mls-{name}.lock")))
}
