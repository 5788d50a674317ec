//! Whether this device's user may say in the room's state that the room is encrypted, as far as the
//! room's state says so.

use serde::{Deserialize, Serialize};

/// The power of this device's user (Matrix spec, `m.room.power_levels`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Power {
    /// The user has made the room, in a version of rooms where that is power over everything.
    #[serde(default)]
    pub(crate) is_creator: bool,
    /// The user's level, and the level that `m.room.encryption` takes.
    #[serde(default)]
    pub(crate) levels: Option<(i64, i64)>,
}

impl Power {
    /// Whether the homeserver would refuse `m.room.encryption` from this user. What is not known
    /// stands in nobody's way.
    pub(crate) fn is_too_little(&self) -> bool {
        !self.is_creator && self.levels.is_some_and(|(own, needed)| own < needed)
    }
}
