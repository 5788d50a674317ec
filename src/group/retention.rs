//! For how long the keys of past epochs are kept.
//!
//! While an epoch's export is kept, whoever takes the device can read the epoch; once it is deleted, nobody
//! can who does not have it from elsewhere. So deleting is done in full: the export, the leaves that no
//! other epoch names, what binds messages to events, what waits to be backed up, and the session in the
//! backup. The store overwrites deleted rows, and cuts its log after.
//!
//! An epoch that can still take a commit keeps its export: its group state would give it back anyway.

use ruma::RoomId;
use serde::{Deserialize, Serialize};

use super::{EpochId, Status, Turn, graph, rooms, rooms::RoomRecord};
use crate::{
    backup,
    error::MlsError,
    history::{archive, replay, restored},
    store::Collection,
};

/// How often rooms are looked through, in milliseconds.
const LOOK_EVERY_MS: u64 = 10 * 60 * 1_000;

/// For how long a room's past is kept readable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Retention {
    #[default]
    Keep,
    /// For so many milliseconds after the epoch has ended.
    KeepFor(u64),
}

/// When rooms were last looked through, in milliseconds since 1970.
const LOOKED: Collection<u64> = Collection::new("retention_looked");

/// Deletes what is too old in all rooms, if that was not done of late. Tells whether anything was deleted.
pub(crate) fn see_to_rooms(turn: &Turn<'_>) -> Result<bool, MlsError> {
    let looked = LOOKED.get(turn.tx, b"", b"")?.unwrap_or(0);
    // A clock that was turned back must not keep it from being done.
    if turn.now_ms.abs_diff(looked) < LOOK_EVERY_MS {
        return Ok(false);
    }
    LOOKED.put(turn.tx, b"", b"", &turn.now_ms)?;
    let mut deleted = false;
    for room in rooms::all(turn.tx)? {
        deleted |= see_to(turn, &room)?;
    }
    Ok(deleted)
}

/// Deletes what is too old in a room. Tells whether anything was deleted.
pub(crate) fn see_to(turn: &Turn<'_>, room: &RoomRecord) -> Result<bool, MlsError> {
    let Retention::KeepFor(keep_ms) = room.settings.history else { return Ok(false) };
    let is_old = |ended_ms: u64| turn.now_ms.saturating_sub(ended_ms) >= keep_ms;
    let room_id = &*room.room_id;
    let mut old: Vec<EpochId> = Vec::new();
    for epoch in graph::all(turn.tx, room_id)? {
        let past = epoch.status == Status::Accepted && !epoch.full && room.head != Some(epoch.id);
        if past && is_old(epoch.superseded_ms.unwrap_or(epoch.since_ms)) {
            old.push(epoch.id);
        }
    }
    for epoch in restored::all(turn.tx, room_id)? {
        let in_graph = graph::find(turn.tx, room_id, epoch.id)?.is_some();
        if is_old(epoch.began_ms) && (!in_graph || old.contains(&epoch.id)) {
            restored::forget(turn.tx, room_id, &epoch)?;
            old.push(epoch.id);
        }
    }
    let mut deleted = false;
    for epoch in old {
        deleted |= delete(turn, room_id, epoch)?;
    }
    if deleted {
        archive::drop_unused_chunks(turn.tx, room_id)?;
    }
    Ok(deleted)
}

/// Deletes what it takes to read an epoch; tells whether it was there.
fn delete(turn: &Turn<'_>, room: &RoomId, epoch: EpochId) -> Result<bool, MlsError> {
    if !archive::has(turn.tx, room, epoch)? {
        return Ok(false);
    }
    archive::remove(turn.tx, room, epoch)?;
    replay::forget(turn.tx, room, epoch)?;
    backup::forget(turn, room, epoch)?;
    Ok(true)
}
