//! The persistent request queue: what to send, and the exported shape of a request.
//!
//! A request is made once, from ruma's typed request, and kept in the store as method, path and
//! body until its answer is known. One handed out before a crash is handed out again after it,
//! byte for byte and with the same transaction id, so that sending it twice does no harm. What an
//! answer means for the room or the device is decided in `engine::answers`.

use std::{borrow::Cow, fmt};

use http::{header::CONTENT_TYPE, uri::PathAndQuery};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedTransactionId, TransactionId,
    api::{
        MatrixVersion, OutgoingRequest as RumaRequest, OutgoingRequestExt, SupportedVersions,
        auth_scheme::{AuthScheme, SendAccessToken},
        path_builder::PathBuilder,
    },
};
use serde::{Deserialize, Serialize};

use crate::{
    backup::Batch,
    devices::{DeviceId, KeyQuery},
    error::MlsError,
    group::{EpochId, Part, share::Bundle},
    identity::UploadPlan,
    protocol::MediaReference,
    store::{Collection, Queue, StoreError, Tx},
};

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

/// What a request is for, and so what its answer means.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// `POST /keys/upload`: device keys and key packages.
    UploadKeys(UploadPlan),
    /// `POST /keys/query`: the device lists of users.
    QueryKeys(KeyQuery),
    /// `POST /keys/claim`: a key package of each of these devices, for one room.
    ClaimKeys { room_id: OwnedRoomId, devices: Vec<DeviceId> },
    /// `PUT /rooms/…/state/m.room.encryption`.
    EnableEncryption { room_id: OwnedRoomId },
    /// `PUT /rooms/…/send/m.room.encrypted`: a commit, or the announcement of a new group.
    Commit { room_id: OwnedRoomId, epoch: EpochId },
    /// `PUT /sendToDevice/m.room.encrypted`: Welcomes.
    Welcome { room_id: OwnedRoomId },
    /// `POST /media/upload`: a part of a commit that no event could hold.
    Upload { room_id: OwnedRoomId, epoch: EpochId, part: Part },
    /// `GET /media/download/…`: a part of another's.
    Download { room_id: OwnedRoomId, reference: MediaReference },
    /// `GET /rooms/…/event/…`: a commit that others are based on.
    FetchEvent { room_id: OwnedRoomId, event_id: OwnedEventId },
    /// `GET /rooms/…/messages`, backwards: where the room's public group state is.
    WalkBack { room_id: OwnedRoomId },
    /// `GET /room_keys/version`: which backup there is.
    BackupVersion,
    /// `POST /room_keys/version`.
    CreateBackup,
    /// `DELETE /room_keys/version/…`.
    DeleteBackup,
    /// `PUT /room_keys/keys`: epochs for the backup.
    BackUp(Batch),
    /// `DELETE /room_keys/keys/…`: an epoch whose keys were deleted here.
    Unback { room_id: OwnedRoomId },
    /// `POST /media/upload`: history for devices that were added.
    OfferHistory(Bundle),
    /// `PUT /sendToDevice/m.room.encrypted`: where that is.
    TellHistory { room_id: OwnedRoomId },
    /// `GET /room_keys/keys…`: what a restore brings back.
    RestoreKeys { restore: u64 },
    /// The same: where commits are that the homeserver does not have by their event id.
    FindCommits { room_id: OwnedRoomId },
    /// `GET /rooms/…/members`: who is in the room.
    FetchMembers { room_id: OwnedRoomId },
}

/// A request in the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct QueuedRequest {
    pub(crate) purpose: Purpose,
    pub(crate) method: String,
    pub(crate) path: String,
    /// Empty where the body is kept beside, in [`BODIES`].
    #[serde(with = "serde_bytes")]
    pub(crate) body: Vec<u8>,
    #[serde(default = "json")]
    pub(crate) content_type: String,
    /// When to send it, in milliseconds since 1970.
    pub(crate) due_ms: u64,
    /// How often it has failed so far.
    pub(crate) failures: u32,
    /// Whether the app has seen it: then it may have reached the homeserver.
    pub(crate) handed_out: bool,
}

/// Requests of all kinds, oldest first; those of a room under the room's id.
pub(crate) const REQUESTS: Queue<QueuedRequest> = Queue::new("request");

/// Bodies that would make every look at the queue expensive, by request.
const BODIES: Collection<serde_bytes::ByteBuf> = Collection::new("request_body");
/// From which length on a body is kept beside its request.
const LONG_BODY: usize = 64 * 1024;

const JSON: &str = "application/json";

fn json() -> String {
    JSON.to_owned()
}

/// The scope of requests that belong to no room.
pub(crate) const DEVICE_SCOPE: &[u8] = b"";
/// The scope of the backup's.
pub(crate) const BACKUP_SCOPE: &[u8] = b"backup";

