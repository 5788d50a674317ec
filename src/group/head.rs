//! Which epoch to send on, and which to keep able to process commits.
//!
//! The head is the kept epoch of the smallest [`Rank`](super::graph::Rank): a pure function of the set
//! of epochs, so devices that know the same commits choose the same head, in whatever order they came.
//! Every kept epoch can take a commit, so a fork is followed on all its branches; what decides is only
//! which of them is sent on.
//!
//! Keeping an epoch costs space, and lets whoever takes the device process what is committed on it. So
//! the number and the age of kept epochs are bounded by the room's settings, and one goes soon after all
//! its members have been seen on better ones: nobody honest commits on it any more, but what was committed
//! before may still be on its way, overtaken by what came after.

use std::collections::BTreeSet;

use ruma::RoomId;

use super::{
    EpochId, EpochRecord, Status, Turn, fetch, graph, heal, outcome, policy,
    retention::{self, Retention},
    rooms::{self, RoomRecord},
    share, timeline,
};
use crate::{
    backup,
    error::MlsError,
    history::archive,
    protocol::{DeviceName, credential},
    store::{StoreError, Tx},
    updates::Update,
};

/// How long what a device sent may be overtaken by what it sent later, in milliseconds.
const LATE_MS: u64 = 60 * 60 * 1000;

/// The kept epochs of a room, best first.
pub(crate) fn kept(tx: &Tx<'_>, room: &RoomRecord) -> Result<Vec<EpochRecord>, StoreError> {
    let mut kept = Vec::with_capacity(room.kept.len());
    for id in &room.kept {
        kept.push(graph::get(tx, &room.room_id, *id)?);
    }
    kept.sort_by_key(EpochRecord::rank);
    Ok(kept)
}

/// The tips beside the head that no commit has superseded yet.
pub(crate) fn other_tips(tx: &Tx<'_>, room: &RoomRecord) -> Result<Vec<EpochRecord>, StoreError> {
    let mut tips = kept(tx, room)?;
    tips.retain(|epoch| !epoch.has_child && !epoch.resolved && Some(epoch.id) != room.head);
    Ok(tips)
}

/// Makes an epoch part of the room, and the head if it comes first.
pub(crate) fn enter(
    turn: &Turn<'_>,
    room_id: &RoomId,
    mut epoch: EpochRecord,
    added: &[DeviceName],
    removed: &[DeviceName],
) -> Result<(), MlsError> {
    epoch.status = Status::Accepted;
    epoch.shared = share::is_open(rooms::get(turn.tx, room_id)?.visibility.as_deref());
    epoch.since_ms = turn.now_ms;
    epoch.behind = epoch.members.saturating_sub(1);
    graph::put(turn.tx, room_id, &epoch)?;
    if let Some(event) = &epoch.commit_event {
        fetch::take_back(turn, room_id, event.as_str())?;
    }
    for resolved in &epoch.resolves {
        if let Some(mut resolved) = graph::find(turn.tx, room_id, *resolved)? {
            resolved.resolved = true;
            graph::put(turn.tx, room_id, &resolved)?;
        }
    }
    let mut forked = false;
    if let Some(parent) = epoch.parent
        && let Some(mut parent) = graph::find(turn.tx, room_id, parent)?
    {
        forked = parent.has_child;
        parent.has_child = true;
        parent.superseded_ms.get_or_insert(turn.now_ms);
        graph::put(turn.tx, room_id, &parent)?;
    }
    let mut room = rooms::get(turn.tx, room_id)?;
    room.kept.push(epoch.id);
    room.gone = false;
    room.refusals = 0;
    room.blocked_until_ms = None;
    room.fetched = 0;
    rooms::put(turn.tx, &room)?;
    if forked {
        turn.tell(Update::Forked { room_id: room_id.to_string(), epoch: epoch.number });
    }
    backup::note_epoch(turn, room_id, epoch.id)?;
    reselect(turn, room_id, Some((epoch.id, added, removed)))?;
    if rooms::get(turn.tx, room_id)?.head != Some(epoch.id)
        && let Some(mut loser) = graph::find(turn.tx, room_id, epoch.id)?
    {
        loser.superseded_ms.get_or_insert(turn.now_ms);
        graph::put(turn.tx, room_id, &loser)?;
    }
    timeline::stir(turn, room_id)
}

