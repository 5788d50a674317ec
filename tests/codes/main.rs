//! Codes of errors that other tests have no reason to look at: each is provoked through the public
//! API, once for each situation, with the sentence that an app's log then has.
//!
//! `tests/logged_codes.rs` has those that no call fails with, and `tests/error_codes.rs` says which
//! cannot be provoked, and why.

mod commits;
mod devices;
mod files;
mod history;
mod stores;
mod welcomes;

use matrix_mls::{EventOutcome, MlsError, SyncSummary, ToDeviceResult};
use matrix_mls_kit::{Client, OrMissing as _, Result, eyre};

/// Checks what an error says to programs and to people.
#[track_caller]
pub fn says(error: &MlsError, code: &str, sentence: &str) {
    let details = error.details();
    assert_eq!(details.code, code, "{error:?}");
    assert!(details.reason.contains(sentence), "{code} says {:?}", details.reason);
}

/// The error of an event of a room.
pub fn error_of(outcome: EventOutcome) -> Result<MlsError> {
    match outcome {
        EventOutcome::Failed { error } | EventOutcome::Waiting { error } => Ok(error),
        other => Err(eyre!("this must be refused: {other:?}")),
    }
}

/// The error of the one event with this id in the next sync.
pub async fn error_in_sync(client: &Client, event_id: &str) -> Result<MlsError> {
    let SyncSummary { rooms, .. } = client.sync().await?.summary;
    let mut events = rooms.into_iter().flat_map(|room| room.events);
    let event = events.find(|event| event.event_id.as_deref() == Some(event_id));
    error_of(event.or_missing("result of the event")?.outcome)
}

/// The error of the one to-device event in the next sync.
pub async fn error_to_device(client: &Client) -> Result<MlsError> {
    let mut results = client.sync().await?.summary.to_device;
    let result = results.pop().or_missing("result of a to-device event")?;
    assert!(results.is_empty(), "{results:?}");
    match result {
        ToDeviceResult::Failed { error } | ToDeviceResult::Waiting { error } => Ok(error),
        other => Err(eyre!("this must be refused: {other:?}")),
    }
}
