//! Commits that exist, though the homeserver has none by their event id: looked for in the room's history.
//!
//! A homeserver that could not reach another for a while fetches only the newest of what was sent there. The
//! rest it fetches when somebody pages back through the room; until then it answers that there is no such
//! event. So before a commit is given up the history is walked back, one walk at a time in a room, until
//! all that is missing has turned up, and the commits that it is based on.
//!
//! Anybody can name events that never were. A walk is bounded, and so is what a room may spend within an
//! hour; beyond that, what is missing is given up at once, and the device gets on as `heal` says.

use std::collections::BTreeSet;

use ruma::{
    EventId, OwnedEventId, RoomId, UInt,
    api::client::{filter::RoomEventFilter, message::get_message_events},
};
use serde::{Deserialize, Serialize};

use super::{Turn, fetch, graph, timeline, waiting};
use crate::{
    error::MlsError,
    protocol::{BaseOnly, MessagesPage, RoomEvent},
    requests::{self, Purpose},
    store::Collection,
};

/// How far one walk goes, in pages of [`PAGE`] events.
const MOST_PAGES: u32 = 30;
const PAGE: u32 = 100;
/// How many pages one room may cost within an hour.
const MOST_PAGES_AN_HOUR: u32 = 120;
const HOUR_MS: u64 = 60 * 60 * 1000;
/// How many commits of one room are looked for at once.
const MOST_MISSING: usize = 100;

/// What is looked for in one room, and how far that has come.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Walk {
    missing: BTreeSet<OwnedEventId>,
    /// Missing since the walk began: they may be where it has been already.
    late: BTreeSet<OwnedEventId>,
    from: Option<String>,
    pages: u32,
    hour_began_ms: u64,
    spent: u32,
}

const WALKS: Collection<Walk> = Collection::new("history_walk");

/// Whether a commit is being looked for.
pub(crate) fn is_missing(
    turn: &Turn<'_>,
    room_id: &RoomId,
    event: &EventId,
) -> Result<bool, MlsError> {
    let walk = WALKS.get(turn.tx, b"", room_id.as_bytes())?.unwrap_or_default();
    Ok(walk.missing.contains(event) || walk.late.contains(event))
}

/// The homeserver has no event with this id.
pub(crate) fn look_for(turn: &Turn<'_>, room_id: &RoomId, event: &EventId) -> Result<(), MlsError> {
    let mut walk = WALKS.get(turn.tx, b"", room_id.as_bytes())?.unwrap_or_default();
    if turn.now_ms.saturating_sub(walk.hour_began_ms) >= HOUR_MS {
        (walk.hour_began_ms, walk.spent) = (turn.now_ms, 0);
    }
    if walk.spent >= MOST_PAGES_AN_HOUR || walk.missing.len() + walk.late.len() >= MOST_MISSING {
        return fetch::not_had(turn, room_id, event);
    }
    if walk.pages > 0 {
        walk.late.insert(event.to_owned());
    } else {
        let is_first = walk.missing.is_empty();
        walk.missing.insert(event.to_owned());
        if is_first {
            turn_page(turn, room_id, &walk)?;
        }
    }
    Ok(WALKS.put(turn.tx, b"", room_id.as_bytes(), &walk)?)
}

fn turn_page(turn: &Turn<'_>, room_id: &RoomId, walk: &Walk) -> Result<(), MlsError> {
    let mut request = get_message_events::v3::Request::backward(room_id.to_owned());
    request.from.clone_from(&walk.from);
    request.limit = UInt::from(PAGE);
    let mut filter = RoomEventFilter::default();
    filter.types = Some(vec!["m.room.encrypted".to_owned()]);
    request.filter = filter;
    let purpose = Purpose::FindCommits { room_id: room_id.to_owned() };
    requests::enqueue(turn.tx, room_id.as_bytes(), turn.now_ms, purpose, request).map(drop)
}