/// The first delay after a failure, in milliseconds; it doubles with each further one.
const FIRST_DELAY_MS: u64 = 1_000;
/// The longest delay of our own.
const MAX_DELAY_MS: u64 = 5 * 60 * 1_000;

/// How long to wait after a failure, when there were so many before it.
pub(crate) fn delay_ms(failures: u32) -> u64 {
    FIRST_DELAY_MS.saturating_mul(1 << failures.min(16)).min(MAX_DELAY_MS)
}

/// Puts a request into the queue.
pub(crate) fn enqueue<R>(
    tx: &Tx<'_>,
    scope: &[u8],
    now_ms: u64,
    purpose: Purpose,
    request: R,
) -> Result<i64, MlsError>
where
    R: RumaRequest,
    for<'a> R::Authentication: AuthScheme<Input<'a> = SendAccessToken<'a>>,
    for<'a> R::PathBuilder: PathBuilder<Input<'a> = Cow<'a, SupportedVersions>>,
{
    // The app adds its own base URL and access token; ruma wants some of each.
    let versions = SupportedVersions {
        versions: [MatrixVersion::V1_1, MatrixVersion::V1_11].into(),
        features: Default::default(),
    };
    let http = request
        .try_into_http_request::<Vec<u8>>(
            "https://homeserver.invalid",
            SendAccessToken::IfRequired("app"),
            Cow::Owned(versions),
        )
        .map_err(|error| MlsError::internal("request", error))?;
    let path = strict(http.uri().path_and_query().map(PathAndQuery::as_str).unwrap_or_default());
    let content_type = http.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let mut queued = QueuedRequest {
        purpose,
        method: http.method().to_string(),
        path,
        content_type: content_type.unwrap_or(JSON).to_owned(),
        body: http.into_body(),
        due_ms: now_ms,
        failures: 0,
        handed_out: false,
    };
    let long = (queued.body.len() >= LONG_BODY).then(|| std::mem::take(&mut queued.body));
    let id = REQUESTS.push(tx, scope, now_ms, &queued)?;
    if let Some(body) = long {
        BODIES.put(tx, b"", &id.to_be_bytes(), &body.into())?;
    }
    Ok(id)
}

/// What RFC 3986 lets stand in no path or query: what parses URLs in an app may take none of it, as Java's does,
/// and session ids have a `|`. A `%` is one of ruma's.
const NOT_IN_PATHS: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A path in which nothing else stands.
fn strict(path: &str) -> String {
    utf8_percent_encode(path, NOT_IN_PATHS).to_string()
}

/// Takes a request out of the queue; tells whether it was there.
pub(crate) fn remove(tx: &Tx<'_>, id: i64) -> Result<bool, StoreError> {
    BODIES.delete(tx, b"", &id.to_be_bytes())?;
    REQUESTS.remove(tx, id)
}

/// A transaction id that no other request has.
pub(crate) fn transaction_id() -> OwnedTransactionId {
    TransactionId::new()
}

impl OutgoingRequest {
    /// The exported form of a queued request.
    fn of(tx: &Tx<'_>, id: i64, queued: QueuedRequest) -> Result<Self, StoreError> {
        let beside = BODIES.get(tx, b"", &id.to_be_bytes())?.map(serde_bytes::ByteBuf::into_vec);
        Ok(Self {
            id: id.to_string(),
            method: queued.method,
            path: queued.path,
            content_type: queued.content_type,
            body: beside.unwrap_or(queued.body),
        })
    }
}

/// Notes that the app has seen these requests, and gives their exported form.
pub(crate) fn hand_out(
    tx: &Tx<'_>,
    requests: Vec<(i64, QueuedRequest)>,
) -> Result<Vec<OutgoingRequest>, StoreError> {
    let mut out = Vec::with_capacity(requests.len());
    for (id, mut queued) in requests {
        if !queued.handed_out {
            queued.handed_out = true;
            REQUESTS.update(tx, id, queued.due_ms, &queued)?;
        }
        out.push(OutgoingRequest::of(tx, id, queued)?);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_that_every_parser_of_urls_takes() {
        let path = "/keys/!r:x/1|QGE/%2F?version=1&at={\"ü\"}";
        assert_eq!(strict(path), "/keys/!r:x/1%7CQGE/%2F?version=1&at=%7B%22%C3%BC%22%7D");
        assert_eq!(strict(&strict(path)), strict(path));
    }

    #[test]
    fn delays_double_and_end() {
        assert_eq!(delay_ms(0), 1_000);
        assert_eq!(delay_ms(3), 8_000);
        assert_eq!(delay_ms(u32::MAX), MAX_DELAY_MS);
    }
}
