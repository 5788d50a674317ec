//! What an event turned out to be, as an app sees it.

use super::error::MlsError;
use crate::{
    devices::Trust,
    history::restored::Source,
    incoming::{Outcome, ReceivedEvent},
    messages::Message,
    protocol::DeviceName,
};

/// How far the device behind a leaf is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Enum)]
pub enum DeviceTrust {
    /// No `/keys/query` answer has named this device's credential yet.
    Unknown,
    /// Its published device keys are signed and name this credential.
    Signed,
    /// Its published device keys name another credential: somebody is lying.
    Conflicting,
}

/// A decrypted message.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct DecryptedMessage {
    /// The Matrix event that carried it, when the event says its id.
    pub event_id: Option<String>,
    /// The user who sealed it; always the event's sender.
    pub sender_user_id: String,
    /// The device that sealed it.
    pub sender_device_id: String,
    /// How far that device is trusted.
    pub sender_trust: DeviceTrust,
    /// The event type inside, such as `m.room.message`.
    pub event_type: String,
    /// The content inside, as JSON.
    pub content: String,
    /// The number of the MLS epoch it was sent in.
    pub epoch: u64,
    /// The device that gave this one the keys, as `user_id|device_id`, where a member did: then who sent the
    /// message is that member's word, unless `sender_trust` is `Signed`.
    pub shared_by: Option<String>,
}

/// What became of one event of a room.
#[derive(Debug, Clone, PartialEq, uniffi::Record)]
pub struct EventResult {
    /// The event, when it says its id.
    pub event_id: Option<String>,
    /// What became of it.
    pub outcome: EventOutcome,
}

/// What an event was, or why it could not be used.
#[derive(Debug, Clone, PartialEq, uniffi::Enum)]
pub enum EventOutcome {
    /// None of this library's.
    Ignored,
    /// State that this library follows (members, creation, encryption, a group's announcement).
    State,
    /// A message.
    Message {
        /// What it says, and who said it.
        message: DecryptedMessage,
    },
    /// A commit, by which the group moved on.
    Commit {
        /// The number of the new epoch.
        epoch: u64,
        /// The devices it added, as `user_id|device_id`.
        added: Vec<String>,
        /// The devices it removed, as `user_id|device_id`.
        removed: Vec<String>,
    },
    /// A commit seen before, or our own coming back.
    Duplicate,
    /// Kept in the store until what it needs arrives; its result then comes with a later sync.
    Waiting {
        /// What it waits for.
        error: MlsError,
    },
    /// It could not be used.
    Failed {
        /// Why.
        error: MlsError,
    },
}

impl From<Trust> for DeviceTrust {
    fn from(trust: Trust) -> Self {
        match trust {
            Trust::Unknown => Self::Unknown,
            Trust::Signed => Self::Signed,
            Trust::Conflicting => Self::Conflicting,
        }
    }
}

impl From<Message> for DecryptedMessage {
    fn from(message: Message) -> Self {
        Self {
            event_id: message.event_id.map(|id| id.to_string()),
            sender_user_id: message.sender.user_id.to_string(),
            sender_device_id: message.sender.device_id.to_string(),
            sender_trust: message.trust.into(),
            event_type: message.event_type,
            content: message.content,
            epoch: message.epoch,
            shared_by: match message.source {
                Source::Member(device) => Some(device.to_string()),
                Source::Own | Source::Backup | Source::File => None,
            },
        }
    }
}

impl From<ReceivedEvent> for EventResult {
    fn from(event: ReceivedEvent) -> Self {
        let names = |devices: Vec<DeviceName>| devices.iter().map(ToString::to_string).collect();
        let outcome = match event.outcome {
            Outcome::Ignored => EventOutcome::Ignored,
            Outcome::State => EventOutcome::State,
            Outcome::Message(message) => EventOutcome::Message { message: message.into() },
            Outcome::Commit { epoch, added, removed } => {
                EventOutcome::Commit { epoch, added: names(added), removed: names(removed) }
            }
            Outcome::Duplicate => EventOutcome::Duplicate,
            Outcome::Waiting(error) => EventOutcome::Waiting { error: error.into() },
            Outcome::Failed(error) => EventOutcome::Failed { error: error.into() },
        };
        Self { event_id: event.event_id, outcome }
    }
}