/// A page of the room's history has come.
pub(crate) fn paged(turn: &Turn<'_>, room_id: &RoomId, body: &[u8]) -> Result<(), MlsError> {
    let page: MessagesPage = serde_json::from_slice(body)
        .map_err(|_| MlsError::rejected("malformed_answer", "the answer is no page of events"))?;
    let mut walk = WALKS.get(turn.tx, b"", room_id.as_bytes())?.unwrap_or_default();
    walk.pages += 1;
    walk.spent += 1;
    for json in page.chunk.iter().take(PAGE as usize) {
        if let Ok(event) = timeline::parse::<RoomEvent>(json.get(), "the event") {
            take(turn, room_id, &mut walk, &event, json.get())?;
        }
    }
    // What has come otherwise need not be found.
    for event in walk.missing.clone() {
        if !is_needed(turn, room_id, &event)? {
            walk.missing.remove(&event);
        }
    }
    let end = page.end.filter(|end| walk.from.as_ref() != Some(end) && walk.pages < MOST_PAGES);
    match end {
        Some(end) if !walk.missing.is_empty() => {
            walk.from = Some(end);
            turn_page(turn, room_id, &walk)?;
        }
        _ => finish(turn, room_id, &mut walk)?,
    }
    WALKS.put(turn.tx, b"", room_id.as_bytes(), &walk)?;
    timeline::stir(turn, room_id)
}

/// Keeps an event of a page, if it is missing; what it is based on comes further back.
fn take(
    turn: &Turn<'_>,
    room_id: &RoomId,
    walk: &mut Walk,
    event: &RoomEvent,
    json: &str,
) -> Result<(), MlsError> {
    let Some(id) = event.event_id.as_ref() else { return Ok(()) };
    let wanted = walk.missing.contains(id) || walk.late.contains(id);
    if !wanted || event.event_type != "m.room.encrypted" || !timeline::is_commit(event) {
        return Ok(());
    }
    waiting::keep(turn, room_id, Some(id.as_str()), json, true)?;
    walk.missing.remove(id);
    walk.late.remove(id);
    let base = timeline::parse::<BaseOnly>(event.content.get(), "the content");
    if let Ok(base) = base.map(|base| OwnedEventId::try_from(base.commit_event))
        && let Ok(base) = base
        && walk.missing.len() < MOST_MISSING
        && is_needed(turn, room_id, &base)?
    {
        walk.missing.insert(base);
    }
    Ok(())
}

/// Whether a commit is neither known nor waiting nor known to lead nowhere.
fn is_needed(turn: &Turn<'_>, room_id: &RoomId, event: &EventId) -> Result<bool, MlsError> {
    Ok(graph::by_event(turn.tx, room_id, event)?.is_none()
        && !waiting::is_known(turn, room_id, event.as_str())?
        && !fetch::is_hopeless(turn, room_id, event.as_str())?)
}

/// A walk has ended: what it has not found does not exist. What was missing only since it began gets a walk
/// of its own.
fn finish(turn: &Turn<'_>, room_id: &RoomId, walk: &mut Walk) -> Result<(), MlsError> {
    for event in std::mem::take(&mut walk.missing) {
        fetch::not_had(turn, room_id, &event)?;
    }
    (walk.from, walk.pages) = (None, 0);
    walk.missing = std::mem::take(&mut walk.late);
    if !walk.missing.is_empty() {
        turn_page(turn, room_id, walk)?;
    }
    Ok(())
}

/// The homeserver does not show the room's history.
pub(crate) fn refused(turn: &Turn<'_>, room_id: &RoomId) -> Result<(), MlsError> {
    let mut walk = WALKS.get(turn.tx, b"", room_id.as_bytes())?.unwrap_or_default();
    walk.missing.append(&mut walk.late);
    finish(turn, room_id, &mut walk)?;
    Ok(WALKS.put(turn.tx, b"", room_id.as_bytes(), &walk)?)
}
