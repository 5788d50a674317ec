//! What can go wrong, and what a caller does about it.

use matrix_mls::MlsError;
use matrix_sdk::ruma::OwnedRoomId;

/// Why a call of this crate has failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The machine refuses, or its store fails. The code of the error says which
    /// (`MlsError::code`).
    #[error(transparent)]
    Mls(#[from] MlsError),
    /// The client has no session: log in, or restore one.
    #[error("the client is not logged in")]
    NotLoggedIn,
    /// The homeserver refuses the access token, and the client could not get another one. Nothing
    /// is lost: log in again as the same device, and call again.
    #[error("the homeserver refuses the access token: {code}")]
    Unauthorized {
        /// The Matrix `"errcode"`.
        code: String,
    },
    /// There was no answer: no network, or a homeserver that fails. Call again later.
    #[error("no answer to {what}")]
    NoAnswer {
        /// What was asked.
        what: String,
    },
    /// The homeserver refuses.
    #[error("the homeserver refuses {what}: {status} {code}: {reason}")]
    Refused {
        /// What was asked.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The Matrix `"errcode"`; empty where there is none.
        code: String,
        /// The homeserver's sentence.
        reason: String,
        /// How long it wants to be left alone, in milliseconds, where it says so (429).
        retry_after_ms: Option<u64>,
    },
    /// An answer of the homeserver cannot be read.
    #[error("an answer to {what} that cannot be read: {reason}")]
    BadAnswer {
        /// What was asked.
        what: String,
        /// Why it cannot be read.
        reason: String,
    },
    /// The position of the sync connection could not be written or read.
    #[error("keeping the position of the sync: {0}")]
    Position(#[source] std::io::Error),
    /// [`run`](crate::Mls::run) is under way already.
    #[error("it runs already")]
    AlreadyRunning,
    /// The room cannot go over to MLS now.
    #[error("{room_id} cannot go over to MLS: {reason}")]
    CannotUpgrade {
        /// The room.
        room_id: OwnedRoomId,
        /// What stands in the way.
        reason: String,
    },
    /// An event is none: it has no JSON object, or no id.
    #[error("this is no event: {0}")]
    BadEvent(String),
    /// The client could not build or send a request.
    #[error("sending through the client: {0}")]
    Http(#[source] Box<matrix_sdk::HttpError>),
    /// The client fails.
    #[error(transparent)]
    Sdk(#[from] Box<matrix_sdk::Error>),
    /// The Olm machine's store could not be opened, or its machine could not sign.
    #[error("the Olm machine's store: {0}")]
    OlmStore(String),
    /// The key backup cannot be shared with the Olm machine.
    #[error("the key backup: {0}")]
    Backup(String),
}

impl Error {
    /// Whether the same call may succeed later without anybody having done anything.
    pub fn is_transient(&self) -> bool {
        match self {
            // A captive portal answers anything.
            Self::NoAnswer { .. } | Self::BadAnswer { .. } => true,
            Self::Refused { status, .. } => *status == 429 || *status >= 500,
            // Its store may have space again, or be open again.
            Self::Mls(error) => error.retryable(),
            Self::Position(_) => true,
            Self::NotLoggedIn
            | Self::Unauthorized { .. }
            | Self::AlreadyRunning
            | Self::CannotUpgrade { .. }
            | Self::BadEvent(_)
            | Self::Http(_)
            | Self::Sdk(_)
            | Self::OlmStore(_)
            | Self::Backup(_) => false,
        }
    }
}

impl From<matrix_sdk::Error> for Error {
    fn from(error: matrix_sdk::Error) -> Self {
        Self::Sdk(Box::new(error))
    }
}
