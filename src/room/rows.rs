//! Loading rooms and saving them: once for an event.

use ruma::RoomId;

use super::{record::Room, stored::StoredRoom};
use crate::store::{Collection, StoreError, Tx};

const ROOMS: Collection<StoredRoom> = Collection::new("room");

/// The room, if anything is known of it.
pub(crate) fn find(tx: &Tx<'_>, room: &RoomId) -> Result<Option<Room>, StoreError> {
    Ok(ROOMS.get(tx, b"", room.as_bytes())?.map(Room::from))
}

/// The room; a new one where nothing is known of it yet.
pub(crate) fn load(tx: &Tx<'_>, room: &RoomId) -> Result<Room, StoreError> {
    Ok(find(tx, room)?.unwrap_or_else(|| Room::new(room.to_owned())))
}

/// Stores a room.
fn save(tx: &Tx<'_>, room: Room) -> Result<(), StoreError> {
    let id = room.id.clone();
    ROOMS.put(tx, b"", id.as_bytes(), &StoredRoom::from(room))
}

/// All rooms that have ever been heard of.
pub(crate) fn all(tx: &Tx<'_>) -> Result<Vec<Room>, StoreError> {
    Ok(ROOMS.list(tx, b"")?.into_iter().map(Room::from).collect())
}

/// The rooms that were heard of last, newest first, at most `limit`.
pub(crate) fn newest(tx: &Tx<'_>, limit: usize) -> Result<Vec<Room>, StoreError> {
    Ok(ROOMS.newest(tx, b"", limit)?.into_iter().map(Room::from).collect())
}

/// How many rooms have ever been heard of.
pub(crate) fn count(tx: &Tx<'_>) -> Result<u64, StoreError> {
    ROOMS.count(tx, b"")
}

/// Loads a room, has it changed, and saves it if it is another then. The room's row belongs to
/// `work` for as long: nothing else may write it.
pub(crate) fn edit<T, E: From<StoreError>>(
    tx: &Tx<'_>,
    room: &RoomId,
    work: impl FnOnce(&mut Room) -> Result<T, E>,
) -> Result<T, E> {
    let before = load(tx, room)?;
    let mut room = before.clone();
    let value = work(&mut room)?;
    if room != before {
        save(tx, room)?;
    }
    Ok(value)
}
