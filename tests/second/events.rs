//! Contents as the schemas of docs/spec have them.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::head::Device;

/// A large value in the media repository.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Media {
    pub url: String,
    pub size: usize,
    pub sha256: String,
}

/// Bytes, or where they are.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Payload {
    Inline(String),
    Media(Media),
}

/// A ratchet tree as what differs from one that was published before.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TreeDifference {
    pub whole: Media,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub middle: Option<Media>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<String>,
}

/// One that is none counts as none (R18).
fn readable<'de, D: Deserializer<'de>>(value: D) -> Result<Option<TreeDifference>, D::Error> {
    let value = Value::deserialize(value)?;
    Ok(TreeDifference::deserialize(value).ok())
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Commit {
    pub algorithm: String,
    pub ciphertext: Payload,
    pub epoch_creator: Device,
    pub sender: Device,
    /// A hint that may be missing, like the next (R5).
    #[serde(default)]
    pub resolves: Vec<(String, Device)>,
    #[serde(default)]
    pub commit_event: String,
    pub public_group_state: Payload,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratchet_tree: Option<Media>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "readable")]
    pub tree_difference: Option<TreeDifference>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Message {
    pub algorithm: String,
    pub ciphertext: String,
    pub epoch_creator: Device,
    #[serde(default)]
    pub commit_event: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Welcome {
    pub algorithm: String,
    pub ciphertext: String,
    pub room_id: String,
    pub sender: Device,
    #[serde(default)]
    pub resolves: Vec<(String, Device)>,
    pub commit_event: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratchet_tree: Option<Media>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "readable")]
    pub tree_difference: Option<TreeDifference>,
}

/// The application data of a message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plaintext {
    #[serde(rename = "type")]
    pub kind: String,
    pub content: Value,
    pub room_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
}

/// The state that starts a room anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    pub number: u64,
    pub announcement: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
}

/// A sealed session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sealed {
    pub iv: String,
    pub ciphertext: String,
    pub mac: String,
}

/// A session: an epoch or a chunk of leaves.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Session {
    pub algorithm: String,
    pub room_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<(String, Device)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_export: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_event: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaf_chunk: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_history: Option<bool>,
}

/// An offer of history.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HistoryOffer {
    pub algorithm: String,
    pub room_id: String,
    pub sender: Device,
    pub commit_event: String,
    pub bundle_id: String,
    pub bundle: Media,
}

/// An event of a room, as far as it is looked at.
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    #[serde(rename = "type")]
    pub kind: String,
    pub event_id: String,
    pub sender: String,
    pub content: Value,
    pub state_key: Option<String>,
    #[serde(default)]
    pub origin_server_ts: u64,
}
