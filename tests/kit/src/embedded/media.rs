//! The media repository: blobs as they come, for those who have logged in.
//!
//! A blob is any bytes with any content type, never looked at. It is downloaded through the
//! authenticated endpoint alone, as the older one knows none of today's uploads. What another
//! server stores is refused, as by a Synapse that federates with nobody.
//!
//! Above the limit this answers 413, as the specification and the proxies in front of a real server
//! do. A bare Synapse does so only for limits below 13 MB: with its default limit it resets the
//! connection instead, so that a client sees no answer at all.

use std::sync::Arc;

use axum::{
    Json,
    body::{Bytes, to_bytes},
    extract::{FromRequest, Path, Request, State},
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{
    Shared,
    accounts::random_text,
    answer::{Answer, Sender},
    error::Refusal,
    state::{Media, World},
};

/// Synapse's default limit.
pub(super) const DEFAULT_LIMIT: usize = 50 * 1024 * 1024;
/// What has no content type is this.
const UNTYPED: &str = "application/octet-stream";

/// The bytes of an upload, read to the end: whoever is answered while still sending may not see the
/// answer.
pub(super) struct Blob(Bytes);

impl FromRequest<Arc<Shared>> for Blob {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &Arc<Shared>) -> Result<Self, Self::Rejection> {
        let bad = |why: &str| Refusal::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", why);
        if !request.headers().contains_key(CONTENT_LENGTH) {
            return Err(bad("Request must specify a Content-Length"));
        }
        let bytes = to_bytes(request.into_body(), usize::MAX).await;
        bytes.map(Self).map_err(|_| bad("The request body ended too early"))
    }
}

pub(super) async fn upload(
    State(shared): State<Arc<Shared>>,
    _: Sender,
    headers: HeaderMap,
    Blob(bytes): Blob,
) -> Answer {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or(UNTYPED).to_owned();
    shared.change(|world| {
        if bytes.len() > world.upload_limit {
            return Err(Refusal::too_large("Upload request body is too large"));
        }
        let id = random_text(24);
        let uri = format!("mxc://{}/{id}", world.server_name);
        world.media.insert(id, Media { content_type, bytes });
        Ok(Json(json!({ "content_uri": uri })))
    })
}

pub(super) async fn config(State(shared): State<Arc<Shared>>, _: Sender) -> Answer {
    Ok(Json(json!({ "m.upload.size": shared.world().upload_limit })))
}

pub(super) async fn download_as(
    shared: State<Arc<Shared>>,
    Path((server, id, _)): Path<(String, String, String)>,
    sender: Sender,
) -> Result<Response, Refusal> {
    download(shared, Path((server, id)), sender).await
}

pub(super) async fn download(
    State(shared): State<Arc<Shared>>,
    Path((server, id)): Path<(String, String)>,
    _: Sender,
) -> Result<Response, Refusal> {
    let world = shared.world();
    if server != world.server_name {
        return Err(Refusal::forbidden(format!("Federation denied with {server}.")));
    }
    let media = world.media.get(&id);
    let media = media.ok_or_else(|| Refusal::not_found(format!("Not found '{server}/{id}'")))?;
    let headers = [
        (CONTENT_TYPE, media.content_type.clone()),
        (CONTENT_DISPOSITION, "attachment".to_owned()),
    ];
    Ok((headers, media.bytes.clone()).into_response())
}

impl World {
    /// The id of this server's media that a URI names.
    pub fn media_id<'a>(&self, uri: &'a str) -> Option<&'a str> {
        let (server, id) = uri.strip_prefix("mxc://")?.split_once('/')?;
        (server == self.server_name).then_some(id)
    }
}
