//! The errors an app meets: few variants, each with a stable `code`, a sentence for a log, and
//! whether trying again can help. Nothing in this crate panics on outside input; what goes wrong
//! arrives here. Lower layers have error types of their own and are translated at the bottom of
//! this file, so that no module below has to know what an app can do about a failure.

use ruma::RoomId;

use crate::{
    backup::{FileError, KeyError, SealedError, SessionError},
    devices::DevicesError,
    history::{
        CaptureError, LeavesError, Malformed, SealError, archive::ArchiveError,
        transfer::TransferError,
    },
    identity::IdentityError,
    protocol::{CredentialError, PayloadError},
    store::StoreError,
};

/// Everything that can go wrong, by what an app can do about it.
///
/// `code` is stable across releases and made for programs, `reason` is a sentence for a log and
/// may change, `retryable` says that the same call may succeed later without a change by the app.
/// Neither ever holds a key, a plaintext or a ciphertext.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, uniffi::Error)]
#[non_exhaustive]
pub enum MlsError {
    /// An argument the app passed is not what the call takes. Fix the call; `reason` names the argument.
    #[error("{code}: {reason}")]
    InvalidInput {
        /// Stable across releases.
        code: String,
        /// A sentence for a log.
        reason: String,
        /// Whether the same call may succeed later.
        retryable: bool,
    },
    /// The store does not open with this key or passphrase. Ask for the right one; nothing was changed.
    #[error("{code}: {reason}")]
    StoreWrongKey {
        /// Stable across releases.
        code: String,
        /// A sentence for a log.
        reason: String,
        /// Whether the same call may succeed later.
        retryable: bool,
    },
    /// The store's file or one of its rows is damaged. What was readable is as it was.
    #[error("{code}: {reason}")]
    StoreDamaged {
        /// Stable across releases.
        code: String,
        /// A sentence for a log.
        reason: String,
        /// Whether the same call may succeed later.
        retryable: bool,
    },
    /// The store was written by a newer version of this library. Update the app.
    #[error("{code}: {reason}")]
    StoreTooNew {
        /// Stable across releases.
        code: String,
        /// A sentence for a log.
        reason: String,
        /// Whether the same call may succeed later.
        retryable: bool,
    },
    /// The disk is full. The call changed nothing; free some space and call again.
    #[error("{code}: {reason}")]
    StoreFull {
        /// Stable across releases.
        code: String,
        /// A sentence for a log.
        reason: String,
        /// Whether the same call may succeed later.
        retryable: bool,
    },
    /// Another machine, in this process or another, has this store open. Close that one first.
    #[error("{code}: {reason}")]
    StoreInUse {
        /// Stable across releases.
        code: String,
        /// A sentence for a log.
        reason: String,
        /// Whether the same call may succeed later.
        retryable: bool,
    },
    /// The file system or SQLite refused an operation. The call changed nothing.
    #[error("{code}: {reason}")]
    StoreIo {
        /// Stable across releases.
        code: String,
        /// A sentence for a log.
        reason: String,
        /// Whether the same call may succeed later.
        retryable: bool,
    },
    /// This machine was closed. Open it again.
    #[error("{code}: {reason}")]
    Closed {
        /// Stable across releases.
        code: String,
        /// A sentence for a log.
        reason: String,
        /// Whether the same call may succeed later.
        retryable: bool,
    },
    /// The room has no MLS group on this device (yet, or any more). Enable it, or wait for a Welcome.
    #[error("{code}: {reason}")]
    NotInGroup {
        /// Stable across releases.
        code: String,
        /// A sentence for a log.
        reason: String,
        /// Whether the same call may succeed later.
        retryable: bool,
    },
    /// The group's members are not yet who the room says they should be. Call `prepare_to_send`,
    /// send what it hands out, and try again.
    #[error("{code}: {reason}")]
    NotReady {
        /// Stable across releases.
        code: String,
        /// A sentence for a log.
        reason: String,
        /// Whether the same call may succeed later.
        retryable: bool,
    },
    /// What would be sent is larger than a Matrix event may be. Nothing was sent or changed.
    #[error("{code}: {reason}")]
    TooLarge {
        /// Stable across releases.
        code: String,
        /// A sentence for a log.
        reason: String,
        /// Whether the same call may succeed later.
        retryable: bool,
    },
    /// The event belongs to an epoch this device does not know, or needs a value that is still being
    /// fetched. What is missing is asked for (see `outgoing_requests`) or may arrive by sync.
    #[error("{code}: {reason}")]
    UnknownEpoch {
        /// Stable across releases.
        code: String,
        /// A sentence for a log.
        reason: String,
        /// Whether the same call may succeed later.
        retryable: bool,
    },
    /// The commit is of a branch that this device cannot follow: what it is based on is no longer kept
    /// in full, or never was. Messages on that branch cannot be read here. If the branch turns out to be
    /// the one that all go on with, this device joins it by itself; nothing is to be done.
    #[error("{code}: {reason}")]
    Forked {
        /// Stable across releases.
        code: String,
        /// A sentence for a log.
        reason: String,
        /// Whether the same call may succeed later.
        retryable: bool,
    },
    /// What a peer or the homeserver sent is malformed, forged or not allowed. It was ignored.
    #[error("{code}: {reason}")]
    Rejected {
        /// Stable across releases.
        code: String,
        /// A sentence for a log.
        reason: String,
        /// Whether the same call may succeed later.
        retryable: bool,
    },
    /// Something this version does not support. `reason` names it.
    #[error("{code}: {reason}")]
    Unsupported {
        /// Stable across releases.
        code: String,
        /// A sentence for a log.
        reason: String,
        /// Whether the same call may succeed later.
        retryable: bool,
    },
    /// A defect of this library. The call changed nothing; please report it.
    #[error("{code}: {reason}")]
    Internal {
        /// Stable across releases.
        code: String,
        /// A sentence for a log.
        reason: String,
        /// Whether the same call may succeed later.
        retryable: bool,
    },
}

