//! Syncs that a test makes up.

use matrix_mls::{DeviceListChanges, FollowedRooms, RoomChanges, SyncChanges, SyncStart};

/// A sync without news that goes on where the last of its kind ended and follows all rooms, to be
/// filled.
pub fn feed() -> SyncChanges {
    SyncChanges {
        start: SyncStart::After { since: "fed".to_owned() },
        next_batch: "fed".to_owned(),
        device_lists: Some(DeviceListChanges::default()),
        followed_rooms: FollowedRooms::All,
        ..SyncChanges::default()
    }
}

/// News of a room with this timeline, from which nothing is left out.
pub fn news(room_id: &str, timeline: Vec<String>) -> RoomChanges {
    RoomChanges { room_id: room_id.to_owned(), timeline, limited: false, ..RoomChanges::default() }
}
