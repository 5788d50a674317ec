//! Welcomes: joining by one, and cutting one's own so that each device gets its part.
//!
//! The Welcome is opened in a namespace of its own. The private keys of the key package it used
//! are deleted in the same transaction in which the epoch is kept, so that a Welcome that fails
//! costs nothing, and one that succeeds can never be opened a second time. One whose ratchet tree stands
//! in the media repository waits for that.

use std::collections::HashMap;

use openmls::{framing::MlsMessageBodyIn, group::StagedWelcome, prelude::RatchetTreeIn};
use ruma::{OwnedUserId, RoomId, UserId};
use serde::{Deserialize, Serialize};
use tls_codec::{
    Deserialize as _, Serialize as _, TlsDeserialize, TlsSerialize, TlsSize, VLByteVec,
};

use super::{
    EpochId, EpochRecord, Status, Turn,
    checks::refuse_conflicting,
    fetch, graph, head, heal, media,
    policy::Doubt,
    rooms,
    turn::{join_config, parse_mls},
};
use crate::{
    devices,
    error::MlsError,
    identity,
    protocol::{MediaReference, WelcomeContent, credential, identifiers},
    store::Collection,
};

/// Joins the group that a Welcome leads to. Nothing means that this device is already there.
pub(crate) fn join(
    turn: &Turn<'_>,
    sender: &UserId,
    content: &WelcomeContent,
) -> Result<Option<u64>, MlsError> {
    let room_id: &RoomId = &content.room_id;
    if content.sender.0 != sender {
        return Err(MlsError::rejected(
            "sender_mismatch",
            "the event names another user as sender",
        ));
    }
    if graph::by_event(turn.tx, room_id, &content.commit_event)?.is_some() {
        return Ok(None);
    }
    let mut room = rooms::get(turn.tx, room_id)?;
    // Anybody can claim a key package of ours and invite us into a group that bears the room's id. Who
    // has a group already listens to the room's members only, as soon as they are known; until then the
    // doubt stays with the epoch.
    let users = rooms::users(turn.tx, &room)?;
    let stranger = !users.contains(sender);
    if room.head.is_some() && !users.is_empty() && stranger {
        return Err(MlsError::rejected(
            "inviter_not_in_room",
            "the Welcome comes from a user who is not in the room",
        ));
    }
    let MlsMessageBodyIn::Welcome(welcome) = parse_mls(&content.ciphertext.bytes()?)? else {
        return Err(MlsError::rejected("not_a_welcome", "the Welcome is another kind of message"));
    };

    let namespace = turn.tx.new_namespace()?;
    let provider = turn.provider(namespace);
    // A leaf that was never updated carries its key package's lifetime, so an old room would become
    // unjoinable; whether each device may be there is decided by its published keys instead.
    let mut builder = StagedWelcome::build_from_welcome(&provider, &join_config(), welcome)?
        .skip_lifetime_validation();
    if let Some(reference) = &content.ratchet_tree {
        let tree = media::blob(turn, room_id, reference)?;
        let tree = RatchetTreeIn::tls_deserialize_exact(tree.as_slice())
            .map_err(|_| MlsError::rejected("bad_tree", "the ratchet tree does not parse"))?;
        builder = builder.with_ratchet_tree(tree);
    }
    let staged = builder.build()?;
    if staged.group_context().group_id().as_slice() != room_id.as_bytes() {
        return Err(MlsError::rejected("other_group", "the Welcome leads to another room's group"));
    }
    let inviter = staged.welcome_sender()?;
    let device = credential::parse(inviter.credential().serialized_content())?;
    if device != content.sender {
        return Err(MlsError::rejected(
            "sender_mismatch",
            "the Welcome was made by another device than the event says",
        ));
    }
    let mut users = Vec::new();
    for member in staged.members() {
        let device = credential::parse(member.credential.serialized_content())?;
        refuse_conflicting(turn, &device, &member.signature_key)?;
        users.push(device.0);
    }
    users.sort();
    users.dedup();

    let group = staged.into_group(&provider)?;
    let id = EpochId::of(group.public_group().group_context())?;
    if graph::find(turn.tx, room_id, id)?.is_some() {
        return Err(MlsError::rejected("known_epoch", "this device already is in that epoch"));
    }
    let mut epoch =
        EpochRecord::of(&group, namespace, device.clone(), None, Status::Accepted, turn.now_ms)?;
    if stranger {
        epoch.doubts.push(Doubt::InvitedByStranger(device));
    }
    epoch.commit_event = Some(content.commit_event.clone());
    turn.keep_export(room_id, &epoch, &group, &provider, room.settings.history)?;
    identity::forget_used_key_packages(turn.tx, turn.crypto)?;

    // Whoever is let in again may be no more than invited: an old leave says nothing then.
    room.own_user_left = false;
    room.algorithm.get_or_insert_with(|| identifiers::room_algorithm(turn.identity.ciphersuite()));
    rooms::put(turn.tx, &room)?;
    devices::track(turn.tx, users.iter().map(|user| &**user))?;
    let number = epoch.number;
    fetch::ask_again(turn, room_id)?;
    head::enter(turn, room_id, epoch, &[], &[])?;
    heal::joined(turn, room_id)?;
    let tree = content.ratchet_tree.as_ref();
    media::used(turn, room_id, tree.and_then(MediaReference::hash))?;
    Ok(Some(number))
}

