//! The events that cross the wire (MSC2883), as plain serde types without logic.
//!
//! A peer or a homeserver wrote everything here, so every field is checked where it is used. Events
//! are read leniently (unknown fields are ignored) and written in one form.

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::{Number, Value, value::RawValue};

use super::{
    device_name::DeviceName,
    json::parse,
    payload::{MediaReference, Payload},
};

/// The content of a commit's event, or of the announcement of a new group (empty ciphertext).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CommitContent {
    /// The room algorithm.
    pub(crate) algorithm: String,
    /// The MLSMessage of the commit.
    pub(crate) ciphertext: Payload,
    /// The device that made the epoch which this commit is based on.
    pub(crate) epoch_creator: DeviceName,
    /// The device that made this commit.
    pub(crate) sender: DeviceName,
    /// The other tips that this commit supersedes.
    #[serde(default)]
    pub(crate) resolves: Vec<(String, DeviceName)>,
    /// The event id of the base epoch's commit; for the announcement, that of `m.room.create`.
    #[serde(default)]
    pub(crate) commit_event: String,
    /// The MLSMessage of the new epoch's GroupInfo.
    pub(crate) public_group_state: Payload,
    /// The new epoch's ratchet tree, if the GroupInfo leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ratchet_tree: Option<MediaReference>,
    /// What leads to the new epoch's ratchet tree from one that was published before, if the tree
    /// is neither in the GroupInfo nor published whole.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_readable")]
    pub(crate) tree_difference: Option<TreeDifference>,
}

impl CommitContent {
    /// Whether it announces a new group: then there is no commit.
    pub(crate) fn is_announcement(&self) -> bool {
        self.ciphertext.is_empty()
    }
}

/// The content of the state event that starts a room's group anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RestartContent {
    /// One more than that of the restart before it; 1 for the first.
    pub(crate) number: u64,
    /// The event that announces the new group.
    pub(crate) announcement: OwnedEventId,
    /// The event of the commit that the sender's device was at, if it was in a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replaces: Option<String>,
}

/// The content of an encrypted message's event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MessageContent {
    /// The room algorithm.
    pub(crate) algorithm: String,
    /// The MLSMessage.
    pub(crate) ciphertext: Payload,
    /// The device that made the epoch in which the message was sent.
    pub(crate) epoch_creator: DeviceName,
    /// The event id of the commit of that epoch.
    #[serde(default)]
    pub(crate) commit_event: String,
    /// What the message relates to, in the clear, so that the homeserver can aggregate.
    #[serde(rename = "m.relates_to", default, skip_serializing_if = "Option::is_none")]
    pub(crate) relates_to: Option<Value>,
}

/// The content of a to-device event with a Welcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WelcomeContent {
    /// The Welcome algorithm.
    pub(crate) algorithm: String,
    /// The MLSMessage of the Welcome.
    pub(crate) ciphertext: Payload,
    /// The room of the group.
    pub(crate) room_id: OwnedRoomId,
    /// The device that made the commit.
    pub(crate) sender: DeviceName,
    /// The tips that the commit supersedes, as in the commit.
    #[serde(default)]
    pub(crate) resolves: Vec<(String, DeviceName)>,
    /// The event id of the commit that added the device.
    pub(crate) commit_event: OwnedEventId,
    /// The ratchet tree, if the Welcome leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ratchet_tree: Option<MediaReference>,
    /// What leads to it, as in the commit.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_readable")]
    pub(crate) tree_difference: Option<TreeDifference>,
}

/// A ratchet tree as what differs from one that was published before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TreeDifference {
    /// A whole tree of an earlier epoch.
    pub(crate) whole: MediaReference,
    /// A difference that comes after it, in the media repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) middle: Option<MediaReference>,
    /// The difference that comes last, in base64; nothing where `middle` leads to the tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) nodes: Option<String>,
}

/// A value, or nothing where it is not what it should be. A commit is processed without it.
fn if_readable<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).ok())
}

/// The plaintext of a message's ciphertext.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plaintext {
    /// The event type.
    #[serde(rename = "type")]
    pub(crate) event_type: String,
    /// The event content.
    pub(crate) content: Box<RawValue>,
    /// The room it was written in.
    pub(crate) room_id: OwnedRoomId,
    /// The generation it was sealed under, in the sender's ratchet of its epoch. Clients that know
    /// nothing of it leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) generation: Option<u32>,
}

/// Any event of a room, as far as this library reads it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RoomEvent {
    /// The event type.
    #[serde(rename = "type")]
    pub(crate) event_type: String,
    /// Only events that an app made up itself lack it.
    pub(crate) event_id: Option<OwnedEventId>,
    /// The sender, according to the homeserver.
    pub(crate) sender: OwnedUserId,
    /// Present on state events.
    pub(crate) state_key: Option<String>,
    /// Not parsed until the type is known.
    pub(crate) content: Box<RawValue>,
    /// When its homeserver took it, by the homeserver's word, in milliseconds since 1970.
    #[serde(default, deserialize_with = "timestamp")]
    pub(crate) origin_server_ts: Option<u64>,
}

