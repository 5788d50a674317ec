//! For how long the keys of past epochs are kept.
//!
//! While an epoch's export is kept, whoever takes the device can read the epoch; once it is deleted, nobody
//! can who does not have it from elsewhere. So deleting is done in full: the export, the leaves that no
//! other epoch names, what binds messages to events, what waits to be backed up, and the session in the
//! backup. The store overwrites deleted rows, and cuts its log after.
//!
//! An epoch that can still take a commit keeps its export for as long: its group state would give it back.
//! Where messages are read once, no export is made in the first place (`read_once`), and what was made before
//! that was wanted goes as soon as the epoch can take no commit.

use ruma::RoomId;
use serde::{Deserialize, Serialize};

use super::{EpochId, Status, Turn, graph, head, rooms, rooms::RoomRecord};
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
    /// Not at all: a message is read once.
    ReadOnce,
}

/// When rooms were last looked through, in milliseconds since 1970.
const LOOKED: Collection<u64> = Collection::new("retention_looked");

/// Deletes what is too old in all rooms, if that was not done of late.
pub(crate) fn see_to_rooms(turn: &Turn<'_>) -> Result<(), MlsError> {
    let looked = LOOKED.get(turn.tx, b"", b"")?.unwrap_or(0);
    // A clock that was turned back must not keep it from being done.
    if turn.now_ms.abs_diff(looked) < LOOK_EVERY_MS {
        return Ok(());
    }
    LOOKED.put(turn.tx, b"", b"", &turn.now_ms)?;
    for room in rooms::all(turn.tx)? {
        see_to(turn, &room)?;
    }
    Ok(())
}

/// Deletes what is too old in a room.
pub(crate) fn see_to(turn: &Turn<'_>, room: &RoomRecord) -> Result<(), MlsError> {
    let keep_ms = match room.settings.history {
        Retention::Keep => return Ok(()),
        Retention::KeepFor(keep_ms) => keep_ms,
        Retention::ReadOnce => 0,
    };
    // What need not take commits any more is past as well, whether or not anything has happened since.
    head::prune(turn, room.clone())?;
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
        turn.note_deleted_keys();
    }
    Ok(())
}

/// Deletes what it takes to read an epoch; tells whether it was there.
fn delete(turn: &Turn<'_>, room: &RoomId, epoch: EpochId) -> Result<bool, MlsError> {
    // Who was in it is asked for while it can take a commit, and costs little after.
    if !archive::drop_keys(turn.tx, room, epoch)? {
        return Ok(false);
    }
    replay::forget(turn.tx, room, epoch)?;
    backup::forget(turn, room, epoch)?;
    Ok(true)
}