/// A Welcome that waits for its ratchet tree.
#[derive(Serialize, Deserialize)]
struct Pending {
    sender: OwnedUserId,
    content: WelcomeContent,
}

const PENDING: Collection<Pending> = Collection::new("pending_welcome");
/// How many wait in one room.
const MOST_PENDING: u64 = 8;

/// Keeps a Welcome whose ratchet tree has to be fetched first.
pub(crate) fn keep(
    turn: &Turn<'_>,
    sender: &UserId,
    content: &WelcomeContent,
) -> Result<(), MlsError> {
    let room = content.room_id.as_bytes();
    if PENDING.count(turn.tx, room)? >= MOST_PENDING {
        PENDING.delete_scope(turn.tx, room)?;
    }
    let pending = Pending { sender: sender.to_owned(), content: content.clone() };
    Ok(PENDING.put(turn.tx, room, content.commit_event.as_bytes(), &pending)?)
}

/// Tries the Welcomes of a room that wait.
pub(crate) fn retry(turn: &Turn<'_>, room_id: &RoomId) -> Result<(), MlsError> {
    for Pending { sender, content } in PENDING.list(turn.tx, room_id.as_bytes())? {
        match turn.part(|| join(turn, &sender, &content)) {
            Err(error) if error.stops_everything() => return Err(error),
            Err(error) if media::is_awaited(&error) => continue,
            Err(error) => failed(turn, &content, &error)?,
            Ok(_) => {}
        }
        PENDING.delete(turn.tx, room_id.as_bytes(), content.commit_event.as_bytes())?;
    }
    Ok(())
}

/// A Welcome could not be used. Who has no group without it joins by itself: the key package may have been
/// used before, or the store may have forgotten it.
pub(crate) fn failed(
    turn: &Turn<'_>,
    content: &WelcomeContent,
    error: &MlsError,
) -> Result<(), MlsError> {
    tracing::info!(room = %content.room_id, code = error.code(), "a Welcome could not be used");
    let Some(room) = rooms::find(turn.tx, &content.room_id)? else { return Ok(()) };
    let own = turn.identity.name().0;
    let joined = rooms::is_joined(turn.tx, &room.room_id, &own)?;
    if room.head.is_none() && !room.gone && joined && room.uses_mls() {
        heal::need(turn, &room.room_id, heal::Reason::NoGroup)?;
    }
    Ok(())
}

/// An MLSMessage with a Welcome (RFC 9420, sections 6 and 12.4.3.1), as far as it has to be looked into.
#[derive(TlsSerialize, TlsDeserialize, TlsSize)]
struct Parts {
    version: u16,
    wire_format: u16,
    cipher_suite: u16,
    secrets: Vec<Secrets>,
    encrypted_group_info: VLByteVec,
}

/// What one new member needs.
#[derive(Debug, Clone, TlsSerialize, TlsDeserialize, TlsSize)]
struct Secrets {
    new_member: VLByteVec,
    kem_output: VLByteVec,
    ciphertext: VLByteVec,
}

/// Cuts a Welcome for many into one for each of these key packages, in their order.
pub(crate) fn split(
    welcome: &[u8],
    references: &[serde_bytes::ByteBuf],
) -> Result<Vec<Vec<u8>>, MlsError> {
    let bad = |error: &dyn std::fmt::Display| MlsError::internal("split_welcome", error);
    let mut parts = Parts::tls_deserialize_exact(welcome).map_err(|error| bad(&error))?;
    let secrets: HashMap<Vec<u8>, Secrets> = std::mem::take(&mut parts.secrets)
        .into_iter()
        .map(|secrets| (secrets.new_member.as_slice().to_vec(), secrets))
        .collect();
    references
        .iter()
        .map(|reference| {
            let own = secrets.get(reference.as_slice());
            parts.secrets = vec![own.ok_or_else(|| bad(&"it lacks a new member"))?.clone()];
            parts.tls_serialize_detached().map_err(|error| bad(&error))
        })
        .collect()
}
