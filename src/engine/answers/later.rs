//! Putting a request off, and what an error's body says.

use serde_json::Value;

use crate::{
    exported::{RequestOutcome, Update},
    requests::{self, QueuedRequest, Wait},
    store::StoreError,
    turn::Turn,
};

/// The part of a Matrix error that matters here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct MatrixError {
    pub(super) errcode: String,
    pub(super) error: String,
    pub(super) retry_after_ms: Option<u64>,
    pub(super) soft_logout: bool,
}

impl MatrixError {
    /// What a body says; it may be anything. A bad member costs itself alone.
    pub(super) fn of(body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        Self {
            errcode: text("errcode"),
            error: text("error"),
            retry_after_ms: body["retry_after_ms"].as_u64(),
            soft_logout: body["soft_logout"].as_bool().unwrap_or_default(),
        }
    }
}

/// Keeps a request for later.
pub(super) fn later(
    turn: &Turn<'_>,
    id: i64,
    queued: QueuedRequest,
    wait: Wait,
    imposed_ms: Option<u64>,
) -> Result<RequestOutcome, StoreError> {
    let after_ms = requests::put_off(turn.tx, id, queued, turn.now_ms, wait, imposed_ms)?;
    Ok(RequestOutcome::RetryLater { after_ms })
}

/// The homeserver refuses the access token: the request waits for another one, and the app is told.
pub(super) fn unauthorized(
    turn: &Turn<'_>,
    id: i64,
    queued: QueuedRequest,
    error: MatrixError,
) -> Result<RequestOutcome, StoreError> {
    let wait = Wait::Unauthorized;
    let after_ms = requests::put_off(turn.tx, id, queued, turn.now_ms, wait, None)?;
    let MatrixError { errcode: code, soft_logout, .. } = error;
    if requests::note_token_refused(turn.tx)? {
        turn.tell(Update::Unauthorized { code: code.clone(), soft_logout });
    }
    Ok(RequestOutcome::Unauthorized { code, soft_logout, after_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_body_may_be_anything() {
        for body in [&b""[..], b"<html>", b"[]", b"{\"retry_after_ms\":-1}", b"{\"errcode\":1}"] {
            assert_eq!(MatrixError::of(body), MatrixError::default());
        }
        assert_eq!(MatrixError::of(b"{\"retry_after_ms\":5}").retry_after_ms, Some(5));
        let error = MatrixError::of(br#"{"errcode":"M_UNKNOWN_TOKEN","soft_logout":"yes"}"#);
        assert_eq!((&*error.errcode, error.soft_logout), ("M_UNKNOWN_TOKEN", false));
    }
}
