//! What is remembered of joining a group anew: why, how far it has come, and what was looked for.
//! `rejoin` does it.

use serde::{Deserialize, Serialize};

/// Why a device joins a group by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RejoinReason {
    /// It has no group and something is to be sent, or the app asked.
    NoGroup,
    /// It was removed, and its user is in the room.
    Removed,
    /// All it knows of the group came from a user who has no place in the room.
    Doubtful,
    /// The room was started anew, and it is not in the new group.
    Restarted,
    /// The others went on with a branch that it cannot follow.
    Outrun,
    /// The store is older than what this device has sent: keys could be used twice.
    OldCopy,
}

impl RejoinReason {
    /// For a log and an update.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::NoGroup => "this device had no group",
            Self::Doubtful => "this device was invited into the group by a stranger",
            Self::Removed => "this device had been removed from the group",
            Self::Restarted => "the room was started anew with another group",
            Self::Outrun => "the others went on with a branch that this device could not follow",
            Self::OldCopy => "the store was an older copy of itself",
        }
    }

    /// Whether the device rejoins even when nothing is to be sent.
    pub(crate) fn is_urgent(self) -> bool {
        matches!(self, Self::Outrun | Self::OldCopy | Self::Doubtful)
    }
}

/// A rejoin under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rejoin {
    pub(crate) reason: RejoinReason,
    /// When the next step may be made, in milliseconds since 1970.
    pub(crate) not_before_ms: u64,
    /// The next step waits for a sync: what this device has forgotten may be in there.
    pub(crate) after_sync: bool,
    /// Until when the device waits for something to be sent, after a failure; in milliseconds
    /// since 1970.
    #[serde(default)]
    pub(crate) resting_until_ms: u64,
    /// How often it has rested like that.
    #[serde(default)]
    pub(crate) rests: u32,
    /// When the next step may be made though nothing is to be sent, in milliseconds since 1970.
    #[serde(default)]
    pub(crate) unasked_from_ms: u64,
    /// How often the best epoch's ratchet tree could not be had.
    #[serde(default)]
    pub(crate) media_tries: u32,
    #[serde(default)]
    pub(crate) strangers: Strangers,
    pub(crate) search: Search,
}

impl Rejoin {
    /// A rejoin that has not begun.
    pub(crate) fn new(reason: RejoinReason, not_before_ms: u64) -> Self {
        Self {
            reason,
            not_before_ms,
            after_sync: false,
            resting_until_ms: 0,
            rests: 0,
            unasked_from_ms: 0,
            media_tries: 0,
            strangers: Strangers::NoneSeen,
            search: Search::NotYet,
        }
    }
}

/// How far the search for a public group state in the room's history has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Search {
    NotYet,
    /// The next page starts here; so many were read.
    At {
        from: String,
        pages: u32,
    },
    FoundNothing {
        at_ms: u64,
    },
}

/// Whether public group states made by users outside the room were passed over. Where all who made
/// one have left the room, such a state is the only way into the group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Strangers {
    #[default]
    NoneSeen,
    Seen,
    Accepted,
}
