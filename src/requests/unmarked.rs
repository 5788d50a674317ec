//! Noticing an app that sends requests and does not say what became of them: they are handed out
//! again and again, and nothing ever comes of them. The log says so.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::exported::OutgoingRequest;

/// How often a request is handed out without an answer before the app is warned. Two loops that
/// send at once get the same request twice, and a slow one more often.
const TOO_OFTEN: u32 = 5;
/// For how many requests it is counted.
const MOST_COUNTED: usize = 1_000;

/// How often each request was handed out since the app last said anything of it.
#[derive(Default)]
pub(crate) struct Unmarked(Mutex<HashMap<String, u32>>);

impl Unmarked {
    /// These requests were handed out.
    pub(crate) fn handed_out(&self, requests: &[OutgoingRequest]) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for request in requests {
            if counts.len() >= MOST_COUNTED && !counts.contains_key(&request.id) {
                // Most of them are long over.
                counts.clear();
            }
            let count = counts.entry(request.id.clone()).or_default();
            *count = count.saturating_add(1);
            if *count == TOO_OFTEN {
                tracing::warn!(
                    request = %request.id,
                    times = TOO_OFTEN,
                    "a request was handed out again and again, and no answer was passed in: send \
                     each request, and call markRequestAsSent (mark_request_as_sent in Rust) with \
                     the status, or with 0 where there was no answer"
                );
            }
        }
    }

    /// The app says what became of this request.
    pub(crate) fn answered(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}
