//! The rooms whose group this device is to found with all members at once (`founding`), while it
//! gathers the key packages.

use ruma::OwnedRoomId;

use crate::{
    room::{self, Room, membership},
    store::{Collection, StoreError},
    turn::Turn,
};

/// From so many users on, the founder counts the devices before it makes the group.
const LEAST_USERS: usize = 3;
/// The rooms in which a founding is under way.
const ROOMS: Collection<OwnedRoomId> = Collection::new("founding_room");

/// Whether the group of a room may be worth a founding in one step: of its devices nothing is known
/// yet.
pub(super) fn is_worth_while(turn: &Turn<'_>, room: &Room) -> Result<bool, StoreError> {
    Ok(membership::users_of_group(turn.tx, room)?.len() >= LEAST_USERS)
}

/// Begins to gather key packages.
pub(super) fn begin(turn: &Turn<'_>, room: &mut Room) -> Result<(), StoreError> {
    room.standing.gather();
    ROOMS.put(turn.tx, b"", room.id.as_bytes(), &room.id)
}

/// The rooms in which a founding is under way.
pub(crate) fn founding_rooms(turn: &Turn<'_>) -> Result<Vec<OwnedRoomId>, StoreError> {
    let mut rooms = Vec::new();
    for room_id in ROOMS.list(turn.tx, b"")? {
        if room::load(turn.tx, &room_id)?.standing.is_gathering() {
            rooms.push(room_id);
        } else {
            ROOMS.delete(turn.tx, b"", room_id.as_bytes())?;
        }
    }
    Ok(rooms)
}
