//! Putting a request off.

use serde::Deserialize;

use crate::{
    exported::RequestOutcome,
    requests::{MOST_IMPOSED_MS, QueuedRequest, REQUEST_BACKOFF, REQUESTS},
    store::StoreError,
    turn::Turn,
};

/// The part of a Matrix error that matters here.
#[derive(Default, Deserialize)]
pub(super) struct MatrixError {
    #[serde(default)]
    pub(super) errcode: String,
    #[serde(default)]
    pub(super) error: String,
    pub(super) retry_after_ms: Option<u64>,
}

impl MatrixError {
    /// What a body says; it may be anything.
    pub(super) fn of(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }
}

/// Keeps a request for later.
pub(super) fn later(
    turn: &Turn<'_>,
    id: i64,
    mut queued: QueuedRequest,
    imposed_ms: Option<u64>,
) -> Result<RequestOutcome, StoreError> {
    let own = REQUEST_BACKOFF.delay_ms(queued.failures);
    let after_ms = imposed_ms.map_or(own, |delay| delay.min(MOST_IMPOSED_MS));
    queued.failures = queued.failures.saturating_add(1);
    queued.due_ms = turn.now_ms.saturating_add(after_ms);
    REQUESTS.update(turn.tx, id, queued.due_ms, &queued)?;
    Ok(RequestOutcome::RetryLater { after_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_body_may_be_anything() {
        for body in [&b""[..], b"<html>", b"[]", b"{\"retry_after_ms\":-1}", b"{\"errcode\":1}"] {
            assert!(MatrixError::of(body).retry_after_ms.is_none());
        }
        assert_eq!(MatrixError::of(b"{\"retry_after_ms\":5}").retry_after_ms, Some(5));
    }
}
