//! The errors an app meets: few variants, each with a stable `code`, a sentence for a log, and
//! whether trying again can help. Nothing in this crate panics on outside input; what goes wrong
//! arrives here. Lower layers have error types of their own and are translated at the bottom of
//! this file, so that no module below has to know what an app can do about a failure.

use std::fmt;

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

/// What every [`MlsError`] says, whichever of its variants it is.
///
/// No field ever holds a key, a plaintext or a ciphertext.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct ErrorDetails {
    /// What went wrong, made for programs: the same in every release.
    pub code: String,
    /// What went wrong, as a sentence for a log. The wording may change from release to release.
    pub reason: String,
    /// Whether the same call may succeed later without a change by the app.
    pub retryable: bool,
}

/// Everything that can go wrong, by what an app can do about it.
///
/// Each variant holds the same [`ErrorDetails`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, uniffi::Error)]
#[non_exhaustive]
pub enum MlsError {
    /// An argument the app passed is not what the call takes. Fix the call; `reason` names the argument.
    InvalidInput {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// The store does not open with this key or passphrase. Ask for the right one; nothing was changed.
    StoreWrongKey {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// The store's file or one of its rows is damaged. What was readable is as it was.
    StoreDamaged {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// The store was written by a newer version of this library. Update the app.
    StoreTooNew {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// The disk is full. The call changed nothing; free some space and call again.
    StoreFull {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// Another machine, in this process or another, has this store open. Close that one first.
    StoreInUse {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// The file system or SQLite refused an operation. The call changed nothing.
    StoreIo {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// This machine was closed. Open it again.
    Closed {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// The room has no MLS group on this device (yet, or any more). Enable it, or wait for a Welcome.
    NotInGroup {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// The group's members are not yet who the room says they should be. Call `prepare_to_send`,
    /// send what it hands out, and try again.
    NotReady {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// What would be sent is larger than a Matrix event may be. Nothing was sent or changed.
    TooLarge {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// The event belongs to an epoch this device does not know, or needs a value that is still being
    /// fetched. What is missing is asked for (see `outgoing_requests`) or may arrive by sync.
    UnknownEpoch {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// The commit is of a branch that this device cannot follow: what it is based on is no longer kept
    /// in full, or never was. Messages on that branch cannot be read here. If the branch turns out to be
    /// the one that all go on with, this device joins it by itself; nothing is to be done.
    Forked {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// What a peer or the homeserver sent is malformed, forged or not allowed. It was ignored.
    Rejected {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// Something this version does not support. `reason` names it.
    Unsupported {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// A defect of this library. The call changed nothing; please report it.
    Internal {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
}

/// Makes a variant from a code and a reason.
macro_rules! make {
    ($variant:ident, $code:expr, $reason:expr, $retryable:expr) => {
        MlsError::$variant {
            details: ErrorDetails {
                code: String::from($code),
                reason: $reason.to_string(),
                retryable: $retryable,
            },
        }
    };
}

impl fmt::Display for MlsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code(), self.reason())
    }
}

#[uniffi::export]
impl MlsError {
    /// What the error says, whichever variant it is.
    pub fn details(&self) -> ErrorDetails {
        self.as_details().clone()
    }
}

impl MlsError {
    /// The details that every variant holds.
    fn as_details(&self) -> &ErrorDetails {
        match self {
            Self::InvalidInput { details }
            | Self::StoreWrongKey { details }
            | Self::StoreDamaged { details }
            | Self::StoreTooNew { details }
            | Self::StoreFull { details }
            | Self::StoreInUse { details }
            | Self::StoreIo { details }
            | Self::Closed { details }
            | Self::NotInGroup { details }
            | Self::NotReady { details }
            | Self::TooLarge { details }
            | Self::UnknownEpoch { details }
            | Self::Forked { details }
            | Self::Rejected { details }
            | Self::Unsupported { details }
            | Self::Internal { details } => details,
        }
    }

    /// The stable code.
    pub fn code(&self) -> &str {
        &self.as_details().code
    }

    /// The sentence for a log.
    pub fn reason(&self) -> &str {
        &self.as_details().reason
    }

    /// Whether the same call may succeed later.
    pub fn retryable(&self) -> bool {
        self.as_details().retryable
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_gives_its_details_and_reads_as_code_and_reason() {
        let error = MlsError::rejected("not_base64", "the ciphertext is not base64");
        let details = ErrorDetails {
            code: "not_base64".to_owned(),
            reason: "the ciphertext is not base64".to_owned(),
            retryable: false,
        };
        assert_eq!(error, MlsError::Rejected { details: details.clone() });
        assert_eq!(error.details(), details);
        assert_eq!((error.code(), error.reason()), ("not_base64", &*details.reason));
        assert_eq!(error.to_string(), "not_base64: the ciphertext is not base64");
        assert!(MlsError::not_ready("devices are missing").retryable());
    }
}
