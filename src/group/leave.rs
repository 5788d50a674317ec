//! No longer in the group: removed by others, or gone of one's own will.

use ruma::RoomId;

use super::{Turn, graph, head, heal, outcome, plan, rooms};
use crate::{
    error::MlsError,
    requests::{self, REQUESTS},
    updates::Update,
};

/// This device was removed, by a commit or with its user: it keeps what it could read.
///
/// While its user is in the room a device belongs in the group, and others may add it, or it joins. The commit
/// may also have been made on a branch that loses, by one who knew less: so it goes on following the
/// branches it is in, and sends on none of them.
pub(crate) fn evicted(turn: &Turn<'_>, room_id: &RoomId) -> Result<(), MlsError> {
    let room = rooms::get(turn.tx, room_id)?;
    let belongs =
        !room.own_user_left && rooms::is_joined(turn.tx, room_id, &turn.identity.name().0)?;
    if belongs {
        outcome::drop_unsent(turn, room_id)?;
        heal::need(turn, room_id, heal::Reason::Removed)?;
    } else {
        give_up_membership(turn, room_id)?;
    }
    turn.tell(Update::Removed { room_id: room_id.to_string() });
    Ok(())
}

/// Drops every state that could send or process, and what was still to be sent for the room.
pub(crate) fn give_up_membership(turn: &Turn<'_>, room_id: &RoomId) -> Result<(), MlsError> {
    let mut room = rooms::get(turn.tx, room_id)?;
    for (request, _) in REQUESTS.in_scope(turn.tx, room_id.as_bytes())? {
        requests::remove(turn.tx, request)?;
    }
    if let Some(id) = room.staged.take() {
        rooms::put(turn.tx, &room)?;
        outcome::dropped(turn, room_id, id)?;
    }
    for mut epoch in head::kept(turn.tx, &room)? {
        graph::make_decrypt_only(turn.tx, room_id, &mut epoch)?;
    }
    room.kept.clear();
    room.healing = None;
    plan::forget_candidates(turn, room_id)?;
    room.head = None;
    room.settled = None;
    room.rotate = false;
    room.gone = true;
    rooms::put(turn.tx, &room)?;
    Ok(())
}
