//! How long a device waits before it joins by itself, and how often it does.
//!
//! Where something is to be said, the wait is short. Where nobody asks, nobody is in a hurry: the
//! wait grows with the room, so that a thousand devices that one failure has thrown out come back
//! one by one. Over all rooms a device makes one such commit at a time, and few in a minute: a
//! homeserver allows a user some ten events at once, and then one in five seconds, and the better
//! part of that is for what the user says.

use ruma::OwnedRoomId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    epochs::graph,
    failure::Failure,
    protocol::{EpochId, credential},
    room::{self, Room, membership, undone},
    store::{Collection, StoreError},
    turn::Turn,
};

/// How often a device joins externally within an hour, in one room.
const MOST_JOINS: usize = 10;
const HOUR_MS: u64 = 60 * 60 * 1000;
/// The unit of the time that is waited before an external join, in milliseconds.
const FIRST_WAIT_MS: u64 = 500;

/// How often a device joins in one room within a day with nobody asking for it.
const MOST_UNASKED_A_DAY: usize = 20;
const DAY_MS: u64 = 24 * HOUR_MS;
/// Up to this many members come back at once. More draw lots.
const FEW: u64 = 8;
/// By how much each member makes the time longer from which the wait is drawn.
const WAIT_A_MEMBER_MS: u64 = 1_000;
/// The longest wait of a device that nobody asks.
pub(super) const LONGEST_WAIT_MS: u64 = 6 * HOUR_MS;
/// How long a Welcome may take after the commit that goes with it.
const WELCOME_WAIT_MS: u64 = 30_000;
/// So many commits of a device's own that nobody asked for may be made within so long; fewer while
/// the user is saying something.
const MOST_UNASKED: usize = 4;
const MOST_WHILE_BUSY: usize = 1;
const UNASKED_WINDOW_MS: u64 = 40_000;
/// After how long a commit that the homeserver does not answer holds up no other room any more.
const STUCK_MS: u64 = 10 * 60 * 1000;

/// On what occasion a step is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// Something is to be sent to the room, or the app asked.
    Asked,
    /// Nobody asks.
    Idle,
    /// Nobody asks, and the user is saying something elsewhere.
    Busy,
}

/// A commit that nobody asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Unasked {
    room_id: OwnedRoomId,
    at_ms: u64,
}

/// The last ones, over all rooms.
const UNASKED: Collection<Vec<Unasked>> = Collection::new("unasked_join");

/// How often this device has joined of late.
pub(super) fn recent(turn: &Turn<'_>, room: &Room) -> usize {
    let is_recent = |at: &&u64| turn.now_ms.saturating_sub(**at) < HOUR_MS;
    room.joins.times_ms.iter().filter(is_recent).count()
}

/// A time that differs from device to device, and grows with each external join of late; in
/// milliseconds.
pub(super) fn jitter(turn: &Turn<'_>, room: &Room) -> u64 {
    let joins = recent(turn, room).min(10);
    draw(turn, room, joins) % (FIRST_WAIT_MS << joins)
}

/// A number that differs from device to device and from room to room.
fn draw(turn: &Turn<'_>, room: &Room, salt: usize) -> u64 {
    let seed = Sha256::new()
        .chain_update(credential::encode(&turn.identity.name()))
        .chain_update(room.id.as_bytes())
        .chain_update(salt.to_be_bytes())
        .finalize();
    seed.iter().take(8).fold(0u64, |number, byte| number << 8 | u64::from(*byte))
}

/// How long a device waits where nobody asks it, so that not all of a large room come at once.
pub(super) fn crowd_wait(turn: &Turn<'_>, room: &Room) -> Result<u64, StoreError> {
    let most = longest_crowd_wait(size(turn, room)?);
    Ok(draw(turn, room, usize::MAX) % most.max(1))
}

fn longest_crowd_wait(members: u64) -> u64 {
    if members <= FEW { 0 } else { members.saturating_mul(WAIT_A_MEMBER_MS).min(LONGEST_WAIT_MS) }
}

