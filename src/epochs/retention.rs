//! For how long the keys of past epochs are kept.
//!
//! While an epoch's export is kept, whoever takes the device can read the epoch. Once it is deleted,
//! nobody can who does not have it from elsewhere. So deleting is done in full: the export, the
//! leaves that no other epoch names, what binds messages to events, what waits to be backed up, and
//! the session in the backup. The store overwrites deleted rows, and cuts its log after.
//!
//! An epoch that can still take a commit keeps its export for as long: its group state would give it
//! back. Where messages are read once, no export is made in the first place
//! (`messages::read_once`), and an export from before that setting goes as soon as its epoch can
//! take no commit.

use ruma::RoomId;

use super::{graph, head, record::Status};
use crate::{
    failure::Failure,
    history::{archive, replay, restored},
    protocol::EpochId,
    room::{Retention, Room},
    store::Collection,
    turn::{Consequence, Turn},
};

/// How often rooms are looked through, in milliseconds.
const LOOK_EVERY_MS: u64 = 10 * 60 * 1_000;

/// When rooms were last looked through, in milliseconds since 1970.
const LOOKED: Collection<u64> = Collection::new("retention_looked");

/// Whether all rooms are to be looked through now; notes that they are.
pub(crate) fn is_due(turn: &Turn<'_>) -> Result<bool, Failure> {
    let looked = LOOKED.get(turn.tx, b"", b"")?.unwrap_or(0);
    // The difference either way: a clock that was turned back must not keep it from being done.
    if turn.now_ms.abs_diff(looked) < LOOK_EVERY_MS {
        return Ok(false);
    }
    LOOKED.put(turn.tx, b"", b"", &turn.now_ms)?;
    Ok(true)
}

/// Deletes what is too old in a room.
pub(crate) fn delete_old(turn: &Turn<'_>, room: &mut Room) -> Result<(), Failure> {
    let keep_ms = match room.settings.history {
        Retention::Keep => return Ok(()),
        Retention::KeepFor(keep_ms) => keep_ms,
        Retention::ReadOnce => 0,
    };
    // What need not take commits any more is past as well, whether or not anything has happened.
    head::prune(turn, room)?;
    let mut deleted = false;
    for epoch in too_old(turn, room, keep_ms)? {
        deleted |= delete(turn, &room.id, epoch)?;
    }
    if deleted {
        archive::drop_unused_chunks(turn.tx, &room.id)?;
        turn.note_deleted_keys();
    }
    Ok(())
}

/// The epochs that ended so long ago, in the graph and beside it. Those beside it are forgotten.
fn too_old(turn: &Turn<'_>, room: &Room, keep_ms: u64) -> Result<Vec<EpochId>, Failure> {
    let is_old = |ended_ms: u64| turn.now_ms.saturating_sub(ended_ms) >= keep_ms;
    let mut old: Vec<EpochId> = Vec::new();
    for epoch in graph::all(turn.tx, &room.id)? {
        let is_head = room.standing.head() == Some(epoch.id);
        let past = epoch.status == Status::Accepted && !epoch.full && !is_head;
        if past && is_old(epoch.superseded_ms.unwrap_or(epoch.since_ms)) {
            old.push(epoch.id);
        }
    }
    for epoch in restored::all(turn.tx, &room.id)? {
        let in_graph = graph::find(turn.tx, &room.id, epoch.id)?.is_some();
        if is_old(epoch.began_ms) && (!in_graph || old.contains(&epoch.id)) {
            restored::forget(turn.tx, &room.id, &epoch)?;
            old.push(epoch.id);
        }
    }
    Ok(old)
}

/// Deletes what it takes to read an epoch; tells whether it was there.
fn delete(turn: &Turn<'_>, room: &RoomId, epoch: EpochId) -> Result<bool, Failure> {
    // Its leaves stay: they are asked for while the epoch can take a commit, and cost little after.
    if !archive::drop_keys(turn.tx, room, epoch)? {
        return Ok(false);
    }
    replay::forget(turn.tx, room, epoch)?;
    turn.report(Consequence::KeysDropped { epoch });
    Ok(true)
}
