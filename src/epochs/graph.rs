//! The epoch graph of a room: which epochs are known, and how they hang together.
//!
//! Each epoch is an OpenMLS group state in a storage namespace of its own, so a commit on any kept
//! epoch makes a child without disturbing its siblings. An epoch is *full* while it can process
//! commits and send, and *decrypt-only* after its OpenMLS state was dropped; its export (see
//! `history`) stays either way. Which of them to send on is `head`'s business.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{EventId, RoomId};

use super::{
    outsiders,
    record::{EpochRecord, Status},
};
use crate::{
    failure::Failure,
    history::{
        archive::{self, StoredExport},
        restored::{self, ReadableEpoch},
    },
    protocol::{DeviceName, EpochId, GroupName, credential},
    room::Room,
    store::{Collection, StoreError, Tx},
};

const EPOCHS: Collection<EpochRecord> = Collection::new("epoch");
const BY_EVENT: Collection<EpochId> = Collection::new("epoch_by_event");
/// The number of the first epoch that a device was in, by MLS group id. Rooms of earlier versions
/// get it with their next epoch.
const FIRST: Collection<u64> = Collection::new("first_epoch");
/// The number of the last of a room's groups that a device was in, where that was not the first.
const LAST_GROUP: Collection<u64> = Collection::new("last_group");
const BY_NAME: Collection<Vec<EpochId>> = Collection::new("epoch_by_name");

/// The epochs that a Welcome led to, by the event that it names and by its maker. Whoever makes a
/// Welcome can name any event.
const BY_HINT: Collection<EpochId> = Collection::new("epoch_by_hint");

fn hint_key(event: &EventId, creator: &DeviceName) -> Vec<u8> {
    [&credential::encode(creator)[..], event.as_bytes()].concat()
}

fn name_key(number: u64, creator: &DeviceName) -> Vec<u8> {
    // The length of the user id keeps two names from running together.
    let (user, device) = (creator.user_id.as_bytes(), creator.device_id.as_bytes());
    [&number.to_be_bytes()[..], &(user.len() as u64).to_be_bytes(), user, device].concat()
}

/// Stores an epoch, new or changed.
pub(crate) fn put(tx: &Tx<'_>, room: &RoomId, epoch: &EpochRecord) -> Result<(), StoreError> {
    EPOCHS.put(tx, room.as_bytes(), epoch.id.as_bytes(), epoch)?;
    if epoch.status == Status::Accepted {
        note_first(tx, room, epoch)?;
    }
    if let Some(event) = &epoch.commit_event {
        if epoch.event_is_hint {
            BY_HINT.put(tx, room.as_bytes(), &hint_key(event, &epoch.creator), &epoch.id)?;
        } else {
            BY_EVENT.put(tx, room.as_bytes(), event.as_bytes(), &epoch.id)?;
        }
    }
    let name = name_key(epoch.number, &epoch.creator);
    let mut named = BY_NAME.get(tx, room.as_bytes(), &name)?.unwrap_or_default();
    if !named.contains(&epoch.id) {
        named.push(epoch.id);
        BY_NAME.put(tx, room.as_bytes(), &name, &named)?;
    }
    Ok(())
}

/// The epoch with this id.
pub(crate) fn get(tx: &Tx<'_>, room: &RoomId, id: EpochId) -> Result<EpochRecord, StoreError> {
    EPOCHS
        .get(tx, room.as_bytes(), id.as_bytes())?
        .ok_or_else(|| StoreError::Damaged("an epoch that another row names is missing".into()))
}

/// The epochs of a room that can take a commit.
pub(crate) fn kept(tx: &Tx<'_>, room: &Room) -> Result<Vec<EpochRecord>, StoreError> {
    room.kept.iter().map(|id| get(tx, &room.id, *id)).collect()
}

/// The epoch with this id, if it is known.
pub(crate) fn find(
    tx: &Tx<'_>,
    room: &RoomId,
    id: EpochId,
) -> Result<Option<EpochRecord>, StoreError> {
    EPOCHS.get(tx, room.as_bytes(), id.as_bytes())
}

/// All epochs of a room, in the order in which they were learned of.
pub(crate) fn all(tx: &Tx<'_>, room: &RoomId) -> Result<Vec<EpochRecord>, StoreError> {
    EPOCHS.list(tx, room.as_bytes())
}

/// How many epochs of a room are known.
pub(crate) fn count(tx: &Tx<'_>, room: &RoomId) -> Result<u64, StoreError> {
    EPOCHS.count(tx, room.as_bytes())
}

/// The epochs of a room that were learned of last, newest first, at most `limit`.
pub(crate) fn newest(
    tx: &Tx<'_>,
    room: &RoomId,
    limit: usize,
) -> Result<Vec<EpochRecord>, StoreError> {
    EPOCHS.newest(tx, room.as_bytes(), limit)
}

/// The epoch that the commit in this event made.
pub(crate) fn by_event(
    tx: &Tx<'_>,
    room: &RoomId,
    event: &EventId,
) -> Result<Option<EpochRecord>, StoreError> {
    match BY_EVENT.get(tx, room.as_bytes(), event.as_bytes())? {
        Some(id) => find(tx, room, id),
        None => Ok(None),
    }
}

