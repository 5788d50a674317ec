//! The bodies of sync responses, as far as this library reads them: `/v3/sync` (client-server API,
//! also with MSC4222's `state_after`), and simplified sliding sync (MSC4186).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The body of a `/v3/sync` response.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct SyncResponse {
    /// Where the next sync starts. It tells a sync from any other object, an error for one.
    pub(crate) next_batch: String,
    #[serde(default)]
    pub(crate) to_device: EventList,
    #[serde(default)]
    pub(crate) device_lists: DeviceLists,
    pub(crate) device_one_time_keys_count: Option<BTreeMap<String, u64>>,
    #[serde(alias = "org.matrix.msc2732.device_unused_fallback_key_types", default)]
    pub(crate) device_unused_fallback_key_types: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) rooms: SyncRooms,
}

/// `device_lists`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct DeviceLists {
    #[serde(default)]
    pub(crate) changed: Vec<String>,
    #[serde(default)]
    pub(crate) left: Vec<String>,
}

/// `rooms`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct SyncRooms {
    #[serde(default)]
    pub(crate) join: BTreeMap<String, SyncRoom>,
    #[serde(default)]
    pub(crate) leave: BTreeMap<String, SyncRoom>,
}

/// One room of a sync.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct SyncRoom {
    #[serde(default)]
    pub(crate) state: EventList,
    /// MSC4222: the state behind the timeline, in the place of `state`.
    #[serde(alias = "org.matrix.msc4222.state_after", default)]
    pub(crate) state_after: EventList,
    #[serde(default)]
    pub(crate) timeline: Timeline,
    #[serde(default)]
    pub(crate) summary: Summary,
}

/// `timeline`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Timeline {
    #[serde(default)]
    pub(crate) events: Vec<Box<RawValue>>,
    #[serde(default)]
    pub(crate) limited: bool,
}

/// `summary`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Summary {
    #[serde(rename = "m.joined_member_count")]
    pub(crate) joined_member_count: Option<u64>,
}

/// A list of events. Each is parsed by itself, so that a bad event does not affect the others.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct EventList {
    #[serde(default)]
    pub(crate) events: Vec<Box<RawValue>>,
}

/// The body of a sliding sync request.
#[derive(Debug, Deserialize)]
pub(crate) struct SlidingSyncRequest {
    #[serde(default)]
    pub(crate) conn_id: Option<String>,
    #[serde(default)]
    pub(crate) lists: BTreeMap<String, RequestedList>,
    #[serde(default)]
    pub(crate) room_subscriptions: BTreeMap<String, RequestedRoom>,
}

/// A room that is subscribed to.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct RequestedRoom {
    #[serde(default)]
    pub(crate) timeline_limit: u64,
}

/// A list that is asked for.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct RequestedList {
    /// The first and the last place of each range. Older requests have one range by another name.
    #[serde(default, alias = "range")]
    pub(crate) ranges: Ranges,
    #[serde(default)]
    pub(crate) filters: Option<BTreeMap<String, Box<RawValue>>>,
    #[serde(default)]
    pub(crate) timeline_limit: u64,
}

/// One range, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Ranges {
    Several(Vec<(u64, u64)>),
    One(u64, u64),
}

impl Default for Ranges {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

/// The body of a sliding sync response.
#[derive(Debug, Deserialize)]
pub(crate) struct SlidingSyncResponse {
    /// Where the next request goes on. It tells a sync from any other object.
    pub(crate) pos: String,
    #[serde(default)]
    pub(crate) lists: BTreeMap<String, AnsweredList>,
    #[serde(default)]
    pub(crate) rooms: BTreeMap<String, SlidingSyncRoom>,
    #[serde(default)]
    pub(crate) extensions: Extensions,
}

/// A list of the response.
#[derive(Debug, Deserialize)]
pub(crate) struct AnsweredList {
    /// How many rooms the list has.
    pub(crate) count: u64,
}

/// One room of a sliding sync.
#[derive(Debug, Deserialize)]
pub(crate) struct SlidingSyncRoom {
    /// The state behind the timeline, as far as it is required and new.
    #[serde(default)]
    pub(crate) required_state: Vec<Box<RawValue>>,
    #[serde(default)]
    pub(crate) timeline: Vec<Box<RawValue>>,
    /// Absent where there is no timeline.
    pub(crate) limited: Option<bool>,
    pub(crate) joined_count: Option<u64>,
}

/// `extensions`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Extensions {
    #[serde(default)]
    pub(crate) to_device: EventList,
    pub(crate) e2ee: Option<EncryptionExtension>,
}

/// The `e2ee` extension.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct EncryptionExtension {
    #[serde(default)]
    pub(crate) device_lists: DeviceLists,
    pub(crate) device_one_time_keys_count: Option<BTreeMap<String, u64>>,
    pub(crate) device_unused_fallback_key_types: Option<Vec<String>>,
}
