//! `OutgoingRequest`: what the app sends to its homeserver, and what the answer meant.

use std::fmt;

/// An HTTP request that the app sends to its homeserver with its own client and access token.
#[derive(Clone, PartialEq, Eq, uniffi::Record)]
#[uniffi::export(Debug)]
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

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Enum)]
#[non_exhaustive]
pub enum RequestKind {
    /// It asks which keys the homeserver has for this device.
    CheckKeys,
    /// It uploads this device's keys and key packages.
    UploadKeys,
    /// It takes one of this device's own key packages back that is too old for others.
    TakeBackKey,
    /// It asks for the devices of users.
    QueryKeys,
    /// It claims key packages of devices that are to be added to a room's group.
    ClaimKeys,
    /// It makes a room an encrypted one.
    EnableEncryption,
    /// It sends a commit, or announces a group.
    Commit,
    /// It has the room's state say that the room's group was started anew.
    Restart,
    /// It uploads a part of a commit to the media repository.
    UploadPart,
    /// It downloads a part of another device's commit from the media repository.
    DownloadPart,
    /// It sends Welcomes to devices that were added.
    Welcome,
    /// It fetches an event that is missing.
    FetchEvent,
    /// It reads a page of a room's history.
    FetchHistory,
    /// It asks who is in a room.
    FetchMembers,
    /// It sets a push rule of the account, by which commits notify nobody.
    SetPushRule,
    /// It looks for, creates, fills or deletes the key backup.
    Backup,
    /// It fetches sessions from the key backup.
    Restore,
    /// It gives history to devices that were added.
    ShareHistory,
    /// It reads or writes secret storage in the account data.
    SecretStorage,
    /// It uploads a new cross-signing identity of this user.
    UploadIdentity,
    /// It uploads a signature that was made with a cross-signing key of this user.
    UploadSignature,
    /// It hands this user's secrets to another of their devices that was verified.
    HandOverSecrets,
    /// It sends an event of a verification, or asks for the keys of who is verified.
    Verify,
}

/// What is in the queue of requests.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct PendingRequests {
    /// The number of requests that `outgoing_requests` gives now.
    pub due: u64,
    /// The number of requests that were put off.
    pub put_off: u64,
    /// The time until the first of those that were put off is due, in milliseconds; absent if none
    /// was put off.
    pub retry_after_ms: Option<u64>,
    /// Whether the homeserver refuses the app's access token, as far as is known.
    pub unauthorized: bool,
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
    /// The homeserver refuses the app's access token. The request stays in the queue, so nothing is
    /// lost. Get another token, or log in again as the same device, and go on.
    ///
    /// The request is given again after the delay, and sooner after
    /// [`MlsMachine::access_token_renewed`](crate::MlsMachine::access_token_renewed).
    Unauthorized {
        /// The Matrix `"errcode"`.
        code: String,
        /// Whether the homeserver keeps the device (`"soft_logout"`): the app can log in again with
        /// the same device id.
        soft_logout: bool,
        /// The shortest time until the request is given again, in milliseconds.
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
