//! The backlog: the epochs that are still to be uploaded.

use ruma::{OwnedRoomId, RoomId};

use super::{record, saved};
use crate::{
    epochs::graph,
    failure::Failure,
    history::archive,
    protocol::EpochId,
    requests::{self, BACKUP_SCOPE, Purpose, REQUESTS},
    store::{Queue, StoreError, Tx},
    turn::Turn,
};

/// An epoch of a room.
type RoomEpoch = (OwnedRoomId, EpochId);

/// The name is that of rows written by earlier versions.
const BACKLOG: Queue<RoomEpoch> = Queue::new("backup_backlog");

/// Adds an epoch that has become part of a room, if a backup is enabled.
pub(crate) fn note_epoch(turn: &Turn<'_>, room: &RoomId, epoch: EpochId) -> Result<(), StoreError> {
    if record::load(turn.tx)?.active.is_some() {
        BACKLOG.push(turn.tx, b"", turn.now_ms, &(room.to_owned(), epoch))?;
    }
    Ok(())
}

/// How many epochs are still to be uploaded.
pub(super) fn count(tx: &Tx<'_>) -> Result<u64, StoreError> {
    BACKLOG.count(tx)
}

/// The epochs that are to be uploaded next, oldest first.
pub(super) fn oldest(tx: &Tx<'_>, most: usize) -> Result<Vec<(i64, RoomEpoch)>, StoreError> {
    BACKLOG.due(tx, u64::MAX, most)
}

/// Removes an entry: its epoch need not be uploaded any longer.
pub(super) fn remove(tx: &Tx<'_>, id: i64) -> Result<(), StoreError> {
    BACKLOG.remove(tx, id).map(drop)
}

/// Adds every readable epoch that is not in this version of the backup. Gives the number of epochs
/// that are in it already.
pub(super) fn fill(turn: &Turn<'_>, version: &str) -> Result<u64, Failure> {
    let mut backed_up = 0;
    for room in archive::rooms(turn.tx)? {
        for epoch in graph::readable(turn.tx, &room)? {
            if saved::is_in_version(turn.tx, &room, epoch.id, version)? {
                backed_up += 1;
            } else {
                BACKLOG.push(turn.tx, b"", turn.now_ms, &(room.clone(), epoch.id))?;
            }
        }
    }
    Ok(backed_up)
}

/// Empties the backlog and drops the uploads under way: nothing is uploaded from now on.
pub(super) fn clear(turn: &Turn<'_>) -> Result<(), StoreError> {
    drop_uploads(turn)?;
    for (id, _) in BACKLOG.in_scope(turn.tx, b"")? {
        remove(turn.tx, id)?;
    }
    Ok(())
}

/// Drops the uploads that are under way. The homeserver may have one of them already; a later
/// upload of the same sessions does no harm.
fn drop_uploads(turn: &Turn<'_>) -> Result<(), StoreError> {
    for (id, queued) in REQUESTS.in_scope(turn.tx, BACKUP_SCOPE)? {
        if matches!(queued.purpose, Purpose::BackUp(_)) {
            requests::remove(turn.tx, id)?;
        }
    }
    Ok(())
}
