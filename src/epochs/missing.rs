//! Commits that others are based on and that cannot be had.
//!
//! A commit that the homeserver does not have is *missing*: the room goes on without it, but what
//! is based on it waits, as it may still come from another homeserver; it is asked for again, more
//! and more rarely. A commit that leads to no epoch that is kept is *hopeless*: what is based on it
//! waits no longer.

use ruma::{EventId, RoomId};
use serde::{Deserialize, Serialize};

use crate::{
    requests::Backoff,
    room::wake,
    store::{Collection, Mark, StoreError, Tx},
    turn::Turn,
};

/// How many hopeless commits of one room are remembered, and how many missing ones.
const MOST_REMEMBERED: u64 = 1_000;
/// After how long a missing commit is asked for again.
const RETRY: Backoff = Backoff { first_ms: 10 * 60 * 1000, most_ms: 24 * 60 * 60 * 1000 };

/// The time at which a commit is asked for that is never asked for.
const NEVER_MS: u64 = u64::MAX;

const HOPELESS: Collection<Mark> = Collection::new("hopeless_commit");
const MISSING: Collection<Missing> = Collection::new("missing_commit");
/// Announcements of groups that this device is not in. They are here, and nothing but a Welcome or
/// a join leads to what is based on them.
const ANNOUNCED: Collection<Mark> = Collection::new("announced_group");

/// How a missing commit is asked for.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Missing {
    tries: u32,
    again_ms: u64,
}

fn get(turn: &Turn<'_>, room: &RoomId, event: &str) -> Result<Option<Missing>, StoreError> {
    MISSING.get(turn.tx, room.as_bytes(), event.as_bytes())
}

fn put(turn: &Turn<'_>, room: &RoomId, event: &str, missing: &Missing) -> Result<(), StoreError> {
    MISSING.put(turn.tx, room.as_bytes(), event.as_bytes(), missing)
}

/// Whether any commit is still to come.
pub(super) fn is_any(turn: &Turn<'_>, room: &RoomId) -> Result<bool, StoreError> {
    Ok(MISSING.count(turn.tx, room.as_bytes())? > 0)
}

/// How many commits of a room this device lacks and knows of.
pub(crate) fn count(tx: &Tx<'_>, room: &RoomId) -> Result<u64, StoreError> {
    MISSING.count(tx, room.as_bytes())
}

/// Whether a commit is known to lead nowhere.
pub(crate) fn is_hopeless(turn: &Turn<'_>, room: &RoomId, event: &str) -> Result<bool, StoreError> {
    leads_nowhere(turn.tx, room, event)
}

/// The same outside of a turn.
pub(crate) fn leads_nowhere(tx: &Tx<'_>, room: &RoomId, event: &str) -> Result<bool, StoreError> {
    HOPELESS.has(tx, room.as_bytes(), event.as_bytes())
}

/// A commit leads nowhere: nothing has to wait for it.
pub(crate) fn mark_hopeless(turn: &Turn<'_>, room: &RoomId, event: &str) -> Result<(), StoreError> {
    if is_hopeless(turn, room, event)? {
        return Ok(());
    }
    if HOPELESS.count(turn.tx, room.as_bytes())? >= MOST_REMEMBERED {
        HOPELESS.delete_scope(turn.tx, room.as_bytes())?;
    }
    HOPELESS.put(turn.tx, room.as_bytes(), event.as_bytes(), &Mark)?;
    MISSING.delete(turn.tx, room.as_bytes(), event.as_bytes())?;
    wake(turn.tx, room)
}

/// Whether a commit cannot be had for now.
pub(crate) fn is_missing(turn: &Turn<'_>, room: &RoomId, event: &str) -> Result<bool, StoreError> {
    Ok(get(turn, room, event)?.is_some() || is_announced(turn, room, event)?)
}

fn is_announced(turn: &Turn<'_>, room: &RoomId, event: &str) -> Result<bool, StoreError> {
    ANNOUNCED.has(turn.tx, room.as_bytes(), event.as_bytes())
}

