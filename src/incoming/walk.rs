//! Commits that are looked for in the room's history: those that the homeserver does not have by
//! their event id, and that are not behind what is known either (`catch_up`).
//!
//! A homeserver that could not reach another for a while fetches only the newest of what was sent
//! there. The rest it fetches when somebody pages back through the room; until then it answers that
//! there is no such event. So before a commit counts as missing the history is walked back, one
//! walk at a time in a room, until all that is missing has turned up, and the commits that it is
//! based on.
//!
//! Anybody can name events that never were. A walk is bounded, and so is what a room may spend
//! within an hour; beyond that, what is missing is put off at once, and the device gets on as
//! `rejoin` says.

use std::collections::BTreeSet;

use ruma::{EventId, OwnedEventId, RoomId};
use serde::{Deserialize, Serialize};

use super::{
    history_pages::{self, MOST_PAGES},
    waiting::{self, CameBy},
};
use crate::{
    epochs::{graph, missing},
    failure::Failure,
    protocol::{CommitEventOnly, RoomEvent, parse},
    rejection::InputError,
    requests::{self, Purpose},
    room::wake,
    store::{Collection, StoreError},
    turn::Turn,
};

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

fn load(turn: &Turn<'_>, room: &RoomId) -> Result<Walk, StoreError> {
    Ok(WALKS.get(turn.tx, b"", room.as_bytes())?.unwrap_or_default())
}

fn save(turn: &Turn<'_>, room: &RoomId, walk: &Walk) -> Result<(), StoreError> {
    WALKS.put(turn.tx, b"", room.as_bytes(), walk)
}

/// Whether a commit is being looked for.
pub(super) fn is_looking_for(
    turn: &Turn<'_>,
    room: &RoomId,
    event: &EventId,
) -> Result<bool, StoreError> {
    let walk = load(turn, room)?;
    Ok(walk.missing.contains(event) || walk.late.contains(event))
}

/// Looks for a commit in the room's history.
pub(crate) fn look_for(turn: &Turn<'_>, room: &RoomId, event: &EventId) -> Result<(), Failure> {
    let mut walk = load(turn, room)?;
    if turn.has_passed(walk.hour_began_ms, HOUR_MS) {
        (walk.hour_began_ms, walk.spent) = (turn.now_ms, 0);
    }
    if walk.spent >= MOST_PAGES_AN_HOUR || walk.missing.len() + walk.late.len() >= MOST_MISSING {
        return Ok(missing::put_off(turn, room, event)?);
    }
    if walk.pages > 0 {
        walk.late.insert(event.to_owned());
    } else {
        let is_first = walk.missing.is_empty();
        walk.missing.insert(event.to_owned());
        if is_first {
            ask_for_page(turn, room, &walk)?;
        }
    }
    Ok(save(turn, room, &walk)?)
}

fn ask_for_page(turn: &Turn<'_>, room: &RoomId, walk: &Walk) -> Result<(), Failure> {
    let request = history_pages::request(room.to_owned(), walk.from.clone());
    let purpose = Purpose::FindCommits { room_id: room.to_owned() };
    requests::enqueue(turn.tx, room.as_bytes(), turn.now_ms, purpose, request).map(drop)
}

/// A page of the room's history has come.
pub(crate) fn paged(turn: &Turn<'_>, room: &RoomId, body: &[u8]) -> Result<(), InputError> {
    let page = history_pages::read(body)?;
    let mut walk = load(turn, room)?;
    walk.pages += 1;
    walk.spent += 1;
    for (event, json) in &page.events {
        take(turn, room, &mut walk, event, json)?;
    }
    // What has come otherwise need not be found.
    for event in walk.missing.clone() {
        if !is_needed(turn, room, &event)? {
            walk.missing.remove(&event);
        }
    }
    let next = page.next.filter(|next| walk.from.as_ref() != Some(next) && walk.pages < MOST_PAGES);
    match next {
        Some(next) if !walk.missing.is_empty() => {
            walk.from = Some(next);
            ask_for_page(turn, room, &walk)?;
        }
        _ => finish(turn, room, &mut walk)?,
    }
    save(turn, room, &walk)?;
    Ok(wake(turn.tx, room)?)
}

/// Keeps an event of a page, if it is missing; what it is based on comes further back.
fn take(
    turn: &Turn<'_>,
    room: &RoomId,
    walk: &mut Walk,
    event: &RoomEvent,
    json: &str,
) -> Result<(), StoreError> {
    let Some(id) = event.event_id.as_ref() else { return Ok(()) };
    let wanted = walk.missing.contains(id) || walk.late.contains(id);
    if !wanted || event.event_type != "m.room.encrypted" || !event.is_commit() {
        return Ok(());
    }
    waiting::keep(turn, room, Some(id.as_str()), json, CameBy::Request)?;
    walk.missing.remove(id);
    walk.late.remove(id);
    let base = parse::<CommitEventOnly>(event.content.get(), "the content");
    if let Ok(base) = base.map(|base| OwnedEventId::try_from(base.commit_event))
        && let Ok(base) = base
        && walk.missing.len() < MOST_MISSING
        && is_needed(turn, room, &base)?
    {
        walk.missing.insert(base);
    }
    Ok(())
}

/// Whether a commit is neither known nor waiting nor known to lead nowhere.
pub(super) fn is_needed(
    turn: &Turn<'_>,
    room: &RoomId,
    event: &EventId,
) -> Result<bool, StoreError> {
    Ok(graph::by_event(turn.tx, room, event)?.is_none()
        && !waiting::is_waiting(turn, room, event.as_str())?
        && !missing::is_hopeless(turn, room, event.as_str())?)
}

/// Ends a walk: the homeserver does not have what was not found. What was missing only since the
/// walk began gets a walk of its own.
fn finish(turn: &Turn<'_>, room: &RoomId, walk: &mut Walk) -> Result<(), Failure> {
    for event in std::mem::take(&mut walk.missing) {
        missing::put_off(turn, room, &event)?;
    }
    (walk.from, walk.pages) = (None, 0);
    walk.missing = std::mem::take(&mut walk.late);
    if !walk.missing.is_empty() {
        ask_for_page(turn, room, walk)?;
    }
    Ok(())
}

/// Ends a room's walk without a result: this device has left the room, and its requests are gone.
pub(crate) fn forget(turn: &Turn<'_>, room: &RoomId) -> Result<(), StoreError> {
    WALKS.delete(turn.tx, b"", room.as_bytes()).map(drop)
}

/// The homeserver does not show the room's history.
pub(crate) fn refused(turn: &Turn<'_>, room: &RoomId) -> Result<(), Failure> {
    let mut walk = load(turn, room)?;
    walk.missing.append(&mut walk.late);
    finish(turn, room, &mut walk)?;
    Ok(save(turn, room, &walk)?)
}
