//! Why a key backup operation failed.

use crate::{
    failure::{EndsTurn, Failure, through_variants},
    sessions::SealedError,
    store::StoreError,
};

/// Why a key backup operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BackupError {
    /// The store or the library failed, whatever the operation.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// This device knows of no backup.
    #[error("there is no backup that this device knows of")]
    NoBackup,
    /// A restore was asked for without a key, and no backup is enabled.
    #[error("key: no backup is enabled whose key could be used")]
    NoKey,
    /// Too many restores are under way.
    #[error("too many restores are under way: wait for one to end, or cancel one")]
    TooManyRestores,
    /// An answer of the homeserver does not follow the specification.
    #[error("{0}")]
    MalformedAnswer(&'static str),
}

impl EndsTurn for BackupError {
    fn ends_turn(&self) -> bool {
        matches!(self, Self::Failure(failure) if failure.ends_turn())
    }
}

through_variants! { BackupError:
    StoreError => Failure,
}

/// Sealing fails only if the crypto provider does, which is a defect.
impl From<SealedError> for BackupError {
    fn from(error: SealedError) -> Self {
        Self::Failure(Failure::defect("backup", error))
    }
}
