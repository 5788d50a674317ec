//! What is remembered of room upgrades: which room replaces this one, which room this one replaces,
//! and what has followed from that.
//!
//! A room upgrade makes another Matrix room (Matrix spec, "Room upgrades"). The old room's
//! `m.room.tombstone` names the new one, and the new room's `m.room.create` names the old one.
//! Either alone is a claim that anybody with a room can make. Only both together are an upgrade.

use ruma::{OwnedRoomId, OwnedUserId, RoomId};
use serde::{Deserialize, Serialize};

/// What is known of a room's upgrades.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Upgrade {
    /// What the room's creation says. A room is created once, so the first word counts.
    pub(crate) creation: Option<Creation>,
    /// The room that replaces this one, as the state says now.
    pub(crate) replacement: Option<OwnedRoomId>,
    /// The MLS room that this one was found to replace: its settings were carried over.
    pub(crate) carried_from: Option<OwnedRoomId>,
    /// This room replaces an MLS room and is not encrypted with MLS; the app was told.
    pub(crate) is_downgrade: bool,
    /// The app has chosen this room's settings, so none are carried over.
    pub(crate) settings_chosen: bool,
}

/// Who has made a room, and which room it says it replaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Creation {
    pub(crate) sender: OwnedUserId,
    pub(crate) predecessor: Option<OwnedRoomId>,
}

impl Upgrade {
    /// The room that this one says it replaces.
    pub(crate) fn predecessor(&self) -> Option<&RoomId> {
        self.creation.as_ref()?.predecessor.as_deref()
    }
}
