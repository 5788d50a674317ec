//! Events that came too early: kept in the store until what they need arrives.
//!
//! A commit or a message of an epoch this device does not know yet, and a commit that forks, are
//! kept as they came, a bounded number a room; what falls out is told.

use ruma::RoomId;
use serde::{Deserialize, Serialize};

use super::Turn;
use crate::{
    error::MlsError,
    store::{Collection, Queue, StoreError},
    updates::Update,
};

/// How many events wait in one room at the most.
const MAX_WAITING: u64 = 1_000;

/// An event that waits.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct WaitingEvent {
    pub(crate) event_id: Option<String>,
    pub(crate) json: String,
}

const WAITING: Queue<WaitingEvent> = Queue::new("waiting_event");
/// Which events wait, by event id.
const KNOWN: Collection<()> = Collection::new("waiting_event_id");

/// Keeps an event, unless it is kept already.
pub(crate) fn keep(
    turn: &Turn<'_>,
    room_id: &RoomId,
    event_id: Option<&str>,
    json: &str,
) -> Result<(), MlsError> {
    let scope = room_id.as_bytes();
    if let Some(id) = event_id {
        if KNOWN.get(turn.tx, scope, id.as_bytes())?.is_some() {
            return Ok(());
        }
        KNOWN.put(turn.tx, scope, id.as_bytes(), &())?;
    }
    let event = WaitingEvent { event_id: event_id.map(ToOwned::to_owned), json: json.to_owned() };
    WAITING.push(turn.tx, scope, 0, &event)?;
    let surplus = WAITING.count_scope(turn.tx, scope)?.saturating_sub(MAX_WAITING);
    if surplus > 0 {
        for (id, event) in list(turn, room_id)?.into_iter().take(surplus as usize) {
            remove(turn, room_id, id, &event)?;
        }
        turn.tell(Update::EventsDropped { room_id: room_id.to_string(), count: surplus });
    }
    Ok(())
}

/// What waits in a room, oldest first.
pub(crate) fn list(
    turn: &Turn<'_>,
    room_id: &RoomId,
) -> Result<Vec<(i64, WaitingEvent)>, StoreError> {
    WAITING.in_scope(turn.tx, room_id.as_bytes())
}

/// It need not wait any more.
pub(crate) fn remove(
    turn: &Turn<'_>,
    room_id: &RoomId,
    id: i64,
    event: &WaitingEvent,
) -> Result<(), StoreError> {
    if let Some(event_id) = &event.event_id {
        KNOWN.delete(turn.tx, room_id.as_bytes(), event_id.as_bytes())?;
    }
    WAITING.remove(turn.tx, id).map(drop)
}
