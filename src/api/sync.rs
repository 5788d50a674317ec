//! The shapes of a sync: what goes into the machine, and the results.

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::{error::MlsError, event::EventResult};
use crate::{
    engine::{SyncOutcome, ToDeviceOutcome},
    exported::{RoomChanges, SyncChanges},
    protocol::{SyncResponse, parse},
};

/// The results of a sync.
#[derive(Debug, Clone, Default, uniffi::Record)]
pub struct SyncSummary {
    /// The results of each room's events, in order. Results of earlier events that could be read
    /// now are last.
    pub rooms: Vec<RoomSummary>,
    /// One result for each to-device event, in order.
    pub to_device: Vec<ToDeviceResult>,
}

/// The results of one room's events.
#[derive(Debug, Clone, uniffi::Record)]
pub struct RoomSummary {
    /// The room's id.
    pub room_id: String,
    /// One result for each event, then those of earlier events that waited and could be read now.
    pub events: Vec<EventResult>,
}

/// The result of one to-device event.
#[derive(Debug, Clone, PartialEq, uniffi::Enum)]
pub enum ToDeviceResult {
    /// The event does not concern this library.
    Ignored,
    /// A Welcome: this device is now in the room's group.
    Joined {
        /// The room's id.
        room_id: String,
        /// The number of the epoch that this device entered.
        epoch: u64,
    },
    /// A member that added this device gave it earlier messages, as far as the room lets it read
    /// them.
    HistoryShared {
        /// The room's id.
        room_id: String,
    },
    /// A Welcome or history that needs a value which is still to be fetched (see
    /// `outgoing_requests`).
    Waiting {
        /// What it needs.
        error: MlsError,
    },
    /// The event could not be used.
    Failed {
        /// Why it could not be used.
        error: MlsError,
    },
}

impl From<SyncOutcome> for SyncSummary {
    fn from(outcome: SyncOutcome) -> Self {
        let rooms = outcome.rooms.into_iter().map(|(room_id, events)| RoomSummary {
            room_id: room_id.to_string(),
            events: events.into_iter().map(EventResult::from).collect(),
        });
        let to_device = outcome.to_device.into_iter().map(ToDeviceResult::from);
        Self { rooms: rooms.collect(), to_device: to_device.collect() }
    }
}

impl From<ToDeviceOutcome> for ToDeviceResult {
    fn from(outcome: ToDeviceOutcome) -> Self {
        match outcome {
            ToDeviceOutcome::Ignored => Self::Ignored,
            ToDeviceOutcome::Joined { room_id, epoch } => {
                Self::Joined { room_id: room_id.to_string(), epoch }
            }
            ToDeviceOutcome::History { room_id } => {
                Self::HistoryShared { room_id: room_id.to_string() }
            }
            ToDeviceOutcome::Waiting(error) => Self::Waiting { error: error.into() },
            ToDeviceOutcome::Failed(error) => Self::Failed { error: error.into() },
        }
    }
}

/// Takes what this library needs out of the body of a `/v3/sync` response.
///
/// Fails with `InvalidInput` (`"bad_sync_response"`) if the body is not such a response: an error
/// of the homeserver, for one, or any object without `next_batch`.
#[uniffi::export]
pub fn sync_changes_from_response(response: String) -> Result<SyncChanges, MlsError> {
    let response: SyncResponse = parse(&response, "the sync response")
        .map_err(|error| MlsError::invalid("bad_sync_response", error))?;
    let texts =
        |events: Vec<Box<RawValue>>| events.iter().map(|event| event.get().to_owned()).collect();
    let rooms = response.rooms.join.into_iter().chain(response.rooms.leave);
    Ok(SyncChanges {
        to_device: texts(response.to_device.events),
        changed_devices: response.device_lists.changed,
        left_devices: response.device_lists.left,
        one_time_key_counts: response.device_one_time_keys_count.map(HashMap::from_iter),
        unused_fallback_key_types: response.device_unused_fallback_key_types,
        rooms: rooms
            .map(|(room_id, room)| RoomChanges {
                room_id,
                state: texts(room.state.events),
                timeline: texts(room.timeline.events),
            })
            .collect(),
        next_batch: response.next_batch,
    })
}
