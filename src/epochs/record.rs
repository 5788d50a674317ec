//! One epoch, as its row has it.

use openmls::group::MlsGroup;
use ruma::OwnedEventId;
use serde::{Deserialize, Serialize};

use super::{doubt::CommitDoubt, outsiders::Maker};
use crate::{
    failure::Failure,
    history::restored::{ReadableEpoch, Source},
    protocol::{DeviceName, EpochId, GroupName, GroupRank, Rank},
    store::Namespace,
};

/// How far an epoch has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Status {
    /// Made by this device; the homeserver has not accepted its event yet.
    Staged,
    /// Part of the room.
    Accepted,
}

/// One epoch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EpochRecord {
    pub(crate) id: EpochId,
    pub(crate) number: u64,
    /// Where its OpenMLS state is.
    pub(crate) namespace: Namespace,
    pub(crate) creator: DeviceName,
    pub(crate) parent: Option<EpochId>,
    pub(crate) commit_event: Option<OwnedEventId>,
    pub(crate) status: Status,
    /// Whether the OpenMLS state is still there.
    pub(crate) full: bool,
    /// Whether an accepted commit on this epoch is known.
    pub(crate) has_child: bool,
    /// When this device learned of it, in milliseconds since 1970.
    pub(crate) since_ms: u64,
    /// Since when it is not both the head and a tip, in milliseconds since 1970.
    #[serde(default)]
    pub(crate) superseded_ms: Option<u64>,
    /// Its first member joined by an external commit.
    #[serde(default)]
    pub(crate) external: bool,
    /// The tips that its commit says it supersedes, as far as they are known. They serve pictures
    /// only: a commit can claim what it likes.
    #[serde(default)]
    pub(crate) resolves: Vec<EpochId>,
    /// The commit of another epoch says that it supersedes this one.
    #[serde(default)]
    pub(crate) resolved: bool,
    /// What in its commit does not fit the Matrix room.
    #[serde(default)]
    pub(crate) doubts: Vec<CommitDoubt>,
    /// The devices that its commit removed although they belong in the group by what this device
    /// knew; until that has counted.
    #[serde(default)]
    pub(crate) contested: Vec<DeviceName>,
    /// The group that it is of.
    #[serde(default)]
    pub(crate) group: GroupName,
    /// How that group stands among the room's groups, by what this device has seen (`restarts`).
    #[serde(default)]
    pub(crate) group_rank: GroupRank,
    /// The root of the tree that it is in (`trees`).
    #[serde(default)]
    pub(crate) root: Option<EpochId>,
    /// A device joined by itself by its commit, and had no place in the room when that came in.
    #[serde(default)]
    pub(crate) by_outsider: bool,
    /// An impostor's leaf made its commit: the creator is only the name that the leaf bears.
    #[serde(default)]
    pub(crate) by_impostor: bool,
    /// A commit on it that counts has removed this device.
    #[serde(default)]
    pub(crate) left: bool,
    /// It was known to a store that was an older copy of itself: nothing is sealed in it.
    #[serde(default)]
    pub(crate) distrusted: bool,
    /// Its commit's event is the word of whoever invited this device, and no event has shown it
    /// yet.
    #[serde(default)]
    pub(crate) event_is_hint: bool,
    /// Those who come later may read it: the room's history visibility said so from its first
    /// moment on.
    #[serde(default)]
    pub(crate) shared: bool,
    /// How many other members have not been seen on an epoch that comes before this one.
    #[serde(default)]
    pub(crate) behind: u32,
    /// Since when there are none of those, in milliseconds since 1970.
    #[serde(default)]
    pub(crate) left_ms: Option<u64>,
    /// How many devices are in it.
    #[serde(default)]
    pub(crate) members: u32,
}

/// Where an epoch comes from.
pub(crate) struct Origin {
    /// Where its OpenMLS state is.
    pub(crate) namespace: Namespace,
    pub(crate) creator: DeviceName,
    pub(crate) parent: Option<EpochId>,
    /// The group that it is of, and how that stands among the room's groups.
    pub(crate) group: (GroupName, GroupRank),
    pub(crate) status: Status,
    /// The time, in milliseconds since 1970.
    pub(crate) since_ms: u64,
}

impl EpochRecord {
    /// Describes the epoch that a group has just reached.
    pub(crate) fn of(group: &MlsGroup, origin: Origin) -> Result<Self, Failure> {
        let id = EpochId::of(group.public_group().group_context())?;
        let members = u32::try_from(group.members().count()).unwrap_or(u32::MAX);
        Ok(Self::new(id, group.epoch().as_u64(), members, origin))
    }

    /// An epoch of which no more is known than this.
    pub(super) fn new(id: EpochId, number: u64, members: u32, origin: Origin) -> Self {
        Self {
            id,
            number,
            namespace: origin.namespace,
            creator: origin.creator,
            parent: origin.parent,
            commit_event: None,
            status: origin.status,
            full: true,
            has_child: false,
            since_ms: origin.since_ms,
            superseded_ms: None,
            external: false,
            resolves: Vec::new(),
            resolved: false,
            doubts: Vec::new(),
            contested: Vec::new(),
            group: origin.group.0,
            group_rank: origin.group.1,
            root: None,
            by_outsider: false,
            by_impostor: false,
            left: false,
            distrusted: false,
            event_is_hint: false,
            shared: false,
            behind: 0,
            left_ms: None,
            members,
        }
    }

    /// It is the first of a tree: nothing that this device has followed leads to it.
    pub(crate) fn begin_tree(&mut self) {
        self.root = Some(self.id);
    }

    /// The epoch as far as reading goes.
    pub(crate) fn readable(self) -> ReadableEpoch {
        ReadableEpoch {
            id: self.id,
            number: self.number,
            creator: self.creator,
            commit_event: self.commit_event,
            began_ms: self.since_ms,
            shared: self.shared,
            source: Source::Own,
            ended_ms: self.superseded_ms,
        }
    }

    /// Whose leaf made its commit.
    pub(super) fn maker(&self) -> Maker {
        Maker { device: self.creator.clone(), is_impostor: self.by_impostor }
    }

    /// Where this epoch stands among others as the one to send on.
    pub(crate) fn rank(&self) -> Rank {
        Rank::of(self.group_rank, self.number, self.id, self.commit_event.as_deref())
    }
}
