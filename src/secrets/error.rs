//! Why something about secret storage failed.

use crate::{
    backup::BackupError,
    failure::{EndsTurn, Failure, through_variants},
    rejection::Rejection,
    sessions::SealedError,
    signing::SigningError,
    store::StoreError,
    verification::VerificationError,
};

/// Why something about secret storage failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretsError {
    /// It failed, whatever was asked.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// The own identity is at fault.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// The key backup is at fault.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// A verification is at fault.
    #[error(transparent)]
    Verification(#[from] VerificationError),
    /// What another device sends is not taken.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// Something else is being read or stored.
    #[error("secrets are being read or stored already")]
    Busy,
    /// This device does not have all private keys of its user's identity.
    #[error("this device does not have all private keys of its user's identity")]
    Incomplete,
}

through_variants! { SecretsError:
    StoreError => Failure,
}

/// Sealing fails only if the crypto provider does, which is a defect.
impl From<SealedError> for SecretsError {
    fn from(error: SealedError) -> Self {
        Self::Failure(Failure::defect("secrets", error))
    }
}

impl EndsTurn for SecretsError {
    fn ends_turn(&self) -> bool {
        match self {
            Self::Failure(failure) => failure.ends_turn(),
            Self::Signing(error) => error.ends_turn(),
            Self::Backup(error) => error.ends_turn(),
            Self::Verification(error) => error.ends_turn(),
            Self::Rejected(_) | Self::Busy | Self::Incomplete => false,
        }
    }
}
