//! What all endpoints share in reading a request: who sends it, and its body as a JSON object.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, StatusCode, header::AUTHORIZATION, request::Parts},
};
use serde_json::{Map, Value};

use super::{Shared, error::Refusal};

/// An endpoint's answer: a JSON body, or a refusal.
pub(super) type Answer = Result<Json<Value>, Refusal>;

/// The largest request body, as Synapse counts it: 200 times the largest event.
const MAX_BODY: usize = 200 * 65_536;

/// The device that a request's access token belongs to.
pub(super) struct Sender {
    pub user_id: String,
    pub device_id: String,
}

/// The access token of a request, where it has one.
pub(super) fn access_token(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

impl FromRequestParts<Arc<Shared>> for Sender {
    type Rejection = Refusal;

    async fn from_request_parts(
        parts: &mut Parts,
        shared: &Arc<Shared>,
    ) -> Result<Self, Self::Rejection> {
        let token = access_token(&parts.headers).ok_or_else(|| {
            Refusal::new(StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN", "Missing access token")
        })?;
        let world = shared.world();
        let (user_id, device_id) =
            world.tokens.get(token).cloned().ok_or_else(Refusal::unknown_token)?;
        Ok(Self { user_id, device_id })
    }
}

/// A request body that is a JSON object.
pub(super) struct Body(pub Map<String, Value>);

impl FromRequest<Arc<Shared>> for Body {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &Arc<Shared>) -> Result<Self, Self::Rejection> {
        let bytes = read(request).await?;
        parse(&bytes)
    }
}

/// A request body that may be left out.
pub(super) struct OptionalBody(pub Map<String, Value>);

impl FromRequest<Arc<Shared>> for OptionalBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &Arc<Shared>) -> Result<Self, Self::Rejection> {
        let bytes = read(request).await?;
        if bytes.is_empty() {
            return Ok(Self(Map::new()));
        }
        parse(&bytes).map(|Body(object)| Self(object))
    }
}

async fn read(request: Request) -> Result<Bytes, Refusal> {
    axum::body::to_bytes(request.into_body(), MAX_BODY)
        .await
        .map_err(|_| Refusal::too_large("The request body is too large."))
}

fn parse(bytes: &[u8]) -> Result<Body, Refusal> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(Body(object)),
        Ok(_) => Err(Refusal::bad_json("Content must be a JSON object.")),
        Err(_) => Err(Refusal::not_json("Content not JSON.")),
    }
}

/// A string field that must be there.
pub(super) fn required<'a>(object: &'a Map<String, Value>, name: &str) -> Result<&'a str, Refusal> {
    match object.get(name) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Refusal::bad_json(format!("{name} must be a string"))),
        None => Err(Refusal::missing(name)),
    }
}

/// A string field that may be left out.
pub(super) fn optional<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str)
}

pub(super) async fn unrecognized() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", "Unrecognized request")
}

pub(super) async fn unrecognized_method() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED", "Unrecognized request")
}
