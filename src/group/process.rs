//! Commits that arrive in the timeline: other devices', and our own coming back.
//!
//! A commit is processed by a copy-on-write child of its base epoch, so the base is as it was
//! whatever happens. It is believed only when the event's sender, the commit's MLS sender and the
//! names in the event agree, and when it adds nobody whose published keys say otherwise.

use std::collections::BTreeSet;

use openmls::{
    framing::{MlsMessageBodyIn, ProcessedMessageContent, ProtocolMessage, Sender},
    group::{MlsGroup, StagedCommit},
    messages::proposals::Proposal,
    prelude::Member,
};
use ruma::{EventId, OwnedEventId, RoomId, UserId};
use sha2::{Digest, Sha256};

use super::{
    EpochRecord, Status, Turn,
    commit::STAGED,
    create, graph, message, outcome, plan, rooms,
    rooms::RoomRecord,
    turn::{load_group, parse_mls},
};
use crate::{
    devices::{self, Trust},
    error::MlsError,
    protocol::{CommitContent, DeviceName, credential, identifiers},
    requests::REQUESTS,
    updates::Update,
};

/// What a commit's event turned out to be.
pub(crate) enum Processed {
    /// The group moved on.
    Entered { number: u64, added: Vec<DeviceName>, removed: Vec<DeviceName> },
    /// Seen before, or our own coming back.
    Known,
    /// Somebody made a group for the room; this device is not in it.
    Announced,
}

/// Processes one commit event.
pub(crate) fn process(
    turn: &Turn<'_>,
    room_id: &RoomId,
    event: &EventId,
    sender: &UserId,
    content: &CommitContent,
) -> Result<Processed, MlsError> {
    if content.sender.0 != sender {
        return Err(MlsError::rejected(
            "sender_mismatch",
            "the event names another user as sender",
        ));
    }
    if graph::by_event(turn.tx, room_id, event)?.is_some() {
        return Ok(Processed::Known);
    }
    let mut room = rooms::get(turn.tx, room_id)?;
    if room.algorithm.is_none() {
        room.algorithm = Some(content.algorithm.clone());
        rooms::put(turn.tx, &room)?;
        rooms::track_members(turn.tx, &room)?;
    }
    if content.sender == turn.identity.name() {
        return own(turn, &room, event, content);
    }
    if create::is_announcement(content) {
        return announced(turn, room);
    }
    others(turn, &room, event, sender, content)
}

/// Somebody's announcement of a group. In the room's own past it is no news: whoever joined later finds
/// it in the timeline. Beside a group of our own making it is a second group.
fn announced(turn: &Turn<'_>, mut room: RoomRecord) -> Result<Processed, MlsError> {
    if room.staged.is_some() || graph::first_number(turn.tx, &room.room_id)? == Some(0) {
        return Err(MlsError::forked(0));
    }
    if room.head.is_none() && !room.others_group {
        room.others_group = true;
        rooms::put(turn.tx, &room)?;
    }
    Ok(Processed::Announced)
}

/// One of our own, back from the homeserver: as good as the answer to its request.
fn own(
    turn: &Turn<'_>,
    room: &RoomRecord,
    event: &EventId,
    content: &CommitContent,
) -> Result<Processed, MlsError> {
    let Some(id) = room.staged else { return Err(unknown_own()) };
    let staged = STAGED
        .get(turn.tx, room.room_id.as_bytes(), id.as_bytes())?
        .ok_or_else(|| MlsError::damaged("a staged epoch has lost what belongs to its commit"))?;
    let hash = if create::is_announcement(content) {
        None
    } else {
        Some(Sha256::digest(content.ciphertext.bytes()?).into())
    };
    if staged.commit_hash != hash {
        return Err(unknown_own());
    }
    if let Some((request, _)) = outcome::staged_request(turn, &room.room_id, id)? {
        REQUESTS.remove(turn.tx, request)?;
    }
    outcome::accepted(turn, &room.room_id, id, event.to_owned())?;
    Ok(Processed::Known)
}

