//! Events that came too early: kept in the store until what they need arrives.
//!
//! A commit or a message of an epoch that this device does not know yet is kept as it came; bounded
//! in number, size and age a room. What is dropped is told. What is missing is asked for (`fetch`).

use std::collections::HashMap;

use ruma::RoomId;
use serde::{Deserialize, Serialize};

use crate::{
    exported::Update,
    protocol::{CommitEventOnly, RoomEvent, parse},
    room,
    store::{Collection, Mark, Queue, StoreError, Tx},
    turn::Turn,
};

/// How many events wait in one room at the most.
const MAX_WAITING: u64 = 1_000;
/// How much they take together, in bytes.
const MAX_BYTES: usize = 16_000_000;
/// The same in a room of which nothing says that it uses MLS: there they may be anybody's jokes.
const MAX_WAITING_ELSEWHERE: u64 = 50;
const MAX_BYTES_ELSEWHERE: usize = 1_000_000;
/// How long one waits, in milliseconds.
const MAX_AGE_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// How an event came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CameBy {
    /// The app fed it, and expects a result.
    App,
    /// This library asked for it; the app has not seen it.
    Request,
}

/// An event that waits.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct WaitingEvent {
    pub(crate) event_id: Option<String>,
    pub(crate) json: String,
    /// The event id of the commit it waits for, if it says one.
    #[serde(default)]
    pub(crate) needs: String,
    /// When it came, in milliseconds since 1970.
    #[serde(default)]
    since_ms: u64,
    /// This library asked for it.
    #[serde(default)]
    fetched: bool,
}

impl WaitingEvent {
    /// How it came.
    pub(crate) fn came_by(&self) -> CameBy {
        if self.fetched { CameBy::Request } else { CameBy::App }
    }
}

const WAITING: Queue<WaitingEvent> = Queue::new("waiting_event");
/// Which events wait, by event id.
const KNOWN: Collection<Mark> = Collection::new("waiting_event_id");

/// Keeps an event, unless it is kept already. Whoever keeps some calls [`bound`] when all are in.
pub(crate) fn keep(
    turn: &Turn<'_>,
    room: &RoomId,
    event_id: Option<&str>,
    json: &str,
    came_by: CameBy,
) -> Result<(), StoreError> {
    let scope = room.as_bytes();
    if let Some(id) = event_id {
        if is_waiting(turn, room, id)? {
            return Ok(());
        }
        KNOWN.put(turn.tx, scope, id.as_bytes(), &Mark)?;
    }
    let event = WaitingEvent {
        event_id: event_id.map(ToOwned::to_owned),
        json: json.to_owned(),
        needs: base_of(json),
        since_ms: turn.now_ms,
        fetched: came_by == CameBy::Request,
    };
    WAITING.push(turn.tx, scope, 0, &event).map(drop)
}

/// Whether an event waits.
pub(super) fn is_waiting(turn: &Turn<'_>, room: &RoomId, event: &str) -> Result<bool, StoreError> {
    Ok(KNOWN.get(turn.tx, room.as_bytes(), event.as_bytes())?.is_some())
}

/// Whether anything waits in a room.
pub(crate) fn is_any(turn: &Turn<'_>, room: &RoomId) -> Result<bool, StoreError> {
    Ok(WAITING.first(turn.tx, room.as_bytes())?.is_some())
}

/// How many events wait in a room, and since when the oldest does, in milliseconds since 1970.
pub(crate) fn state(tx: &Tx<'_>, room: &RoomId) -> Result<(u64, Option<u64>), StoreError> {
    let oldest = WAITING.first(tx, room.as_bytes())?;
    let count = WAITING.count_scope(tx, room.as_bytes())?;
    Ok((count, oldest.map(|(_, event)| event.since_ms)))
}

/// The event id of the commit that an event is based on.
fn base_of(json: &str) -> String {
    let base = parse::<RoomEvent>(json, "the event")
        .and_then(|event| parse::<CommitEventOnly>(event.content.get(), "the content"));
    base.map(|base| base.commit_event).unwrap_or_default()
}

