//! Why this device is in no MLS group of a room, and what to do about that.

use ruma::OwnedRoomId;

use super::record::Room;

/// Why this device is in no group of a room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Outside {
    /// Nothing that this device was given says that the room uses MLS.
    #[error(
        "{0} is not an MLS room as far as this device knows: call enable, or pass in the sync that \
         shows the room's state"
    )]
    NotEnabled(OwnedRoomId),
    /// It replaces an MLS room and does not use MLS itself.
    #[error(
        "{0} replaces the MLS room {1}, and is not encrypted with MLS: tell your user; have the room \
         enabled, or create another one, before anything is said there"
    )]
    Downgraded(OwnedRoomId, OwnedRoomId),
    /// The room uses something else.
    #[error(
        "{0} is encrypted with {1}: use that algorithm's engine for this room, or create a new room \
         for MLS"
    )]
    OtherAlgorithm(OwnedRoomId, String),
    /// The device has left the group, or its user the room.
    #[error(
        "this device has left the MLS group of {0}: it can come back once its user has joined the \
         Matrix room again and a sync has shown that"
    )]
    Left(OwnedRoomId),
    /// The device is still on its way into the group.
    #[error(
        "this device is not in the MLS group of {0} yet: send the machine's requests (drive), go on \
         syncing, and call prepareToSend (prepare_to_send in Rust)"
    )]
    NotYet(OwnedRoomId),
}

impl Room {
    /// Why this device, which has no group of this room, has none.
    pub(crate) fn outside(&self) -> Outside {
        let id = self.id.clone();
        if self.standing.is_gone() || self.state.own_user_left {
            return Outside::Left(id);
        }
        if let (false, true, Some(old)) =
            (self.uses_mls(), self.upgrade.is_downgrade, self.upgrade.predecessor())
        {
            return Outside::Downgraded(id, old.to_owned());
        }
        match &self.state.algorithm {
            None => Outside::NotEnabled(id),
            Some(other) if !self.uses_mls() => Outside::OtherAlgorithm(id, other.clone()),
            Some(_) => Outside::NotYet(id),
        }
    }
}