/// Takes one field out of whichever variant an error is.
macro_rules! field {
    ($error:expr, $field:ident) => {
        match $error {
            MlsError::InvalidInput { $field, .. }
            | MlsError::StoreWrongKey { $field, .. }
            | MlsError::StoreDamaged { $field, .. }
            | MlsError::StoreTooNew { $field, .. }
            | MlsError::StoreFull { $field, .. }
            | MlsError::StoreInUse { $field, .. }
            | MlsError::StoreIo { $field, .. }
            | MlsError::Closed { $field, .. }
            | MlsError::NotInGroup { $field, .. }
            | MlsError::NotReady { $field, .. }
            | MlsError::TooLarge { $field, .. }
            | MlsError::UnknownEpoch { $field, .. }
            | MlsError::Forked { $field, .. }
            | MlsError::Rejected { $field, .. }
            | MlsError::Unsupported { $field, .. }
            | MlsError::Internal { $field, .. } => $field,
        }
    };
}

/// Makes a variant from a code and a reason.
macro_rules! make {
    ($variant:ident, $code:expr, $reason:expr, $retryable:expr) => {
        MlsError::$variant {
            code: String::from($code),
            reason: $reason.to_string(),
            retryable: $retryable,
        }
    };
}

impl MlsError {
    /// The stable code.
    pub fn code(&self) -> &str {
        field!(self, code)
    }

    /// The sentence for a log.
    pub fn reason(&self) -> &str {
        field!(self, reason)
    }

    /// Whether the same call may succeed later.
    pub fn retryable(&self) -> bool {
        *field!(self, retryable)
    }

    /// Whether the store cannot work now, and with it nothing can: the transaction is given up. A
    /// damaged row is not that: it concerns its room alone, and the others go on.
    pub(crate) fn stops_everything(&self) -> bool {
        matches!(
            self,
            Self::StoreWrongKey { .. }
                | Self::StoreTooNew { .. }
                | Self::StoreFull { .. }
                | Self::StoreInUse { .. }
                | Self::StoreIo { .. }
        )
    }

    pub(crate) fn invalid(code: &str, reason: impl ToString) -> Self {
        make!(InvalidInput, code, reason, false)
    }

    pub(crate) fn damaged(reason: impl ToString) -> Self {
        make!(StoreDamaged, "store_damaged", reason, false)
    }

    pub(crate) fn closed() -> Self {
        make!(Closed, "closed", "the machine was closed", false)
    }

    pub(crate) fn not_in_group(room: &RoomId) -> Self {
        make!(NotInGroup, "not_in_group", format!("this device is in no MLS group of {room}"), true)
    }

    pub(crate) fn not_ready(reason: impl ToString) -> Self {
        make!(NotReady, "not_ready", reason, true)
    }

    pub(crate) fn too_large(what: &str, size: usize, limit: usize) -> Self {
        let reason = format!("{what} would take {size} bytes of an event; {limit} are possible");
        make!(TooLarge, "too_large", reason, false)
    }

    pub(crate) fn unknown_epoch(number: u64) -> Self {
        let reason = format!("epoch {number} is not known to this device (yet)");
        make!(UnknownEpoch, "unknown_epoch", reason, true)
    }

    pub(crate) fn awaited(code: &str, reason: &str) -> Self {
        make!(UnknownEpoch, code, reason, true)
    }

    pub(crate) fn forked(reason: impl ToString) -> Self {
        make!(Forked, "forked", reason, false)
    }

    pub(crate) fn cannot_heal(reason: impl ToString) -> Self {
        make!(NotInGroup, "cannot_heal", reason, true)
    }

    pub(crate) fn rejected(code: &str, reason: impl ToString) -> Self {
        make!(Rejected, code, reason, false)
    }

