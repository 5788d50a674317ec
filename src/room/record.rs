//! A room as this device knows it.

use ruma::{OwnedEventId, OwnedRoomId};
use serde::{Deserialize, Serialize};

use super::{
    own_leaf::OwnLeaf, power::Power, restarts::Restarts, settings::Settings, standing::Standing,
    upgrade::Upgrade,
};
use crate::protocol::{EpochId, GroupName, GroupRank, Rank, identifiers};

/// A room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) id: OwnedRoomId,
    pub(crate) settings: Settings,
    pub(crate) state: RoomState,
    /// Somebody else has announced a group for the room, while this device had none.
    pub(crate) others_group: bool,
    pub(crate) standing: Standing,
    pub(crate) restarts: Restarts,
    pub(crate) upgrade: Upgrade,
    /// The accepted epochs whose full state is kept, the head among them.
    pub(crate) kept: Vec<EpochId>,
    /// Those whose full state is kept though its user has left the Matrix room.
    pub(crate) set_aside: SetAside,
    pub(crate) renewal: Renewal,
    pub(crate) pace: CommitPace,
    pub(crate) joins: ExternalJoins,
    /// How many commits in a row were asked for by event id without one that could be processed.
    pub(crate) commits_fetched: u32,
}

/// What the Matrix room's state says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RoomState {
    /// The event id of `m.room.create`.
    pub(crate) create_event: Option<OwnedEventId>,
    /// The algorithm that the room says it uses. An MLS algorithm never goes away.
    pub(crate) algorithm: Option<String>,
    /// `m.room.history_visibility`, as far as it is known.
    pub(crate) history_visibility: Option<String>,
    /// What this device's user may do.
    pub(crate) power: Power,
    /// The last that was heard of this device's user is that they left the Matrix room.
    pub(crate) own_user_left: bool,
}

/// Epochs of a device whose user has left the Matrix room, and that no commit has removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SetAside {
    pub(crate) epochs: Vec<EpochId>,
    /// Since when, in milliseconds since 1970.
    pub(crate) since_ms: u64,
}

/// The renewal of this device's keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Renewal {
    /// The app asks for it: the next commit renews them.
    pub(crate) wanted: bool,
    /// The epoch in which they were last renewed. If that branch loses, they are renewed again.
    pub(crate) done_in: Option<EpochId>,
    /// This device's leaf in each epoch that can take a commit.
    pub(crate) leaves: Vec<OwnLeaf>,
}

impl Renewal {
    /// This device's leaf in an epoch, if it was noted.
    pub(crate) fn leaf(&self, epoch: EpochId) -> Option<&OwnLeaf> {
        self.leaves.iter().find(|leaf| leaf.epoch == epoch)
    }

    /// Notes this device's leaf in an epoch, and forgets those of epochs that are not kept.
    pub(crate) fn keep_leaf(&mut self, leaf: OwnLeaf, kept: &[EpochId]) {
        self.leaves.retain(|known| known.epoch != leaf.epoch && kept.contains(&known.epoch));
        self.leaves.push(leaf);
    }
}

/// When this device may commit, and when it has to look again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CommitPace {
    /// How many commits in a row the homeserver has refused.
    pub(crate) refusals: u32,
    /// Until when no commit is made after a refusal, in milliseconds since 1970.
    pub(crate) blocked_until_ms: Option<u64>,
    /// When to look again for devices that could not be added, in milliseconds since 1970.
    pub(crate) recheck_ms: Option<u64>,
}

/// What is remembered of this device's own external joins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ExternalJoins {
    /// When it joined externally of late, in milliseconds since 1970.
    pub(crate) times_ms: Vec<u64>,
    /// The epoch by which it joined anew after its store had turned out to be an older copy.
    pub(crate) trusted_from: Option<Rank>,
}

impl Room {
    /// A room of which nothing is known.
    pub(super) fn new(id: OwnedRoomId) -> Self {
        Self {
            id,
            settings: Settings::default(),
            state: RoomState::default(),
            others_group: false,
            standing: Standing::NoGroup,
            restarts: Restarts::default(),
            upgrade: Upgrade::default(),
            kept: Vec::new(),
            set_aside: SetAside::default(),
            renewal: Renewal::default(),
            pace: CommitPace::default(),
            joins: ExternalJoins::default(),
            commits_fetched: 0,
        }
    }

    /// Whether the room says that it uses MLS.
    pub(crate) fn uses_mls(&self) -> bool {
        self.state.algorithm.as_deref().is_some_and(identifiers::is_room_algorithm)
    }

    /// The group in which the room goes on.
    pub(crate) fn group(&self) -> GroupName {
        self.restarts.last.as_ref().map(|last| last.group).unwrap_or_default()
    }

    /// How a group stands among the room's groups.
    pub(crate) fn rank_of(&self, group: GroupName) -> GroupRank {
        match group {
            GroupName::First => GroupRank::First,
            GroupName::Restarted { number, .. } if group == self.group() => {
                GroupRank::Restart(number)
            }
            GroupName::Restarted { .. } => GroupRank::Unnamed,
        }
    }

    /// Whether those who come later may read what is said now (Matrix spec,
    /// `m.room.history_visibility`).
    pub(crate) fn history_is_open(&self) -> bool {
        matches!(self.state.history_visibility.as_deref(), Some("shared" | "world_readable"))
    }

    /// Whether the devices of invited users are in the group: where the room is known to let an
    /// invited person read what is said from the invitation on (Matrix spec,
    /// `m.room.history_visibility`).
    pub(crate) fn invited_are_in_group(&self) -> bool {
        let visibility = self.state.history_visibility.as_deref();
        self.settings.include_invited
            && matches!(visibility, Some("invited" | "shared" | "world_readable"))
    }

    /// An epoch is part of the room from now on: whatever stood in the way of commits is over.
    pub(crate) fn keep_epoch(&mut self, epoch: EpochId) {
        self.kept.push(epoch);
        self.standing.come_back();
        self.pace.refusals = 0;
        self.pace.blocked_until_ms = None;
        self.commits_fetched = 0;
    }

    /// Whether this room was replaced by another, and both say so.
    pub(crate) fn is_replaced_by(&self, other: &Self) -> bool {
        self.id != other.id
            && self.upgrade.replacement.as_ref() == Some(&other.id)
            && other.upgrade.predecessor() == Some(&*self.id)
    }

    /// Whether the room replaces an MLS room and nobody is known to have made its group.
    pub(crate) fn awaits_group(&self) -> bool {
        self.upgrade.carried_from.is_some()
            && self.uses_mls()
            && !self.others_group
            && self.standing.head().is_none()
            && self.standing.staged().is_none()
    }
}
