//! Who is in the group and should not be, and who should be and is not.
//!
//! A joined user whose device list could not be had at all, as their homeserver is out of reach, is
//! no reason to remove anybody: this device knows nothing of them, and those who added their
//! devices did. What it does know counts, however old.
//!
//! Each user is compared alone: their devices that may take part with their leaves. Where both are
//! the same, nothing but a change of either makes a difference. So in a large room those only are
//! looked at who have changed since the last time, or had a difference then (`compared`).

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedUserId, RoomId};

use crate::{
    compared::{Comparison, Marks},
    devices::{self, Device},
    epochs::EpochRecord,
    failure::Failure,
    history::{CHUNK_LEAVES, ChunkId, Leaf, LeafChunk, archive, locate},
    mls::{load_group, note_bindings_of_members},
    protocol::{DeviceName, EpochId, credential},
    room::{Room, membership},
    store::StoreError,
    turn::Turn,
};

/// What makes an epoch's members those that the room should have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) add: Vec<Device>,
    /// The devices to remove, with their leaves.
    pub(super) remove: Vec<(DeviceName, u32)>,
}

/// Begins a comparison: who belongs into the group is known from here on, and their device lists
/// are tracked. `known` is what the last one has left.
pub(super) fn begin(
    turn: &Turn<'_>,
    room: &Room,
    known: Option<Comparison>,
) -> Result<Comparison, StoreError> {
    if let Some(mut known) = known
        && update_users(turn, room, &mut known)?
    {
        return Ok(known);
    }
    let users = membership::users_of_group(turn.tx, room)?;
    let marks = match turn.compared {
        Some(compared) if compared.remembers(users.len()) => Some(Marks {
            devices: devices::mark_changes(turn.tx)?,
            members: membership::mark_changes(turn.tx, &room.id)?,
        }),
        _ => None,
    };
    // Whatever made the room an MLS room, from now on these devices matter.
    devices::track(turn.tx, users.iter().map(|user| &**user))?;
    Ok(Comparison::new(users, room.invited_are_in_group(), marks))
}

/// Brings up to date who belongs; tells whether that is possible.
fn update_users(turn: &Turn<'_>, room: &Room, known: &mut Comparison) -> Result<bool, StoreError> {
    let Some(marks) = &mut known.marks else { return Ok(false) };
    if known.with_invited != room.invited_are_in_group() {
        return Ok(false);
    }
    let Some(devices) = devices::changed_since(turn.tx, &marks.devices)? else { return Ok(false) };
    let members = membership::changed_since(turn.tx, &room.id, &marks.members)?;
    let Some(members) = members else { return Ok(false) };
    marks.devices = devices::mark_changes(turn.tx)?;
    marks.members = membership::mark_changes(turn.tx, &room.id)?;
    for user in &members {
        if membership::is_user_of_group(turn.tx, room, user)? {
            known.users.insert(user.clone());
            known.reopen(user);
        } else {
            known.users.remove(user);
            known.open.remove(user);
            known.reopen(user);
        }
    }
    let changed: BTreeSet<_> = devices.into_iter().chain(members).collect();
    // They may be followed no longer.
    let belong = changed.iter().filter(|user| known.users.contains(*user));
    devices::track(turn.tx, belong.map(|user| &**user))?;
    changed.iter().for_each(|user| known.reopen(user));
    Ok(true)
}

/// Compares the members of an epoch with the devices of the users that belong. Before a device is
/// removed of which no credential is known, its leaf is looked at once more: the binding in it may
/// have come when nothing could be made of it.
pub(super) fn difference(
    turn: &Turn<'_>,
    room: &RoomId,
    epoch: &EpochRecord,
    known: &mut Comparison,
) -> Result<Difference, Failure> {
    let first = compare(turn, room, epoch.id, known)?;
    for (name, _) in &first.remove {
        if known.users.contains(&name.user_id) && devices::is_silent(turn.tx, name)? {
            let group = load_group(&turn.provider(epoch.namespace), room, epoch.group)?;
            note_bindings_of_members(turn, &group)?;
            // Whoever that lets in has changed. It is rare, so nobody asks who that is.
            known.reopen_all();
            return compare(turn, room, epoch.id, known);
        }
    }
    Ok(first)
}

fn compare(
    turn: &Turn<'_>,
    room: &RoomId,
    epoch: EpochId,
    known: &mut Comparison,
) -> Result<Difference, Failure> {
    let mut leaves = Leaves::of(turn, room, archive::chunk_ids(turn.tx, room, epoch)?);
    known.is_whole = false;
    leaves.index(known)?;
    let mut difference = Difference::default();
    let mut still_open = BTreeSet::new();
    for user in std::mem::take(&mut known.open) {
        let belongs = known.users.contains(&user);
        let places = known.leaves.get(&user).map_or(&[][..], Vec::as_slice);
        if !compare_user(turn, &user, belongs, places, &mut leaves, &mut difference)? {
            still_open.insert(user);
        }
    }
    known.open = still_open;
    known.is_whole = true;
    difference.add.sort_by(|one, other| one.name.cmp(&other.name));
    difference.remove.sort_by_key(|(_, place)| *place);
    Ok(difference)
}

