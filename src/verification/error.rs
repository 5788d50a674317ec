//! Why a call about a verification failed.

use crate::{
    devices::DevicesError,
    failure::{EndsTurn, Failure, through_variants},
    store::StoreError,
};

/// Why a call about a verification failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerificationError {
    /// It failed, whatever was asked.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// The homeserver's answer about the other side's keys cannot be read.
    #[error(transparent)]
    Devices(DevicesError),
    /// An Olm machine verifies for this device.
    #[error("the app's Olm machine verifies for this device")]
    BesideOlm,
    /// There is no such verification, or it has been over for long.
    #[error("there is no such verification")]
    Unknown,
    /// The call does not fit where the verification stands.
    #[error("the verification is not {0}")]
    NotNow(&'static str),
    /// This very device is to be verified.
    #[error("a device does not verify itself")]
    OwnDevice,
    /// A user does not verify themselves in a room.
    #[error("devices of one user verify each other by themselves, not in a room")]
    OwnUser,
    /// Too many go on at once.
    #[error("too many verifications are under way: finish or cancel one")]
    TooMany,
}

through_variants! { VerificationError:
    StoreError => Failure,
}

impl From<DevicesError> for VerificationError {
    fn from(error: DevicesError) -> Self {
        match error {
            DevicesError::Store(error) => error.into(),
            error @ DevicesError::MalformedAnswer => Self::Devices(error),
        }
    }
}

impl EndsTurn for VerificationError {
    fn ends_turn(&self) -> bool {
        matches!(self, Self::Failure(failure) if failure.ends_turn())
    }
}