fn unknown_own() -> MlsError {
    MlsError::rejected(
        "unknown_own_commit",
        "the event claims to be a commit of this device, which has no memory of it",
    )
}

fn others(
    turn: &Turn<'_>,
    room: &RoomRecord,
    event: &EventId,
    sender: &UserId,
    content: &CommitContent,
) -> Result<Processed, MlsError> {
    let room_id = &*room.room_id;
    let message = match parse_mls(&content.ciphertext.bytes()?)? {
        MlsMessageBodyIn::PrivateMessage(message) => ProtocolMessage::from(message),
        MlsMessageBodyIn::PublicMessage(message) => ProtocolMessage::from(message),
        _ => {
            return Err(MlsError::rejected(
                "not_a_commit",
                "the commit is another kind of message",
            ));
        }
    };
    if message.group_id().as_slice() != room_id.as_bytes() {
        return Err(MlsError::rejected("other_group", "the commit belongs to another group"));
    }
    if message.is_external() {
        return Err(MlsError::unsupported(
            "external_commit",
            "joining by external commit is not supported by this version",
        ));
    }
    let base = base_of(turn, room, content, message.epoch().as_u64())?;

    let namespace = turn.tx.new_namespace()?;
    let provider = turn.child_provider(base.namespace, namespace);
    let mut group = load_group(&provider, room_id)?;
    let processed = group.process_message(&provider, message)?;
    let device = credential::parse(processed.credential().serialized_content())?;
    if device.0 != sender || device != content.sender {
        return Err(MlsError::rejected(
            "sender_mismatch",
            "the commit was made by another device than the event says",
        ));
    }
    let committer = match processed.sender() {
        Sender::Member(index) => group.member_at(*index),
        _ => None,
    };
    let committer = committer
        .ok_or_else(|| MlsError::rejected("not_a_member", "the commit was not made by a member"))?;
    let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content() else {
        return Err(MlsError::rejected("not_a_commit", "the commit is another kind of message"));
    };
    let removed = check(&group, &staged, &committer)?;
    let added = added(turn, &staged)?;
    let number = staged.epoch().as_u64();

    if staged.self_removed() {
        turn.tx.delete_namespace(namespace)?;
        evicted(turn, room_id)?;
        return Ok(Processed::Entered { number, added, removed });
    }
    group.merge_staged_commit(&provider, *staged)?;
    let mut epoch =
        EpochRecord::of(&group, namespace, device, Some(base.id), Status::Accepted, turn.now_ms)?;
    epoch.commit_event = Some(event.to_owned());
    turn.keep_export(room_id, &epoch, &group, &provider)?;
    turn.tx.detach_namespace(namespace, base.namespace)?;
    let users: BTreeSet<_> = added.iter().map(|device| &*device.0).collect();
    devices::track(turn.tx, users)?;
    outcome::enter(turn, room_id, epoch, &added, &removed)?;
    Ok(Processed::Entered { number, added, removed })
}

/// The epoch a commit is based on, if it can still process commits.
fn base_of(
    turn: &Turn<'_>,
    room: &RoomRecord,
    content: &CommitContent,
    number: u64,
) -> Result<EpochRecord, MlsError> {
    let room_id = &*room.room_id;
    let mut candidates =
        graph::named(turn.tx, room_id, &content.commit_event, number, &content.epoch_creator)?;
    let Some(base) = candidates.pop() else {
        return Err(message::unknown_epoch(turn.tx, room_id, number)?);
    };
    if base.status == Status::Staged {
        return Err(message::unknown_epoch(turn.tx, room_id, number)?);
    }
    // A commit of our own that is staged may have reached the homeserver: theirs waits for the answer to
    // it, and is tried again if that is a refusal.
    if base.has_child || !base.full || room.staged.is_some() {
        if room.gone {
            return Err(MlsError::not_in_group(room_id));
        }
        return Err(MlsError::forked(number));
    }
    Ok(base)
}

