//! What became of an event that could not be used, or not yet.

use crate::{
    epochs::UnknownEpoch,
    failure::{EndsTurn, Failure, through_variants},
    history::{LeavesError, Malformed},
    messages::{MessageError, SendError},
    protocol::{CredentialError, GroupName, JsonError, PayloadError},
    rejection::{InputError, Rejection},
    room::Outside,
    store::StoreError,
};

/// Why an event was not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EventError {
    /// Taking it in failed, whatever the event.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// It is malformed, forged or not allowed.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// It is a message that cannot be read.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// It is a commit, and the epoch that it is based on is not known.
    #[error(transparent)]
    UnknownEpoch(#[from] UnknownEpoch),
    /// It needs something that is still to come.
    #[error("{0}")]
    Awaits(Awaited),
    /// A value that it needs cannot be had, or is another than was named.
    #[error("{0}")]
    BadMedia(&'static str),
    /// It is a commit that this device cannot follow.
    #[error("{0}")]
    NotFollowed(String),
    /// It is a commit that this device cannot follow, for the time that its clock shows.
    #[error("{0}")]
    OutOfTime(String),
    /// This device has no group for the room.
    #[error(transparent)]
    NotInGroup(#[from] Outside),
    /// It made something to be sent, which failed.
    #[error(transparent)]
    Send(#[from] SendError),
}

/// What an event waits for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Awaited {
    /// A value in the media repository.
    #[error("a value is still to be fetched from the media repository")]
    Media,
    /// This device is not in the group, or not in that part of it, yet.
    #[error("{0}")]
    Group(String),
    /// The room's state does not name that group, and may name it yet.
    #[error("the room's state does not say yet that the room goes on in that group")]
    Restart(GroupName),
    /// No sync has shown yet that the room uses MLS and that this user is in it.
    #[error("no sync has shown yet that the room uses MLS and that this user is in it")]
    Room,
    /// The sender is not known to be in the room.
    #[error("the sender is not known to be in the room")]
    Sender,
}

impl EventError {
    /// The code of what is not taken, for a log.
    pub(crate) fn code_of_rejection(&self) -> Option<&'static str> {
        match self {
            Self::Rejected(rejection) => Some(rejection.code()),
            _ => None,
        }
    }

    /// Whether the event is worth keeping: what it lacks may come.
    pub(crate) fn can_wait(&self) -> bool {
        match self {
            Self::Failure(Failure::Store(StoreError::Damaged(_)))
            | Self::Send(SendError::Failure(Failure::Store(StoreError::Damaged(_))))
            | Self::Awaits(_)
            | Self::UnknownEpoch(UnknownEpoch::NotYet(_))
            | Self::Rejected(Rejection::Payload(PayloadError::InMedia)) => true,
            Self::Message(error) => matches!(
                error,
                MessageError::Failure(Failure::Store(StoreError::Damaged(_)))
                    | MessageError::UnknownEpoch(UnknownEpoch::NotYet(_))
                    | MessageError::Rejected(Rejection::Payload(PayloadError::InMedia))
            ),
            _ => false,
        }
    }

    /// Whether the event waits for a commit, and not for anything else.
    pub(crate) fn awaits_commit(&self) -> bool {
        matches!(
            self,
            Self::UnknownEpoch(UnknownEpoch::NotYet(_))
                | Self::Awaits(Awaited::Group(_) | Awaited::Sender)
                | Self::Message(MessageError::UnknownEpoch(UnknownEpoch::NotYet(_)))
        )
    }

    /// The same, where the commit that it waits for will never come.
    pub(crate) fn lost(self) -> Self {
        match self {
            Self::UnknownEpoch(UnknownEpoch::NotYet(number)) => UnknownEpoch::Lost(number).into(),
            Self::Message(MessageError::UnknownEpoch(UnknownEpoch::NotYet(number))) => {
                MessageError::from(UnknownEpoch::Lost(number)).into()
            }
            other => other,
        }
    }

    /// Whether it is a commit from before this device was in the group.
    pub(crate) fn is_before_joining(&self) -> bool {
        matches!(
            self,
            Self::UnknownEpoch(UnknownEpoch::BeforeJoining(_))
                | Self::Message(MessageError::UnknownEpoch(UnknownEpoch::BeforeJoining(_)))
        )
    }
}

impl EndsTurn for EventError {
    fn ends_turn(&self) -> bool {
        match self {
            Self::Failure(failure) => failure.ends_turn(),
            Self::Message(error) => error.ends_turn(),
            Self::Send(error) => error.ends_turn(),
            _ => false,
        }
    }
}

impl From<InputError> for EventError {
    fn from(error: InputError) -> Self {
        match error {
            InputError::Failure(failure) => Self::Failure(failure),
            InputError::Rejected(rejection) => Self::Rejected(rejection),
        }
    }
}

through_variants! { EventError:
    StoreError => Failure,
    LeavesError => Failure,
    JsonError => Rejected,
    PayloadError => Rejected,
    CredentialError => Rejected,
    Malformed => Rejected,
}
