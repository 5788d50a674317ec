//! Epochs that are set aside: this device's user has left the Matrix room, and no commit has
//! removed the device.
//!
//! A user who is put out and let in again before the others commit stays in their group: for them
//! nothing has changed. They go on from the epochs that this device was in, so it follows them with
//! those. Nothing is sent in an epoch that is set aside, and nothing is answered from it. The first
//! commit on one takes all up again. They are deleted where a commit removes the device, where it
//! comes into the group by another way, and after the time for which the room's settings keep
//! epochs. A room that keeps no keys of the past sets nothing aside.

use super::graph;
use crate::{
    room::{Retention, Room},
    store::StoreError,
    turn::Turn,
};

/// Sets aside what could take a commit, but for what a commit has removed this device from.
pub(crate) fn put(turn: &Turn<'_>, room: &mut Room) -> Result<(), StoreError> {
    let is_kept = room.settings.history != Retention::ReadOnce;
    for mut epoch in graph::kept(turn.tx, room)? {
        if is_kept && !epoch.left {
            room.set_aside.epochs.push(epoch.id);
        } else {
            graph::make_decrypt_only(turn.tx, &room.id, &mut epoch)?;
        }
    }
    room.kept.clear();
    room.set_aside.since_ms = turn.now_ms;
    Ok(())
}

/// What was set aside can take a commit again.
pub(crate) fn take_up(room: &mut Room) {
    let epochs = std::mem::take(&mut room.set_aside.epochs);
    room.kept.splice(0..0, epochs);
}

/// Nothing led on from what was taken up.
pub(crate) fn put_back(room: &mut Room) {
    room.set_aside.epochs.append(&mut room.kept);
}

/// This device goes on elsewhere, or nowhere: nothing can follow from what was set aside.
pub(crate) fn forget(turn: &Turn<'_>, room: &mut Room) -> Result<(), StoreError> {
    for id in std::mem::take(&mut room.set_aside.epochs) {
        if let Some(mut epoch) = graph::find(turn.tx, &room.id, id)? {
            graph::make_decrypt_only(turn.tx, &room.id, &mut epoch)?;
        }
    }
    Ok(())
}

/// Forgets what was set aside so long ago that nobody honest commits on it any more, or that the
/// room keeps no keys for as long.
pub(crate) fn forget_old(turn: &Turn<'_>, room: &mut Room) -> Result<(), StoreError> {
    let most_ms = match room.settings.history {
        Retention::KeepFor(keep_ms) => keep_ms.min(room.settings.kept_for_ms),
        Retention::Keep | Retention::ReadOnce => room.settings.kept_for_ms,
    };
    let since_ms = room.set_aside.since_ms;
    if !room.set_aside.epochs.is_empty() && turn.has_passed(since_ms, most_ms) {
        forget(turn, room)?;
    }
    Ok(())
}
