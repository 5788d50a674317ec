//! Restored epochs: they came from a backup, a file or another member. This device can read their
//! messages and do nothing else with them.
//!
//! Restored epochs are kept beside the epoch graph, not in it. The graph holds what this device's
//! own group has reached, and a commit or a Welcome that leads to a restored epoch still has to be
//! processed. Where both know an epoch, the graph's record is used.

use ruma::{EventId, OwnedEventId, RoomId};
use serde::{Deserialize, Serialize};

use super::{ChunkId, EpochKeys, archive};
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
}

const RESTORED: Collection<ReadableEpoch> = Collection::new("restored_epoch");
const BY_EVENT: Collection<EpochId> = Collection::new("restored_epoch_by_event");
const BY_NUMBER: Collection<Vec<EpochId>> = Collection::new("restored_epoch_by_number");

/// The most epochs of one number that are kept. Each branch has one; a member could invent more.
const MOST_OF_ONE_NUMBER: usize = 16;

/// Keeps an epoch and its export; tells whether it was new. What this device or an earlier import
/// knows of an epoch is never replaced, except that a backup's word replaces a member's.
pub fn keep(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: ReadableEpoch,
    keys: EpochKeys,
    chunks: Vec<ChunkId>,
) -> Result<bool, StoreError> {
    let scope = room.as_bytes();
    let before = RESTORED.get(tx, scope, epoch.id.as_bytes())?;
    let outranks = before.as_ref().is_some_and(|before| {
        matches!(before.source, Source::Member(_)) && !matches!(epoch.source, Source::Member(_))
    });
    if !outranks && archive::has(tx, room, epoch.id)? {
        return Ok(false);
    }
    let number = epoch.number.to_be_bytes();
    let mut named = BY_NUMBER.get(tx, scope, &number)?.unwrap_or_default();
    if !named.contains(&epoch.id) {
        if named.len() >= MOST_OF_ONE_NUMBER {
            return Ok(false);
        }
        named.push(epoch.id);
        BY_NUMBER.put(tx, scope, &number, &named)?;
    }
    if let Some(event) = &epoch.commit_event
        && (outranks || BY_EVENT.get(tx, scope, event.as_bytes())?.is_none())
    {
        BY_EVENT.put(tx, scope, event.as_bytes(), &epoch.id)?;
    }
    RESTORED.put(tx, scope, epoch.id.as_bytes(), &epoch)?;
    archive::put(tx, room, epoch.id, Some(keys), chunks)?;
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

/// All restored epochs of a room.
pub fn all(tx: &Tx<'_>, room: &RoomId) -> Result<Vec<ReadableEpoch>, StoreError> {
    RESTORED.list(tx, room.as_bytes())
}

/// Forgets a restored epoch. The caller removes its export.
pub fn forget(tx: &Tx<'_>, room: &RoomId, epoch: &ReadableEpoch) -> Result<(), StoreError> {
    let scope = room.as_bytes();
    RESTORED.delete(tx, scope, epoch.id.as_bytes())?;
    if let Some(event) = &epoch.commit_event {
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
