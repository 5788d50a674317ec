//! Whether this device's clock is right, as far as its homeserver tells.
//!
//! A homeserver stamps each event that it takes from this device, and says with each sync how long
//! ago that was. The two together are the homeserver's time. Only this device's own events count:
//! those of others may have been stamped by other servers, or by bridges. What is found is noted
//! (`homeserver_time`), and the app is told, as only its user can set the clock.

use super::error::EngineError;
use crate::{
    exported::{RoomChanges, Update},
    homeserver_time,
    protocol::{StampedEvent, parse},
    store::Collection,
    turn::Turn,
};

/// From which difference on a clock is off, in milliseconds. A sync may have waited in the app for
/// a while before it was taken in.
const OFF_MS: u64 = 60 * 60 * 1000;
/// How many events of a room's timeline are looked at, the newest first.
const MOST_LOOKED_AT: usize = 10;

/// How far the clock is ahead by what the app was told last, in milliseconds; nothing where it was
/// right.
const TOLD: Collection<i64> = Collection::new("clock_ahead");

/// Compares the clock with the homeserver's, if a sync tells that, and tells the app of a change.
pub(super) fn compare(turn: &Turn<'_>, rooms: &[RoomChanges]) -> Result<(), EngineError> {
    let Some(homeserver_ms) = rooms.iter().find_map(homeserver_time) else { return Ok(()) };
    let ahead_ms = i64::try_from(i128::from(turn.now_ms) - i128::from(homeserver_ms))
        .unwrap_or(if turn.now_ms > homeserver_ms { i64::MAX } else { i64::MIN });
    homeserver_time::note_ahead(turn.tx, ahead_ms)?;
    let told_ms = TOLD.get(turn.tx, b"", b"")?.unwrap_or(0);
    let is_off = ahead_ms.unsigned_abs() >= OFF_MS;
    let known = if is_off { ahead_ms.abs_diff(told_ms) < OFF_MS } else { told_ms == 0 };
    if known {
        return Ok(());
    }
    let ahead_ms = if is_off { ahead_ms } else { 0 };
    tracing::warn!(ahead_ms, "this device's clock and its homeserver's");
    if is_off {
        TOLD.put(turn.tx, b"", b"", &ahead_ms)?;
    } else {
        TOLD.delete(turn.tx, b"", b"")?;
    }
    turn.tell(Update::ClockOff { ahead_ms });
    Ok(())
}

/// The homeserver's time when it answered, by the newest own event of a room's timeline.
fn homeserver_time(room: &RoomChanges) -> Option<u64> {
    let newest = room.timeline.iter().rev().take(MOST_LOOKED_AT);
    // Most events are somebody else's, and may be long.
    let own = newest.filter(|json| json.contains("\"transaction_id\""));
    own.flat_map(|json| parse::<StampedEvent>(json, "the event")).find_map(|event| {
        // Only the device that has sent an event is shown the event's transaction id.
        event.unsigned.transaction_id.as_ref()?;
        event.origin_server_ts.checked_add(event.unsigned.age?)
    })
}
