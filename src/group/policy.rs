//! What in a commit does not fit the Matrix room, and what follows from it.
//!
//! MLS lets any member add and remove anybody. What the room has no reason for is kept with the epoch as
//! a [`Doubt`] and told. Nothing is ever sent to such a member, as the group is first made what the room
//! says (see `plan`). A room can also be set to refuse such commits, and joining without being added:
//! then the head is chosen as if they, and all that follows them, did not exist.
//!
//! A doubt can be one's own: the news that explains a commit may come after it. So doubts are looked at
//! again whenever they matter, are taken back for good when there is a reason, and devices that come to
//! know the same judge the same.

use ruma::RoomId;
use serde::{Deserialize, Serialize};

use super::{EpochRecord, Turn, graph, rooms, rooms::RoomRecord};
use crate::{
    devices,
    error::MlsError,
    protocol::DeviceName,
    store::{StoreError, Tx},
    updates::Update,
};

/// Something that the room gives no reason for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Doubt {
    /// A device was added whose user is neither in the room nor invited.
    StrangerAdded(DeviceName),
    /// Another user removed a device that may be in the group.
    MemberRemoved(DeviceName),
    /// A device joined externally, which the room's settings forbid.
    JoinedExternally(DeviceName),
    /// This device was invited by one whose user was not known to be in the room.
    InvitedByStranger(DeviceName),
}

impl Doubt {
    /// Whether a room that takes all commits still passes over this one.
    fn always_counts(&self) -> bool {
        matches!(self, Self::JoinedExternally(_) | Self::InvitedByStranger(_))
    }
}

/// What is doubtful about a commit.
pub(crate) fn doubts(
    tx: &Tx<'_>,
    room: &RoomRecord,
    committer: &DeviceName,
    external: bool,
    added: &[DeviceName],
    removed: &[DeviceName],
) -> Result<Vec<Doubt>, StoreError> {
    let mut doubts = Vec::new();
    let joined = external.then_some(committer);
    doubts.extend(added.iter().chain(joined).cloned().map(Doubt::StrangerAdded));
    doubts.extend(
        removed.iter().filter(|device| device.0 != committer.0).cloned().map(Doubt::MemberRemoved),
    );
    doubts.extend(joined.cloned().map(Doubt::JoinedExternally));
    let mut kept = Vec::new();
    for doubt in doubts {
        if stands(tx, room, &doubt)? {
            kept.push(doubt);
        }
    }
    Ok(kept)
}

/// Tells an app that a commit does not fit the room.
pub(crate) fn tell(turn: &Turn<'_>, room_id: &RoomId, committer: &DeviceName, doubts: &[Doubt]) {
    if !doubts.is_empty() {
        turn.tell(Update::UnfitCommit {
            room_id: room_id.to_string(),
            committer: committer.to_string(),
            doubts: doubts.iter().map(ToString::to_string).collect(),
        });
    }
}

/// Whether, from what is known now, there still is no reason.
fn stands(tx: &Tx<'_>, room: &RoomRecord, doubt: &Doubt) -> Result<bool, StoreError> {
    Ok(match doubt {
        Doubt::StrangerAdded(device) => !rooms::is_known(tx, &room.room_id, &device.0)?,
        Doubt::InvitedByStranger(device) => {
            // Before anybody is known to be in the room, nobody is a stranger there.
            !rooms::is_known(tx, &room.room_id, &device.0)? && rooms::has_members(tx, room)?
        }
        Doubt::MemberRemoved(device) => {
            rooms::is_joined(tx, &room.room_id, &device.0)?
                && devices::device(tx, &device.0, &device.1)?.is_some()
        }
        Doubt::JoinedExternally(_) => !room.settings.allow_external_joins,
    })
}

/// Takes back the doubts that have turned out to be one's own. Once there was a reason, it does not matter
/// that it passes.
pub(crate) fn reconsider(
    turn: &Turn<'_>,
    room: &RoomRecord,
    epoch: &mut EpochRecord,
) -> Result<(), MlsError> {
    if epoch.doubts.is_empty() || !rooms::has_members(turn.tx, room)? {
        return Ok(());
    }
    let mut standing = Vec::new();
    for doubt in &epoch.doubts {
        // A setting is no reason that comes and goes.
        if matches!(doubt, Doubt::JoinedExternally(_)) || stands(turn.tx, room, doubt)? {
            standing.push(doubt.clone());
        }
    }
    if standing.len() < epoch.doubts.len() {
        epoch.doubts = standing;
        graph::put(turn.tx, &room.room_id, epoch)?;
    }
    Ok(())
}

/// Whether an epoch is to be passed over when the head is chosen: its commit or one before it, among the
/// kept ones, is unfit, and the room refuses such commits.
pub(crate) fn is_refused(
    turn: &Turn<'_>,
    room: &RoomRecord,
    epoch: &EpochRecord,
    kept: &[EpochRecord],
) -> Result<bool, MlsError> {
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

impl std::fmt::Display for Doubt {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::StrangerAdded(device) => {
                write!(formatter, "it adds {device}, whose user is not in the room")
            }
            Self::MemberRemoved(device) => {
                write!(formatter, "it removes {device}, which belongs in the group")
            }
            Self::JoinedExternally(device) => {
                write!(formatter, "{device} joined by itself, which the room does not allow")
            }
            Self::InvitedByStranger(device) => {
                write!(formatter, "{device}, whose user is not in the room, invited this device")
            }
        }
    }
}
