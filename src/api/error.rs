//! `MlsError`: the errors an app meets. Few variants, each with a stable `code`, a sentence for a log,
//! and whether trying again can help.
//!
//! Nothing in this crate panics on outside input; what goes wrong arrives here. The core has error
//! types of its own, one a domain; `error_codes` gives each its variant and its code.

use std::fmt;

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

impl ErrorDetails {
    pub(super) fn new(code: &str, reason: impl ToString, retryable: bool) -> Self {
        Self { code: code.to_owned(), reason: reason.to_string(), retryable }
    }
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

    /// An argument is not what the call takes.
    pub(crate) fn invalid(code: &str, reason: impl ToString) -> Self {
        Self::InvalidInput { details: ErrorDetails::new(code, reason, false) }
    }

    /// The machine was closed.
    pub(crate) fn closed() -> Self {
        Self::Closed { details: ErrorDetails::new("closed", "the machine was closed", false) }
    }

    /// This library has a defect.
    pub(crate) fn internal(code: &str, reason: impl ToString) -> Self {
        Self::Internal { details: ErrorDetails::new(code, reason, false) }
    }
}
