//! Which epoch to send on.
//!
//! **The head rule** ([`best`]): the head is the first of the kept epochs, in their `order`, that
//! the room does not refuse. Where the room was started anew, only the last of its groups that this
//! device is in has any; a group that the room's state does not name has none. Every kept epoch can
//! take a commit, so a fork is followed on all its branches; the rule only decides which branch is
//! sent on. The same order decides which epochs are kept where there are too many (`pruning`).
//!
//! Choosing changes the room and its epochs, and nothing else. What a new head means for the rest
//! of the library is reported (`turn::Consequence`).

use super::{
    contested, fit, graph,
    numbers::{self, Reach},
    order, outsiders,
    pruning::prune,
    record::{EpochRecord, Status},
    trees,
};
use crate::{
    exported::{MlsDevice, Update},
    failure::Failure,
    mls::Removed,
    protocol::{DeviceName, EpochId, GroupName, GroupRank, Rank},
    room::Room,
    store::{StoreError, Tx},
    turn::{Consequence, Turn},
};

/// For how long after joining a tree it is waited for somebody to be heard there, in milliseconds.
const UNHEARD_FOR_MS: u64 = 60 * 60 * 1000;

/// An epoch that has just become part of the room, with what its commit says.
pub(crate) struct NewEpoch<'a> {
    pub(crate) epoch: EpochRecord,
    pub(crate) added: &'a [DeviceName],
    pub(crate) removed: &'a Removed,
}

/// The head rule: of epochs in their order, the first that is not refused.
pub(crate) fn best<E>(
    epochs: &[EpochRecord],
    is_refused: impl Fn(&EpochRecord) -> Result<bool, E>,
) -> Result<Option<&EpochRecord>, E> {
    for epoch in epochs {
        if !is_refused(epoch)? {
            return Ok(Some(epoch));
        }
    }
    Ok(None)
}

/// The tips of a group beside the head that no commit has superseded yet.
pub(crate) fn other_tips(
    tx: &Tx<'_>,
    room: &Room,
    group: GroupName,
) -> Result<Vec<EpochRecord>, StoreError> {
    let mut tips = graph::kept(tx, room)?;
    let head = room.standing.head();
    tips.retain(|epoch| {
        epoch.group == group && !epoch.has_child && !epoch.resolved && Some(epoch.id) != head
    });
    Ok(tips)
}

/// The rank of the head, if there is one.
pub(crate) fn rank(tx: &Tx<'_>, room: &Room) -> Result<Option<Rank>, StoreError> {
    room.standing.head().map(|head| Ok(graph::get(tx, &room.id, head)?.rank())).transpose()
}

/// As far as this device has come, the head or not. A tree in which nobody has been heard for a
/// while is as far as nobody has come.
pub(crate) fn reach(turn: &Turn<'_>, room: &Room) -> Result<Option<Reach>, StoreError> {
    let mut kept = graph::kept(turn.tx, room)?;
    kept.retain(|epoch| epoch.group_rank != GroupRank::Unnamed);
    let out_of_reach = numbers::out_of_reach(&kept);
    kept.retain(|epoch| !out_of_reach.contains(&numbers::tree(epoch)));
    let support = trees::support(turn, room, &kept)?;
    let is_heard = |epoch: &&EpochRecord| {
        support.as_ref().is_none_or(|support| {
            support.contains_key(&epoch.root) || !turn.has_passed(epoch.since_ms, UNHEARD_FOR_MS)
        })
    };
    let first = kept.iter().filter(is_heard).map(EpochRecord::rank).min();
    Ok(first.map(|first| Reach::among(first, &kept)))
}

/// Makes an epoch part of the room, and the head if it comes first.
pub(crate) fn enter(turn: &Turn<'_>, room: &mut Room, new: NewEpoch<'_>) -> Result<(), Failure> {
    let NewEpoch { mut epoch, added, removed } = new;
    epoch.status = Status::Accepted;
    epoch.shared = room.history_is_open();
    epoch.since_ms = turn.now_ms;
    epoch.behind = epoch.members.saturating_sub(1);
    graph::put(turn.tx, &room.id, &epoch)?;
    outsiders::note_removed(turn.tx, &room.id, epoch.id, removed)?;
    for resolved in &epoch.resolves {
        if let Some(mut resolved) = graph::find(turn.tx, &room.id, *resolved)? {
            resolved.resolved = true;
            graph::put(turn.tx, &room.id, &resolved)?;
        }
    }
    if let Some(parent) = epoch.parent
        && let Some(mut parent) = graph::find(turn.tx, &room.id, parent)?
    {
        if parent.has_child {
            turn.tell(Update::Forked { room_id: room.id.to_string(), epoch: epoch.number });
        }
        parent.has_child = true;
        parent.superseded_ms.get_or_insert(turn.now_ms);
        graph::put(turn.tx, &room.id, &parent)?;
    }
    room.keep_epoch(epoch.id);
    let id = epoch.id;
    turn.report(Consequence::EpochEntered { epoch: id, commit_event: epoch.commit_event.clone() });
    choose_with(turn, room, Some(&NewEpoch { epoch, added, removed }))?;
    if room.standing.head() != Some(id) {
        supersede(turn, room, id)?;
    }
    Ok(())
}

/// Chooses the head anew.
pub(crate) fn choose(turn: &Turn<'_>, room: &mut Room) -> Result<(), Failure> {
    choose_with(turn, room, None)
}

