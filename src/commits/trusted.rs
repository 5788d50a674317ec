//! Whether this device's user wants to send to the people of a room, as far as only this device
//! knows.
//!
//! Whom a user has verified is nobody else's knowledge. So it changes no group: it stops what this
//! device sends, until its user has decided: messages, and the history that it gives to others.

use std::collections::BTreeSet;

use ruma::{OwnedUserId, RoomId};

use crate::{
    devices::{self, Verdict},
    epochs::EpochRecord,
    failure::Failure,
    history::archive,
    messages::SendError,
    protocol::{DeviceName, EpochId, credential},
    turn::Turn,
};

/// Refuses if one of these users was verified with another identity than now.
pub(super) fn refuse_changed(
    turn: &Turn<'_>,
    users: &BTreeSet<OwnedUserId>,
) -> Result<(), SendError> {
    let changed = devices::changed_among(turn.tx, users)?;
    if changed.is_empty() { Ok(()) } else { Err(SendError::IdentityChanged(changed)) }
}

/// Refuses if the app wants to send to verified devices only, and the epoch has others. It is a
/// look at each member.
pub(super) fn refuse_unverified(
    turn: &Turn<'_>,
    room: &RoomId,
    epoch: &EpochRecord,
) -> Result<(), SendError> {
    if !devices::sends_only_to_verified(turn.tx)? {
        return Ok(());
    }
    let users = unverified_among(turn, members(turn, room, epoch.id)?)?;
    if users.is_empty() { Ok(()) } else { Err(SendError::NotVerified(users)) }
}

/// Whether this device's user wants the members of an epoch to have what is sealed for that epoch,
/// beside messages: all of them can open it. The past is given while nobody among them has another
/// identity than the app has seen and accepted: whoever hands out a new one may have made it up,
/// and a device that it has signed.
pub(crate) fn may_be_given(
    turn: &Turn<'_>,
    room: &RoomId,
    epoch: EpochId,
) -> Result<bool, Failure> {
    if archive::find(turn.tx, room, epoch)?.is_none() {
        return Ok(false);
    }
    let members = members(turn, room, epoch)?;
    let users: BTreeSet<_> = members.iter().map(|(device, _)| device.user_id.clone()).collect();
    if !devices::changed_among(turn.tx, &users)?.is_empty() {
        return Ok(false);
    }
    for user in &users {
        if devices::is_to_be_accepted(turn.tx, user)? {
            return Ok(false);
        }
    }
    let only_verified = devices::sends_only_to_verified(turn.tx)?;
    Ok(!only_verified || unverified_among(turn, members)?.is_empty())
}

/// The devices of an epoch, with the keys of their credentials.
fn members(
    turn: &Turn<'_>,
    room: &RoomId,
    epoch: EpochId,
) -> Result<Vec<(DeviceName, Vec<u8>)>, Failure> {
    let leaves = archive::leaves(turn.tx, room, epoch)?.into_iter();
    let named = leaves.map(|(_, leaf)| {
        let device = credential::parse(leaf.credential()?.serialized_content())?;
        Ok((device, leaf.signature_key().to_vec()))
    });
    named.collect()
}

/// The users who have a device among these that is not verified, each once.
fn unverified_among(
    turn: &Turn<'_>,
    members: Vec<(DeviceName, Vec<u8>)>,
) -> Result<Vec<OwnedUserId>, Failure> {
    let own = turn.identity.name();
    let mut users: Vec<OwnedUserId> = Vec::new();
    for (device, key) in members {
        let is_verified =
            device == own || devices::verdict(turn.tx, &device, &key)? == Verdict::Verified;
        if !is_verified && !users.contains(&device.user_id) {
            users.push(device.user_id);
        }
    }
    Ok(users)
}
