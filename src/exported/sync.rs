//! `SyncChanges`: what one sync response brought, however the app got it.

use std::collections::HashMap;

/// What one sync response brought, however the app got it.
#[derive(Debug, Clone, Default, uniffi::Record)]
pub struct SyncChanges {
    /// The to-device events, each as JSON.
    #[uniffi(default = [])]
    pub to_device: Vec<String>,
    /// `device_lists.changed`.
    #[uniffi(default = [])]
    pub changed_devices: Vec<String>,
    /// `device_lists.left`.
    #[uniffi(default = [])]
    pub left_devices: Vec<String>,
    /// `device_one_time_keys_count`, or nothing where the response did not say.
    #[uniffi(default = None)]
    pub one_time_key_counts: Option<HashMap<String, u64>>,
    /// `device_unused_fallback_key_types`, or nothing where the response did not say.
    #[uniffi(default = None)]
    pub unused_fallback_key_types: Option<Vec<String>>,
    /// What changed in each room.
    #[uniffi(default = [])]
    pub rooms: Vec<RoomChanges>,
    /// `next_batch`.
    pub next_batch: String,
}

/// What one sync response brought for one room.
#[derive(Debug, Clone, Default, uniffi::Record)]
pub struct RoomChanges {
    /// The room.
    pub room_id: String,
    /// State events (those before the timeline), each as JSON.
    #[uniffi(default = [])]
    pub state: Vec<String>,
    /// Timeline events in the order the server gave, each as JSON. State events among them count as state too.
    #[uniffi(default = [])]
    pub timeline: Vec<String>,
}