/// Whether a missing commit is not to be asked for yet.
pub(crate) fn is_put_off(turn: &Turn<'_>, room: &RoomId, event: &str) -> Result<bool, StoreError> {
    if is_announced(turn, room, event)? {
        return Ok(true);
    }
    Ok(get(turn, room, event)?.is_some_and(|missing| {
        missing.again_ms == NEVER_MS || turn.is_ahead(missing.again_ms, RETRY.most_ms)
    }))
}

/// Whether the homeserver has not given an event when it was asked, and is not to be asked yet.
pub(crate) fn is_refused(
    turn: &Turn<'_>,
    room: &RoomId,
    event: &EventId,
) -> Result<bool, StoreError> {
    let missing = get(turn, room, event.as_str())?.filter(|missing| missing.again_ms != NEVER_MS);
    Ok(missing.is_some_and(|missing| turn.is_ahead(missing.again_ms, RETRY.most_ms)))
}

/// A commit cannot be had, or what leads to it cannot, for now; tells whether that was unknown.
pub(crate) fn mark_missing(
    turn: &Turn<'_>,
    room: &RoomId,
    event: &EventId,
) -> Result<bool, StoreError> {
    let is_new = !is_missing(turn, room, event.as_str())?;
    if is_new {
        bound(turn, room)?;
        put(turn, room, event.as_str(), &Missing::default())?;
        wake(turn.tx, room)?;
    }
    Ok(is_new)
}

/// A commit is from before this device was in the group. A late Welcome may lead to it; asking for
/// it does not.
pub(crate) fn mark_before_joining(
    turn: &Turn<'_>,
    room: &RoomId,
    event: &str,
) -> Result<(), StoreError> {
    let is_new = !is_missing(turn, room, event)?;
    bound(turn, room)?;
    put(turn, room, event, &Missing { tries: 0, again_ms: NEVER_MS })?;
    if is_new { wake(turn.tx, room) } else { Ok(()) }
}

/// A group was announced that this device is not in. Commits on the announcement are no reason to
/// ask for it.
pub(crate) fn mark_announced(
    turn: &Turn<'_>,
    room: &RoomId,
    event: &str,
) -> Result<(), StoreError> {
    if is_announced(turn, room, event)? {
        return Ok(());
    }
    if ANNOUNCED.count(turn.tx, room.as_bytes())? >= MOST_REMEMBERED {
        ANNOUNCED.delete_scope(turn.tx, room.as_bytes())?;
    }
    ANNOUNCED.put(turn.tx, room.as_bytes(), event.as_bytes(), &Mark)?;
    wake(turn.tx, room)
}

/// The homeserver has not given the commit that it was asked for: it is asked again later.
pub(crate) fn put_off(turn: &Turn<'_>, room: &RoomId, event: &EventId) -> Result<(), StoreError> {
    mark_missing(turn, room, event)?;
    let mut missing = get(turn, room, event.as_str())?.unwrap_or_default();
    missing.again_ms = turn.now_ms.saturating_add(RETRY.delay_ms(missing.tries));
    missing.tries = missing.tries.saturating_add(1);
    put(turn, room, event.as_str(), &missing)
}

/// A commit that was missing or hopeless leads to an epoch now.
pub(crate) fn mark_found(turn: &Turn<'_>, room: &RoomId, event: &str) -> Result<(), StoreError> {
    HOPELESS.delete(turn.tx, room.as_bytes(), event.as_bytes())?;
    ANNOUNCED.delete(turn.tx, room.as_bytes(), event.as_bytes())?;
    MISSING.delete(turn.tx, room.as_bytes(), event.as_bytes()).map(drop)
}

/// Has all missing commits asked for again: this device has come in by a Welcome, maybe further
/// back than it was. What led nowhere while it was out may lead on from there.
pub(crate) fn ask_again(turn: &Turn<'_>, room: &RoomId) -> Result<(), StoreError> {
    HOPELESS.delete_scope(turn.tx, room.as_bytes())?;
    MISSING.delete_scope(turn.tx, room.as_bytes()).map(drop)
}

fn bound(turn: &Turn<'_>, room: &RoomId) -> Result<(), StoreError> {
    if MISSING.count(turn.tx, room.as_bytes())? >= MOST_REMEMBERED {
        MISSING.delete_scope(turn.tx, room.as_bytes())?;
    }
    Ok(())
}