/// Refuses what no honest client of ours commits, and tells who is removed. MLS itself lets a member
/// take any credential with a commit (RFC 9420, section 5.3.1 leaves that to the application); here a
/// leaf stays its device's.
fn check(
    group: &MlsGroup,
    staged: &StagedCommit,
    committer: &Member,
) -> Result<Vec<DeviceName>, MlsError> {
    let mut removed = Vec::new();
    for proposal in staged.queued_proposals() {
        match proposal.proposal() {
            Proposal::Add(_) => {}
            Proposal::Remove(remove) => {
                let leaf = group.member(remove.removed()).ok_or_else(|| {
                    MlsError::rejected("no_such_leaf", "the commit removes a leaf that is blank")
                })?;
                removed.push(credential::parse(leaf.serialized_content())?);
            }
            _ => {
                return Err(MlsError::rejected(
                    "unexpected_proposal",
                    "the commit holds a proposal that Matrix rooms do not use",
                ));
            }
        }
    }
    if let Some(leaf) = staged.update_path_leaf_node()
        && (*leaf.credential() != committer.credential
            || leaf.signature_key().as_slice() != committer.signature_key)
    {
        return Err(MlsError::rejected(
            "credential_change",
            "the committer's new leaf has another credential or signature key",
        ));
    }
    Ok(removed)
}

fn added(turn: &Turn<'_>, staged: &StagedCommit) -> Result<Vec<DeviceName>, MlsError> {
    let mut added = Vec::new();
    for add in staged.add_proposals() {
        let leaf = add.add_proposal().key_package().leaf_node();
        let device = credential::parse(leaf.credential().serialized_content())?;
        refuse_conflicting(turn, &device, leaf.signature_key().as_slice())?;
        added.push(device);
    }
    Ok(added)
}

/// A leaf whose key is not the one its device publishes is an impostor's.
pub(crate) fn refuse_conflicting(
    turn: &Turn<'_>,
    device: &DeviceName,
    key: &[u8],
) -> Result<(), MlsError> {
    match devices::trust(turn.tx, &device.0, &device.1, key)? {
        Trust::Conflicting => Err(MlsError::rejected(
            "conflicting_credential",
            format!("{device} is added with a key that it does not publish"),
        )),
        Trust::Unknown | Trust::Signed => Ok(()),
    }
}

/// This device was removed: it keeps what it could read, and can do nothing else.
pub(crate) fn evicted(turn: &Turn<'_>, room_id: &RoomId) -> Result<(), MlsError> {
    give_up_membership(turn, room_id)?;
    turn.tell(Update::Removed { room_id: room_id.to_string() });
    Ok(())
}

/// Drops every state that could send or process, and what was still to be sent for the room.
pub(crate) fn give_up_membership(turn: &Turn<'_>, room_id: &RoomId) -> Result<(), MlsError> {
    let mut room = rooms::get(turn.tx, room_id)?;
    for (request, _) in REQUESTS.in_scope(turn.tx, room_id.as_bytes())? {
        REQUESTS.remove(turn.tx, request)?;
    }
    if let Some(id) = room.staged.take() {
        rooms::put(turn.tx, &room)?;
        outcome::dropped(turn, room_id, id)?;
    }
    for mut epoch in graph::all(turn.tx, room_id)? {
        graph::make_decrypt_only(turn.tx, room_id, &mut epoch)?;
    }
    plan::forget_candidates(turn, room_id)?;
    room.head = None;
    room.settled = None;
    room.rotate = false;
    room.gone = true;
    rooms::put(turn.tx, &room)?;
    Ok(())
}

/// Whether an algorithm is one of ours.
pub(crate) fn is_ours(algorithm: &str) -> bool {
    identifiers::suite_of_room_algorithm(algorithm).is_some()
}

/// The event id of an event that must have one.
pub(crate) fn required_event_id(id: Option<&OwnedEventId>) -> Result<&EventId, MlsError> {
    id.map(|id| &**id)
        .ok_or_else(|| MlsError::rejected("no_event_id", "the event does not say its event_id"))
}
