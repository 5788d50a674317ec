//! How far the other devices have come: the best epoch on which each was seen.
//!
//! A device that was seen on an epoch commits on none that ranks behind it. So once all members of
//! an epoch have been seen on better ones, the epoch need not be kept for long (`pruning`).

use ruma::RoomId;

use super::graph;
use crate::{
    failure::Failure,
    history::archive,
    protocol::{DeviceName, Rank, credential},
    room::Room,
    store::{Collection, StoreError},
    turn::Turn,
};

/// The best epoch on which each device has been seen, by credential.
const SEEN: Collection<Rank> = Collection::new("seen_device");

/// What a sighting changes: the ranks of the epochs that the device has left behind lie between.
pub(crate) struct Progress {
    before: Option<Rank>,
    now: Rank,
}

/// Notes a device on an epoch of this rank; gives the progress that it shows, if it shows any.
/// [`count`] takes that.
pub(crate) fn note(
    turn: &Turn<'_>,
    room: &RoomId,
    device: &DeviceName,
    now: Rank,
) -> Result<Option<Progress>, StoreError> {
    let key = credential::encode(device);
    let before = SEEN.get(turn.tx, room.as_bytes(), &key)?;
    let is_own = *device == turn.identity.name();
    if is_own || before.as_ref().is_some_and(|before| *before <= now) {
        return Ok(None);
    }
    SEEN.put(turn.tx, room.as_bytes(), &key, &now)?;
    Ok(Some(Progress { before, now }))
}

/// Counts a device, seen at this leaf, as gone on from the kept epochs that it has left behind.
pub(crate) fn count(
    turn: &Turn<'_>,
    room: &Room,
    device: &DeviceName,
    leaf: u32,
    progress: &Progress,
) -> Result<(), Failure> {
    let key = credential::encode(device);
    for mut epoch in graph::kept(turn.tx, room)? {
        let rank = epoch.rank();
        let counted = progress.before.as_ref().is_some_and(|before| *before < rank);
        if progress.now >= rank || counted {
            continue;
        }
        // Only a member of the epoch was counted. A device that has moved to another leaf since is
        // not found here; the epoch is then kept until it is too old, which does no harm.
        if let Some(member) = archive::leaf(turn.tx, &room.id, epoch.id, leaf)?
            && member.credential()?.serialized_content() == key
        {
            epoch.behind = epoch.behind.saturating_sub(1);
            if epoch.behind == 0 {
                epoch.left_ms = Some(turn.now_ms);
            }
            graph::put(turn.tx, &room.id, &epoch)?;
        }
    }
    Ok(())
}
