//! The time by the homeserver's clock, as far as this device knows it.
//!
//! Events bear the homeserver's time; what this device notes bears its own. A phone's clock may be
//! off by days for weeks, so whoever compares the two converts. That trusts the homeserver with no
//! more than it has: what time an event bears is its word as well.

use crate::{
    store::{Collection, StoreError, Tx},
    turn::Turn,
};

/// How far this device's clock is ahead of its homeserver's, in milliseconds, to a minute.
const AHEAD: Collection<i64> = Collection::new("clock_ahead_known");
/// By how much that has to change before it is written.
const AHEAD_STEP_MS: u64 = 60 * 1000;

/// Notes how far the clock is ahead, in milliseconds.
pub(crate) fn note_ahead(tx: &Tx<'_>, ahead_ms: i64) -> Result<(), StoreError> {
    if ahead_ms.abs_diff(self::ahead_ms(tx)?) >= AHEAD_STEP_MS {
        AHEAD.put(tx, b"", b"", &ahead_ms)?;
    }
    Ok(())
}

/// How far the clock is ahead, in milliseconds, when it was compared last. A clock that was never
/// compared counts as right.
fn ahead_ms(tx: &Tx<'_>) -> Result<i64, StoreError> {
    Ok(AHEAD.get(tx, b"", b"")?.unwrap_or(0))
}

/// The time by the homeserver's clock, in milliseconds since 1970.
pub(crate) fn now_ms(turn: &Turn<'_>) -> Result<u64, StoreError> {
    Ok(turn.now_ms.saturating_add_signed(ahead_ms(turn.tx)?.saturating_neg()))
}

/// What this device's clock showed at a time of the homeserver's, both in milliseconds since 1970.
pub(crate) fn by_own_clock(tx: &Tx<'_>, homeserver_ms: u64) -> Result<u64, StoreError> {
    Ok(homeserver_ms.saturating_add_signed(ahead_ms(tx)?))
}
