//! Commits that are missing: asked for by event id, and the ones before them, until what is known is
//! reached.
//!
//! A sync may leave events out, and another homeserver's events may come late. So whatever waits names
//! the commit it is based on, and that is fetched. The chain is followed a bounded way. A commit that the
//! homeserver does not have is *missing*: the room goes on without it, but what is based on it waits, as
//! it may still come from another homeserver, and it is asked for again, more and more rarely. A commit
//! that leads to no epoch that is kept is *hopeless*: what is based on it waits no longer.

use ruma::{EventId, OwnedEventId, RoomId, api::client::room::get_room_event};
use serde::{Deserialize, Serialize};

use super::{Turn, gap, graph, process::is_ours, rooms, timeline, waiting};
use crate::{
    error::MlsError,
    protocol::{AlgorithmOnly, RoomEvent},
    requests::{self, Purpose, REQUESTS},
    store::{Collection, Mark},
};

/// How many commits of one room are asked for at once.
const MOST_AT_ONCE: usize = 8;
/// How many are asked for in a row without one that could be processed.
const LONGEST_CHAIN: u32 = 100;
/// How many hopeless commits of one room are remembered, and how many missing ones.
const MOST_REMEMBERED: u64 = 1_000;
/// After how long a missing commit is asked for again, in milliseconds, doubling with each time.
const FIRST_RETRY_MS: u64 = 10 * 60 * 1000;
const LAST_RETRY_MS: u64 = 24 * 60 * 60 * 1000;

const HOPELESS: Collection<Mark> = Collection::new("hopeless_commit");
const MISSING: Collection<Missing> = Collection::new("missing_commit");

/// How a missing commit is asked for.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Missing {
    tries: u32,
    again_ms: u64,
}

/// Whether a commit is known to lead nowhere.
pub(crate) fn is_hopeless(turn: &Turn<'_>, room: &RoomId, event: &str) -> Result<bool, MlsError> {
    Ok(HOPELESS.get(turn.tx, room.as_bytes(), event.as_bytes())?.is_some())
}

/// A commit leads nowhere: nothing has to wait for it.
pub(crate) fn give_up(turn: &Turn<'_>, room: &RoomId, event: &str) -> Result<(), MlsError> {
    if is_hopeless(turn, room, event)? {
        return Ok(());
    }
    if HOPELESS.count(turn.tx, room.as_bytes())? >= MOST_REMEMBERED {
        HOPELESS.delete_scope(turn.tx, room.as_bytes())?;
    }
    HOPELESS.put(turn.tx, room.as_bytes(), event.as_bytes(), &Mark)?;
    MISSING.delete(turn.tx, room.as_bytes(), event.as_bytes())?;
    timeline::stir(turn, room)
}

/// Whether a commit cannot be had for now.
pub(crate) fn is_missing(turn: &Turn<'_>, room: &RoomId, event: &str) -> Result<bool, MlsError> {
    Ok(MISSING.get(turn.tx, room.as_bytes(), event.as_bytes())?.is_some())
}

/// A commit cannot be had, or what leads to it cannot, for now; tells whether that is news.
pub(crate) fn miss(turn: &Turn<'_>, room: &RoomId, event: &EventId) -> Result<bool, MlsError> {
    let before = MISSING.get(turn.tx, room.as_bytes(), event.as_bytes())?;
    if before.is_none() {
        bound(turn, room)?;
        MISSING.put(turn.tx, room.as_bytes(), event.as_bytes(), &Missing::default())?;
        timeline::stir(turn, room)?;
    }
    Ok(before.is_none())
}

/// A commit is from before this device was in the group. A Welcome that is late may lead to it; to ask for it
/// again does not.
pub(crate) fn is_before(turn: &Turn<'_>, room: &RoomId, event: &str) -> Result<(), MlsError> {
    let news = !is_missing(turn, room, event)?;
    bound(turn, room)?;
    let missing = Missing { tries: 0, again_ms: u64::MAX };
    MISSING.put(turn.tx, room.as_bytes(), event.as_bytes(), &missing)?;
    if news { timeline::stir(turn, room) } else { Ok(()) }
}

/// This device has come in by a Welcome, maybe further back than it was: all that was missing may be of use.
pub(crate) fn ask_again(turn: &Turn<'_>, room: &RoomId) -> Result<(), MlsError> {
    Ok(MISSING.delete_scope(turn.tx, room.as_bytes()).map(drop)?)
}

