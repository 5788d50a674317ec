//! The rooms whose waiting events deserve another try: something has come that one of them may
//! have been waiting for.

use ruma::{OwnedRoomId, RoomId};

use crate::store::{Collection, StoreError, Tx};

/// The name is that of rows written by earlier versions.
const WOKEN: Collection<OwnedRoomId> = Collection::new("stirred_room");

/// Has a room's waiting events tried again.
pub(crate) fn wake(tx: &Tx<'_>, room: &RoomId) -> Result<(), StoreError> {
    WOKEN.put(tx, b"", room.as_bytes(), &room.to_owned())
}

/// The rooms whose waiting events are to be tried.
pub(crate) fn woken(tx: &Tx<'_>) -> Result<Vec<OwnedRoomId>, StoreError> {
    WOKEN.list(tx, b"")
}

/// Takes a room off the list, before its events are tried; tells whether it was on it.
pub(crate) fn take_woken(tx: &Tx<'_>, room: &RoomId) -> Result<bool, StoreError> {
    WOKEN.delete(tx, b"", room.as_bytes())
}
