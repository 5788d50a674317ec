//! `Update`: what an app hears of, after the fact.

use super::backup::{BackupState, HistoryFailure};

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
    /// Two commits were made on one epoch: the group has forked. Both branches are followed, all
    /// devices go on with the same one, and nothing is to be done.
    Forked {
        /// The room.
        room_id: String,
        /// The number that both new epochs have.
        epoch: u64,
    },
    /// A commit adds or removes devices without a reason that this device knows of.
    UnfitCommit {
        /// The room.
        room_id: String,
        /// The device that made it, as `user_id|device_id`.
        committer: String,
        /// What does not fit, a sentence each.
        doubts: Vec<String>,
    },
    /// This device cannot go on in a room by itself, and is about to join its group anew.
    Healing {
        /// The room.
        room_id: String,
        /// Why, a sentence for a log.
        reason: String,
    },
    /// It has joined anew, and can be sent to.
    Healed {
        /// The room.
        room_id: String,
        /// Why it had to, a sentence for a log.
        reason: String,
    },
    /// Joining anew did not work for now. It is tried again later, and whenever something is to be sent.
    HealingFailed {
        /// The room.
        room_id: String,
        /// Why, a sentence for a log.
        reason: String,
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
    /// The key backup stands otherwise than before.
    BackupChanged {
        /// How it stands now.
        state: BackupState,
    },
    /// What was asked of the key backup did not come about; what was before goes on.
    BackupFailed {
        /// Stable across releases: `wrong_key`, `no_backup`, `backup_exists`, `unsupported_backup`, or the
        /// homeserver's.
        code: String,
        /// A sentence for a log.
        reason: String,
    },
    /// Epochs were backed up.
    BackupProgress {
        /// How many are.
        backed_up: u64,
        /// How many are or will be.
        total: u64,
    },
    /// A member who has added this device gave it what was said before. Try again to decrypt what could not
    /// be read.
    HistoryShared {
        /// The room.
        room_id: String,
        /// The device that did, as `user_id|device_id`: who said what in these epochs is its word.
        by: String,
        /// How many epochs became readable.
        epochs: u64,
    },
    /// Sessions of the backup were taken.
    RestoreProgress {
        /// The restore's id.
        restore: u64,
        /// How many were taken or found wrong.
        done: u64,
        /// How many there are.
        total: u64,
    },
    /// A restore has come to its end.
    RestoreFinished {
        /// The restore's id.
        restore: u64,
        /// How many epochs became readable that were not before. Try again to decrypt what could not be read.
        epochs: u64,
        /// What was left out, and why. With the code `wrong_key` nothing was restored.
        failures: Vec<HistoryFailure>,
    },
    /// Events that waited for what they need were dropped, as there were too many.
    EventsDropped {
        /// The room.
        room_id: String,
        /// How many.
        count: u64,
    },
}