/// Chooses the head anew. `news` is the epoch that was just entered, with what its commit says.
pub(crate) fn reselect(
    turn: &Turn<'_>,
    room_id: &RoomId,
    news: Option<(EpochId, &[DeviceName], &[DeviceName])>,
) -> Result<(), MlsError> {
    let mut room = rooms::get(turn.tx, room_id)?;
    let mut kept = kept(turn.tx, &room)?;
    for epoch in &mut kept {
        policy::reconsider(turn, &room, epoch)?;
    }
    let mut best = None;
    for epoch in &kept {
        if !policy::is_refused(turn, &room, epoch, &kept)? {
            best = Some(epoch);
            break;
        }
    }
    let Some(best) = best else {
        // Nothing to go on with: what would be committed would be passed over as well.
        return if room.head.is_some() {
            heal::need(turn, room_id, heal::Reason::Doubtful)
        } else {
            Ok(())
        };
    };
    if room.head == Some(best.id) {
        heal::stop(turn, room_id, heal::Reason::Doubtful)?;
        return prune(turn, rooms::get(turn.tx, room_id)?);
    }
    let before = room.head.replace(best.id);
    room.settled = None;
    // Keys that the app wanted renewed are renewed again where the branch on which they were has lost.
    if let Some(rotated) = room.rotated
        && let Some(rotated) = kept.iter().find(|epoch| epoch.id == rotated)
        && is_beside(turn, room_id, best, rotated)?
    {
        room.rotated = None;
        room.rotate = true;
    }
    rooms::put(turn.tx, &room)?;
    if let Some(before) = before
        && let Some(mut before) = graph::find(turn.tx, room_id, before)?
    {
        before.superseded_ms.get_or_insert(turn.now_ms);
        graph::put(turn.tx, room_id, &before)?;
    }
    outcome::drop_unsent(turn, room_id)?;
    tell(turn, room_id, before, best, news)?;
    if before.is_none() {
        heal::joined(turn, room_id)?;
    } else {
        heal::head_changed(turn, room_id)?;
    }
    prune(turn, rooms::get(turn.tx, room_id)?)
}

/// Somebody has come into the Matrix room: that may explain a commit that was doubtful, and it does so for
/// good even if they are gone by the end of the same sync.
pub(crate) fn explained(turn: &Turn<'_>, room_id: &RoomId) -> Result<(), MlsError> {
    let room = rooms::get(turn.tx, room_id)?;
    if kept(turn.tx, &room)?.iter().any(|epoch| !epoch.doubts.is_empty()) {
        reselect(turn, room_id, None)?;
    }
    Ok(())
}

/// Whether an epoch is on another branch than one before it. Where the way back ends, because this device
/// joined anew, its keys are fresh as well, and nothing is lost.
fn is_beside(
    turn: &Turn<'_>,
    room_id: &RoomId,
    epoch: &EpochRecord,
    earlier: &EpochRecord,
) -> Result<bool, MlsError> {
    let mut on = epoch.clone();
    while on.number > earlier.number {
        let Some(parent) = on.parent else { return Ok(false) };
        let Some(parent) = graph::find(turn.tx, room_id, parent)? else { return Ok(false) };
        on = parent;
    }
    Ok(on.id != earlier.id)
}

