//! Why something about this user's own identity failed.

use crate::{
    devices,
    failure::{EndsTurn, Failure, through_variants},
    identity::OTHER_KEYS,
    rejection::Rejection,
    store::StoreError,
};

/// Why something about this user's own identity failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SigningError {
    /// It failed, whatever was asked.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// What the homeserver answered is not taken.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// An Olm machine owns the identity.
    #[error("the app's Olm machine owns this user's cross-signing identity")]
    BesideOlm,
    /// The homeserver has other keys under this device's id.
    #[error("{OTHER_KEYS}")]
    OtherKeys,
    /// Something else about the identity is under way.
    #[error("something else about this user's identity is under way")]
    Busy,
    /// This user has an identity, which was not to be replaced.
    #[error("this user has a cross-signing identity already: recover it, or reset it")]
    Exists,
    /// The homeserver does not ask for proof of who the user is.
    #[error("the homeserver does not ask who the user is")]
    NoAuthNeeded,
    /// The app's `auth` is not a JSON object.
    #[error("auth: it is not a JSON object, or longer than 64 kB")]
    BadAuth,
    /// The keys that would sign may not, or what they would sign is not there.
    #[error(transparent)]
    Keys(devices::SigningError),
}

through_variants! { SigningError:
    StoreError => Failure,
}

impl From<devices::SigningError> for SigningError {
    fn from(error: devices::SigningError) -> Self {
        match error {
            devices::SigningError::Store(error) => error.into(),
            error => Self::Keys(error),
        }
    }
}

impl EndsTurn for SigningError {
    fn ends_turn(&self) -> bool {
        matches!(self, Self::Failure(failure) if failure.ends_turn())
    }
}
