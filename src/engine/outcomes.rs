//! What a sync turned out to hold.

use ruma::OwnedRoomId;

use super::to_device::ToDeviceOutcome;
use crate::incoming::ReceivedEvent;

/// What a sync turned out to hold.
pub(crate) struct SyncOutcome {
    pub(crate) to_device: Vec<ToDeviceOutcome>,
    pub(crate) rooms: RoomOutcomes,
}

/// What the events of each room turned out to be.
pub(super) type RoomOutcomes = Vec<(OwnedRoomId, Vec<ReceivedEvent>)>;