/// A time; none where the number is no time.
fn timestamp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<Number>::deserialize(deserializer)?.and_then(|number| number.as_u64()))
}

impl RoomEvent {
    /// Whether it carries a commit rather than a message.
    pub(crate) fn is_commit(&self) -> bool {
        parse::<CommitMark>(self.content.get(), "the content")
            .is_ok_and(|mark| mark.public_group_state.is_some())
    }
}

/// When the homeserver took a room's event, and how long ago that was when it showed the event.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct StampedEvent {
    /// In milliseconds since 1970.
    pub(crate) origin_server_ts: u64,
    /// What the homeserver adds for whom it shows the event to.
    pub(crate) unsigned: Stamp,
}

/// `unsigned` of an event.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Stamp {
    /// In milliseconds.
    pub(crate) age: Option<u64>,
    /// Present for the device that has sent the event.
    pub(crate) transaction_id: Option<String>,
}

/// Any to-device event, as far as this library reads it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ToDeviceEvent {
    /// The event type.
    #[serde(rename = "type")]
    pub(crate) event_type: String,
    /// The sender, according to the homeserver.
    pub(crate) sender: OwnedUserId,
    /// Not parsed until the type is known.
    pub(crate) content: Box<RawValue>,
}

/// The one field that every encrypted content has.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct AlgorithmOnly {
    /// The algorithm.
    pub(crate) algorithm: String,
}

/// The commit that an event needs: every encrypted content names one.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct CommitEventOnly {
    /// The event id of the commit.
    #[serde(default)]
    pub(crate) commit_event: String,
}

/// A page of `/rooms/{room}/messages`, as far as this library reads it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct MessagesPage {
    #[serde(default)]
    pub(crate) chunk: Vec<Box<RawValue>>,
    /// Where the next page starts; absent on the last page.
    pub(crate) end: Option<String>,
}

/// The answer of `/rooms/{room}/members`.
#[derive(Debug, Deserialize)]
pub(crate) struct MembersAnswer {
    pub(crate) chunk: Vec<Box<RawValue>>,
}

/// An answer of `/rooms/{room}/context/{event}`, as far as this library reads it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ContextAnswer {
    /// What comes after the event.
    #[serde(default)]
    pub(crate) events_after: Vec<Box<RawValue>>,
    /// Where the page after that starts.
    pub(crate) end: Option<String>,
}

/// Tells a commit from a message: only commits carry a public group state.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct CommitMark {
    /// Present on commits and announcements.
    pub(crate) public_group_state: Option<Box<RawValue>>,
}

/// `m.room.member`, as far as this library reads it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct MemberContent {
    /// `join`, `invite`, `leave`, `ban` or `knock`.
    pub(crate) membership: String,
}

/// `m.room.history_visibility`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct VisibilityContent {
    /// `world_readable`, `shared`, `invited` or `joined`.
    pub(crate) history_visibility: String,
}

/// `m.room.create`, as far as this library reads it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct CreateContent {
    /// MSC2883: the room names its algorithm when it is created.
    pub(crate) encryption: Option<AlgorithmOnly>,
    /// The version of the room: `1` where it is left out.
    #[serde(default)]
    pub(crate) room_version: Value,
    /// Users who have the sender's power, in versions of rooms that know them.
    #[serde(default)]
    pub(crate) additional_creators: Value,
    /// The room that it replaces.
    #[serde(default)]
    predecessor: Value,
}

impl CreateContent {
    /// Whether whoever has made the room has power over everything in it, for ever: from version 12
    /// of rooms on (MSC4289).
    pub(crate) fn creators_have_all_power(&self) -> bool {
        let version = self.room_version.as_str().and_then(|version| version.parse::<u32>().ok());
        version.is_some_and(|version| version >= 12)
    }

    /// The room that it says it replaces.
    pub(crate) fn predecessor(&self) -> Option<OwnedRoomId> {
        RoomId::parse(self.predecessor["room_id"].as_str()?).ok()
    }
}

/// `m.room.tombstone`, as far as this library reads it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct TombstoneContent {
    #[serde(default)]
    replacement_room: Value,
}

impl TombstoneContent {
    /// The room that replaces this one. A redacted tombstone names none.
    pub(crate) fn replacement(&self) -> Option<OwnedRoomId> {
        RoomId::parse(self.replacement_room.as_str()?).ok()
    }
}

/// `m.room.power_levels`, as far as this library reads it. Rooms of old versions may have levels in
/// quotes.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct PowerLevels {
    #[serde(default)]
    users: Value,
    #[serde(default)]
    users_default: Value,
    #[serde(default)]
    events: Value,
    #[serde(default)]
    state_default: Value,
}

impl PowerLevels {
    /// The level of a user.
    pub(crate) fn of(&self, user: &UserId) -> i64 {
        level(&self.users[user.as_str()]).or(level(&self.users_default)).unwrap_or(0)
    }

    /// The level that a state event of this type takes.
    pub(crate) fn needed_for(&self, event_type: &str) -> i64 {
        level(&self.events[event_type]).or(level(&self.state_default)).unwrap_or(50)
    }
}

fn level(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}
