//! `OutgoingRequest`: what the app sends to its homeserver, and what the answer meant.

use std::fmt;

/// An HTTP request that the app sends to its homeserver with its own client and access token.
#[derive(Clone, PartialEq, Eq, uniffi::Record)]
pub struct OutgoingRequest {
    /// The request's id, for
    /// [`MlsMachine::mark_request_as_sent`](crate::MlsMachine::mark_request_as_sent).
    pub id: String,
    /// The HTTP method, in capitals: `GET`, `POST`, `PUT` or `DELETE`.
    pub method: String,
    /// The path of the client-server API with its query, to append to the homeserver's base URL.
    pub path: String,
    /// The value of the `Content-Type` header.
    pub content_type: String,
    /// The body, to be sent as it is; empty for `GET`. Media uploads may have megabytes.
    pub body: Vec<u8>,
}

/// Leaves out the body, which may be long and must not be in a log.
impl fmt::Debug for OutgoingRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, method, path, body, .. } = self;
        write!(formatter, "OutgoingRequest({id}: {method} {path}, {} bytes)", body.len())
    }
}

/// What the answer to a request meant.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Enum)]
pub enum RequestOutcome {
    /// The homeserver accepted the request, and the machine has moved on.
    Accepted,
    /// The request stays in the queue and is given again later.
    RetryLater {
        /// The shortest time until it is given again, in milliseconds.
        after_ms: u64,
    },
    /// The homeserver refused the request for good. What it stood for was undone and is planned
    /// again.
    Refused {
        /// The Matrix `"errcode"`, or `HTTP_` and the status.
        code: String,
        /// The homeserver's sentence.
        reason: String,
    },
}
