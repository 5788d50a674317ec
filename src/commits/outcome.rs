//! What the homeserver's answer to a commit of this device's own means: it becomes an epoch of the
//! room, or it never was.

use ruma::OwnedEventId;

use super::{
    restart,
    staged::{self, staged_requests},
    welcomes::queue_welcomes,
};
use crate::{
    epochs::{
        Status, graph,
        head::{self, NewEpoch},
    },
    failure::Failure,
    messages::SendError,
    protocol::EpochId,
    ratchet_trees, requests,
    room::{OwnLeaf, Room, wake},
    turn::{Consequence, Turn},
};

/// The homeserver has accepted the event of a staged epoch.
pub(crate) fn accepted(
    turn: &Turn<'_>,
    room: &mut Room,
    id: EpochId,
    event: OwnedEventId,
) -> Result<(), SendError> {
    let Some(mut epoch) = graph::find(turn.tx, &room.id, id)? else {
        // Dropped meanwhile: another commit came first, and this one was not known to be out.
        return Ok(());
    };
    if epoch.status == Status::Accepted {
        return Ok(());
    }
    let staged = staged::get(turn.tx, &room.id, id)?;
    staged::delete(turn.tx, &room.id, id)?;
    if restart::is_own(room, id) {
        return restart::announced(turn, room, epoch, event, &staged);
    }
    epoch.commit_event = Some(event.clone());
    if let (Some(tree), Some(content)) = (&staged.tree, &staged.content) {
        ratchet_trees::keep(turn, &room.id, &tree.clone().uploaded_as(content))?;
    }
    queue_welcomes(turn, &room.id, &event, &staged)?;
    room.standing.unstage();
    if staged.rotates {
        room.renewal.wanted = false;
        room.renewal.done_in = Some(id);
    }
    let is_external = epoch.external;
    if staged.renews || is_external || epoch.parent.is_none() {
        room.renewal.keep_leaf(OwnLeaf::renewed(id, epoch.since_ms), &room.kept);
    }
    let new = NewEpoch { epoch, added: &staged.added, removed: &staged.removed() };
    head::enter(turn, room, new)?;
    turn.report(Consequence::CommitAccepted { epoch: id, added: staged.added, is_external });
    Ok(())
}

/// The homeserver has refused the event of a staged epoch, or the commit lost a race before it was
/// sent. The plan is made again from what is true then.
pub(crate) fn dropped(turn: &Turn<'_>, room: &mut Room, id: EpochId) -> Result<(), Failure> {
    if restart::is_own(room, id) {
        return Ok(restart::forget(turn, room)?);
    }
    staged::delete(turn.tx, &room.id, id)?;
    if let Some(epoch) = graph::find(turn.tx, &room.id, id)?
        && epoch.status == Status::Staged
    {
        graph::remove(turn.tx, &room.id, &epoch)?;
        let is_external = epoch.external;
        turn.report(Consequence::CommitDropped { epoch: id, is_external });
    }
    if room.standing.staged() == Some(id) {
        room.standing.unstage();
        room.standing.unsettle();
    }
    Ok(wake(turn.tx, &room.id)?)
}

/// The head has moved on: a staged commit that nobody has seen yet would only fork the group, so it
/// is dropped, and the plan made again. A commit that was handed out may have reached the
/// homeserver and stays.
pub(crate) fn drop_unsent(turn: &Turn<'_>, room: &mut Room) -> Result<(), Failure> {
    let Some(id) = room.standing.staged() else { return Ok(()) };
    let staged = staged_requests(turn.tx, &room.id, id)?;
    if staged.is_out {
        return Ok(());
    }
    for request in staged.ids {
        requests::remove(turn.tx, request)?;
    }
    dropped(turn, room, id)
}
