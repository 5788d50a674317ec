//! Renewing this device's own keys in the group, whatever the others commit.
//!
//! Whoever has taken a copy of a device is shut out again by a commit of that very device with a
//! path (RFC 9420 §16.6). So such a commit is due when the leaf's keys are as old, or have been
//! used for as many messages, as the room's settings say, and after joining by a Welcome, whose
//! keys lay on the homeserver. It is made when something is to be sent: ten thousand devices that
//! only read make none.
//!
//! In a large group many can be due at once: all who were added together, or all who come back from
//! a holiday. There the renewal is put off, from the first message on, by a random time that grows
//! with the group ([`crowd_wait`]), and goes with the next message after that (docs/decisions/019).
//! Keys from a last-resort package are renewed at once, as others may have got the same package.

use ruma::RoomId;
use sha2::{Digest, Sha256};

use crate::{
    epochs::{EpochRecord, graph},
    protocol::{EpochId, credential},
    room::{LeafOrigin, OwnLeaf, Room},
    store::StoreError,
    turn::Turn,
};

/// Up to this many devices renew at once when they are due.
const FEW: u32 = 8;
/// By how much each device makes the time longer from which the wait is drawn, in milliseconds: so
/// the group sees one commit a second at the most.
const WAIT_A_DEVICE_MS: u64 = 1_000;
/// The longest time from which the wait is drawn, in milliseconds.
const LONGEST_WAIT_MS: u64 = 60 * 60 * 1000;

/// Whether the next commit has to renew this device's keys, by the room's settings.
pub(super) fn is_due(
    turn: &Turn<'_>,
    room: &mut Room,
    head: &EpochRecord,
) -> Result<bool, StoreError> {
    let leaf = of_epoch(room, head);
    let sent = leaf.sent.saturating_add(turn.tx.generation(head.namespace)?);
    let is_due = leaf.origin != LeafOrigin::Commit
        || sent >= room.settings.rotate_after_messages
        || turn.has_passed(leaf.since_ms, room.settings.rotate_after_ms);
    if !is_due || leaf.origin == LeafOrigin::LastResortPackage || head.members <= FEW {
        return Ok(is_due);
    }
    let until_ms = match leaf.put_off_ms {
        Some(until_ms) => until_ms,
        None => {
            let until_ms = turn.now_ms.saturating_add(crowd_wait(turn, &room.id, head));
            room.renewal.keep_leaf(OwnLeaf { put_off_ms: Some(until_ms), ..leaf }, &room.kept);
            until_ms
        }
    };
    Ok(!turn.is_ahead(until_ms, LONGEST_WAIT_MS))
}

/// The leaf in an epoch. Earlier versions counted from the beginning of the epoch.
fn of_epoch(room: &Room, epoch: &EpochRecord) -> OwnLeaf {
    let known = room.renewal.leaf(epoch.id).cloned();
    known.unwrap_or_else(|| OwnLeaf::renewed(epoch.id, epoch.since_ms))
}

/// A number below what the group's size allows, that differs from device to device and from time to
/// time.
fn crowd_wait(turn: &Turn<'_>, room: &RoomId, head: &EpochRecord) -> u64 {
    let seed = Sha256::new()
        .chain_update(credential::encode(&turn.identity.name()))
        .chain_update(room.as_bytes())
        .chain_update(head.id.as_bytes())
        .finalize();
    let drawn = seed.iter().take(8).fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    drawn % longest_wait(head.members).max(1)
}

fn longest_wait(members: u32) -> u64 {
    if members <= FEW {
        return 0;
    }
    u64::from(members).saturating_mul(WAIT_A_DEVICE_MS).min(LONGEST_WAIT_MS)
}

/// An epoch was entered. Where no commit of this device's own has renewed its keys on the way, they
/// are those of the epoch before.
pub(crate) fn entered(turn: &Turn<'_>, room: &mut Room, id: EpochId) -> Result<(), StoreError> {
    if room.renewal.leaf(id).is_some() {
        return Ok(());
    }
    let Some(epoch) = graph::find(turn.tx, &room.id, id)? else { return Ok(()) };
    let parent = match epoch.parent {
        Some(parent) => graph::find(turn.tx, &room.id, parent)?,
        None => None,
    };
    let leaf = match parent {
        Some(parent) => {
            let sent = turn.tx.generation(parent.namespace)?;
            of_epoch(room, &parent).handed_on(id, sent)
        }
        None => OwnLeaf::renewed(id, epoch.since_ms),
    };
    room.renewal.keep_leaf(leaf, &room.kept);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_group_sees_one_renewal_a_second_and_none_is_put_off_for_long() {
        assert_eq!(longest_wait(FEW), 0);
        assert_eq!(longest_wait(2_000), 2_000_000);
        assert_eq!(longest_wait(u32::MAX), LONGEST_WAIT_MS);
    }
}
