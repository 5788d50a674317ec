//! To-device events about rooms that no sync has shown as MLS rooms of this user.
//!
//! They may be early: a sync has to-device events before rooms, another sync connection may be
//! faster, and an invited user sees the room's state only after joining. They may as well come from
//! somebody who has never shared a room with this user, about rooms that do not exist. So they have
//! no effect, and wait: all of them within one bound, each sender's within a smaller one, for
//! [`MOST_AGE_MS`]. Whoever takes the most gives way first (`incoming::fair_share`). Once the
//! room's state shows up they are taken in as if they came then.

use ruma::{OwnedRoomId, OwnedUserId, RoomId};
use serde::{Deserialize, Serialize};

use crate::{
    incoming::fair_share::{Share, take_surplus},
    store::{Collection, Queue, StoreError},
    turn::Turn,
};

/// What all that wait may take, in bytes; each counts with [`EACH`] more.
const MOST_BYTES: u64 = 4_000_000;
/// What each counts for beside its bytes: so no more than 500 wait.
const EACH: u64 = 8_000;
/// What those of one sender may take: seven of the largest that Matrix carries, or forty of small
/// rooms.
const MOST_OF_SENDER: u64 = MOST_BYTES / 8;
/// How long one waits, in milliseconds: 30 days. Whoever accepts an invitation later joins by
/// itself.
const MOST_AGE_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// The id of one that is not in the queue yet, which counts from 1.
const NOT_YET: i64 = 0;

/// One that waits.
#[derive(Clone, Serialize, Deserialize)]
struct Early {
    id: i64,
    room_id: OwnedRoomId,
    sender: OwnedUserId,
    bytes: u64,
    /// When it came, in milliseconds since 1970.
    since_ms: u64,
}

impl Early {
    fn weight(&self) -> u64 {
        self.bytes.saturating_add(EACH)
    }
}

/// The events themselves.
const EVENTS: Queue<String> = Queue::new("early_to_device");
/// What is known of each, oldest first, in one row.
const LIST: Collection<Vec<Early>> = Collection::new("early_to_device_list");

fn list(turn: &Turn<'_>) -> Result<Vec<Early>, StoreError> {
    Ok(LIST.get(turn.tx, b"", b"")?.unwrap_or_default())
}

fn put(turn: &Turn<'_>, list: &Vec<Early>) -> Result<(), StoreError> {
    if list.is_empty() {
        return LIST.delete(turn.tx, b"", b"").map(drop);
    }
    LIST.put(turn.tx, b"", b"", list)
}

/// Keeps an event until its room shows up; tells whether there was place for it.
pub(super) fn keep(
    turn: &Turn<'_>,
    room_id: &RoomId,
    sender: &OwnedUserId,
    json: &str,
) -> Result<bool, StoreError> {
    let bytes = json.len() as u64;
    let mut list = without_old(turn, list(turn)?)?;
    let new = Early {
        id: NOT_YET,
        room_id: room_id.to_owned(),
        sender: sender.clone(),
        bytes,
        since_ms: turn.now_ms,
    };
    let of_sender: u64 =
        list.iter().filter(|early| early.sender == *sender).map(Early::weight).sum();
    if of_sender.saturating_add(new.weight()) > MOST_OF_SENDER {
        return Ok(false);
    }
    list.push(new);
    let share = |early: &Early| Share { sender: early.sender.clone(), weight: early.weight() };
    for dropped in take_surplus(&mut list, MOST_BYTES, share) {
        EVENTS.remove(turn.tx, dropped.id)?;
    }
    let is_kept = list.last().is_some_and(|last| last.id == NOT_YET);
    if let Some(new) = list.last_mut().filter(|last| last.id == NOT_YET) {
        new.id = EVENTS.push(turn.tx, room_id.as_bytes(), 0, &json.to_owned())?;
    }
    put(turn, &list)?;
    Ok(is_kept)
}

/// Whether anything waits for a room.
pub(super) fn is_any(turn: &Turn<'_>, room_id: &RoomId) -> Result<bool, StoreError> {
    Ok(list(turn)?.iter().any(|early| early.room_id == room_id))
}

/// Takes out what waits for a room, oldest first.
pub(super) fn take(turn: &Turn<'_>, room_id: &RoomId) -> Result<Vec<String>, StoreError> {
    let all = list(turn)?;
    if !all.iter().any(|early| early.room_id == room_id) {
        return Ok(Vec::new());
    }
    let mut events = Vec::new();
    let mut kept = Vec::new();
    for early in without_old(turn, all)? {
        if early.room_id != room_id {
            kept.push(early);
            continue;
        }
        events.extend(EVENTS.get(turn.tx, early.id)?);
        EVENTS.remove(turn.tx, early.id)?;
    }
    put(turn, &kept)?;
    Ok(events)
}

/// Lets go of what has waited too long.
pub(super) fn forget_old(turn: &Turn<'_>) -> Result<(), StoreError> {
    let before = list(turn)?;
    let number = before.len();
    let kept = without_old(turn, before)?;
    if kept.len() == number { Ok(()) } else { put(turn, &kept) }
}

fn without_old(turn: &Turn<'_>, list: Vec<Early>) -> Result<Vec<Early>, StoreError> {
    let (old, kept): (Vec<_>, Vec<_>) =
        list.into_iter().partition(|early| turn.has_passed(early.since_ms, MOST_AGE_MS));
    for early in old {
        EVENTS.remove(turn.tx, early.id)?;
    }
    Ok(kept)
}
