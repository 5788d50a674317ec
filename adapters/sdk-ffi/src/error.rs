//! What can go wrong. matrix-sdk-ffi has a `ClientError` with the sentence of what failed; this one
//! keeps the stable code of the MLS machine beside it.

use matrix_mls_sdk::Error;

/// Why a call has failed.
#[derive(Debug, thiserror::Error, uniffi::Error)]
pub enum ClientError {
    /// The MLS machine refuses, or its store fails.
    #[error("{code}: {reason}")]
    Mls {
        /// The code, as in matrix-mls's list of errors.
        code: String,
        /// A sentence for developers.
        reason: String,
    },
    /// The SDK or the homeserver refuses.
    #[error("{reason}")]
    Generic {
        /// A sentence for developers.
        reason: String,
    },
}

impl ClientError {
    /// Anything but the machine.
    pub(crate) fn generic(error: impl std::fmt::Display) -> Self {
        Self::Generic { reason: error.to_string() }
    }
}

impl From<Error> for ClientError {
    fn from(error: Error) -> Self {
        match error {
            Error::Mls(error) => {
                Self::Mls { code: error.code().to_owned(), reason: error.reason().to_owned() }
            }
            other => Self::generic(other),
        }
    }
}
