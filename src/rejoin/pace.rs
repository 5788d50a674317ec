//! How long a device waits before it joins by itself, and how often it does.

use sha2::{Digest, Sha256};

use crate::{
    protocol::{EpochId, credential},
    room::{Room, undone},
    turn::Turn,
};

/// How often a device joins externally within an hour, in one room.
const MOST_JOINS: usize = 10;
const HOUR_MS: u64 = 60 * 60 * 1000;
/// The unit of the time that is waited before an external join, in milliseconds.
const FIRST_WAIT_MS: u64 = 500;

/// A time that differs from device to device, and grows with each external join of late; in
/// milliseconds.
pub(super) fn jitter(turn: &Turn<'_>, room: &Room) -> u64 {
    let joins = room.joins.times_ms.len().min(10);
    let range = FIRST_WAIT_MS << joins;
    let seed = Sha256::new()
        .chain_update(credential::encode(&turn.identity.name()))
        .chain_update(room.id.as_bytes())
        .chain_update(joins.to_be_bytes())
        .finalize();
    let number = seed.iter().take(8).fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    number % range
}

/// Whether this device has joined too often of late to do so again now.
pub(super) fn is_spent(turn: &Turn<'_>, room: &mut Room) -> bool {
    room.joins.times_ms.retain(|at| turn.now_ms.saturating_sub(*at) < HOUR_MS);
    room.joins.times_ms.len() >= MOST_JOINS
}

/// An external commit was refused or dropped: the next waits longer, and no less than it would have
/// anyway.
pub(crate) fn put_off(turn: &Turn<'_>, room: &mut Room, epoch: EpochId) {
    let wait = jitter(turn, room);
    if let Some(rejoin) = room.standing.rejoin_mut() {
        tracing::info!(room = %room.id, epoch = %epoch.to_hex(), wait, "joining anew has to wait");
        rejoin.not_before_ms = rejoin.not_before_ms.max(turn.now_ms.saturating_add(wait));
    }
}

/// When the next step may be made, if that is not now; in milliseconds since 1970.
pub(crate) fn waits_until(turn: &Turn<'_>, room: &Room) -> Option<u64> {
    let rejoin = room.standing.rejoin()?;
    Some(rejoin.not_before_ms).filter(|at| undone::is_ahead(*at, turn.now_ms))
}
