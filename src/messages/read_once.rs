//! Messages that are read once, through OpenMLS's own ratchets (RFC 9420 §9): where a room keeps no
//! exports.
//!
//! What opened or sealed a message is deleted in the transaction that did it, so nobody who takes
//! the device later can open it. The price: the group is loaded for each message, so its cost grows
//! with the room; it takes a turn; and a message opens once, this device's own never.
//!
//! Whether an epoch is of this kind is decided when it begins, by there being no export of it. The
//! two ways are never both used in one epoch, as they draw from one ratchet.

use openmls::framing::{
    ContentType, MlsMessageBodyIn, ProcessedMessageContent, ProtocolMessage, Sender,
};
use ruma::RoomId;
use serde_json::value::RawValue;

use super::{
    error::{MessageError, SendError},
    event::{EpochName, event_content, plaintext},
    open::{Message, Signer, bind, check},
    seal::{UNPREPARED, ready_head},
};
use crate::{
    epochs::{EpochRecord, Status, graph},
    failure::{EndsTurn, Failure},
    history::{archive, replay::Bindings},
    mls::{parse_message, take_group},
    protocol::{GroupName, MessageContent, RoomEvent},
    rejection::Rejection,
    turn::Turn,
};

/// Seals a message in the head of a room.
pub(crate) fn seal(
    turn: &Turn<'_>,
    room: &RoomId,
    event_type: &str,
    content: &RawValue,
) -> Result<String, SendError> {
    let head = ready_head(turn.tx, room)?;
    if archive::has(turn.tx, room, head.id)? {
        return Err(SendError::NotReady(UNPREPARED));
    }
    // Each of this device's messages in the epoch was counted, so this is OpenMLS's next
    // generation.
    let generation = turn.tx.generation(head.namespace)?;
    let plaintext = plaintext(room, event_type, content, generation)?;
    let provider = turn.provider(head.namespace);
    let mut group = take_group(turn, head.namespace, &provider, room, head.group)?;
    let own_key = group.own_leaf_node().map(|leaf| leaf.signature_key().as_slice());
    if own_key != Some(turn.identity.public_key()) {
        return Err(SendError::NotOwnLeaf);
    }
    let sealed = group
        .create_message(&provider, turn.identity.signer(), &plaintext)
        .map_err(|error| Failure::defect("create_message", error))?
        .to_bytes()
        .map_err(Failure::from)?;
    turn.tx.take_generations(head.namespace, generation, generation.saturating_add(1))?;
    turn.groups.keep(turn.tx, head.namespace, group)?;
    let epoch = EpochName { creator: &head.creator, commit_event: head.commit_event.as_ref() };
    event_content(turn.identity, &epoch, &sealed, content)
}

/// Opens a message, for the only time.
pub(crate) fn open(
    turn: &Turn<'_>,
    bindings: &Bindings,
    room: &RoomId,
    event: &RoomEvent,
    content: &MessageContent,
) -> Result<Message, MessageError> {
    let message = match parse_message(&content.ciphertext.bytes()?)? {
        MlsMessageBodyIn::PrivateMessage(message) => ProtocolMessage::from(message),
        _ => return Err(MessageError::OtherKind("it is no PrivateMessage")),
    };
    let Some(group) = GroupName::of(room, message.group_id().as_slice()) else {
        return Err(Rejection::OtherGroup("the message belongs to another group").into());
    };
    if message.content_type() != ContentType::Application {
        return Err(MessageError::OtherKind("it is no application message"));
    }
    let number = message.epoch().as_u64();
    let (commit, creator) = (&content.commit_event, &content.epoch_creator);
    let mut failure = MessageError::from(graph::why_unknown(turn.tx, room, group, number)?);
    for epoch in graph::named(turn.tx, room, commit, number, creator)? {
        if epoch.status != Status::Accepted || !epoch.full || archive::has(turn.tx, room, epoch.id)?
        {
            continue;
        }
        match turn.atomically(|| open_in(turn, bindings, room, event, &epoch, message.clone())) {
            Err(error) if error.ends_turn() => return Err(error),
            Err(error) => failure = error,
            Ok(message) => return Ok(message),
        }
    }
    Err(failure)
}

fn open_in(
    turn: &Turn<'_>,
    bindings: &Bindings,
    room: &RoomId,
    event: &RoomEvent,
    epoch: &EpochRecord,
    message: ProtocolMessage,
) -> Result<Message, MessageError> {
    let provider = turn.provider(epoch.namespace);
    let mut group = take_group(turn, epoch.namespace, &provider, room, epoch.group)?;
    // Read before, this device's own, or damaged: OpenMLS's words for it are for a log.
    let processed = group
        .process_message(&provider, message)
        .map_err(|error| MessageError::ReadOnce(error.to_string()))?;
    let not_a_member = Rejection::NotAMember("the message was not sent by a member");
    let Sender::Member(leaf) = *processed.sender() else { return Err(not_a_member.into()) };
    let member = group.member_at(leaf).ok_or(not_a_member)?;
    let content = match processed.into_content() {
        ProcessedMessageContent::ApplicationMessage(content) => content,
        ProcessedMessageContent::OwnPrivateMessage => {
            let reason = "it is a message of this device's own";
            return Err(MessageError::ReadOnce(reason.to_owned()));
        }
        _ => return Err(MessageError::OtherKind("it is another kind of message")),
    };
    let plaintext = zeroize::Zeroizing::new(content.into_bytes());
    let credential = member.credential.serialized_content();
    let signer = Signer { credential, key: &member.signature_key };
    let checked = check(turn.tx, room, &event.sender, &signer, &plaintext)?;
    let own = Some(group.own_leaf_index().u32());
    turn.groups.keep(turn.tx, epoch.namespace, group)?;
    // OpenMLS opens each generation once, and does not say which it was.
    let claimed = checked.generation();
    let message = checked.message(&epoch.clone().readable(), leaf.u32(), claimed.unwrap_or(0), own);
    match claimed {
        Some(_) => bind(turn.tx, bindings, room, event.event_id.as_deref(), message),
        None => Ok(Message { event_id: event.event_id.clone(), ..message }),
    }
}
