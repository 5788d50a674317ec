//! The store's errors, and how SQLite's and the system's errors map to them.
//!
//! The classes are those that an app must react to differently: ask for the key again, update, free
//! space, close the other opener, or give the store up and restore from a backup. Messages never
//! hold row contents: SQLite's texts name tables and statements only.

use rusqlite::{ErrorCode, ffi};

/// Why a store operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The key or passphrase does not open this store, or is of another kind than the one that
    /// sealed it. The store is unchanged.
    #[error(
        "the key does not open this store: give the key or passphrase that it was made with; a store whose key is lost can only be deleted"
    )]
    WrongKey,
    /// The file does not hold what was written: it is no database, cut short or garbage, or a row
    /// was altered or moved to another row's place.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// A newer version of this library wrote the store. The file is untouched.
    #[error(
        "a newer version has written the store (schema {found}; this one knows up to {supported}): \
         update the app, and keep the store"
    )]
    TooNew {
        /// The version the file has.
        found: u32,
        /// The newest version this library can read.
        supported: u32,
    },
    /// Somebody else has changed the store: what this opener left in it is not there any more. What
    /// was taken from it may be in use elsewhere.
    #[error("the store was changed by somebody else: {0}")]
    Changed(&'static str),
    /// The disk is full. The transaction was undone; repeat it once there is space.
    #[error("no space is left for the store: call again when there is; nothing was changed")]
    Full,
    /// The store is open already, in this process or another.
    #[error(
        "the store is in use: close the machine that has it open, in this process or another, or share that one"
    )]
    InUse,
    /// The store is suspended: its file is closed until it is resumed.
    #[error("the machine is suspended: resume it, and call again")]
    Suspended,
    /// There is no store to read from: no machine has opened one there yet.
    #[error("there is no store in this directory yet: open a machine there first")]
    Missing,
    /// An older version wrote the store. Opening it with a machine upgrades it.
    #[error("an older version has written the store: open it with a machine of this version first")]
    NotUpgraded,
    /// A shadow of the store has no room for more.
    #[error("this takes more memory than it may")]
    NoRoom,
    /// The system refused: permissions, a read-only volume, an I/O error.
    #[error("the store cannot be read or written: {0}")]
    Io(String),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        let extended = error.sqlite_error().map(|error| error.extended_code);
        match error.sqlite_error_code() {
            // The I/O itself succeeded, but the data is too short or fails the file system's
            // checks.
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
            // `Unknown` is SQLITE_ERROR. Our statements are fixed, so they fail to compile only
            // when a table that they name is gone.
            Some(
                ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::ConstraintViolation
                | ErrorCode::TypeMismatch
                | ErrorCode::Unknown,
            ) => Self::Damaged(text),
            Some(_) => Self::Io(text),
            // Not from SQLite: a column holds another type than the schema says.
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
