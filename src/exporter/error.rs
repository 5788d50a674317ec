//! Why nothing is exported.

use super::limits::{LONGEST, LONGEST_CONTEXT, LONGEST_LABEL, SHORTEST};
use crate::{
    failure::{EndsTurn, Failure, through_variants},
    messages::SendError,
    room::Outside,
    store::StoreError,
};

/// Why nothing is exported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExportError {
    /// Exporting failed, whatever was asked for.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// The room is not ready for anything to be sent, or this device has no group of it.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The label is empty or too long.
    #[error("label: it has 1 to {} bytes", LONGEST_LABEL)]
    BadLabel,
    /// The label is one that this library uses, or may use.
    #[error(
        "label: names that begin with {0} are this library's: choose one that begins with a domain \
         of yours"
    )]
    ReservedLabel(&'static str),
    /// The length is out of range.
    #[error("length: a secret has {} to {} bytes", SHORTEST, LONGEST)]
    BadLength,
    /// The context is too long.
    #[error("context: it has at most {} bytes", LONGEST_CONTEXT)]
    BadContext,
    /// This is no id of an epoch.
    #[error("epoch_id: it is no id of an epoch: give the epoch_id of an ExportedSecret")]
    BadEpochId,
    /// This device does not know the epoch, or not yet.
    #[error("the epoch is not known: its commit comes with a later sync, if there is one")]
    UnknownEpoch,
    /// Only what reads the epoch's messages came here, from a backup, a file or a member.
    #[error(
        "this device was not in the epoch: it can read the epoch's messages, and export nothing"
    )]
    RestoredEpoch,
    /// The epoch's state was dropped, or is not to be trusted.
    #[error("the epoch is over, and what could be exported of it was deleted")]
    NotKept,
}

impl EndsTurn for ExportError {
    fn ends_turn(&self) -> bool {
        match self {
            Self::Failure(failure) => failure.ends_turn(),
            Self::Send(error) => error.ends_turn(),
            _ => false,
        }
    }
}

impl From<Outside> for ExportError {
    fn from(error: Outside) -> Self {
        Self::Send(error.into())
    }
}

through_variants! { ExportError:
    StoreError => Failure,
}