/// How long a device waits that is in no group, and to which a Welcome may be on its way.
pub(super) fn welcome_wait(turn: &Turn<'_>, room: &Room) -> Result<u64, StoreError> {
    let spread = size(turn, room)?.saturating_mul(WAIT_A_MEMBER_MS).min(LONGEST_WAIT_MS);
    Ok(WELCOME_WAIT_MS + draw(turn, room, usize::MAX) % spread.max(1))
}

/// How many there are, as far as it is known: users of the room or devices of the group.
fn size(turn: &Turn<'_>, room: &Room) -> Result<u64, StoreError> {
    let users = membership::count(turn.tx, &room.id)?;
    let Some(head) = room.standing.head() else { return Ok(users) };
    Ok(users.max(u64::from(graph::get(turn.tx, &room.id, head)?.members)))
}

/// Whether this device has joined too often of late to do so again now.
pub(super) fn is_spent(turn: &Turn<'_>, room: &mut Room, occasion: Occasion) -> bool {
    room.joins.times_ms.retain(|at| !turn.has_passed(*at, DAY_MS));
    let is_asked = occasion == Occasion::Asked;
    recent(turn, room) >= MOST_JOINS
        || (!is_asked && room.joins.times_ms.len() >= MOST_UNASKED_A_DAY)
}

/// Whether a commit may be made now. Those that nobody asked for are made one at a time, and few in
/// a minute.
pub(super) fn may_commit(
    turn: &Turn<'_>,
    room: &Room,
    occasion: Occasion,
) -> Result<bool, Failure> {
    let most = match occasion {
        Occasion::Asked => return Ok(true),
        Occasion::Idle => MOST_UNASKED,
        Occasion::Busy => MOST_WHILE_BUSY,
    };
    let last = last_unasked(turn)?;
    for unasked in &last {
        let is_stuck = turn.has_passed(unasked.at_ms, STUCK_MS);
        if unasked.room_id != room.id
            && !is_stuck
            && room::load(turn.tx, &unasked.room_id)?.standing.staged().is_some()
        {
            return Ok(false);
        }
    }
    let is_recent = |unasked: &&Unasked| turn.now_ms.abs_diff(unasked.at_ms) < UNASKED_WINDOW_MS;
    Ok(last.iter().filter(is_recent).count() < most)
}

/// A commit that nobody asked for was made.
pub(super) fn committed_unasked(turn: &Turn<'_>, room: &Room) -> Result<(), StoreError> {
    let mut last = last_unasked(turn)?;
    last.push(Unasked { room_id: room.id.clone(), at_ms: turn.now_ms });
    let surplus = last.len().saturating_sub(MOST_UNASKED);
    last.drain(..surplus);
    UNASKED.put(turn.tx, b"", b"", &last)
}

fn last_unasked(turn: &Turn<'_>) -> Result<Vec<Unasked>, StoreError> {
    Ok(UNASKED.get(turn.tx, b"", b"")?.unwrap_or_default())
}

/// An external commit was refused or dropped: the next waits longer, and no less than it would have
/// anyway.
pub(crate) fn put_off(turn: &Turn<'_>, room: &mut Room, epoch: EpochId) {
    let wait = jitter(turn, room);
    if let Some(rejoin) = room.standing.rejoin_mut() {
        tracing::info!(room = %room.id, epoch = %epoch.to_hex(), wait, "joining anew has to wait");
        let before = Some(rejoin.not_before_ms).filter(|at| turn.is_ahead(*at, HOUR_MS));
        rejoin.not_before_ms = before.unwrap_or(0).max(turn.now_ms.saturating_add(wait));
    }
}

/// When the next step may be made, if that is not now; in milliseconds since 1970.
pub(crate) fn waits_until(turn: &Turn<'_>, room: &Room) -> Option<u64> {
    let rejoin = room.standing.rejoin()?;
    Some(rejoin.not_before_ms).filter(|at| undone::is_ahead(*at, turn.now_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_with_the_room_and_has_an_end() {
        assert_eq!(longest_crowd_wait(2), 0);
        assert_eq!(longest_crowd_wait(FEW), 0);
        // Over the time a large room comes back in, a homeserver sees one commit a second.
        assert_eq!(longest_crowd_wait(1_000), 1_000_000);
        assert_eq!(longest_crowd_wait(u64::MAX), LONGEST_WAIT_MS);
    }
}
