//! Why a call failed: the errors of all domains side by side. `api::error` gives each its exported
//! form and code.

use super::shadows::FollowError;
use crate::{
    backup::BackupError,
    devices::DevicesError,
    exporter::ExportError,
    failure::{EndsTurn, Failure, through_variants},
    identity::IdentityError,
    incoming::EventError,
    messages::{MessageError, SendError},
    rejection::{InputError, Rejection},
    secrets::SecretsError,
    sessions::{FileError, SessionError},
    signing::SigningError,
    store::StoreError,
    verification::VerificationError,
};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// It failed, whatever was asked.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// No request has such an id.
    #[error("id: no request has such an id: give the id of the request as it was handed out")]
    UnknownRequest,
    /// What the homeserver answered is not taken.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// This device's own keys are at fault.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// An answer about devices is at fault.
    #[error(transparent)]
    Devices(#[from] DevicesError),
    /// An event is at fault.
    #[error(transparent)]
    Event(#[from] EventError),
    /// A message cannot be read.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A reader cannot follow to a message's epoch.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// No secret can be exported.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// Nothing can be sent to the room now.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The key backup is at fault.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// A file of epochs is at fault.
    #[error(transparent)]
    File(#[from] FileError),
    /// A session could not be written.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// This user's own identity is at fault.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// A verification is at fault.
    #[error(transparent)]
    Verification(#[from] VerificationError),
    /// Secret storage is at fault.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
}

impl EngineError {
    /// The store's failure, if it is one that concerns reading.
    pub(super) fn store_error(&self) -> Option<&StoreError> {
        match self {
            Self::Failure(Failure::Store(error))
            | Self::Message(MessageError::Failure(Failure::Store(error)))
            | Self::Event(
                EventError::Failure(Failure::Store(error))
                | EventError::Message(MessageError::Failure(Failure::Store(error))),
            ) => Some(error),
            _ => None,
        }
    }

    /// Whether the keys that the store has for a room are not, or not only, this device's.
    pub(super) fn is_change_of_store(&self) -> bool {
        match self {
            Self::Failure(failure) | Self::Send(SendError::Failure(failure)) => {
                matches!(failure, Failure::Store(StoreError::Changed(_)))
            }
            Self::Send(error) => *error == SendError::NotOwnLeaf,
            _ => false,
        }
    }
}

through_variants! { EngineError:
    StoreError => Failure,
}

impl From<InputError> for EngineError {
    fn from(error: InputError) -> Self {
        match error {
            InputError::Failure(failure) => Self::Failure(failure),
            InputError::Rejected(rejection) => Self::Rejected(rejection),
        }
    }
}

impl EndsTurn for EngineError {
    fn ends_turn(&self) -> bool {
        match self {
            Self::Failure(failure) => failure.ends_turn(),
            Self::Identity(IdentityError::Store(error))
            | Self::Devices(DevicesError::Store(error))
            | Self::Session(SessionError::Store(error)) => error.ends_turn(),
            Self::Event(error) => error.ends_turn(),
            Self::Message(error) => error.ends_turn(),
            Self::Send(error) => error.ends_turn(),
            Self::Export(error) => error.ends_turn(),
            Self::Backup(error) => error.ends_turn(),
            Self::Signing(error) => error.ends_turn(),
            Self::Verification(error) => error.ends_turn(),
            Self::Secrets(error) => error.ends_turn(),
            Self::UnknownRequest
            | Self::Follow(_)
            | Self::Rejected(_)
            | Self::Identity(_)
            | Self::Devices(_)
            | Self::File(_)
            | Self::Session(_) => false,
        }
    }
}
