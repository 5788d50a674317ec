//! Who is in the group and should not be, and who should be and is not.
//!
//! A joined user whose device list could not be had at all, as their homeserver is out of reach, is
//! no reason to remove anybody: this device knows nothing of them, and those who added their
//! devices did. What it does know counts, however old.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedUserId, RoomId};

use crate::{
    devices::{self, Device},
    epochs::EpochRecord,
    failure::Failure,
    history::archive,
    mls::{load_group, note_bindings_of_members},
    protocol::{DeviceName, credential},
    turn::Turn,
};

/// What makes an epoch's members those that the room should have.
pub(super) struct Difference {
    pub(super) add: Vec<Device>,
    /// The devices to remove, with their leaves.
    pub(super) remove: Vec<(DeviceName, u32)>,
}

/// Compares the members of an epoch with the devices of these users that may take part. Before a
/// device is removed of which no credential is known, its leaf is looked at once more: the binding
/// in it may have come when nothing could be made of it.
pub(super) fn difference(
    turn: &Turn<'_>,
    room: &RoomId,
    epoch: &EpochRecord,
    users: &BTreeSet<OwnedUserId>,
) -> Result<Difference, Failure> {
    let first = compare(turn, room, epoch, users)?;
    for (name, _) in &first.remove {
        if users.contains(&name.user_id) && devices::is_silent(turn.tx, name)? {
            let group = load_group(&turn.provider(epoch.namespace), room, epoch.group)?;
            note_bindings_of_members(turn, &group)?;
            return compare(turn, room, epoch, users);
        }
    }
    Ok(first)
}

fn compare(
    turn: &Turn<'_>,
    room: &RoomId,
    epoch: &EpochRecord,
    users: &BTreeSet<OwnedUserId>,
) -> Result<Difference, Failure> {
    let own = turn.identity.name();
    let mut target: BTreeMap<DeviceName, Device> = BTreeMap::new();
    for user in users {
        for device in devices::eligible_devices(turn.tx, user)? {
            if device.name != own {
                target.insert(device.name.clone(), device);
            }
        }
    }
    let mut remove = Vec::new();
    for (index, leaf) in archive::leaves(turn.tx, room, epoch.id)? {
        let name = credential::parse(leaf.credential()?.serialized_content())?;
        if name == own && leaf.signature_key() == turn.identity.public_key() {
            continue;
        }
        match target.get(&name) {
            Some(device) if device.credential_key == leaf.signature_key() => {
                target.remove(&name);
            }
            None if users.contains(&name.user_id) && devices::is_unheard_of(turn.tx, &name)? => {}
            _ => remove.push((name, index)),
        }
    }
    Ok(Difference { add: target.into_values().collect(), remove })
}
