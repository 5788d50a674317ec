//! The results of events, as an app sees them.

use std::fmt;

use super::{error::MlsError, verdict::Verdict};
use crate::{
    devices,
    exported::MlsDevice,
    history::restored::Source,
    incoming::{Outcome, ReceivedEvent},
    messages::Message,
    protocol::{DeviceName, RoomEvent, parse},
};

/// A decrypted message.
#[derive(Clone, PartialEq, Eq, uniffi::Record)]
#[uniffi::export(Debug)]
pub struct DecryptedMessage {
    /// The id of the Matrix event that carried the message, if the event has one.
    pub event_id: Option<String>,
    /// The user who sent the message. It is always the event's sender.
    pub sender_user_id: String,
    /// The id of the device that sent the message.
    pub sender_device_id: String,
    /// What is known now of who sent it. It may be another when the message is decrypted again
    /// (`Update::TrustChanged`).
    pub verdict: Verdict,
    /// The decrypted event's type, such as `m.room.message`.
    pub event_type: String,
    /// The decrypted event's content, as JSON.
    pub content: String,
    /// The number of the MLS epoch in which the message was sent.
    pub epoch: u64,
    /// The device that gave this device the keys, if another member did.
    ///
    /// Then the sender of the message is that member's claim, if `verdict` is `OnlyClaimed`.
    pub shared_by: Option<MlsDevice>,
    /// Whether the message came when its epoch had long ended: an hour, where the sender's device is
    /// in the group no more, or else `RoomSettings::kept_for_ms`.
    ///
    /// Most such messages were long on their way. But a device that was removed can still write so,
    /// with the homeserver's help. An app may show them apart, or not at all
    /// (`RoomSettings::refuse_late_messages`).
    pub is_late: bool,
}

/// Says which message it is, and nothing of its content.
impl fmt::Debug for DecryptedMessage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { event_id, event_type, sender_user_id, epoch, content, .. } = self;
        let id = event_id.as_deref().unwrap_or("no id");
        write!(
            formatter,
            "DecryptedMessage({id}: {event_type} of {sender_user_id} in epoch {epoch}, {} bytes)",
            content.len()
        )
    }
}

/// The result of one event of a room.
#[derive(Debug, Clone, PartialEq, uniffi::Record)]
pub struct EventResult {
    /// The event's id, if the event has one.
    pub event_id: Option<String>,
    /// What the event was, or why it could not be used.
    pub outcome: EventOutcome,
}

/// What an event was, or why it could not be used.
#[derive(Debug, Clone, PartialEq, uniffi::Enum)]
pub enum EventOutcome {
    /// The event does not concern this library.
    Ignored,
    /// A state event that this library follows: members, creation, encryption, a group's
    /// announcement.
    State,
    /// A message.
    Message {
        /// The decrypted message.
        message: DecryptedMessage,
    },
    /// A commit: the room's group has a new epoch.
    Commit {
        /// The number of the new epoch.
        epoch: u64,
        /// The devices that the commit added.
        added: Vec<MlsDevice>,
        /// The devices that the commit removed.
        removed: Vec<MlsDevice>,
    },
    /// A commit that was processed before, or this device's own commit coming back.
    Duplicate,
    /// The event is kept until what it needs arrives. Its result then comes with a later sync.
    Waiting {
        /// What the event needs.
        error: MlsError,
    },
    /// The event could not be used.
    Failed {
        /// Why it could not be used.
        error: MlsError,
    },
}

/// Whether an event, given as JSON, is a commit or the announcement of a group: an
/// `m.room.encrypted` event that says nothing to people. A timeline leaves it out. No key is
/// needed.
#[uniffi::export]
pub fn is_commit_event(event: String) -> bool {
    parse::<RoomEvent>(&event, "the event")
        .is_ok_and(|event| event.event_type == "m.room.encrypted" && event.is_commit())
}

impl From<Message> for DecryptedMessage {
    fn from(message: Message) -> Self {
        let verdict = match message.verdict {
            // Nothing but the word of whoever gave the keys says who has sent it.
            devices::Verdict::Unknown if message.source != Source::Own => Verdict::OnlyClaimed,
            verdict => verdict.into(),
        };
        Self {
            event_id: message.event_id.map(|id| id.to_string()),
            sender_user_id: message.sender.user_id.to_string(),
            sender_device_id: message.sender.device_id.to_string(),
            verdict,
            event_type: message.event_type,
            content: message.content,
            epoch: message.epoch,
            shared_by: match message.source {
                Source::Member(device) => Some(MlsDevice::from(&device)),
                Source::Own | Source::Backup | Source::File => None,
            },
            is_late: message.is_late,
        }
    }
}

impl From<ReceivedEvent> for EventResult {
    fn from(event: ReceivedEvent) -> Self {
        let names = |devices: Vec<DeviceName>| devices.iter().map(MlsDevice::from).collect();
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
