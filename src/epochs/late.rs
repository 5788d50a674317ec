//! Whether commits are still to come that others have spoken of.
//!
//! An epoch that all its members have left is let go after a while, as nobody honest commits on it any
//! more. While this device knows of a commit that it could not get, that commit may be on such an
//! epoch, and its messages could not be read without the epoch's state.

use ruma::RoomId;

use crate::store::{Collection, Mark, StoreError, Tx};

const EXPECTED: Collection<Mark> = Collection::new("late_commit");

/// Some commit of a room is still to come, or none is.
pub(crate) fn expect(tx: &Tx<'_>, room: &RoomId, is_expected: bool) -> Result<(), StoreError> {
    match is_expected {
        true => EXPECTED.put(tx, b"", room.as_bytes(), &Mark),
        false => EXPECTED.delete(tx, b"", room.as_bytes()).map(drop),
    }
}

/// Whether some commit of a room is still to come.
pub(super) fn is_expected(tx: &Tx<'_>, room: &RoomId) -> Result<bool, StoreError> {
    EXPECTED.has(tx, b"", room.as_bytes())
}
