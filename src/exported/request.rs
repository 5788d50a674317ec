//! `OutgoingRequest`: what the app sends to its homeserver, and what became of it.

use std::fmt;

/// An HTTP request that the app sends to its homeserver with its own client and access token.
#[derive(Clone, PartialEq, Eq, uniffi::Record)]
pub struct OutgoingRequest {
    /// Names the request in [`MlsMachine::mark_request_as_sent`](crate::MlsMachine::mark_request_as_sent).
    pub id: String,
    /// The HTTP method, in capitals: `GET`, `POST`, `PUT` or `DELETE`.
    pub method: String,
    /// The full client-server API path with its query, to append to the homeserver's base URL.
    pub path: String,
    /// The value of the `Content-Type` header.
    pub content_type: String,
    /// The body, to be sent as it is; empty for `GET`. Uploads to the media repository can have megabytes.
    pub body: Vec<u8>,
}

/// Without the body, which may be long and is nobody's business in a log.
impl fmt::Debug for OutgoingRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, method, path, body, .. } = self;
        write!(formatter, "OutgoingRequest({id}: {method} {path}, {} bytes)", body.len())
    }
}

/// What became of a request, as the machine sees it.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Enum)]
pub enum RequestOutcome {
    /// The homeserver took it, and the machine has moved on.
    Accepted,
    /// It stays in the queue and is handed out again, not before this many milliseconds from now.
    RetryLater {
        /// How long to wait, in milliseconds.
        after_ms: u64,
    },
    /// The homeserver refused it for good: what it stood for was undone and is planned again.
    Refused {
        /// The Matrix `errcode`, or `HTTP_` and the status.
        code: String,
        /// The homeserver's sentence.
        reason: String,
    },
}
