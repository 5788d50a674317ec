//! The event around a message: reading it, and writing its content.

use ruma::{OwnedEventId, RoomId};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::error::{MessageError, SendError};
use crate::{
    failure::Failure,
    identity::Identity,
    protocol::{
        AlgorithmOnly, DeviceName, MessageContent, Payload, Plaintext, RoomEvent, identifiers,
        parse, write_content,
    },
};

/// Reads an event that the app takes for a message.
pub(crate) fn parse_event(event: &str) -> Result<(RoomEvent, MessageContent), MessageError> {
    let event: RoomEvent = parse(event, "event")?;
    if event.event_type != "m.room.encrypted" {
        return Err(MessageError::NotEncrypted);
    }
    match parse::<AlgorithmOnly>(event.content.get(), "the event's content") {
        Ok(AlgorithmOnly { algorithm }) if identifiers::is_room_algorithm(&algorithm) => {}
        Ok(_) => return Err(MessageError::NotMls),
        Err(error) if event.content.get().trim() != "{}" => return Err(error.into()),
        // A redaction leaves nothing of an encrypted event's content.
        Err(_) => return Err(MessageError::Redacted),
    }
    if event.is_commit() {
        return Err(MessageError::Commit);
    }
    let content: MessageContent = parse(event.content.get(), "the event's content")?;
    Ok((event, content))
}

/// What a message's ciphertext holds. Its sender signs all of it, the generation too: a member, who
/// has the keys of everybody's ratchets, can seal it again under no other.
pub(super) fn plaintext(
    room: &RoomId,
    event_type: &str,
    content: &RawValue,
    generation: u32,
) -> Result<Zeroizing<Vec<u8>>, SendError> {
    let plaintext = Plaintext {
        event_type: event_type.to_owned(),
        content: content.to_owned(),
        room_id: room.to_owned(),
        generation: Some(generation),
    };
    let json = serde_json::to_vec(&plaintext);
    Ok(Zeroizing::new(json.map_err(|error| Failure::defect("plaintext", error))?))
}

/// The epoch of a message, as its event names it.
pub(super) struct EpochName<'a> {
    pub(super) creator: &'a DeviceName,
    pub(super) commit_event: Option<&'a OwnedEventId>,
}

/// The content of a message's event. What `content` relates to stays readable for the homeserver.
pub(super) fn event_content(
    identity: &Identity,
    epoch: &EpochName<'_>,
    ciphertext: &[u8],
    content: &RawValue,
) -> Result<String, SendError> {
    let content = MessageContent {
        algorithm: identifiers::room_algorithm(identity.ciphersuite()),
        ciphertext: Payload::inline(ciphertext),
        epoch_creator: epoch.creator.clone(),
        commit_event: epoch.commit_event.map(ToString::to_string).unwrap_or_default(),
        relates_to: relation(content),
    };
    Ok(write_content(&content, "the message")?.get().to_owned())
}

/// `m.relates_to` stays in clear, as the homeserver aggregates by it (Matrix spec, "Validation of
/// relationships" in encrypted events).
fn relation(content: &RawValue) -> Option<serde_json::Value> {
    let content: serde_json::Value = serde_json::from_str(content.get()).ok()?;
    content.get("m.relates_to").filter(|relation| relation.is_object()).cloned()
}
