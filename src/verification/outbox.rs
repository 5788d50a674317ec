//! What becomes of the events of verifications on their way: which are to be sealed, and what the
//! homeserver says to them.

use ruma::{OwnedEventId, OwnedRoomId, RoomId};
use serde::Deserialize;

use super::{
    flow::{Parcel, Place},
    post::{is_request, queue_to_room, uses_mls},
    secrets::Secrets,
    table,
};
use crate::{
    failure::Failure,
    requests::Purpose,
    store::{StoreError, Tx},
    turn::Turn,
};

/// The answer to an event that was sent to a room.
#[derive(Deserialize)]
struct SentEvent {
    event_id: OwnedEventId,
}

/// What is to be sealed: the verification's id, its room, and the event.
pub(crate) fn to_seal(tx: &Tx<'_>) -> Result<Vec<(String, OwnedRoomId, Parcel)>, StoreError> {
    let mut found = Vec::new();
    for flow in table::unsent(tx)? {
        let (Place::Room { room_id, request }, Some(parcel)) = (&flow.place, flow.outbox.first())
        else {
            continue;
        };
        let has_request = request.is_some() || is_request(parcel);
        if !flow.is_sending && has_request && uses_mls(tx, room_id)? {
            found.push((flow.id.clone(), room_id.clone(), parcel.clone()));
        }
    }
    Ok(found)
}

/// The first event of the outbox is sealed: queues it.
pub(crate) fn sealed(
    turn: &Turn<'_>,
    secrets: &Secrets,
    id: &str,
    room: &RoomId,
    content: &str,
) -> Result<(), Failure> {
    let Some(mut flow) = table::find(turn.tx, id)? else { return Ok(()) };
    if flow.is_sending || flow.outbox.is_empty() {
        return Ok(());
    }
    let purpose = Purpose::Verification { verification: flow.id.clone() };
    queue_to_room(turn, room, "m.room.encrypted", content, purpose)?;
    flow.is_sending = true;
    table::save(turn, secrets, flow)
}

/// The homeserver has taken the event that was on its way.
pub(crate) fn sent(
    turn: &Turn<'_>,
    secrets: &Secrets,
    id: &str,
    body: &[u8],
) -> Result<(), Failure> {
    let Some(mut flow) = table::find(turn.tx, id)? else { return Ok(()) };
    let is_first = flow.outbox.first().is_some_and(is_request);
    if let Place::Room { request: request @ None, .. } = &mut flow.place
        && is_first
        && let Ok(SentEvent { event_id }) = serde_json::from_slice(body)
    {
        *request = Some(event_id);
    }
    if flow.is_sending && !flow.outbox.is_empty() {
        flow.outbox.remove(0);
    }
    flow.is_sending = false;
    table::save(turn, secrets, flow)
}

/// An event cannot be sent.
pub(crate) fn refused(
    turn: &Turn<'_>,
    secrets: &Secrets,
    id: &str,
    reason: &str,
) -> Result<(), Failure> {
    let Some(mut flow) = table::find(turn.tx, id)? else { return Ok(()) };
    flow.outbox.clear();
    flow.is_sending = false;
    flow.end("refused", reason, true);
    table::save(turn, secrets, flow)
}
