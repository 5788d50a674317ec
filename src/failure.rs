//! What can fail whatever the input is: the store, and this library itself.
//!
//! Each domain has an error of its own that says what is wrong with its input; all of them hold a
//! [`Failure`] beside that. The store's failures end the turn, so they stay recognisable on every
//! floor ([`EndsTurn`]).

use std::fmt::Display;

use crate::{
    history::{CaptureError, LeavesError, archive::ArchiveError},
    protocol::{CredentialError, UnwritableContext},
    store::StoreError,
};

/// A failure that no input is to blame for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// This library has a defect.
    #[error("{reason}")]
    Defect {
        /// The step that failed: the code of the exported error.
        step: &'static str,
        /// A sentence for a log.
        reason: String,
    },
}

impl Failure {
    /// A step that cannot fail has failed.
    pub(crate) fn defect(step: &'static str, reason: impl Display) -> Self {
        Self::Defect { step, reason: reason.to_string() }
    }

    /// A row contradicts another row.
    pub(crate) fn damaged(reason: &str) -> Self {
        Self::Store(StoreError::Damaged(reason.to_owned()))
    }
}

/// Lets `?` turn lower errors into this one, by way of the variant that holds them.
macro_rules! through_variants {
    ($target:ty: $($error:ty => $variant:ident),+ $(,)?) => {
        $(impl From<$error> for $target {
            fn from(error: $error) -> Self {
                Self::$variant(error.into())
            }
        })+
    };
}
pub(crate) use through_variants;

/// An error of a part of a turn.
pub(crate) trait EndsTurn: From<StoreError> {
    /// Whether the store cannot work now, and nothing else can either: the turn is given up, and
    /// the app repeats it. A row that is damaged or was changed concerns its room alone.
    fn ends_turn(&self) -> bool;
}

impl EndsTurn for StoreError {
    fn ends_turn(&self) -> bool {
        !matches!(self, Self::Damaged(_) | Self::Changed(_))
    }
}

impl EndsTurn for Failure {
    fn ends_turn(&self) -> bool {
        matches!(self, Self::Store(error) if error.ends_turn())
    }
}

/// Leaves that this device keeps were checked when they came: a bad one is a damaged row.
impl From<LeavesError> for Failure {
    fn from(error: LeavesError) -> Self {
        match error {
            LeavesError::Credential | LeavesError::OtherChunk => {
                Self::Store(StoreError::Damaged(error.to_string()))
            }
            LeavesError::Encoding => Self::defect("epoch_export", error),
        }
    }
}

/// A credential in a kept leaf was checked when it came.
impl From<CredentialError> for Failure {
    fn from(error: CredentialError) -> Self {
        Self::Store(StoreError::Damaged(error.to_string()))
    }
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Open(error) => Self::defect("epoch_export", error),
            ArchiveError::Leaves(error) => error.into(),
            ArchiveError::Store(error) => error.into(),
        }
    }
}

impl From<CaptureError> for Failure {
    fn from(error: CaptureError) -> Self {
        Self::defect("epoch_export", error)
    }
}

impl From<UnwritableContext> for Failure {
    fn from(error: UnwritableContext) -> Self {
        Self::defect("group_context", error)
    }
}
