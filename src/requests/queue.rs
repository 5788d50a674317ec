//! The queue of one store's requests: made once, kept until the answer is known.

use std::{borrow::Cow, mem::take};

use http::{header::CONTENT_TYPE, uri::PathAndQuery};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use ruma::{
    OwnedTransactionId, RoomId, TransactionId,
    api::{
        MatrixVersion, OutgoingRequest as RumaRequest, OutgoingRequestExt, SupportedVersions,
        auth_scheme::{AuthScheme, SendAccessToken},
        path_builder::PathBuilder,
    },
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::{backoff::MOST_IMPOSED_MS, purpose::Purpose};
use crate::{
    exported::OutgoingRequest,
    failure::Failure,
    store::{Collection, Queue, StoreError, Tx},
};

/// Why a request was put off last. Rows hold these names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Wait {
    /// It was not, or an earlier version put it off.
    #[default]
    None,
    /// There was no answer, or none that says anything.
    Unanswered,
    /// The homeserver has asked for this delay.
    Imposed,
    /// The homeserver refuses the access token.
    Unauthorized,
    /// The homeserver refuses the request, and may take it later.
    Refused,
}

/// A request in the store. Its body may have a password, or a sealed key: it is wiped on drop, and
/// there is no `Debug`.
#[derive(Clone, Serialize, Deserialize)]
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
    /// Why it was put off last.
    #[serde(default)]
    pub(crate) wait: Wait,
    /// When a success of another request last ended its wait, in milliseconds since 1970.
    #[serde(default)]
    pub(crate) released_ms: u64,
}

impl Drop for QueuedRequest {
    fn drop(&mut self) {
        self.body.zeroize();
    }
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

/// Puts a request into the queue.
pub(crate) fn enqueue<R>(
    tx: &Tx<'_>,
    scope: &[u8],
    now_ms: u64,
    purpose: Purpose,
    request: R,
) -> Result<i64, Failure>
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
        .map_err(|error| Failure::defect("request", error))?;
    let path = strict(http.uri().path_and_query().map(PathAndQuery::as_str).unwrap_or_default());
    let content_type = http.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or(JSON).to_owned();
    let method = http.method().to_string();
    let request = new(now_ms, purpose, method, path, content_type, http.into_body());
    Ok(push(tx, scope, now_ms, request)?)
}

/// Puts a request with a body of JSON into the queue, or a `GET` without one. The path begins after
/// `/_matrix/client/v3`, and has its variables percent-encoded already.
///
/// For what ruma's typed requests would not keep as it is: an app's own `auth`, and objects whose
/// signatures cover every member.
pub(crate) fn enqueue_json(
    tx: &Tx<'_>,
    scope: &[u8],
    now_ms: u64,
    purpose: Purpose,
    (method, path): (&str, &str),
    body: Vec<u8>,
) -> Result<i64, StoreError> {
    let path = strict(&format!("/_matrix/client/v3{path}"));
    let request = new(now_ms, purpose, method.to_owned(), path, JSON.to_owned(), body);
    push(tx, scope, now_ms, request)
}

fn new(
    due_ms: u64,
    purpose: Purpose,
    method: String,
    path: String,
    content_type: String,
    body: Vec<u8>,
) -> QueuedRequest {
    QueuedRequest {
        purpose,
        method,
        path,
        content_type,
        body,
        due_ms,
        failures: 0,
        handed_out: false,
        wait: Wait::None,
        released_ms: 0,
    }
}

fn push(
    tx: &Tx<'_>,
    scope: &[u8],
    now_ms: u64,
    mut queued: QueuedRequest,
) -> Result<i64, StoreError> {
    let long = (queued.body.len() >= LONG_BODY).then(|| take(&mut queued.body));
    let id = REQUESTS.push(tx, scope, now_ms, &queued)?;
    if let Some(body) = long {
        let mut body = serde_bytes::ByteBuf::from(body);
        let kept = BODIES.put(tx, b"", &id.to_be_bytes(), &body);
        body.zeroize();
        kept?;
    }
    Ok(id)
}

/// What RFC 3986 forbids in a path or query. Some parsers of URLs in apps refuse it (Java's does),
/// and session ids have a `|`. A `%` in a path is already one of ruma's.
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

/// A path that every parser of URLs takes.
fn strict(path: &str) -> String {
    utf8_percent_encode(path, NOT_IN_PATHS).to_string()
}

/// The requests to send now, oldest first, at most `limit`.
pub(crate) fn due(
    tx: &Tx<'_>,
    now_ms: u64,
    limit: usize,
) -> Result<Vec<(i64, QueuedRequest)>, StoreError> {
    REQUESTS.due_or_beyond(tx, now_ms, now_ms.saturating_add(MOST_IMPOSED_MS), limit)
}

/// Whether a request is to be sent now. One that is put off for longer than any delay was put off
/// by a clock that has been set back since.
pub(crate) fn is_due(queued: &QueuedRequest, now_ms: u64) -> bool {
    queued.due_ms <= now_ms || queued.due_ms > now_ms.saturating_add(MOST_IMPOSED_MS)
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

/// The exported form of a queued request.
fn exported(
    tx: &Tx<'_>,
    id: i64,
    mut queued: QueuedRequest,
) -> Result<OutgoingRequest, StoreError> {
    let beside = BODIES.get(tx, b"", &id.to_be_bytes())?.map(serde_bytes::ByteBuf::into_vec);
    Ok(OutgoingRequest {
        id: id.to_string(),
        method: take(&mut queued.method),
        path: take(&mut queued.path),
        content_type: take(&mut queued.content_type),
        body: beside.unwrap_or_else(|| take(&mut queued.body)),
    })
}

/// Notes that the app has seen these requests, and gives their exported form. What this device must
/// remember of them is promised.
pub(crate) fn hand_out(
    tx: &Tx<'_>,
    requests: Vec<(i64, QueuedRequest)>,
) -> Result<Vec<OutgoingRequest>, StoreError> {
    let mut out = Vec::with_capacity(requests.len());
    for (id, mut queued) in requests {
        if !queued.handed_out {
            if !queued.purpose.is_made_again() {
                tx.promise();
            }
            queued.handed_out = true;
            REQUESTS.update(tx, id, queued.due_ms, &queued)?;
        }
        out.push(exported(tx, id, queued)?);
    }
    Ok(out)
}

/// The ids of a room's requests, oldest first.
pub(crate) fn ids_of_room(tx: &Tx<'_>, room: &RoomId) -> Result<Vec<i64>, StoreError> {
    Ok(REQUESTS.in_scope(tx, room.as_bytes())?.into_iter().map(|(id, _)| id).collect())
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
}
