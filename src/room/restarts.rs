//! With which group a room was last started anew.

use ruma::{OwnedEventId, OwnedUserId};
use serde::{Deserialize, Serialize};

use crate::protocol::{EpochId, GroupName};

/// What counts of a room's restarts, and this device's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Restarts {
    /// The last one that counts.
    pub(crate) last: Option<Restart>,
    /// This device's own, until the homeserver has answered.
    pub(crate) own: Option<OwnRestart>,
}

/// A restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Restart {
    pub(crate) group: GroupName,
    /// The event that announced the group.
    pub(crate) announcement: OwnedEventId,
    /// Who started it.
    pub(crate) by: OwnedUserId,
}

/// A restart of this device's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OwnRestart {
    pub(crate) group: GroupName,
    /// The group's first epoch.
    pub(crate) epoch: EpochId,
    /// The event that announced the group, once the homeserver has it.
    pub(crate) announcement: Option<OwnedEventId>,
    /// The event of the commit that this device was at.
    pub(crate) replaces: Option<String>,
}
