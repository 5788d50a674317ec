//! What the homeserver's answer to a commit of ours means: it becomes the room's epoch, or it
//! never was.

use ruma::{
    OwnedEventId, RoomId, api::client::state::send_state_event, events::StateEventType, serde::Raw,
};

use super::{
    EpochId, Status, Turn, graph, head, heal,
    publish::{self, STAGED, to_content},
    rooms, share, timeline,
};
use crate::{
    error::MlsError,
    requests::{self, Purpose},
};

/// The homeserver has accepted the event of a staged epoch.
pub(crate) fn accepted(
    turn: &Turn<'_>,
    room_id: &RoomId,
    id: EpochId,
    event: OwnedEventId,
) -> Result<(), MlsError> {
    let Some(mut epoch) = graph::find(turn.tx, room_id, id)? else {
        // Dropped meanwhile, because another commit came first and this one was not known to be out.
        return Ok(());
    };
    if epoch.status == Status::Accepted {
        return Ok(());
    }
    let staged = STAGED
        .get(turn.tx, room_id.as_bytes(), id.as_bytes())?
        .ok_or_else(|| MlsError::damaged("a staged epoch has lost what belongs to its commit"))?;
    STAGED.delete(turn.tx, room_id.as_bytes(), id.as_bytes())?;
    epoch.commit_event = Some(event.clone());
    publish::queue_welcomes(turn, room_id, &event, &staged)?;

    let mut room = rooms::get(turn.tx, room_id)?;
    room.staged = None;
    if staged.rotates {
        room.rotate = false;
        room.rotated = Some(id);
    }
    rooms::put(turn.tx, &room)?;
    let external = epoch.external;
    head::enter(turn, room_id, epoch, &staged.added, &staged.removed)?;
    share::offer(turn, room_id, id, &staged.added)?;
    if external { heal::joined(turn, room_id) } else { Ok(()) }
}

/// The homeserver has refused the event of a staged epoch, or it lost a race before it was sent.
/// The plan is made again from what is true then.
pub(crate) fn dropped(turn: &Turn<'_>, room_id: &RoomId, id: EpochId) -> Result<(), MlsError> {
    STAGED.delete(turn.tx, room_id.as_bytes(), id.as_bytes())?;
    if let Some(epoch) = graph::find(turn.tx, room_id, id)?
        && epoch.status == Status::Staged
    {
        graph::remove(turn.tx, room_id, &epoch)?;
        if epoch.external {
            heal::failed(turn, room_id, id)?;
        }
    }
    let mut room = rooms::get(turn.tx, room_id)?;
    if room.staged == Some(id) {
        room.staged = None;
        room.settled = None;
        rooms::put(turn.tx, &room)?;
    }
    timeline::stir(turn, room_id)
}

/// The head has moved on: a staged commit that nobody has seen yet would only fork the group, so it is
/// dropped, and the plan made again. One that was handed out may have reached the homeserver and stays.
pub(crate) fn drop_unsent(turn: &Turn<'_>, room_id: &RoomId) -> Result<(), MlsError> {
    let Some(id) = rooms::get(turn.tx, room_id)?.staged else { return Ok(()) };
    let (requests, out) = publish::staged_requests(turn, room_id, id)?;
    if out {
        return Ok(());
    }
    for request in requests {
        requests::remove(turn.tx, request)?;
    }
    dropped(turn, room_id, id)
}

/// Queues the state event that says the room is encrypted with MLS.
pub(crate) fn queue_room_encryption(
    turn: &Turn<'_>,
    room_id: &RoomId,
    algorithm: &str,
) -> Result<(), MlsError> {
    let content = to_content(&serde_json::json!({ "algorithm": algorithm }), "m.room.encryption")?;
    let request = send_state_event::v3::Request::new_raw(
        room_id.to_owned(),
        StateEventType::RoomEncryption,
        String::new(),
        Raw::from_json(content),
    );
    let purpose = Purpose::EnableEncryption { room_id: room_id.to_owned() };
    requests::enqueue(turn.tx, room_id.as_bytes(), turn.now_ms, purpose, request)?;
    Ok(())
}
