//! Epochs that are set aside: this device's user has left the Matrix room, and no commit has
//! removed the device.
//!
//! A user who is put out and let in again before the others commit stays in their group: for them
//! nothing has changed. They go on from the epochs that this device was in, so it follows them with
//! those. Nothing is sent in an epoch that is set aside, and nothing is answered from it. A commit
//! on one takes that epoch up again, with those that lead to it. They are deleted where a commit
//! removes the device, where the device is a member again, where it may be an older copy of itself,
//! and after the time for which the room's settings keep epochs. A room that keeps no keys of the
//! past sets nothing aside.

use super::{graph, record::EpochRecord};
use crate::{
    protocol::EpochId,
    room::{RejoinReason, Retention, Room},
    store::StoreError,
    turn::Turn,
};

/// Sets aside what could take a commit, but for what a commit has removed this device from, and
/// what it may have sent more in than it remembers.
pub(crate) fn put(turn: &Turn<'_>, room: &mut Room) -> Result<(), StoreError> {
    let is_old_copy =
        room.standing.rejoin().is_some_and(|rejoin| rejoin.reason == RejoinReason::OldCopy);
    let is_kept = room.settings.history != Retention::ReadOnce && !is_old_copy;
    for mut epoch in graph::kept(turn.tx, room)? {
        if is_kept && !epoch.left && !epoch.distrusted {
            room.set_aside.epochs.push(epoch.id);
        } else {
            graph::make_decrypt_only(turn.tx, &room.id, &mut epoch)?;
        }
    }
    room.kept.clear();
    room.set_aside.since_ms = turn.now_ms;
    Ok(())
}

/// Those of a room.
pub(crate) fn all(turn: &Turn<'_>, room: &Room) -> Result<Vec<EpochRecord>, StoreError> {
    room.set_aside.epochs.iter().map(|id| graph::get(turn.tx, &room.id, *id)).collect()
}

/// These epochs, and those that lead to them, can take a commit again.
pub(crate) fn take_up(
    turn: &Turn<'_>,
    room: &mut Room,
    mut wanted: Vec<EpochId>,
) -> Result<(), StoreError> {
    while let Some(id) = wanted.pop() {
        if let Some(at) = room.set_aside.epochs.iter().position(|other| *other == id) {
            room.set_aside.epochs.remove(at);
            room.kept.push(id);
            wanted.extend(graph::get(turn.tx, &room.id, id)?.parent);
        }
    }
    Ok(())
}

/// Nothing led on from what was taken up.
pub(crate) fn put_back(room: &mut Room) {
    room.set_aside.epochs.append(&mut room.kept);
}

/// This device goes on elsewhere, or nowhere: nothing can follow from what was set aside.
pub(crate) fn forget(turn: &Turn<'_>, room: &mut Room) -> Result<(), StoreError> {
    forget_if(turn, room, |_| true)
}

/// Forgets what ended so long ago that nobody honest commits on it any more, or that the room keeps
/// no keys for as long.
pub(crate) fn forget_old(turn: &Turn<'_>, room: &mut Room) -> Result<(), StoreError> {
    let most_ms = match room.settings.history {
        Retention::Keep => room.settings.kept_for_ms,
        Retention::KeepFor(keep_ms) => keep_ms.min(room.settings.kept_for_ms),
        Retention::ReadOnce => 0,
    };
    let left_ms = room.set_aside.since_ms;
    forget_if(turn, room, |epoch| turn.has_passed(epoch.superseded_ms.unwrap_or(left_ms), most_ms))
}

fn forget_if(
    turn: &Turn<'_>,
    room: &mut Room,
    is_over: impl Fn(&EpochRecord) -> bool,
) -> Result<(), StoreError> {
    for mut epoch in all(turn, room)? {
        if is_over(&epoch) {
            room.set_aside.epochs.retain(|id| *id != epoch.id);
            graph::make_decrypt_only(turn.tx, &room.id, &mut epoch)?;
        }
    }
    Ok(())
}