fn tell(
    turn: &Turn<'_>,
    room_id: &RoomId,
    before: Option<EpochId>,
    head: &EpochRecord,
    news: Option<(EpochId, &[DeviceName], &[DeviceName])>,
) -> Result<(), MlsError> {
    let Some(before) = before else {
        turn.tell(Update::Joined { room_id: room_id.to_string(), epoch: head.number });
        return Ok(());
    };
    let (added, removed) = match news {
        Some((id, added, removed)) if id == head.id && head.parent == Some(before) => {
            (names(added.iter()), names(removed.iter()))
        }
        // Another branch, or another group: what changed is the difference. That it cannot be told keeps
        // no room from going on.
        _ => match (members(turn, room_id, before), members(turn, room_id, head.id)) {
            (Ok(old), Ok(new)) => (names(new.difference(&old)), names(old.difference(&new))),
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(room = %room_id, %error, "the members of an epoch cannot be told");
                (Vec::new(), Vec::new())
            }
        },
    };
    let room_id = room_id.to_string();
    turn.tell(Update::EpochChanged { room_id, epoch: head.number, added, removed });
    Ok(())
}

fn names<'a>(devices: impl Iterator<Item = &'a DeviceName>) -> Vec<String> {
    devices.map(ToString::to_string).collect()
}

fn members(
    turn: &Turn<'_>,
    room_id: &RoomId,
    epoch: EpochId,
) -> Result<BTreeSet<DeviceName>, MlsError> {
    let mut members = BTreeSet::new();
    for (_, leaf) in archive::leaves(turn.tx, room_id, epoch)? {
        members.insert(credential::parse(leaf.credential()?.serialized_content())?);
    }
    Ok(members)
}

/// Makes decrypt-only what need not, or must not, be kept longer.
pub(crate) fn prune(turn: &Turn<'_>, mut room: RoomRecord) -> Result<(), MlsError> {
    let most = room.settings.kept_epochs.max(1) as usize;
    let mut stay = 0;
    let mut pruned = false;
    for mut epoch in kept(turn.tx, &room)? {
        let is_head = room.head == Some(epoch.id);
        let since = epoch.superseded_ms.unwrap_or(turn.now_ms);
        let old = turn.now_ms.saturating_sub(since) >= room.settings.kept_for_ms;
        let left = epoch.superseded_ms.is_some()
            && epoch.left_ms.is_some_and(|at| turn.now_ms.saturating_sub(at) >= LATE_MS);
        if is_head || (stay < most && !old && !left) {
            stay += usize::from(!is_head);
            continue;
        }
        room.kept.retain(|id| *id != epoch.id);
        graph::make_decrypt_only(turn.tx, &room.room_id, &mut epoch)?;
        pruned = true;
    }
    rooms::put(turn.tx, &room)?;
    // Where nothing is kept, what an epoch left behind goes with it.
    if pruned && room.settings.history == Retention::ReadOnce {
        retention::see_to(turn, &room)?;
    }
    Ok(())
}

/// A device was seen to be on an epoch, at a leaf: it will commit on no worse one from now on.
pub(crate) fn seen(
    turn: &Turn<'_>,
    room_id: &RoomId,
    device: &DeviceName,
    leaf: u32,
    epoch: EpochId,
) -> Result<(), MlsError> {
    let Some(on) = graph::find(turn.tx, room_id, epoch)? else { return Ok(()) };
    let (on, key) = (on.rank(), credential::encode(device));
    let before = graph::SEEN.get(turn.tx, room_id.as_bytes(), &key)?;
    if *device == turn.identity.name() || before.as_ref().is_some_and(|before| *before <= on) {
        return Ok(());
    }
    graph::SEEN.put(turn.tx, room_id.as_bytes(), &key, &on)?;
    let room = rooms::get(turn.tx, room_id)?;
    for mut kept in kept(turn.tx, &room)? {
        let rank = kept.rank();
        if on >= rank || before.as_ref().is_some_and(|before| *before < rank) {
            continue;
        }
        // Only a member of it was counted. One that has moved to another leaf since is not found: then
        // the epoch is kept until it is too old, which does no harm.
        if let Some(member) = archive::leaf(turn.tx, room_id, kept.id, leaf)?
            && member.credential()?.serialized_content() == key
        {
            kept.behind = kept.behind.saturating_sub(1);
            if kept.behind == 0 {
                kept.left_ms = Some(turn.now_ms);
            }
            graph::put(turn.tx, room_id, &kept)?;
        }
    }
    Ok(())
}
