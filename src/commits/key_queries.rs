//! Asking the homeserver for the device lists that a step needs.

use std::collections::BTreeSet;

use ruma::OwnedUserId;

use crate::{
    devices,
    failure::Failure,
    requests::{self, DEVICE_SCOPE, Purpose, REQUESTS},
    turn::Turn,
};

/// How many users one query asks about: the answer is taken in in one turn.
const MOST_USERS: usize = 250;

/// The requests that ask for the device lists of these users, as far as they are out of date.
pub(crate) fn ask_for_outdated(
    turn: &Turn<'_>,
    users: &BTreeSet<OwnedUserId>,
) -> Result<Vec<i64>, Failure> {
    let outdated: BTreeSet<_> = devices::outdated(turn.tx, turn.now_ms)?
        .into_iter()
        .filter(|user| users.contains(user))
        .collect();
    if outdated.is_empty() {
        return Ok(Vec::new());
    }
    queue_key_queries(turn, outdated)
}

/// Queues `/keys/query` for users that no queued one asks about yet; the ids of all that matter.
pub(crate) fn queue_key_queries(
    turn: &Turn<'_>,
    mut users: BTreeSet<OwnedUserId>,
) -> Result<Vec<i64>, Failure> {
    let mut ids = Vec::new();
    for (id, queued) in REQUESTS.in_scope(turn.tx, DEVICE_SCOPE)? {
        if let Purpose::QueryKeys(query) = &queued.purpose {
            let before = users.len();
            users.retain(|user| !query.covers(turn.tx, user).unwrap_or(false));
            if users.len() < before {
                ids.push(id);
            }
        }
    }
    while !users.is_empty() {
        let rest = users.iter().nth(MOST_USERS).cloned().map(|next| users.split_off(&next));
        let (query, request) = devices::query_request(turn.tx, users)?;
        let purpose = Purpose::QueryKeys(query);
        ids.push(requests::enqueue(turn.tx, DEVICE_SCOPE, turn.now_ms, purpose, request)?);
        users = rest.unwrap_or_default();
    }
    Ok(ids)
}
