//! Telling an app that what it has exported is of an epoch that is over.
//!
//! An app that has exported nothing in a room is told nothing.

use ruma::RoomId;

use crate::{
    epochs::graph,
    exported::Update,
    protocol::EpochId,
    room::Room,
    store::{Collection, StoreError, Tx},
    turn::Turn,
};

/// For how long the secrets of the epoch before are still taken, in milliseconds: others may not
/// have heard of the new epoch yet, and what they sent is under way.
const PREVIOUS_FOR_MS: u64 = 60_000;

/// The epoch of which the app has exported last, by room.
const EXPORTED: Collection<EpochId> = Collection::new("exported_epoch");

/// The app has exported from this epoch.
pub(super) fn note(tx: &Tx<'_>, room: &RoomId, epoch: EpochId) -> Result<(), StoreError> {
    if EXPORTED.get(tx, room.as_bytes(), b"")? == Some(epoch) {
        return Ok(());
    }
    EXPORTED.put(tx, room.as_bytes(), b"", &epoch)
}

/// There is another head: tells an app that has exported from the one before.
pub(crate) fn tell_changed(turn: &Turn<'_>, room: &Room) -> Result<(), StoreError> {
    let Some(before) = EXPORTED.get(turn.tx, room.id.as_bytes(), b"")? else { return Ok(()) };
    let Some(head) = room.standing.head().filter(|head| *head != before) else { return Ok(()) };
    // It is told once for each export, however many epochs follow.
    EXPORTED.delete(turn.tx, room.id.as_bytes(), b"")?;
    turn.tell(Update::ExportedSecretsChanged {
        room_id: room.id.to_string(),
        epoch: graph::get(turn.tx, &room.id, head)?.number,
        epoch_id: head.to_hex(),
        previous_epoch_id: before.to_hex(),
        previous_for_ms: PREVIOUS_FOR_MS,
    });
    Ok(())
}
