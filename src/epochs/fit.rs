//! Whether a commit fits the Matrix room, and what follows if it does not.
//!
//! MLS lets any member add and remove anybody. What the room has no reason for is kept with the
//! epoch as a [`CommitDoubt`] and told. Nothing is ever sent to such a member, as the group is
//! first made what the room says (`commits::plan`). A room can also be set to refuse such commits,
//! and joining without being added: then the head is chosen as if these commits, and all that
//! follows them, did not exist.
//!
//! The event that explains a commit may come after it. So doubts are looked at again whenever they
//! matter, are taken back for good when there is a reason, and devices that come to know the same
//! judge the same.

use ruma::RoomId;

use super::{doubt::CommitDoubt, graph, record::EpochRecord};
use crate::{
    devices,
    exported::Update,
    protocol::DeviceName,
    room::{Room, member_list, membership},
    store::{StoreError, Tx},
    turn::Turn,
};

/// What a commit changes, and who made it.
pub(crate) struct Change<'a> {
    pub(crate) committer: &'a DeviceName,
    /// The committer joined by itself.
    pub(crate) external: bool,
    pub(crate) added: &'a [DeviceName],
    /// Those of the added whose keys are not their devices' (`mls::Added`).
    pub(crate) impostors: &'a [DeviceName],
    pub(crate) removed: &'a [DeviceName],
}

/// What is doubtful about a commit.
pub(crate) fn doubts(
    tx: &Tx<'_>,
    room: &Room,
    change: &Change<'_>,
) -> Result<Vec<CommitDoubt>, StoreError> {
    let joined = change.external.then_some(change.committer);
    let is_others = |device: &&DeviceName| device.user_id != change.committer.user_id;
    let added = change.added.iter().chain(joined).cloned();
    let removed = change.removed.iter().filter(is_others).cloned();
    let possible = added
        .map(CommitDoubt::StrangerAdded)
        .chain(change.impostors.iter().cloned().map(CommitDoubt::ImpostorAdded))
        .chain(removed.map(CommitDoubt::MemberRemoved))
        .chain(joined.cloned().map(CommitDoubt::JoinedExternally));
    let mut doubts = Vec::new();
    for doubt in possible {
        if stands(tx, room, &doubt)? {
            doubts.push(doubt);
        }
    }
    Ok(doubts)
}

/// Tells an app that a commit does not fit the room. Before all are known who are in the room, that
/// cannot be said.
pub(crate) fn tell(
    turn: &Turn<'_>,
    room_id: &RoomId,
    committer: &DeviceName,
    doubts: &[CommitDoubt],
) -> Result<(), StoreError> {
    if !doubts.is_empty() && member_list::was_seen(turn.tx, room_id)? {
        turn.tell(Update::UnfitCommit {
            room_id: room_id.to_string(),
            committer: committer.into(),
            doubts: doubts.iter().map(ToString::to_string).collect(),
        });
    }
    Ok(())
}

/// Whether, from what is known now, there still is no reason.
fn stands(tx: &Tx<'_>, room: &Room, doubt: &CommitDoubt) -> Result<bool, StoreError> {
    Ok(match doubt {
        CommitDoubt::StrangerAdded(device) => !membership::is_known(tx, &room.id, &device.user_id)?,
        CommitDoubt::InvitedByStranger(device) => {
            // Before all are known who are in the room, nobody is a stranger there.
            !membership::is_known(tx, &room.id, &device.user_id)?
                && member_list::was_seen(tx, &room.id)?
        }
        CommitDoubt::MemberRemoved(device) => {
            membership::is_joined(tx, &room.id, &device.user_id)?
                && devices::device(tx, device)?.is_some()
        }
        CommitDoubt::JoinedExternally(_) => !room.settings.allow_external_joins,
        // The first key of a device counts for good.
        CommitDoubt::ImpostorAdded(_) => true,
    })
}

/// Takes back the doubts for which there is a reason now. A reason counts for good, even when it
/// passes. Before all are known who are in the room, that somebody is in it is a reason, and that
/// somebody is not known to be says nothing.
pub(super) fn reconsider(
    tx: &Tx<'_>,
    room: &Room,
    epoch: &mut EpochRecord,
    kept: &[EpochRecord],
) -> Result<(), StoreError> {
    if epoch.doubts.is_empty() {
        return Ok(());
    }
    let was_seen = member_list::was_seen(tx, &room.id)?;
    let mut standing = Vec::new();
    for doubt in &epoch.doubts {
        let stands = match doubt {
            // A setting is no reason that comes and goes.
            CommitDoubt::JoinedExternally(_) | CommitDoubt::ImpostorAdded(_) => true,
            CommitDoubt::StrangerAdded(device) => {
                !membership::is_known(tx, &room.id, &device.user_id)?
            }
            CommitDoubt::InvitedByStranger(device) => {
                !membership::is_known(tx, &room.id, &device.user_id)?
                    && !is_gone_on_with(tx, room, epoch, kept)?
            }
            CommitDoubt::MemberRemoved(_) => !was_seen || stands(tx, room, doubt)?,
        };
        if stands {
            standing.push(doubt.clone());
        }
    }
    if standing.len() < epoch.doubts.len() {
        epoch.doubts = standing;
        graph::put(tx, &room.id, epoch)?;
    }
    Ok(())
}

/// Whether somebody who is in the room has made a commit on an epoch. Who invited this device may
/// have left since; no stranger can make a member go on with a group of theirs.
fn is_gone_on_with(
    tx: &Tx<'_>,
    room: &Room,
    epoch: &EpochRecord,
    kept: &[EpochRecord],
) -> Result<bool, StoreError> {
    for next in kept.iter().filter(|next| next.parent == Some(epoch.id)) {
        if next.creator.user_id != epoch.creator.user_id
            && membership::is_joined(tx, &room.id, &next.creator.user_id)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether an epoch is passed over when the head is chosen: its commit or one before it, among the
/// kept ones, is unfit, and the room refuses such commits.
pub(super) fn is_refused(
    turn: &Turn<'_>,
    room: &Room,
    epoch: &EpochRecord,
    kept: &[EpochRecord],
) -> Result<bool, StoreError> {
    let mut next = Some(epoch);
    while let Some(epoch) = next {
        for doubt in &epoch.doubts {
            let counts = room.settings.refuse_unfit_commits || doubt.always_counts();
            if counts && stands(turn.tx, room, doubt)? {
                return Ok(true);
            }
        }
        if epoch.external && epoch.creator == turn.identity.name() {
            // This device has chosen to join there.
            break;
        }
        next = epoch.parent.and_then(|parent| kept.iter().find(|epoch| epoch.id == parent));
    }
    Ok(false)
}
