//! `SyncChanges`: the parts of a sync response that this library needs, and where it stands among the
//! app's syncs.
//!
//! What an app does not say counts as the case that needs more care: a sync begins anew, a timeline
//! is limited, a connection follows no rooms.

use std::collections::HashMap;

/// The parts of one sync response that this library needs, however the app got the response.
///
/// `sync_changes_from_response` and `sync_changes_from_sliding_sync` make it of a response's body.
#[derive(Debug, Clone, Default, uniffi::Record)]
pub struct SyncChanges {
    /// The name of the connection, if the app has several: sliding sync's `conn_id`.
    #[uniffi(default = "")]
    pub connection: String,
    /// Where the request started.
    pub start: SyncStart,
    /// Where the next request of this connection starts: `next_batch`, or sliding sync's `pos`.
    pub next_batch: String,
    /// The to-device events, each as JSON.
    #[uniffi(default = [])]
    pub to_device: Vec<String>,
    /// Whose device lists have changed; absent if this connection does not tell (a sliding sync
    /// without the `e2ee` extension).
    pub device_lists: Option<DeviceListChanges>,
    /// The response's `"device_one_time_keys_count"`; absent if the response has no such field.
    #[uniffi(default = None)]
    pub one_time_key_counts: Option<HashMap<String, u64>>,
    /// The response's `"device_unused_fallback_key_types"`; absent if the response has no such
    /// field.
    #[uniffi(default = None)]
    pub unused_fallback_key_types: Option<Vec<String>>,
    /// Of which rooms this connection tells everything that happens.
    pub followed_rooms: FollowedRooms,
    /// The changes of each room.
    #[uniffi(default = [])]
    pub rooms: Vec<RoomChanges>,
}

/// Where the request of a sync started.
///
/// A response that does not go on where the last of its connection ended leaves out what happened
/// in between. The machine then asks the homeserver for what it needs to know.
#[derive(Debug, Clone, Default, PartialEq, Eq, uniffi::Enum)]
pub enum SyncStart {
    /// The request had no `since` or `pos`.
    #[default]
    Anew,
    /// The request had this `since` or `pos`.
    After {
        /// The `next_batch` of an earlier sync of the same connection.
        since: String,
    },
}

/// Whose device lists have changed since the start of a sync.
#[derive(Debug, Clone, Default, PartialEq, Eq, uniffi::Record)]
pub struct DeviceListChanges {
    /// The user ids of `device_lists.changed`.
    #[uniffi(default = [])]
    pub changed: Vec<String>,
    /// The user ids of `device_lists.left`.
    #[uniffi(default = [])]
    pub left: Vec<String>,
}

/// Of which rooms a sync connection tells everything that happens.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Enum)]
pub enum FollowedRooms {
    /// Of all: `/v3/sync` without a filter of rooms, and a sliding sync with a list that has every
    /// room in its ranges.
    All,
    /// Of these: the room subscriptions of a sliding sync whose lists do not have every room in
    /// their ranges.
    Only {
        /// The ids of the rooms.
        room_ids: Vec<String>,
    },
}

impl Default for FollowedRooms {
    fn default() -> Self {
        Self::Only { room_ids: Vec::new() }
    }
}

/// The parts of one sync response that concern one room.
#[derive(Debug, Clone, uniffi::Record)]
pub struct RoomChanges {
    /// The room's id.
    pub room_id: String,
    /// The state events from before the timeline, each as JSON: the `state` of `/v3/sync`.
    #[uniffi(default = [])]
    pub state: Vec<String>,
    /// The timeline events in the server's order, each as JSON. State events among them count too.
    #[uniffi(default = [])]
    pub timeline: Vec<String>,
    /// The state events from after the timeline, each as JSON: `state_after` of MSC4222, or sliding
    /// sync's `required_state`.
    #[uniffi(default = [])]
    pub state_after: Vec<String>,
    /// Whether the timeline leaves events out that happened since the start: `limited`.
    pub limited: bool,
    /// How many users are joined, where the response says it: `m.joined_member_count` of the
    /// `summary`, or sliding sync's `joined_count`.
    #[uniffi(default = None)]
    pub joined_count: Option<u64>,
}

impl Default for RoomChanges {
    fn default() -> Self {
        Self {
            room_id: String::new(),
            state: Vec::new(),
            timeline: Vec::new(),
            state_after: Vec::new(),
            limited: true,
            joined_count: None,
        }
    }
}
