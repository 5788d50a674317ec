//! Asking for missing commits by event id: those that waiting events need, and the ones before
//! them, until what is known is reached.
//!
//! A sync may leave events out, and another homeserver's events may come late. Whatever waits names
//! the commit that it is based on, and that is fetched. A device that was away for long finds a
//! long chain: then it catches up from what it knows (`catch_up`).

use ruma::{EventId, OwnedEventId, RoomId, api::client::room::get_room_event};

use super::{
    catch_up,
    waiting::{self, CameBy, WaitingEvent},
    walk,
};
use crate::{
    epochs::missing,
    failure::Failure,
    protocol::{AlgorithmOnly, RoomEvent, identifiers, parse},
    requests::{self, Purpose, REQUESTS},
    room::{Room, wake},
    store::StoreError,
    turn::Turn,
};

/// How many commits of one room are asked for at once.
const MOST_AT_ONCE: usize = 8;
/// How many are asked for by event id in a row without one that could be processed. A longer chain
/// is followed on pages of the room's history, where one request brings many.
const LONGEST_CHAIN: u32 = 8;

/// Asks for the commits that these waiting events of a room need.
pub(crate) fn ask_for_missing(
    turn: &Turn<'_>,
    room: &mut Room,
    waiting: &[(i64, WaitingEvent)],
) -> Result<(), Failure> {
    if room.standing.head().is_none() || catch_up::is_under_way(turn.tx, &room.id)? {
        return Ok(());
    }
    let mut asked: Vec<OwnedEventId> = Vec::new();
    for (_, queued) in REQUESTS.in_scope(turn.tx, room.id.as_bytes())? {
        if let Purpose::FetchEvent { event_id, .. } = &queued.purpose {
            asked.push(event_id.clone());
        }
    }
    for (_, event) in waiting {
        let Ok(needs) = OwnedEventId::try_from(event.needs.as_str()) else { continue };
        if asked.contains(&needs) || !can_be_asked_for(turn, &room.id, &needs)? {
            continue;
        }
        if room.commits_fetched >= LONGEST_CHAIN {
            if catch_up::begin(turn, room, waiting)? {
                break;
            }
            walk::look_for(turn, &room.id, &needs)?;
            continue;
        }
        if asked.len() >= MOST_AT_ONCE {
            break;
        }
        room.commits_fetched += 1;
        let request = get_room_event::v3::Request::new(room.id.clone(), needs.clone());
        let purpose = Purpose::FetchEvent { room_id: room.id.clone(), event_id: needs.clone() };
        requests::enqueue(turn.tx, room.id.as_bytes(), turn.now_ms, purpose, request)?;
        asked.push(needs);
    }
    Ok(())
}

/// Whether a commit is needed, is not looked for already, and is worth asking for now.
fn can_be_asked_for(turn: &Turn<'_>, room: &RoomId, event: &EventId) -> Result<bool, StoreError> {
    Ok(walk::is_needed(turn, room, event)?
        && !walk::is_looking_for(turn, room, event)?
        && !missing::is_put_off(turn, room, event.as_str())?)
}

/// The homeserver has answered: the event waits like any other that came too early.
pub(crate) fn fetched(
    turn: &Turn<'_>,
    room: &RoomId,
    event_id: &EventId,
    body: &[u8],
) -> Result<(), StoreError> {
    let is_it = |event: &RoomEvent| {
        event.event_id.as_deref() == Some(event_id)
            && event.event_type == "m.room.encrypted"
            && parse::<AlgorithmOnly>(event.content.get(), "the content")
                .is_ok_and(|content| identifiers::is_room_algorithm(&content.algorithm))
            && event.is_commit()
    };
    let json = std::str::from_utf8(body).unwrap_or_default();
    match parse::<RoomEvent>(json, "the event") {
        Ok(event) if is_it(&event) => {
            waiting::keep(turn, room, Some(event_id.as_str()), json, CameBy::Request)?;
            wake(turn.tx, room)
        }
        // Redacted, or another event than was asked for.
        _ => missing::put_off(turn, room, event_id),
    }
}