/// Compares one user; tells whether the devices that may take part are exactly those in the group.
fn compare_user(
    turn: &Turn<'_>,
    user: &OwnedUserId,
    belongs: bool,
    places: &[u32],
    leaves: &mut Leaves<'_>,
    difference: &mut Difference,
) -> Result<bool, Failure> {
    let own = turn.identity.name();
    let mut missing: BTreeMap<DeviceName, Device> = BTreeMap::new();
    if belongs {
        let devices = devices::eligible_devices(turn.tx, user)?.into_iter();
        let others = devices.filter(|device| device.name != own);
        missing.extend(others.map(|device| (device.name.clone(), device)));
    }
    let mut is_same = true;
    for place in places {
        let Some((name, key)) = leaves.at(*place)? else {
            return Err(Failure::damaged("a leaf of a known epoch is missing"));
        };
        if name == own && key == turn.identity.public_key() {
            continue;
        }
        match missing.get(&name) {
            Some(device) if device.credential_key == key => {
                missing.remove(&name);
                continue;
            }
            None if belongs && devices::is_unheard_of(turn.tx, &name)? => {}
            _ => difference.remove.push((name, *place)),
        }
        is_same = false;
    }
    is_same &= missing.is_empty();
    difference.add.extend(missing.into_values());
    Ok(is_same)
}

/// The leaves of an epoch. Each chunk of them is read once, if at all.
struct Leaves<'a> {
    turn: &'a Turn<'a>,
    room: &'a RoomId,
    chunks: Vec<ChunkId>,
    read: BTreeMap<usize, LeafChunk>,
    /// The names that were parsed on the way, by place.
    named: BTreeMap<u32, DeviceName>,
}

impl<'a> Leaves<'a> {
    fn of(turn: &'a Turn<'a>, room: &'a RoomId, chunks: Vec<ChunkId>) -> Self {
        Self { turn, room, chunks, read: BTreeMap::new(), named: BTreeMap::new() }
    }

    /// Brings up to date whose leaves are where, and has those looked at of whom a chunk has
    /// changed.
    fn index(&mut self, known: &mut Comparison) -> Result<(), Failure> {
        let most = self.chunks.len().max(known.chunks.len());
        let changed: BTreeSet<usize> = (0..most)
            .filter(|number| self.chunks.get(*number) != known.chunks.get(*number))
            .collect();
        if changed.is_empty() {
            return Ok(());
        }
        let Comparison { leaves, open, .. } = known;
        leaves.retain(|user, places| {
            let before = places.len();
            places.retain(|place| !changed.contains(&locate(*place).0));
            if places.len() < before {
                open.insert(user.clone());
            }
            !places.is_empty()
        });
        for number in changed {
            for offset in 0..CHUNK_LEAVES {
                let Some(name) = self.leaf(number, offset)?.map(name_of).transpose()? else {
                    continue;
                };
                let Ok(place) = u32::try_from(number * CHUNK_LEAVES + offset) else { continue };
                let places = leaves.entry(name.user_id.clone()).or_default();
                places.insert(places.partition_point(|other| *other < place), place);
                open.insert(name.user_id.clone());
                self.named.insert(place, name);
            }
        }
        known.chunks.clone_from(&self.chunks);
        Ok(())
    }

    /// The device at a place, and its signature key.
    fn at(&mut self, place: u32) -> Result<Option<(DeviceName, Vec<u8>)>, Failure> {
        let named = self.named.remove(&place);
        let (number, offset) = locate(place);
        let Some(leaf) = self.leaf(number, offset)? else { return Ok(None) };
        let name = named.map_or_else(|| name_of(leaf), Ok)?;
        Ok(Some((name, leaf.signature_key().to_vec())))
    }

    fn leaf(&mut self, number: usize, offset: usize) -> Result<Option<&Leaf>, StoreError> {
        let Some(id) = self.chunks.get(number) else { return Ok(None) };
        let chunk = match self.read.entry(number) {
            std::collections::btree_map::Entry::Occupied(read) => read.into_mut(),
            std::collections::btree_map::Entry::Vacant(unread) => {
                unread.insert(archive::chunk(self.turn.tx, self.room, *id)?)
            }
        };
        Ok(chunk.leaf(offset))
    }
}

fn name_of(leaf: &Leaf) -> Result<DeviceName, Failure> {
    Ok(credential::parse(leaf.credential()?.serialized_content())?)
}