/// Lets go of what has waited too long, and of the oldest where there is too much: first of what
/// the app has not seen and can be asked for again. It reads all that waits.
pub(crate) fn bound(turn: &Turn<'_>, room: &RoomId) -> Result<(), StoreError> {
    let (most, most_bytes) = match room::find(turn.tx, room)? {
        Some(room) if room.uses_mls() => (MAX_WAITING, MAX_BYTES),
        _ => (MAX_WAITING_ELSEWHERE, MAX_BYTES_ELSEWHERE),
    };
    let (mut number, mut bytes, mut dropped) = (0, 0, 0);
    let mut newest_first: Vec<_> = list(turn, room)?.into_iter().rev().collect();
    newest_first.sort_by_key(|(_, event)| event.fetched);
    for (id, event) in newest_first {
        number += 1;
        bytes += event.json.len();
        let old = turn.now_ms.saturating_sub(event.since_ms) >= MAX_AGE_MS;
        if number > most || bytes > most_bytes || old {
            remove(turn, room, id, &event)?;
            dropped += 1;
        }
    }
    if dropped > 0 {
        turn.tell(Update::EventsDropped { room_id: room.to_string(), count: dropped });
    }
    Ok(())
}

/// What waits in a room, oldest first.
pub(crate) fn list(turn: &Turn<'_>, room: &RoomId) -> Result<Vec<(i64, WaitingEvent)>, StoreError> {
    WAITING.in_scope(turn.tx, room.as_bytes())
}

/// One that waits, unless it does no longer.
pub(crate) fn get(turn: &Turn<'_>, id: i64) -> Result<Option<WaitingEvent>, StoreError> {
    WAITING.get(turn.tx, id)
}

/// What waits in a room, each event after the one that it waits for, if that waits as well. So one
/// pass over them follows a chain of any length.
pub(crate) fn list_in_order(
    turn: &Turn<'_>,
    room: &RoomId,
) -> Result<Vec<(i64, WaitingEvent)>, StoreError> {
    Ok(in_order(list(turn, room)?))
}

fn in_order(events: Vec<(i64, WaitingEvent)>) -> Vec<(i64, WaitingEvent)> {
    let by_id: HashMap<String, usize> = events
        .iter()
        .enumerate()
        .filter_map(|(at, (_, event))| Some((event.event_id.clone()?, at)))
        .collect();
    let mut left: Vec<Option<(i64, WaitingEvent)>> = events.into_iter().map(Some).collect();
    let mut ordered = Vec::with_capacity(left.len());
    for first in 0..left.len() {
        // The way back from this event, as far as it leads over events that are still left.
        let mut chain = Vec::new();
        let mut next = Some(first);
        while let Some((id, event)) = next.and_then(|at| left.get_mut(at)).and_then(Option::take) {
            next = by_id.get(&event.needs).copied();
            chain.push((id, event));
        }
        ordered.extend(chain.into_iter().rev());
    }
    ordered
}

/// It need not wait any more.
pub(crate) fn remove(
    turn: &Turn<'_>,
    room: &RoomId,
    id: i64,
    event: &WaitingEvent,
) -> Result<(), StoreError> {
    if let Some(event_id) = &event.event_id {
        KNOWN.delete(turn.tx, room.as_bytes(), event_id.as_bytes())?;
    }
    WAITING.remove(turn.tx, id).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: i64, needs: i64) -> (i64, WaitingEvent) {
        let event = WaitingEvent {
            event_id: Some(format!("${id}")),
            json: String::new(),
            needs: format!("${needs}"),
            since_ms: 0,
            fetched: false,
        };
        (id, event)
    }

    fn order(events: Vec<(i64, WaitingEvent)>) -> Vec<i64> {
        in_order(events).into_iter().map(|(id, _)| id).collect()
    }

    #[test]
    fn a_chain_that_came_backwards_is_taken_from_its_beginning() {
        let backwards = (1..1_000).rev().map(|id| event(id, id - 1)).collect();
        assert_eq!(order(backwards), (1..1_000).collect::<Vec<_>>());
    }

    #[test]
    fn events_that_wait_for_nothing_here_keep_their_order() {
        assert_eq!(order(vec![event(3, 100), event(1, 200), event(2, 300)]), [3, 1, 2]);
        assert_eq!(order(vec![event(5, 4), event(6, 4), event(4, 0)]), [4, 5, 6]);
    }

    #[test]
    fn events_that_name_each_other_are_all_there_once() {
        assert_eq!(order(vec![event(1, 2), event(2, 1), event(3, 3)]).len(), 3);
    }
}
