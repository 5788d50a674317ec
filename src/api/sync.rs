//! The results of a sync. What goes in is `exported::SyncChanges`.

use super::{error::MlsError, event::EventResult};
use crate::engine::{SyncOutcome, ToDeviceOutcome};

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
    /// Another device of this user, which was verified, has handed the user's secrets to this one
    /// (`Update::SecretsReceived`).
    SecretsReceived {
        /// The id of that device.
        device_id: String,
    },
    /// A Welcome or history that is taken in later: it needs a value which is still to be fetched
    /// (see `outgoing_requests`), or its room or its sender is not known yet.
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
            ToDeviceOutcome::Secrets { device_id } => {
                Self::SecretsReceived { device_id: device_id.to_string() }
            }
            ToDeviceOutcome::Waiting(error) => Self::Waiting { error: error.into() },
            ToDeviceOutcome::Failed(error) => Self::Failed { error: error.into() },
        }
    }
}
