//! Restored epochs: they came from a backup, a file or another member. This device can read their
//! messages and do nothing else with them.
//!
//! Restored epochs are kept beside the epoch graph, not in it, and their exports beside this
//! device's own. The graph holds what this device's own group has reached, and a commit or a
//! Welcome that leads to a restored epoch still has to be processed. Where both know an epoch, this
//! device's own record and export are used. A restored export has no leaf of this device and never
//! seals.
//!
//! What was read once stays closed: no export of an epoch comes back whose messages this device has
//! read through the group, or whose keys it has deleted because they were to be read once.

use std::collections::BTreeSet;

use ruma::{EventId, OwnedEventId, RoomId};
use serde::{Deserialize, Serialize};

use super::{
    ChunkId, EpochKeys,
    archive::{self, Holding, StoredExport},
};
use crate::{
    protocol::DeviceName,
    protocol::EpochId,
    store::{Collection, StoreError, Tx},
};

/// Where an epoch came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// This device was in the epoch. Only epochs of the graph have this source; no row here has it.
    Own,
    /// The user's key backup.
    Backup,
    /// A file that the app gave.
    File,
    /// A member of the room. Who sent which message is that member's word.
    Member(DeviceName),
}

impl Source {
    fn is_member(&self) -> bool {
        matches!(self, Self::Member(_))
    }
}

/// What reading an epoch's messages needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadableEpoch {
    /// Its id.
    pub id: EpochId,
    /// Its number.
    pub number: u64,
    /// The device that made it.
    pub creator: DeviceName,
    /// The event with the commit that made it, if whoever exported the epoch knew it.
    pub commit_event: Option<OwnedEventId>,
    /// When it began for whoever exported it, in milliseconds since 1970.
    pub began_ms: u64,
    /// Whether the room's history visibility lets later members read it.
    #[serde(default)]
    pub shared: bool,
    /// Where it came from.
    pub source: Source,
    /// When this device went on elsewhere, in milliseconds since 1970; unknown of what came from
    /// elsewhere, and not kept with it.
    #[serde(skip)]
    pub ended_ms: Option<u64>,
}

const RESTORED: Collection<ReadableEpoch> = Collection::new("restored_epoch");
const EXPORTS: Collection<StoredExport> = Collection::new("restored_export");
const BY_EVENT: Collection<EpochId> = Collection::new("restored_epoch_by_event");
const BY_NUMBER: Collection<Vec<EpochId>> = Collection::new("restored_epoch_by_number");

/// The most epochs of one number that are kept. Each branch has one; a member could invent more.
const MOST_OF_ONE_NUMBER: usize = 16;

/// What became of an epoch that was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It can be read from now on.
    New,
    /// It could be read already, or there are too many of its number.
    Known,
    /// What it holds was read once and stays closed.
    Closed,
}

/// Keeps an epoch and its export. What this device or an earlier import knows of an epoch is never
/// replaced, except that a backup's or a file's word replaces a member's.
pub fn keep(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: ReadableEpoch,
    keys: EpochKeys,
    chunks: Vec<ChunkId>,
) -> Result<Taken, StoreError> {
    match archive::holding(tx, room, epoch.id)? {
        Holding::Nothing | Holding::Leaves { may_return: true } => {}
        Holding::Leaves { may_return: false } => return Ok(Taken::Closed),
        Holding::Keys => return Ok(Taken::Known),
    }
    let scope = room.as_bytes();
    let before = RESTORED.get(tx, scope, epoch.id.as_bytes())?;
    let outranks = before
        .as_ref()
        .is_some_and(|before| before.source.is_member() && !epoch.source.is_member());
    if before.is_some() && !outranks {
        return Ok(Taken::Known);
    }
    if !has_place(tx, room, &epoch)? {
        return Ok(Taken::Known);
    }
    if let Some(event) = &epoch.commit_event
        && (outranks || BY_EVENT.get(tx, scope, event.as_bytes())?.is_none())
    {
        BY_EVENT.put(tx, scope, event.as_bytes(), &epoch.id)?;
    }
    RESTORED.put(tx, scope, epoch.id.as_bytes(), &epoch)?;
    archive::note_room(tx, room)?;
    let export = StoredExport { keys: keys.without_own_leaf(), chunks };
    EXPORTS.put(tx, scope, epoch.id.as_bytes(), &export)?;
    Ok(Taken::New)
}

