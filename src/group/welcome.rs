//! Joining by Welcome.
//!
//! The Welcome is opened in a namespace of its own. The private keys of the key package it used
//! are deleted in the same transaction in which the epoch is kept, so that a Welcome that fails
//! costs nothing, and one that succeeds can never be opened a second time.

use openmls::{framing::MlsMessageBodyIn, group::StagedWelcome};
use ruma::{RoomId, UserId};

use super::{
    EpochId, EpochRecord, Status, Turn, graph, outcome,
    process::refuse_conflicting,
    rooms,
    turn::{join_config, parse_mls},
};
use crate::{
    devices,
    error::MlsError,
    identity,
    protocol::{WelcomeContent, credential, identifiers},
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
    // has a group already listens to the room's members only.
    if room.head.is_some() && !rooms::users(turn.tx, &room)?.contains(sender) {
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
    let staged = StagedWelcome::build_from_welcome(&provider, &join_config(), welcome)?
        .skip_lifetime_validation()
        .build()?;
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
        EpochRecord::of(&group, namespace, device, None, Status::Accepted, turn.now_ms)?;
    epoch.commit_event = Some(content.commit_event.clone());
    turn.keep_export(room_id, &epoch, &group, &provider)?;
    identity::forget_used_key_packages(turn.tx, turn.crypto)?;

    // Whoever is let in again may be no more than invited: an old leave says nothing then.
    room.own_user_left = false;
    room.algorithm.get_or_insert_with(|| identifiers::room_algorithm(turn.identity.ciphersuite()));
    rooms::put(turn.tx, &room)?;
    devices::track(turn.tx, users.iter().map(|user| &**user))?;
    let number = epoch.number;
    outcome::enter(turn, room_id, epoch, &[], &[])?;
    Ok(Some(number))
}
