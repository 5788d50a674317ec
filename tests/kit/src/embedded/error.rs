//! Matrix errors as answers: a status, an `errcode` and a sentence.

use axum::{
    Json,
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// A refusal as the client-server API words it.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    body: Value,
}

impl Refusal {
    pub fn new(status: StatusCode, errcode: &str, error: impl Into<String>) -> Self {
        Self { status, body: json!({ "errcode": errcode, "error": error.into() }) }
    }

    pub fn with_body(status: StatusCode, body: Value) -> Self {
        Self { status, body }
    }

    pub fn bad_json(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_BAD_JSON", error)
    }

    pub fn not_json(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_NOT_JSON", error)
    }

    pub fn invalid(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_INVALID_PARAM", error)
    }

    pub fn forbidden(error: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "M_FORBIDDEN", error)
    }

    pub fn not_found(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "M_NOT_FOUND", error)
    }

    pub fn too_large(error: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", error)
    }

    pub fn unknown(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", error)
    }

    pub fn missing(name: &str) -> Self {
        let error = format!("Missing parameter {name}");
        Self::new(StatusCode::BAD_REQUEST, "M_MISSING_PARAM", error)
    }

    pub fn unknown_token() -> Self {
        Self::with_body(
            StatusCode::UNAUTHORIZED,
            json!({
                "errcode": "M_UNKNOWN_TOKEN", "error": "Invalid access token passed.",
                "soft_logout": false,
            }),
        )
    }

    pub fn limit_exceeded(retry_after_ms: u64) -> Self {
        Self::with_body(
            StatusCode::TOO_MANY_REQUESTS,
            json!({
                "errcode": "M_LIMIT_EXCEEDED", "error": "Too Many Requests",
                "retry_after_ms": retry_after_ms,
            }),
        )
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let wait = self.body.get("retry_after_ms").and_then(Value::as_u64);
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some(milliseconds) = wait {
            let seconds = milliseconds.div_ceil(1000);
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}