/// The epoch that a Welcome of this device led to, which named this event as its commit's, and that
/// no event has shown yet.
pub(crate) fn by_hint(
    tx: &Tx<'_>,
    room: &RoomId,
    event: &EventId,
    creator: &DeviceName,
) -> Result<Option<EpochRecord>, StoreError> {
    match BY_HINT.get(tx, room.as_bytes(), &hint_key(event, creator))? {
        Some(id) => find(tx, room, id),
        None => Ok(None),
    }
}

/// Another event has the commit of an epoch, too.
pub(crate) fn note_copy(
    tx: &Tx<'_>,
    room: &RoomId,
    event: &EventId,
    epoch: EpochId,
) -> Result<(), StoreError> {
    BY_EVENT.put(tx, room.as_bytes(), event.as_bytes(), &epoch)
}

/// The event that a Welcome named has turned out to be the commit's of the epoch it led to.
pub(crate) fn hint_was_right(
    tx: &Tx<'_>,
    room: &RoomId,
    mut epoch: EpochRecord,
) -> Result<(), StoreError> {
    if let Some(event) = &epoch.commit_event {
        BY_HINT.delete(tx, room.as_bytes(), &hint_key(event, &epoch.creator))?;
    }
    epoch.event_is_hint = false;
    put(tx, room, &epoch)
}

/// The accepted epochs that fit what an event says of its epoch: by the commit's event id if that
/// is known, and else by number and creator, which a fork can give to several. Then an epoch whose
/// commit was in another event is not meant.
pub(crate) fn named(
    tx: &Tx<'_>,
    room: &RoomId,
    commit_event: &str,
    number: u64,
    creator: &DeviceName,
) -> Result<Vec<EpochRecord>, StoreError> {
    let event = <&EventId>::try_from(commit_event).ok();
    if let Some(event) = event
        && let Some(epoch) = by_event(tx, room, event)?
    {
        return Ok(if epoch.number == number { vec![epoch] } else { Vec::new() });
    }
    let is_shown = |epoch: &EpochRecord| epoch.commit_event.is_some() && !epoch.event_is_hint;
    let mut epochs = alike(tx, room, number, creator)?;
    epochs.retain(|epoch| !(event.is_some() && is_shown(epoch)));
    Ok(epochs)
}

/// The accepted epochs of this number and creator, whatever the events of their commits.
pub(crate) fn alike(
    tx: &Tx<'_>,
    room: &RoomId,
    number: u64,
    creator: &DeviceName,
) -> Result<Vec<EpochRecord>, StoreError> {
    let ids = BY_NAME.get(tx, room.as_bytes(), &name_key(number, creator))?.unwrap_or_default();
    let mut epochs = Vec::new();
    for id in ids {
        epochs.extend(find(tx, room, id)?.filter(|epoch| epoch.status == Status::Accepted));
    }
    Ok(epochs)
}

/// Why an epoch that an event names is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnknownEpoch {
    /// It may still become known: what leads to it is asked for, or comes by sync.
    #[error("epoch {0} is not known to this device (yet)")]
    NotYet(u64),
    /// The commit that leads to it cannot be had, or leads nowhere.
    #[error("the commit that leads to epoch {0} cannot be had")]
    Lost(u64),
    /// It is from before this device was in the group.
    #[error("epoch {0} is from before this device was in the group")]
    BeforeJoining(u64),
}

/// Why no epoch of this group and number that an event names is known.
pub(crate) fn why_unknown(
    tx: &Tx<'_>,
    room: &RoomId,
    group: GroupName,
    number: u64,
) -> Result<UnknownEpoch, StoreError> {
    let is_before = match first_number(tx, room, group)? {
        Some(first) => number < first,
        // Whoever came into a later group is not in this one any more.
        None => LAST_GROUP.get(tx, b"", room.as_bytes())?.is_some_and(|last| last > group.number()),
    };
    Ok(match is_before {
        true => UnknownEpoch::BeforeJoining(number),
        false => UnknownEpoch::NotYet(number),
    })
}

/// The number of the first epoch of a group that this device was in.
fn first_number(tx: &Tx<'_>, room: &RoomId, group: GroupName) -> Result<Option<u64>, StoreError> {
    match FIRST.get(tx, b"", &group.group_id(room))? {
        Some(first) => Ok(Some(first)),
        None => Ok(numbers(tx, room, group)?.min()),
    }
}

/// An epoch is in the graph.
fn note_first(tx: &Tx<'_>, room: &RoomId, epoch: &EpochRecord) -> Result<(), StoreError> {
    let EpochRecord { number, group, .. } = *epoch;
    let group_id = group.group_id(room);
    let known = FIRST.get(tx, b"", &group_id)?;
    if known.is_some_and(|first| first <= number) {
        return Ok(());
    }
    if group != GroupName::First
        && LAST_GROUP.get(tx, b"", room.as_bytes())?.is_none_or(|last| last < group.number())
    {
        LAST_GROUP.put(tx, b"", room.as_bytes(), &group.number())?;
    }
    let first = match known {
        Some(_) => number,
        None => numbers(tx, room, group)?.fold(number, u64::min),
    };
    FIRST.put(tx, b"", &group_id, &first)
}

