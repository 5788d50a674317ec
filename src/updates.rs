//! What an app can watch: an observer that is told, after the fact, what changed.
//!
//! Updates are collected while a transaction runs and delivered after it is committed, so an
//! observer never hears of what was rolled back, and no lock is held while it runs.

/// Something that changed.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Enum)]
#[non_exhaustive]
pub enum Update {
    /// This device entered a room's group, by a Welcome or by creating it.
    Joined {
        /// The room.
        room_id: String,
        /// The MLS epoch number.
        epoch: u64,
    },
    /// The room's group moved to a new epoch: its members or its keys changed.
    EpochChanged {
        /// The room.
        room_id: String,
        /// The new MLS epoch number.
        epoch: u64,
        /// The devices that were added, as `user_id|device_id`.
        added: Vec<String>,
        /// The devices that were removed, as `user_id|device_id`.
        removed: Vec<String>,
    },
    /// This device was removed from the room's group.
    Removed {
        /// The room.
        room_id: String,
    },
    /// Another commit exists on an epoch that already has one; it is kept for later.
    Forked {
        /// The room.
        room_id: String,
    },
    /// Another person's device cannot take part, and why.
    DeviceRejected {
        /// Its user.
        user_id: String,
        /// The device.
        device_id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A device has no key package that can be used, so it was not added for now.
    DeviceUnreachable {
        /// The room it should be added to.
        room_id: String,
        /// Its user.
        user_id: String,
        /// The device.
        device_id: String,
    },
    /// The homeserver refused a request for good.
    RequestRefused {
        /// The room it was for, if any.
        room_id: Option<String>,
        /// The Matrix error code.
        code: String,
        /// The homeserver's sentence.
        reason: String,
    },
    /// Events that waited for what they need were dropped, as there were too many.
    EventsDropped {
        /// The room.
        room_id: String,
        /// How many.
        count: u64,
    },
}

/// Hears of updates. Called on a thread of this library's, one update at a time, in order.
#[uniffi::export(with_foreign)]
pub trait UpdateObserver: Send + Sync {
    /// Something changed. Return soon; calls back into the machine are allowed.
    fn on_update(&self, update: Update);
}
