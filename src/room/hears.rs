//! Whether what anybody can send about a room counts.
//!
//! A Welcome or an offer of history names a room, and whoever sends it need not be in that room,
//! nor need there be one. So it counts only where the room's own state, as syncs have shown it,
//! says that the room uses MLS and that this device's user is in it or invited.

use ruma::{RoomId, UserId};

use super::{member_list, membership, rows::find};
use crate::store::{StoreError, Tx};

/// Whether Welcomes and offers of history for a room are heard: its state says that it uses MLS,
/// and nothing says that this user is outside. A sync shows the state of rooms that the user is in,
/// and may leave the members out; then the user counts as being in it until the full list of
/// members says otherwise.
pub(crate) fn hears(tx: &Tx<'_>, room_id: &RoomId, own: &UserId) -> Result<bool, StoreError> {
    let Some(room) = find(tx, room_id)? else { return Ok(false) };
    if !room.uses_mls() || room.state.own_user_left {
        return Ok(false);
    }
    Ok(membership::is_known(tx, room_id, own)? || !member_list::was_seen(tx, room_id)?)
}
