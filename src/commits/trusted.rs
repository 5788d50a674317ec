//! Whether this device's user wants to send to the people of a room, as far as only this device
//! knows.
//!
//! Whom a user has verified is nobody else's knowledge. So it changes no group: it stops what this
//! device sends, until its user has decided.

use std::collections::BTreeSet;

use ruma::{OwnedUserId, RoomId};

use crate::{
    devices::{self, Verdict},
    epochs::EpochRecord,
    failure::Failure,
    history::archive,
    messages::SendError,
    protocol::credential,
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
    let own = turn.identity.name();
    let mut users: Vec<OwnedUserId> = Vec::new();
    for (_, leaf) in archive::leaves(turn.tx, room, epoch.id)? {
        let credential = leaf.credential().map_err(Failure::from)?;
        let device = credential::parse(credential.serialized_content()).map_err(Failure::from)?;
        let is_verified = device == own
            || devices::verdict(turn.tx, &device, leaf.signature_key())? == Verdict::Verified;
        if !is_verified && !users.contains(&device.user_id) {
            users.push(device.user_id);
        }
    }
    if users.is_empty() { Ok(()) } else { Err(SendError::NotVerified(users)) }
}
