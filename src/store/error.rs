//! What can go wrong in the store, and how SQLite's and the system's errors are told apart.
//!
//! The classes are those an app must react to differently: ask for the key again, update,
//! free space, close the other opener, or give the store up and restore from backup. Messages
//! never hold row contents: SQLite's texts name tables and statements only.

use rusqlite::{ErrorCode, ffi};

/// Why the store could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The key or passphrase given does not open this store, or is of another kind than the
    /// one it was sealed with. The store is as it was.
    #[error("the key does not open this store")]
    WrongKey,
    /// What is in the file is not what was written: no database, cut short, garbage, or a row
    /// that was altered or moved to another row's place.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// A newer version of this library wrote the store. The file was not touched.
    #[error("the store has schema version {found}, this version knows up to {supported}")]
    TooNew {
        /// The version the file has.
        found: u32,
        /// The newest version this library can read.
        supported: u32,
    },
    /// No space is left. The transaction was undone; it can be repeated once there is space.
    #[error("no space is left for the store")]
    Full,
    /// The store is open already, in this process or another.
    #[error("the store is in use by another opener")]
    InUse,
    /// There is no store to read from: no machine has been opened there yet.
    #[error("there is no store in this directory yet")]
    Missing,
    /// An older version wrote the store; opening it with a machine upgrades it.
    #[error("the store has to be opened by a machine of this version first")]
    NotUpgraded,
    /// The system refused: permissions, a read-only volume, an I/O error.
    #[error("the store cannot be read or written: {0}")]
    Io(String),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        let extended = error.sqlite_error().map(|error| error.extended_code);
        match error.sqlite_error_code() {
            // The I/O went well; what came of it is too short or fails the file system's checks.
            Some(ErrorCode::SystemIoFailure)
                if matches!(
                    extended,
                    Some(
                        ffi::SQLITE_IOERR_SHORT_READ
                            | ffi::SQLITE_IOERR_DATA
                            | ffi::SQLITE_IOERR_CORRUPTFS
                    )
                ) =>
            {
                Self::Damaged(text)
            }
            Some(ErrorCode::DiskFull) => Self::Full,
            // `Unknown` is SQLITE_ERROR: our statements are fixed, so they fail to compile only
            // when a table they name is gone.
            Some(
                ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::ConstraintViolation
                | ErrorCode::TypeMismatch
                | ErrorCode::Unknown,
            ) => Self::Damaged(text),
            Some(_) => Self::Io(text),
            // Not from SQLite: a column held another type than the schema says.
            None => Self::Damaged(text),
        }
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Io(error.to_string()),
        }
    }
}