fn bound(turn: &Turn<'_>, room: &RoomId) -> Result<(), MlsError> {
    if MISSING.count(turn.tx, room.as_bytes())? >= MOST_REMEMBERED {
        MISSING.delete_scope(turn.tx, room.as_bytes())?;
    }
    Ok(())
}

/// The homeserver has not given the commit it was asked for.
pub(crate) fn not_had(turn: &Turn<'_>, room: &RoomId, event: &EventId) -> Result<(), MlsError> {
    miss(turn, room, event)?;
    let mut missing = MISSING.get(turn.tx, room.as_bytes(), event.as_bytes())?.unwrap_or_default();
    let wait = FIRST_RETRY_MS.saturating_mul(1 << missing.tries.min(16)).min(LAST_RETRY_MS);
    missing.tries = missing.tries.saturating_add(1);
    missing.again_ms = turn.now_ms.saturating_add(wait);
    Ok(MISSING.put(turn.tx, room.as_bytes(), event.as_bytes(), &missing)?)
}

/// It leads somewhere after all.
pub(crate) fn take_back(turn: &Turn<'_>, room: &RoomId, event: &str) -> Result<(), MlsError> {
    HOPELESS.delete(turn.tx, room.as_bytes(), event.as_bytes())?;
    Ok(MISSING.delete(turn.tx, room.as_bytes(), event.as_bytes()).map(drop)?)
}

/// Asks for the commits that the room's waiting events need.
pub(crate) fn plan(turn: &Turn<'_>, room_id: &RoomId) -> Result<(), MlsError> {
    let waiting = waiting::list(turn, room_id)?;
    if waiting.is_empty() {
        return Ok(());
    }
    let mut room = rooms::get(turn.tx, room_id)?;
    if room.head.is_none() || room.gone {
        return Ok(());
    }
    let mut asked: Vec<OwnedEventId> = Vec::new();
    for (_, queued) in REQUESTS.in_scope(turn.tx, room_id.as_bytes())? {
        if let Purpose::FetchEvent { event_id, .. } = queued.purpose {
            asked.push(event_id);
        }
    }
    for (_, event) in waiting {
        let Ok(needs) = OwnedEventId::try_from(event.needs.as_str()) else { continue };
        if asked.contains(&needs)
            || graph::by_event(turn.tx, room_id, &needs)?.is_some()
            || waiting::is_known(turn, room_id, needs.as_str())?
            || is_hopeless(turn, room_id, needs.as_str())?
            || gap::is_missing(turn, room_id, &needs)?
        {
            continue;
        }
        let missing = MISSING.get(turn.tx, room_id.as_bytes(), needs.as_bytes())?;
        if missing.is_some_and(|missing| missing.again_ms > turn.now_ms) {
            continue;
        }
        if room.fetched >= LONGEST_CHAIN {
            give_up(turn, room_id, needs.as_str())?;
            continue;
        }
        if asked.len() >= MOST_AT_ONCE {
            break;
        }
        room.fetched += 1;
        let request = get_room_event::v3::Request::new(room_id.to_owned(), needs.clone());
        let purpose = Purpose::FetchEvent { room_id: room_id.to_owned(), event_id: needs.clone() };
        requests::enqueue(turn.tx, room_id.as_bytes(), turn.now_ms, purpose, request)?;
        asked.push(needs);
    }
    Ok(rooms::put(turn.tx, &room)?)
}

/// The homeserver has answered: the event waits like any other that came too early.
pub(crate) fn fetched(
    turn: &Turn<'_>,
    room_id: &RoomId,
    event_id: &EventId,
    body: &[u8],
) -> Result<(), MlsError> {
    let is_it = |event: &RoomEvent| {
        event.event_id.as_deref() == Some(event_id)
            && event.event_type == "m.room.encrypted"
            && timeline::parse::<AlgorithmOnly>(event.content.get(), "the content")
                .is_ok_and(|content| is_ours(&content.algorithm))
            && timeline::is_commit(event)
    };
    let json = std::str::from_utf8(body).unwrap_or_default();
    match timeline::parse::<RoomEvent>(json, "the event") {
        Ok(event) if is_it(&event) => {
            waiting::keep(turn, room_id, Some(event_id.as_str()), json, true)?;
            timeline::stir(turn, room_id)
        }
        // Redacted, or not what was asked for.
        _ => not_had(turn, room_id, event_id),
    }
}
