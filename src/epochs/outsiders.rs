//! Devices that have no place in the room, and who has removed them.
//!
//! A device has a place if its user is in the room and lists it. What is not known speaks for the
//! device: a user whose device list was never told, a room whose members were not all seen. What
//! was known once counts until it is told otherwise, however old it is.

use ruma::{RoomId, UserId};

use crate::{
    devices,
    protocol::{DeviceName, EpochId},
    room::{Membership, Room, member_list, membership},
    store::{Collection, StoreError, Tx},
};

/// The devices that the commit of an epoch has removed.
const REMOVED: Collection<Vec<DeviceName>> = Collection::new("removed_in_epoch");

/// Whether a device has no place in the room.
pub(crate) fn is_one(tx: &Tx<'_>, room: &Room, device: &DeviceName) -> Result<bool, StoreError> {
    if !has_place(tx, room, &device.user_id)? {
        return Ok(true);
    }
    Ok(devices::device(tx, device)?.is_none() && !devices::is_unheard_of(tx, device)?)
}

fn has_place(tx: &Tx<'_>, room: &Room, user: &UserId) -> Result<bool, StoreError> {
    Ok(match membership::get(tx, &room.id, user)? {
        Some(Membership::Joined) => true,
        Some(Membership::Invited) => room.invited_are_in_group(),
        None => !member_list::was_seen(tx, &room.id)?,
    })
}

/// Whether a device that has just made a commit had no place in the room then. A list that is out
/// of date says nothing: the device may be new.
pub(crate) fn is_one_for_sure(
    tx: &Tx<'_>,
    room: &Room,
    device: &DeviceName,
) -> Result<bool, StoreError> {
    Ok(is_one(tx, room, device)?
        && (!membership::is_known(tx, &room.id, &device.user_id)?
            || devices::is_list_current(tx, &device.user_id)?))
}

/// Whether a device that claims to have made an epoch has no place in the room. Of a listed device
/// that publishes no credential it is not known yet: its leaf in that epoch may have its binding,
/// and is looked at when the epoch is joined.
pub(super) fn is_claimant(
    tx: &Tx<'_>,
    room: &Room,
    device: &DeviceName,
) -> Result<bool, StoreError> {
    let may_be_bound = devices::is_silent(tx, device)? && has_place(tx, room, &device.user_id)?;
    Ok(!may_be_bound && is_one(tx, room, device)?)
}

/// Notes the devices that the commit of an epoch has removed.
pub(super) fn note_removed(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: EpochId,
    removed: &[DeviceName],
) -> Result<(), StoreError> {
    if removed.is_empty() {
        return Ok(());
    }
    REMOVED.put(tx, room.as_bytes(), epoch.as_bytes(), &removed.to_vec())
}

/// The devices that the commit of an epoch has removed.
pub(super) fn removed_in(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: EpochId,
) -> Result<Vec<DeviceName>, StoreError> {
    Ok(REMOVED.get(tx, room.as_bytes(), epoch.as_bytes())?.unwrap_or_default())
}

/// An epoch is forgotten.
pub(super) fn forget(tx: &Tx<'_>, room: &RoomId, epoch: EpochId) -> Result<(), StoreError> {
    REMOVED.delete(tx, room.as_bytes(), epoch.as_bytes()).map(drop)
}
