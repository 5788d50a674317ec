//! `SyncChanges`: the parts of a sync response that this library needs.

use std::collections::HashMap;

/// The parts of one sync response that this library needs, however the app got the response.
#[derive(Debug, Clone, Default, uniffi::Record)]
pub struct SyncChanges {
    /// The to-device events, each as JSON.
    #[uniffi(default = [])]
    pub to_device: Vec<String>,
    /// The user ids of `device_lists.changed`.
    #[uniffi(default = [])]
    pub changed_devices: Vec<String>,
    /// The user ids of `device_lists.left`.
    #[uniffi(default = [])]
    pub left_devices: Vec<String>,
    /// The response's `"device_one_time_keys_count"`; absent if the response has no such field.
    #[uniffi(default = None)]
    pub one_time_key_counts: Option<HashMap<String, u64>>,
    /// The response's `"device_unused_fallback_key_types"`; absent if the response has no such
    /// field.
    #[uniffi(default = None)]
    pub unused_fallback_key_types: Option<Vec<String>>,
    /// The changes of each room.
    #[uniffi(default = [])]
    pub rooms: Vec<RoomChanges>,
    /// The response's `next_batch`.
    pub next_batch: String,
}

/// The parts of one sync response that concern one room.
#[derive(Debug, Clone, Default, uniffi::Record)]
pub struct RoomChanges {
    /// The room's id.
    pub room_id: String,
    /// The state events from before the timeline, each as JSON.
    #[uniffi(default = [])]
    pub state: Vec<String>,
    /// The timeline events in the server's order, each as JSON. State events among them count too.
    #[uniffi(default = [])]
    pub timeline: Vec<String>,
}