/// Gives an epoch a place among those of its number. Where all are taken, one that a member
/// invented or shared makes way for one that is not a member's word.
fn has_place(tx: &Tx<'_>, room: &RoomId, epoch: &ReadableEpoch) -> Result<bool, StoreError> {
    let (scope, number) = (room.as_bytes(), epoch.number.to_be_bytes());
    let mut named = BY_NUMBER.get(tx, scope, &number)?.unwrap_or_default();
    if named.contains(&epoch.id) {
        return Ok(true);
    }
    if named.len() >= MOST_OF_ONE_NUMBER {
        if epoch.source.is_member() {
            return Ok(false);
        }
        let mut shared = None;
        for id in &named {
            shared = find(tx, room, *id)?.filter(|other| other.source.is_member());
            if shared.is_some() {
                break;
            }
        }
        let Some(shared) = shared else { return Ok(false) };
        forget(tx, room, &shared)?;
        named.retain(|id| *id != shared.id);
    }
    named.push(epoch.id);
    BY_NUMBER.put(tx, scope, &number, &named)?;
    Ok(true)
}

/// The restored epochs that fit what an event says of its epoch. The one whose commit it names is
/// first.
pub fn matching(
    tx: &Tx<'_>,
    room: &RoomId,
    commit_event: &str,
    number: u64,
    creator: &DeviceName,
) -> Result<Vec<ReadableEpoch>, StoreError> {
    let scope = room.as_bytes();
    let by_event = match <&EventId>::try_from(commit_event) {
        Ok(event) => BY_EVENT.get(tx, scope, event.as_bytes())?,
        Err(_) => None,
    };
    let mut epochs = Vec::new();
    for id in BY_NUMBER.get(tx, scope, &number.to_be_bytes())?.unwrap_or_default() {
        if let Some(epoch) = RESTORED.get(tx, scope, id.as_bytes())?
            && (epoch.creator == *creator || by_event == Some(id))
        {
            epochs.push(epoch);
        }
    }
    epochs.sort_by_key(|epoch| by_event != Some(epoch.id));
    Ok(epochs)
}

/// The restored epoch with this id.
pub fn find(tx: &Tx<'_>, room: &RoomId, id: EpochId) -> Result<Option<ReadableEpoch>, StoreError> {
    RESTORED.get(tx, room.as_bytes(), id.as_bytes())
}

/// The export of a restored epoch.
pub fn export(tx: &Tx<'_>, room: &RoomId, id: EpochId) -> Result<Option<StoredExport>, StoreError> {
    EXPORTS.get(tx, room.as_bytes(), id.as_bytes())
}

/// The export of an epoch, wherever it came from.
pub fn export_of(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: &ReadableEpoch,
) -> Result<Option<StoredExport>, StoreError> {
    match epoch.source {
        Source::Own => archive::find(tx, room, epoch.id),
        Source::Backup | Source::File | Source::Member(_) => export(tx, room, epoch.id),
    }
}

/// All restored epochs of a room.
pub fn all(tx: &Tx<'_>, room: &RoomId) -> Result<Vec<ReadableEpoch>, StoreError> {
    RESTORED.list(tx, room.as_bytes())
}

/// Forgets a restored epoch and its export.
pub fn forget(tx: &Tx<'_>, room: &RoomId, epoch: &ReadableEpoch) -> Result<(), StoreError> {
    let scope = room.as_bytes();
    RESTORED.delete(tx, scope, epoch.id.as_bytes())?;
    if EXPORTS.delete(tx, scope, epoch.id.as_bytes())? {
        tx.note_deleted_secrets();
    }
    if let Some(event) = &epoch.commit_event
        && BY_EVENT.get(tx, scope, event.as_bytes())? == Some(epoch.id)
    {
        BY_EVENT.delete(tx, scope, event.as_bytes())?;
    }
    let number = epoch.number.to_be_bytes();
    let mut named = BY_NUMBER.get(tx, scope, &number)?.unwrap_or_default();
    named.retain(|id| *id != epoch.id);
    if named.is_empty() {
        BY_NUMBER.delete(tx, scope, &number).map(drop)
    } else {
        BY_NUMBER.put(tx, scope, &number, &named)
    }
}

/// Deletes the chunks of a room that no export names any longer.
pub fn drop_unused_chunks(tx: &Tx<'_>, room: &RoomId) -> Result<(), StoreError> {
    let mut used = BTreeSet::new();
    for export in EXPORTS.list(tx, room.as_bytes())? {
        used.extend(export.chunks);
    }
    archive::drop_chunks_beside(tx, room, used)
}

/// Moves the export of a restored epoch, which earlier versions kept among this device's own, to
/// where it belongs. `own`: the archive goes on having the epoch, without keys.
pub fn set_apart(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: &ReadableEpoch,
    own: bool,
) -> Result<(), StoreError> {
    if let Some(export) = archive::find(tx, room, epoch.id)? {
        let export = StoredExport { keys: export.keys.without_own_leaf(), ..export };
        EXPORTS.put(tx, room.as_bytes(), epoch.id.as_bytes(), &export)?;
    }
    if own {
        archive::drop_keys(tx, room, epoch.id, true).map(drop)
    } else {
        archive::remove(tx, room, epoch.id)
    }
}
