//! Messages that are read once, through OpenMLS's own ratchets (RFC 9420 §9): where a room keeps no exports.
//!
//! What opened or sealed a message is deleted in the transaction that did it, so nobody who takes the device
//! later can open it. The price: the group is loaded for each message, so its cost grows with the room; it
//! takes a turn; and a message opens once, this device's own never.
//!
//! Whether an epoch is of this kind is decided when it begins, by there being no export of it. Never are both
//! ways used in one epoch: they draw from one ratchet.

use openmls::framing::{
    ContentType, MlsMessageBodyIn, ProcessedMessageContent, ProtocolMessage, Sender,
};
use ruma::RoomId;
use serde_json::value::RawValue;

use super::{
    EpochRecord, Status, Turn, graph,
    message::{self, Message, READ_ONCE, Signer},
    turn::{load_group, parse_mls},
};
use crate::{
    error::MlsError,
    history::archive,
    protocol::{MessageContent, RoomEvent},
};

/// Seals a message in the head of a room.
pub(crate) fn seal(
    turn: &Turn<'_>,
    room_id: &RoomId,
    event_type: &str,
    content: &RawValue,
) -> Result<String, MlsError> {
    let head = message::ready_head(turn.tx, room_id)?;
    if archive::has(turn.tx, room_id, head.id)? {
        return Err(MlsError::not_ready("the room has moved to another epoch"));
    }
    let plaintext = message::plaintext(room_id, event_type, content)?;
    let provider = turn.provider(head.namespace);
    let mut group = load_group(&provider, room_id)?;
    let sealed = group
        .create_message(&provider, turn.identity.signer(), &plaintext)
        .map_err(|error| MlsError::internal("create_message", error))?
        .to_bytes()?;
    // Counted, so that the epoch is renewed in time.
    turn.tx
        .set_generation(head.namespace, turn.tx.generation(head.namespace)?.saturating_add(1))?;
    let (creator, event) = (&head.creator, head.commit_event.as_ref());
    message::event_content(turn.identity, creator, event, &sealed, content)
}

/// Opens a message, for the only time.
pub(crate) fn open(
    turn: &Turn<'_>,
    room_id: &RoomId,
    event: &RoomEvent,
    content: &MessageContent,
) -> Result<Message, MlsError> {
    let message = match parse_mls(&content.ciphertext.bytes()?)? {
        MlsMessageBodyIn::PrivateMessage(message) => ProtocolMessage::from(message),
        _ => return Err(MlsError::rejected("bad_message", "it is no PrivateMessage")),
    };
    if message.group_id().as_slice() != room_id.as_bytes() {
        return Err(MlsError::rejected("other_group", "the message belongs to another group"));
    }
    if message.content_type() != ContentType::Application {
        return Err(MlsError::rejected("bad_message", "it is no application message"));
    }
    let number = message.epoch().as_u64();
    let (commit, creator) = (&content.commit_event, &content.epoch_creator);
    let mut failure = message::unknown_epoch(turn.tx, room_id, number)?;
    for epoch in graph::named(turn.tx, room_id, commit, number, creator)? {
        if epoch.status != Status::Accepted
            || !epoch.full
            || archive::has(turn.tx, room_id, epoch.id)?
        {
            continue;
        }
        match turn.part(|| open_in(turn, room_id, event, &epoch, message.clone())) {
            Err(error) if error.stops_everything() => return Err(error),
            Err(error) => failure = error,
            Ok(message) => return Ok(message),
        }
    }
    Err(failure)
}

fn open_in(
    turn: &Turn<'_>,
    room_id: &RoomId,
    event: &RoomEvent,
    epoch: &EpochRecord,
    message: ProtocolMessage,
) -> Result<Message, MlsError> {
    let provider = turn.provider(epoch.namespace);
    let mut group = load_group(&provider, room_id)?;
    // Read before, this device's own, or damaged: OpenMLS's words for it are for a log.
    let processed = group
        .process_message(&provider, message)
        .map_err(|error| MlsError::rejected(READ_ONCE, error))?;
    let Sender::Member(leaf) = *processed.sender() else {
        return Err(MlsError::rejected("not_a_member", "the message was not sent by a member"));
    };
    let member = group.member_at(leaf).ok_or_else(|| {
        MlsError::rejected("not_a_member", "the message was not sent by a member")
    })?;
    let content = match processed.into_content() {
        ProcessedMessageContent::ApplicationMessage(content) => content,
        ProcessedMessageContent::OwnPrivateMessage => {
            return Err(MlsError::rejected(READ_ONCE, "it is a message of this device's own"));
        }
        _ => return Err(MlsError::rejected("bad_message", "it is another kind of message")),
    };
    let plaintext = zeroize::Zeroizing::new(content.into_bytes());
    let credential = member.credential.serialized_content();
    let from = Signer { credential, key: &member.signature_key };
    let checked = message::check(turn.tx, room_id, &event.sender, &from, &plaintext)?;
    let own = group.own_leaf_index().u32();
    let mut message = checked.message(&epoch.clone().readable(), leaf.u32(), 0, own);
    message.event_id = event.event_id.clone();
    Ok(message)
}
