//! Devices that have no place in the room, and who has removed them.
//!
//! A device has a place if its user is in the room and lists it. What is not known speaks for the
//! device: a user whose device list was never told, a room whose members were not all seen. What
//! was known once counts until it is told otherwise, however old it is. An impostor's leaf has no
//! place whatever device it is named after.

use std::collections::BTreeSet;

use ruma::{RoomId, UserId};

use crate::{
    devices,
    mls::Removed,
    protocol::{DeviceName, EpochId},
    room::{Membership, Room, member_list, membership},
    store::{Collection, StoreError, Tx},
};

/// The devices that the commit of an epoch has removed.
const REMOVED: Collection<Vec<DeviceName>> = Collection::new("removed_in_epoch");
/// Those of them whose leaves were impostors'; most epochs have no row.
const IMPOSTORS: Collection<Vec<DeviceName>> = Collection::new("impostors_removed_in_epoch");

/// Whose leaf makes commits: a device's, or that of an impostor under its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Maker {
    pub(super) device: DeviceName,
    pub(super) is_impostor: bool,
}

impl Maker {
    pub(super) fn has_place(&self, tx: &Tx<'_>, room: &Room) -> Result<bool, StoreError> {
        Ok(!self.is_impostor && !is_one(tx, room, &self.device)?)
    }
}

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

/// Notes whom the commit of an epoch has removed.
pub(super) fn note_removed(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: EpochId,
    removed: &Removed,
) -> Result<(), StoreError> {
    for (collection, devices) in [(&REMOVED, &removed.devices), (&IMPOSTORS, &removed.impostors)] {
        if !devices.is_empty() {
            collection.put(tx, room.as_bytes(), epoch.as_bytes(), devices)?;
        }
    }
    Ok(())
}

/// Of these makers, those that the commit of an epoch has removed.
pub(super) fn removed_in(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: EpochId,
    of: &BTreeSet<Maker>,
) -> Result<Vec<Maker>, StoreError> {
    let read = |collection: &Collection<Vec<DeviceName>>| {
        Ok::<_, StoreError>(
            collection.get(tx, room.as_bytes(), epoch.as_bytes())?.unwrap_or_default(),
        )
    };
    let (devices, impostors) = (read(&REMOVED)?, read(&IMPOSTORS)?);
    let count =
        |of: &[DeviceName], device: &DeviceName| of.iter().filter(|other| *other == device).count();
    let is_removed = |maker: &&Maker| {
        let by_impostors = count(&impostors, &maker.device);
        match maker.is_impostor {
            true => by_impostors > 0,
            // An impostor's leaf is not the device's.
            false => count(&devices, &maker.device) > by_impostors,
        }
    };
    Ok(of.iter().filter(is_removed).cloned().collect())
}

/// An epoch is forgotten.
pub(super) fn forget(tx: &Tx<'_>, room: &RoomId, epoch: EpochId) -> Result<(), StoreError> {
    REMOVED.delete(tx, room.as_bytes(), epoch.as_bytes())?;
    IMPOSTORS.delete(tx, room.as_bytes(), epoch.as_bytes()).map(drop)
}
