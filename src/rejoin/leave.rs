//! No longer in the group: removed by others, or gone of one's own will.

use super::need::require;
use crate::{
    commits::{forget_candidates, outcome, restart},
    epochs::{graph, set_aside},
    exported::Update,
    failure::Failure,
    incoming::{catch_up, walk},
    ratchet_trees,
    requests::{self, Purpose, REQUESTS},
    room::{RejoinReason, Room, membership, undone},
    store::StoreError,
    turn::Turn,
};

/// This device was removed, by a commit or with its user: it keeps what it could read.
///
/// While its user is in the room a device belongs in the group, and others may add it, or it joins.
/// The commit may also have been made on a branch that loses, by a device that knew less. So this
/// device goes on following the branches that it is in, and sends on none of them. Each time
/// counts: whoever removes it again and again does not know it, and it gives in for longer with
/// each time.
pub(crate) fn removed(turn: &Turn<'_>, room: &mut Room) -> Result<(), Failure> {
    let own = turn.identity.name();
    let belongs =
        !room.state.own_user_left && membership::is_joined(turn.tx, &room.id, &own.user_id)?;
    if belongs {
        outcome::drop_unsent(turn, room)?;
        undone::note(turn.tx, &room.id, &own, turn.now_ms, undone::Weight::First)?;
        require(turn, room, RejoinReason::Removed)?;
    } else {
        leave(turn, room)?;
    }
    turn.tell(Update::Removed { room_id: room.id.to_string() });
    Ok(())
}

/// This device's user has left the Matrix room, so it is out of the group, or will be with the next
/// commit. If its user is back before, the others have it in their group still.
pub(crate) fn user_left(turn: &Turn<'_>, room: &mut Room) -> Result<(), Failure> {
    let was_member = room.standing.head().is_some();
    if was_member {
        set_aside::put(turn, room)?;
    } else {
        drop_kept(turn, room)?;
    }
    stop(turn, room)?;
    if was_member {
        turn.tell(Update::Removed { room_id: room.id.to_string() });
    }
    Ok(())
}

/// Drops every state that could send or process, and what was still to be sent for the room.
pub(crate) fn leave(turn: &Turn<'_>, room: &mut Room) -> Result<(), Failure> {
    drop_kept(turn, room)?;
    set_aside::forget(turn, room)?;
    stop(turn, room)
}

fn drop_kept(turn: &Turn<'_>, room: &mut Room) -> Result<(), StoreError> {
    for mut epoch in graph::kept(turn.tx, room)? {
        graph::make_decrypt_only(turn.tx, &room.id, &mut epoch)?;
    }
    room.kept.clear();
    Ok(())
}

/// Drops what was still to be sent for the room, and ends what is under way there. Welcomes are
/// owed: their commit is in the room, and nobody else can let the added devices into its epoch.
fn stop(turn: &Turn<'_>, room: &mut Room) -> Result<(), Failure> {
    for (request, queued) in REQUESTS.in_scope(turn.tx, room.id.as_bytes())? {
        if !matches!(queued.purpose, Purpose::Welcome { .. }) {
            requests::remove(turn.tx, request)?;
        }
    }
    walk::forget(turn, &room.id)?;
    catch_up::forget(turn, &room.id)?;
    if let Some(id) = room.standing.staged() {
        outcome::dropped(turn, room, id)?;
    }
    restart::forget(turn, room)?;
    forget_candidates(turn, &room.id)?;
    ratchet_trees::forget_all(turn.tx, &room.id)?;
    room.renewal.wanted = false;
    room.standing.give_up();
    Ok(())
}
