//! Why a step of a test or of the demo failed: which device, what it was doing, and the answer.

use std::fmt;

use matrix_mls::MlsError;

/// A failed step, in words that need no debugger.
///
/// `Debug` writes the same sentence, as that is what a failed test prints.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum KitError {
    /// Something this machine lacks; the sentence says what to install.
    #[error("{0}")]
    Setup(String),
    /// A file or a process.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The homeserver gave no answer.
    #[error("{device}: {what}: no answer ({reason})")]
    NoAnswer {
        /// The user and device.
        device: String,
        /// The request.
        what: String,
        /// What the HTTP client said.
        reason: String,
    },
    /// The homeserver refused.
    #[error("{device}: {what}: the server answered {status}: {answer}")]
    Refused {
        /// The user and device.
        device: String,
        /// The request.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The answer's body.
        answer: String,
    },
    /// The homeserver's answer lacks what it must hold.
    #[error("{device}: {what}: the answer is not what the specification says: {answer}")]
    BadAnswer {
        /// The user and device.
        device: String,
        /// The request.
        what: String,
        /// The answer's body.
        answer: String,
    },
    /// The engine refused.
    #[error("{device}: {what}: {error}")]
    Engine {
        /// The user and device.
        device: String,
        /// What was asked of the engine.
        what: String,
        /// Its error.
        error: Box<MlsError>,
    },
    /// It did not happen in the time or the number of rounds given to it.
    #[error("{device}: {what}: gave up ({reason})")]
    GaveUp {
        /// The user and device.
        device: String,
        /// What was waited for.
        what: String,
        /// How far it got.
        reason: String,
    },
}

impl fmt::Debug for KitError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl KitError {
    /// The engine's error, if the engine has refused.
    pub fn of_engine(&self) -> Option<&MlsError> {
        match self {
            Self::Engine { error, .. } => Some(error),
            _ => None,
        }
    }

    /// The HTTP status, where the homeserver refused.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source }
    }
}
