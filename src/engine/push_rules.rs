//! The account's push rules that keep commits silent.
//!
//! A commit is an `m.room.encrypted` event, so by the default rules it notifies and counts as
//! unread. Two rules of the account (client-server API, "Push rules", kind `override`) match what
//! only commits have in the clear, their public group state: as text, or by reference. They are set
//! once by each device that has a room with MLS. Setting them again changes nothing.

use ruma::{
    api::client::push::set_pushrule,
    push::{EventMatchConditionData, NewConditionalPushRule, NewPushRule, PushCondition},
};
use serde::{Deserialize, Serialize};

use crate::{
    failure::Failure,
    requests::{self, DEVICE_SCOPE, Purpose, REQUESTS},
    room,
    store::{Collection, StoreError},
    turn::Turn,
};

/// The rules: each its id, and the field that it matches.
const RULES: [(&str, &str); 2] = [
    ("org.matrix.msc2883.v0.mls.commit", "content.public_group_state"),
    ("org.matrix.msc2883.v0.mls.large_commit", "content.public_group_state.url"),
];
/// After how long a refused rule is tried again, in milliseconds.
const RETRY_MS: u64 = 24 * 60 * 60 * 1000;

/// How far this device has come with the rules.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Progress {
    /// How many of the rules are set.
    set: usize,
    retry_at_ms: u64,
}

const PROGRESS: Collection<Progress> = Collection::new("push_rules");

/// Queues the next rule, if a room uses MLS and a rule is still to be set.
pub(super) fn plan(turn: &Turn<'_>) -> Result<(), Failure> {
    let progress = PROGRESS.get(turn.tx, b"", b"")?.unwrap_or_default();
    let Some((id, field)) = RULES.get(progress.set) else { return Ok(()) };
    // A time further ahead than any wait comes from a clock that has been set back since.
    let waits = progress.retry_at_ms > turn.now_ms
        && progress.retry_at_ms <= turn.now_ms.saturating_add(RETRY_MS);
    let is_queued = REQUESTS
        .in_scope(turn.tx, DEVICE_SCOPE)?
        .iter()
        .any(|(_, queued)| matches!(queued.purpose, Purpose::SetPushRule));
    if waits || is_queued || !room::all(turn.tx)?.iter().any(room::Room::uses_mls) {
        return Ok(());
    }
    let conditions = [("type", "m.room.encrypted"), (field, "*")].map(|(key, pattern)| {
        PushCondition::EventMatch(EventMatchConditionData::new(key.to_owned(), pattern.to_owned()))
    });
    let rule = NewConditionalPushRule::new((*id).to_owned(), conditions.into(), Vec::new());
    let request = set_pushrule::v3::Request::new(NewPushRule::Override(rule));
    requests::enqueue(turn.tx, DEVICE_SCOPE, turn.now_ms, Purpose::SetPushRule, request).map(drop)
}

/// A rule is set.
pub(super) fn set(turn: &Turn<'_>) -> Result<(), StoreError> {
    let mut progress = PROGRESS.get(turn.tx, b"", b"")?.unwrap_or_default();
    progress.set += 1;
    PROGRESS.put(turn.tx, b"", b"", &progress)
}

/// The homeserver does not set the rule.
pub(super) fn refused(turn: &Turn<'_>) -> Result<(), StoreError> {
    let mut progress = PROGRESS.get(turn.tx, b"", b"")?.unwrap_or_default();
    progress.retry_at_ms = turn.now_ms.saturating_add(RETRY_MS);
    PROGRESS.put(turn.tx, b"", b"", &progress)
}
