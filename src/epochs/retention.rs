//! For how long the keys of past epochs are kept.
//!
//! While an epoch's export is kept, whoever takes the device can read the epoch. Once it is
//! deleted, nobody can who does not have it from elsewhere. So deleting is done in full: the
//! export, the leaves that no other epoch names, what binds messages to events, what waits to be
//! backed up, and the session in the backup. The store overwrites deleted rows, and cuts its log
//! after.
//!
//! An epoch that can still take a commit keeps its export for as long: its group state would give
//! it back. Where messages are read once, no export is made in the first place
//! (`messages::read_once`), and an export from before that setting goes as soon as its epoch can
//! take no commit.

use std::collections::{BTreeMap, BTreeSet};

use super::{graph, pruning, record::Status};
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

/// A day in milliseconds.
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

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
    pruning::prune(turn, room)?;
    let deleted = delete_too_old(turn, room, keep_ms)?;
    for epoch in &deleted {
        // Its own keys may still be there where what came from elsewhere was deleted.
        if !archive::has(turn.tx, &room.id, *epoch)? {
            replay::forget(turn.tx, &room.id, *epoch)?;
            turn.report(Consequence::KeysDropped { epoch: *epoch });
        }
    }
    if !deleted.is_empty() {
        restored::drop_unused_chunks(turn.tx, &room.id)?;
        turn.note_deleted_keys();
    }
    Ok(())
}

/// Deletes the keys of the epochs that ended so long ago, in the graph and beside it; gives those
/// that had any.
fn delete_too_old(
    turn: &Turn<'_>,
    room: &Room,
    keep_ms: u64,
) -> Result<BTreeSet<EpochId>, Failure> {
    let once = room.settings.history == Retention::ReadOnce;
    let is_old = |ended_ms: u64| turn.now_ms.saturating_sub(ended_ms) >= keep_ms;
    let latest_ms = turn.now_ms.saturating_add(DAY_MS);
    let (mut deleted, mut own) = (BTreeSet::new(), BTreeMap::new());
    for epoch in graph::all(turn.tx, &room.id)? {
        let is_head = room.standing.head() == Some(epoch.id);
        let past = epoch.status == Status::Accepted && !epoch.full && !is_head;
        let goes = past && is_old(epoch.superseded_ms.unwrap_or(epoch.since_ms));
        own.insert(epoch.id, goes);
        // Its leaves stay: they are asked for while the epoch can take a commit, and cost little
        // after.
        if goes && archive::drop_keys(turn.tx, &room.id, epoch.id, !once)? {
            deleted.insert(epoch.id);
        }
    }
    for epoch in restored::all(turn.tx, &room.id)? {
        // When it began is the word of whoever exported it: nothing begins in days to come.
        let goes = match own.get(&epoch.id) {
            Some(goes) => *goes,
            None => epoch.began_ms > latest_ms || is_old(epoch.began_ms),
        };
        // No group gives back what came from elsewhere: read-once rooms keep it no moment longer.
        if once || goes {
            restored::forget(turn.tx, &room.id, &epoch)?;
            deleted.insert(epoch.id);
        }
    }
    Ok(deleted)
}