/// The numbers of the epochs of a group that this device is or was in.
fn numbers(
    tx: &Tx<'_>,
    room: &RoomId,
    group: GroupName,
) -> Result<impl Iterator<Item = u64>, StoreError> {
    let is_of_it =
        move |epoch: &EpochRecord| epoch.status == Status::Accepted && epoch.group == group;
    Ok(all(tx, room)?.into_iter().filter(is_of_it).map(|epoch| epoch.number))
}

/// The number of the last epoch of a group before this number that this device is or was in.
pub(crate) fn last_number_before(
    tx: &Tx<'_>,
    room: &RoomId,
    group: GroupName,
    number: u64,
) -> Result<Option<u64>, StoreError> {
    Ok(numbers(tx, room, group)?.filter(|other| *other < number).max())
}

/// Whether an epoch is on the way to a later one, or is that one. Where this device rejoined
/// between the two, the way back ends; then nothing says that they are on two branches.
pub(super) fn leads_to(
    tx: &Tx<'_>,
    room: &RoomId,
    earlier: &EpochRecord,
    later: EpochId,
) -> Result<bool, StoreError> {
    let mut on = get(tx, room, later)?;
    if on.group != earlier.group {
        return Ok(false);
    }
    while on.number > earlier.number {
        let Some(parent) = on.parent else { return Ok(true) };
        let Some(parent) = find(tx, room, parent)? else { return Ok(true) };
        on = parent;
    }
    Ok(on.id == earlier.id)
}

/// The members of an epoch of the graph.
pub(crate) fn members(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: EpochId,
) -> Result<BTreeSet<DeviceName>, Failure> {
    let mut members = BTreeSet::new();
    for (_, leaf) in archive::leaves(tx, room, epoch)? {
        members.insert(credential::parse(leaf.credential()?.serialized_content())?);
    }
    Ok(members)
}

/// The epochs of a room of which an export is kept, those that came from elsewhere among them, by
/// number.
pub(crate) fn readable(tx: &Tx<'_>, room: &RoomId) -> Result<Vec<ReadableEpoch>, StoreError> {
    let mut epochs: BTreeMap<EpochId, ReadableEpoch> =
        restored::all(tx, room)?.into_iter().map(|epoch| (epoch.id, epoch)).collect();
    for own in all(tx, room)? {
        if own.status == Status::Accepted && archive::has(tx, room, own.id)? {
            epochs.insert(own.id, own.readable());
        }
    }
    let mut kept: Vec<_> = epochs.into_values().collect();
    kept.sort_by_key(|epoch| epoch.number);
    Ok(kept)
}

/// An epoch of which an export is kept, with the export: this device's own, or else one that came
/// from elsewhere.
pub(crate) fn find_readable(
    tx: &Tx<'_>,
    room: &RoomId,
    id: EpochId,
) -> Result<Option<(ReadableEpoch, StoredExport)>, StoreError> {
    let own = find(tx, room, id)?.filter(|epoch| epoch.status == Status::Accepted);
    if let Some(own) = own
        && let Some(export) = archive::find(tx, room, id)?
    {
        return Ok(Some((own.readable(), export)));
    }
    let Some(epoch) = restored::find(tx, room, id)? else { return Ok(None) };
    Ok(restored::export(tx, room, id)?.map(|export| (epoch, export)))
}

/// Forgets an epoch altogether: its record, its OpenMLS state and its export.
pub(crate) fn remove(tx: &Tx<'_>, room: &RoomId, epoch: &EpochRecord) -> Result<(), StoreError> {
    tx.delete_namespace(epoch.namespace)?;
    archive::remove(tx, room, epoch.id)?;
    outsiders::forget(tx, room, epoch.id)?;
    EPOCHS.delete(tx, room.as_bytes(), epoch.id.as_bytes())?;
    if let Some(event) = &epoch.commit_event {
        if epoch.event_is_hint {
            BY_HINT.delete(tx, room.as_bytes(), &hint_key(event, &epoch.creator))?;
        } else {
            BY_EVENT.delete(tx, room.as_bytes(), event.as_bytes())?;
        }
    }
    let name = name_key(epoch.number, &epoch.creator);
    let mut named = BY_NAME.get(tx, room.as_bytes(), &name)?.unwrap_or_default();
    named.retain(|id| *id != epoch.id);
    if named.is_empty() {
        BY_NAME.delete(tx, room.as_bytes(), &name)?;
    } else {
        BY_NAME.put(tx, room.as_bytes(), &name, &named)?;
    }
    Ok(())
}

/// Drops an epoch's OpenMLS state: it can still decrypt, and do nothing else.
pub(crate) fn make_decrypt_only(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: &mut EpochRecord,
) -> Result<(), StoreError> {
    if epoch.full {
        tx.delete_namespace(epoch.namespace)?;
        epoch.full = false;
        put(tx, room, epoch)?;
    }
    Ok(())
}