    pub(crate) fn unsupported(code: &str, reason: impl ToString) -> Self {
        make!(Unsupported, code, reason, false)
    }

    pub(crate) fn internal(code: &str, reason: impl ToString) -> Self {
        make!(Internal, code, reason, false)
    }
}

impl From<StoreError> for MlsError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::WrongKey => make!(StoreWrongKey, "store_wrong_key", error, false),
            StoreError::Damaged(_) => make!(StoreDamaged, "store_damaged", error, false),
            StoreError::TooNew { .. } => make!(StoreTooNew, "store_too_new", error, false),
            StoreError::Full => make!(StoreFull, "store_full", error, true),
            StoreError::InUse => make!(StoreInUse, "store_in_use", error, true),
            StoreError::Missing => make!(StoreIo, "store_missing", error, true),
            StoreError::NotUpgraded => make!(StoreIo, "store_not_upgraded", error, true),
            StoreError::Io(_) => make!(StoreIo, "store_io", error, true),
        }
    }
}

impl From<PayloadError> for MlsError {
    fn from(error: PayloadError) -> Self {
        match error {
            PayloadError::NotBase64 => Self::rejected("not_base64", error),
            PayloadError::InMedia => Self::unsupported("value_in_media", error),
        }
    }
}

impl From<CredentialError> for MlsError {
    fn from(error: CredentialError) -> Self {
        Self::rejected("bad_credential", error)
    }
}

impl From<DevicesError> for MlsError {
    fn from(error: DevicesError) -> Self {
        match error {
            DevicesError::MalformedAnswer => Self::rejected("malformed_answer", error),
            DevicesError::Store(error) => error.into(),
        }
    }
}

impl From<IdentityError> for MlsError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Store(error) => error.into(),
            IdentityError::OtherDevice(_) => Self::invalid("other_device", error),
            IdentityError::BadDeviceKeys(_) => Self::invalid("bad_device_keys", error),
            IdentityError::MalformedAnswer => Self::rejected("malformed_answer", error),
            IdentityError::BadKeyPackage(_) => Self::rejected("bad_key_package", error),
            IdentityError::Crypto(_)
            | IdentityError::NewKeyPackage(_)
            | IdentityError::Encoding(_) => Self::internal("identity", error),
        }
    }
}

impl From<KeyError> for MlsError {
    fn from(error: KeyError) -> Self {
        let code = match error {
            KeyError::Alphabet(_) => "recovery_key_alphabet",
            KeyError::Length(_) | KeyError::Bytes(_) => "recovery_key_length",
            KeyError::Prefix => "recovery_key_prefix",
            KeyError::Parity => "recovery_key_parity",
            KeyError::EmptyPassphrase => "empty_passphrase",
            KeyError::Rounds(_) => "bad_rounds",
        };
        Self::invalid(code, error)
    }
}

impl From<SealedError> for MlsError {
    fn from(error: SealedError) -> Self {
        match error {
            SealedError::Form | SealedError::Mac => Self::rejected("damaged_session", error),
            SealedError::Crypto(_) | SealedError::Random => Self::internal("backup", error),
        }
    }
}

impl From<TransferError> for MlsError {
    fn from(error: TransferError) -> Self {
        Self::rejected("bad_export", error)
    }
}

impl From<SessionError> for MlsError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Store(error) => error.into(),
            error => Self::rejected(error.code(), error),
        }
    }
}

impl From<FileError> for MlsError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::EmptyPassphrase => Self::invalid("empty_passphrase", error),
            FileError::WrongPassphrase => Self::invalid("wrong_passphrase", error),
            FileError::Form | FileError::Rounds(_) | FileError::Contents => {
                Self::invalid("bad_file", error)
            }
            FileError::Version => Self::unsupported("file_version", error),
            FileError::Session(error) => error.into(),
            FileError::Store(error) => error.into(),
            FileError::Sealed(_) | FileError::Crypto(_) | FileError::Random => {
                Self::internal("file", error)
            }
        }
    }
}

impl From<CaptureError> for MlsError {
    fn from(error: CaptureError) -> Self {
        Self::internal("epoch_export", error)
    }
}

impl From<SealError> for MlsError {
    fn from(error: SealError) -> Self {
        Self::internal("seal", error)
    }
}

impl From<Malformed> for MlsError {
    fn from(error: Malformed) -> Self {
        Self::rejected("malformed_mls", error)
    }
}

impl From<LeavesError> for MlsError {
    fn from(error: LeavesError) -> Self {
        match error {
            LeavesError::Credential => Self::rejected("bad_credential", error),
            LeavesError::OtherChunk => Self::rejected("bad_leaves", error),
            LeavesError::Encoding => Self::internal("epoch_export", error),
        }
    }
}

impl From<ArchiveError> for MlsError {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Open(error) => Self::rejected("bad_message", error),
            ArchiveError::Leaves(error) => error.into(),
            ArchiveError::Store(error) => error.into(),
        }
    }
}
