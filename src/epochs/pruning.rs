//! Which epochs to keep able to process commits.
//!
//! Keeping an epoch costs space, and lets whoever takes the device process what is committed on it.
//! So the room's settings bound the number and the age of kept epochs. An epoch that all its
//! members have left goes earlier: nobody honest commits on it any more. It stays for [`LATE_MS`]
//! all the same, as a commit that was made before may still be on its way.
//!
//! A device that comes back after a day or more lets nothing go for its age at first ([`is_back`]):
//! what it has missed may be based on any epoch that it kept. Where the room's settings limit for
//! how long messages can be read, keys go in time all the same.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use super::{graph, missing, order, record::EpochRecord};
use crate::{
    failure::Failure,
    room::{Retention, Room},
    store::{Collection, StoreError},
    turn::{Consequence, Turn},
};

/// How long what a device sent may be overtaken by what it sent later, in milliseconds.
const LATE_MS: u64 = 60 * 60 * 1000;

/// From how long without a sync a device has been away, in milliseconds.
const AWAY_MS: u64 = 24 * 60 * 60 * 1000;
/// How long a device that has been away takes in what it missed, in milliseconds.
const COMING_BACK_MS: u64 = 60 * 60 * 1000;
/// How exactly the time of the last sync is known, in milliseconds: not each sync is written down.
const EXACT_MS: u64 = 10 * 60 * 1000;

const PRESENCE: Collection<Presence> = Collection::new("presence");

/// When this device was there, in milliseconds since 1970.
#[derive(Serialize, Deserialize)]
struct Presence {
    /// When it last synced.
    synced_ms: u64,
    /// When it first synced after it had been away.
    back_ms: u64,
}

/// This device syncs.
pub(crate) fn note_sync(turn: &Turn<'_>) -> Result<(), StoreError> {
    let now_ms = turn.now_ms;
    let presence = match PRESENCE.get(turn.tx, b"", b"")? {
        Some(known) if turn.has_passed(known.synced_ms, AWAY_MS) => {
            Presence { synced_ms: now_ms, back_ms: now_ms }
        }
        Some(known) if turn.has_passed(known.synced_ms, EXACT_MS) => {
            Presence { synced_ms: now_ms, ..known }
        }
        Some(_) => return Ok(()),
        None => Presence { synced_ms: now_ms, back_ms: 0 },
    };
    PRESENCE.put(turn.tx, b"", b"", &presence)
}

/// Whether this device has taken in what happened while it was away.
fn is_back(turn: &Turn<'_>) -> Result<bool, StoreError> {
    Ok(PRESENCE.get(turn.tx, b"", b"")?.is_none_or(|presence| {
        !turn.has_passed(presence.synced_ms, AWAY_MS)
            && turn.has_passed(presence.back_ms, COMING_BACK_MS)
    }))
}

/// Makes decrypt-only what need not, or must not, be kept longer.
pub(crate) fn prune(turn: &Turn<'_>, room: &mut Room) -> Result<(), Failure> {
    let most = room.settings.kept_epochs.max(1) as usize;
    let is_back = room.settings.history != Retention::Keep || is_back(turn)?;
    // What is missing may be based on an epoch that all its members have left.
    let is_more_expected = !is_back || missing::is_any(turn, &room.id)?;
    let is_over = |epoch: &EpochRecord| {
        let since = epoch.superseded_ms.unwrap_or(turn.now_ms);
        let old = is_back && turn.now_ms.saturating_sub(since) >= room.settings.kept_for_ms;
        let left = !is_more_expected
            && epoch.superseded_ms.is_some()
            && epoch.left_ms.is_some_and(|at| turn.now_ms.saturating_sub(at) >= LATE_MS);
        old || left
    };
    let epochs = order::kept(turn, room)?;
    let head = room.standing.head();
    let root = epochs.iter().find(|epoch| Some(epoch.id) == head).and_then(|epoch| epoch.root);
    let others = epochs.into_iter().filter(|epoch| Some(epoch.id) != head);
    let (own, mut beside): (Vec<_>, Vec<_>) = others.partition(|epoch| epoch.root == root);
    // Other trees take the place of no epoch of this one, and lose their own to none. Of them the
    // last joined stay: what somebody claims to be far ahead pushes out nothing that came later.
    beside.sort_by_key(|epoch| Reverse(epoch.since_ms));
    let mut pruned = false;
    for epochs in [own, beside] {
        let mut stay = 0;
        for mut epoch in epochs {
            if stay < most && !is_over(&epoch) {
                stay += 1;
                continue;
            }
            room.kept.retain(|id| *id != epoch.id);
            graph::make_decrypt_only(turn.tx, &room.id, &mut epoch)?;
            pruned = true;
        }
    }
    // Where messages are read once, what an epoch left behind goes with it.
    if pruned && room.settings.history == Retention::ReadOnce {
        turn.report(Consequence::EpochsPruned);
    }
    Ok(())
}