/// Chooses the head anew where that may bring another one: somebody has come into the Matrix room,
/// and explains a doubtful commit for good, even if they are gone by the end of the same sync.
pub(crate) fn choose_if_doubtful(turn: &Turn<'_>, room: &mut Room) -> Result<(), Failure> {
    if graph::kept(turn.tx, room)?.iter().any(|epoch| !epoch.doubts.is_empty()) {
        choose(turn, room)?;
    }
    Ok(())
}

fn choose_with(
    turn: &Turn<'_>,
    room: &mut Room,
    new: Option<&NewEpoch<'_>>,
) -> Result<(), Failure> {
    let mut epochs = order::kept(turn, room)?;
    if epochs.iter().any(|epoch| !epoch.doubts.is_empty()) {
        let all = epochs.clone();
        for epoch in &mut epochs {
            fit::reconsider(turn.tx, room, epoch, &all)?;
        }
    }
    // What was before the room was started anew is not gone back to.
    let last_group = epochs.first().map(|epoch| epoch.group_rank).unwrap_or_default();
    if last_group == GroupRank::Unnamed {
        return Ok(());
    }
    let is_refused = |epoch: &EpochRecord| {
        Ok::<_, StoreError>(
            epoch.group_rank != last_group || fit::is_refused(turn, room, epoch, &epochs)?,
        )
    };
    let Some(head) = best(&epochs, is_refused)? else {
        // What would be committed on an unfit epoch would be passed over as well.
        if room.standing.head().is_some() {
            turn.report(Consequence::NoFitEpoch);
        }
        return Ok(());
    };
    contested::count(turn, room, head.id, &epochs)?;
    if room.standing.head() == Some(head.id) {
        turn.report(Consequence::HeadConfirmed);
        return prune(turn, room);
    }
    let before = room.standing.lead(head.id);
    renew_again_if_lost(turn, room, head, &epochs)?;
    if let Some(before) = before {
        supersede(turn, room, before)?;
    }
    tell_change(turn, room, before, head, new);
    turn.report(Consequence::HeadChanged { is_first: before.is_none() });
    prune(turn, room)
}

/// A commit that leads to an epoch of this rank, and counts, has removed this device: the room goes
/// on there, so the device goes on in nothing that comes behind. What it was let into since does
/// not.
pub(crate) fn leave(turn: &Turn<'_>, room: &mut Room, removed: &Rank) -> Result<(), Failure> {
    for mut epoch in graph::kept(turn.tx, room)? {
        if *removed <= epoch.rank() {
            epoch.left = true;
            graph::put(turn.tx, &room.id, &epoch)?;
        }
    }
    choose(turn, room)
}

/// The store may be an older copy of itself: in what it holds this device has maybe sent more than
/// it remembers, so it sends in nothing of it any more.
pub(crate) fn distrust(turn: &Turn<'_>, room: &Room) -> Result<(), StoreError> {
    for mut epoch in graph::kept(turn.tx, room)? {
        epoch.distrusted = true;
        graph::put(turn.tx, &room.id, &epoch)?;
    }
    Ok(())
}

/// Notes that an epoch is not the head.
fn supersede(turn: &Turn<'_>, room: &Room, id: EpochId) -> Result<(), StoreError> {
    let Some(mut epoch) = graph::find(turn.tx, &room.id, id)? else { return Ok(()) };
    epoch.superseded_ms.get_or_insert(turn.now_ms);
    graph::put(turn.tx, &room.id, &epoch)
}

/// Has keys renewed again that the app wanted renewed, where the branch on which they were has
/// lost.
fn renew_again_if_lost(
    turn: &Turn<'_>,
    room: &mut Room,
    head: &EpochRecord,
    epochs: &[EpochRecord],
) -> Result<(), StoreError> {
    if let Some(renewed) = room.renewal.done_in
        && let Some(renewed) = epochs.iter().find(|epoch| epoch.id == renewed)
        // In another group this device has other keys.
        && renewed.group == head.group
        && !graph::leads_to(turn.tx, &room.id, renewed, head.id)?
    {
        room.renewal.done_in = None;
        room.renewal.wanted = true;
    }
    Ok(())
}

fn tell_change(
    turn: &Turn<'_>,
    room: &Room,
    before: Option<EpochId>,
    head: &EpochRecord,
    new: Option<&NewEpoch<'_>>,
) {
    let room_id = room.id.to_string();
    let Some(before) = before else {
        turn.tell(Update::Joined { room_id, epoch: head.number });
        return;
    };
    let (added, removed) = match new {
        Some(new) if new.epoch.id == head.id && head.parent == Some(before) => {
            (names(new.added), names(&new.removed.devices))
        }
        // Another branch, or another group: what changed is the difference. An update that lacks
        // it keeps no room from going on.
        _ => {
            let members = |id| graph::members(turn.tx, &room.id, id);
            match (members(before), members(head.id)) {
                (Ok(old), Ok(new)) => (names(new.difference(&old)), names(old.difference(&new))),
                (Err(error), _) | (_, Err(error)) => {
                    tracing::warn!(room = %room.id, %error, "the members of an epoch are unknown");
                    (Vec::new(), Vec::new())
                }
            }
        }
    };
    turn.tell(Update::EpochChanged { room_id, epoch: head.number, added, removed });
}

fn names<'a>(devices: impl IntoIterator<Item = &'a DeviceName>) -> Vec<MlsDevice> {
    devices.into_iter().map(MlsDevice::from).collect()
}
