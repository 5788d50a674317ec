//! The queue of requests in a report.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    requests::{self, REQUESTS, Wait},
    store::{StoreError, Tx},
};

/// How many requests that are due are looked at, and how many that were put off. The rest is
/// counted.
const MOST: usize = 200;

/// What is in the queue.
#[derive(Serialize)]
pub(super) struct Requests {
    pub(super) due: u64,
    pub(super) put_off: u64,
    pub(super) retry_after_ms: Option<u64>,
    /// Whether the homeserver refuses the access token.
    pub(super) is_unauthorized: bool,
    /// The requests that were looked at, by what they are for.
    pub(super) kinds: BTreeMap<String, Kind>,
}

/// Requests that are for the same.
#[derive(Default, Serialize)]
pub(super) struct Kind {
    pub(super) count: u64,
    /// How many the app has seen.
    pub(super) handed_out: u64,
    /// How often the one that fares worst has failed.
    pub(super) failures: u32,
    /// How many had no answer, were told to wait, or were refused.
    unanswered: u64,
    imposed: u64,
    refused: u64,
}

impl Requests {
    pub(super) fn of(tx: &Tx<'_>, now_ms: u64) -> Result<Self, StoreError> {
        let pending = requests::pending(tx, now_ms)?;
        let mut looked_at = REQUESTS.due(tx, now_ms, MOST)?;
        looked_at.extend(REQUESTS.later(tx, now_ms, MOST)?);
        let mut kinds = BTreeMap::<String, Kind>::new();
        for (_, request) in &looked_at {
            let kind = kinds.entry(format!("{:?}", request.purpose.kind())).or_default();
            kind.count += 1;
            kind.handed_out += u64::from(request.handed_out);
            kind.failures = kind.failures.max(request.failures);
            match request.wait {
                Wait::None => {}
                Wait::Unanswered => kind.unanswered += 1,
                Wait::Imposed => kind.imposed += 1,
                Wait::Unauthorized | Wait::Refused => kind.refused += 1,
            }
        }
        Ok(Self {
            due: pending.due,
            put_off: pending.put_off,
            retry_after_ms: pending.retry_after_ms,
            is_unauthorized: pending.unauthorized,
            kinds,
        })
    }
}
