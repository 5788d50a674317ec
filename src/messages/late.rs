//! Which messages came when their epoch had long ended.
//!
//! A device that was removed still has the keys of the epochs it was in. With the homeserver's help
//! it can write there for ever, and so can whoever steals them from it. Such a message opens, as an
//! honest one that was long on its way would. It is marked, and the app decides what to show: by
//! the mark, or by the room's settings, which can refuse such messages.

use ruma::{EventId, RoomId};

use super::{error::MessageError, open::Message};
use crate::{
    epochs::graph,
    failure::Failure,
    homeserver_time, room,
    store::{Collection, Mark, StoreError, Tx},
};

/// How long after an epoch has ended a device that is in the group no more may be heard in it, in
/// milliseconds. Others may for as long as the room keeps epochs able to take commits.
const GONE_MS: u64 = 60 * 60 * 1000;

/// How many marks of one room are kept.
const MOST_MARKED: u64 = 1_000;

/// The events that were late when a sync brought them, whatever time they bear.
const LATE: Collection<Mark> = Collection::new("late_message");

/// Whether a message was said, by the homeserver's clock, or came, by this device's, so long after
/// its epoch had ended. A message of an epoch that came from elsewhere is not judged: when that
/// ended is not known.
pub(crate) fn is_late(
    tx: &Tx<'_>,
    room_id: &RoomId,
    message: &Message,
    said_ms: Option<u64>,
    came_ms: Option<u64>,
) -> Result<bool, Failure> {
    let Some(ended_ms) = message.ended_ms else { return Ok(false) };
    if let Some(event) = &message.event_id
        && LATE.has(tx, room_id.as_bytes(), event.as_bytes())?
    {
        return Ok(true);
    }
    let said_ms = said_ms.map(|at| homeserver_time::by_own_clock(tx, at)).transpose()?;
    let late_ms = said_ms.max(came_ms).unwrap_or(0).saturating_sub(ended_ms);
    if late_ms < GONE_MS {
        return Ok(false);
    }
    let room = room::load(tx, room_id)?;
    if late_ms >= room.settings.kept_for_ms {
        return Ok(true);
    }
    let Some(head) = room.standing.head() else { return Ok(false) };
    Ok(!graph::members(tx, room_id, head)?.contains(&message.sender))
}

/// Refuses a late message where the room's settings say so.
pub(crate) fn refuse(tx: &Tx<'_>, room: &RoomId, message: &Message) -> Result<(), MessageError> {
    if message.is_late && room::load(tx, room)?.settings.refuse_late_messages {
        return Err(MessageError::Late);
    }
    Ok(())
}

/// Remembers that a sync brought a message late: the time that the event bears is the homeserver's
/// word.
pub(crate) fn remember(tx: &Tx<'_>, room: &RoomId, event: &EventId) -> Result<(), StoreError> {
    if LATE.count(tx, room.as_bytes())? >= MOST_MARKED {
        LATE.delete_scope(tx, room.as_bytes())?;
    }
    LATE.put(tx, room.as_bytes(), event.as_bytes(), &Mark)
}
