//! `MlsError`: the errors of all exported calls. Each has a stable `code`, a sentence for a log,
//! and whether trying again can help.
//!
//! Nothing in this crate panics on outside input; whatever goes wrong arrives here. Each domain of
//! the core has an error type of its own, and `error_codes` gives it its variant and code.

use std::fmt;

use super::unreadable::UnreadableCause;

/// What to do about a machine that was closed.
const CLOSED: &str = "the machine was closed: open it again, and get new handles of its rooms";

/// The details of an error, which every [`MlsError`] has.
///
/// No field holds a key, a plaintext or a ciphertext.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct ErrorDetails {
    /// What went wrong, for programs: the same in every release.
    pub code: String,
    /// What went wrong, as a sentence for a log. The wording may change between releases.
    pub reason: String,
    /// Whether the same call may succeed later, without a change by the app.
    pub retryable: bool,
}

/// Everything that can go wrong, grouped by what an app can do about it.
///
/// Every variant holds the same [`ErrorDetails`]; some name users or a room beside them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, uniffi::Error)]
#[non_exhaustive]
pub enum MlsError {
    /// An argument of the app is invalid. Fix the call; `reason` names the argument.
    InvalidInput {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// The store does not open with this key or passphrase. Ask for the right one; nothing was
    /// changed.
    StoreWrongKey {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// The store's file or one of its rows is damaged. The readable rest is unchanged.
    StoreDamaged {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// A newer version of this library wrote the store. Update the app.
    StoreTooNew {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// The disk is full. The call changed nothing; free some space and call again.
    StoreFull {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// Another machine, in this process or another, has this store open. Close that one first.
    StoreInUse {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// The file system or SQLite refused an operation. The call changed nothing.
    StoreIo {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// This machine was closed. Open it again.
    Closed {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// The machine was suspended. Resume it, and call again. What the call has done before stays.
    Suspended {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// The homeserver refuses the app's access token. Get another one, or log in again as the same
    /// device, and call again; nothing is lost.
    Unauthorized {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// The homeserver has other keys for this device: the store that held them was lost, or another
    /// app uses the device's id. Nobody would read what this device sends. Log out, and log in as a
    /// new device with a new store; history comes back from the key backup.
    NewDeviceNeeded {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// This device is not in the room's MLS group.
    ///
    /// With the code `"not_enabled"` nothing says that the room uses MLS: call `MlsRoom::enable`,
    /// or pass in the sync that shows its state. With `"left_group"` this device has left the
    /// group, or its user the room. With `"not_joined_yet"` it is on its way: go on sending
    /// requests and syncing. With `"cannot_heal"` it cannot join for now, and tries again by
    /// itself. With `"downgraded"` the room replaces an MLS room and does not use MLS: ask your
    /// user before anything is sent there.
    NotInGroup {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// The group's members are not yet those that the room should have. Call `prepare_to_send`,
    /// send the requests that it gives, and try again.
    NotReady {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// Your user has to decide before anything is sent to the room.
    ///
    /// With the code `"identity_changed"` these users were verified, and have another identity now:
    /// they have reset it, or the homeserver lies. Show that, and call
    /// `MlsMachine::accept_identity` or `MlsMachine::withdraw_verification`, or have your user
    /// verify them anew. Your own user may be among them. With the code `"not_verified"` the app
    /// has asked for it (`MlsMachine::send_only_to_verified`), and these users have devices in the
    /// group that are not verified.
    UntrustedMembers {
        /// The users' ids.
        user_ids: Vec<String>,
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// Another room replaces this one (`m.room.tombstone`), so nothing is sent here. Join that room and
    /// send there; old messages stay readable here.
    RoomReplaced {
        /// The id of the room that replaces this one.
        replacement_room_id: String,
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// The content is too large for a Matrix event. Nothing was sent or changed.
    TooLarge {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// The event needs an epoch that this device does not know, or a value that is still being
    /// fetched. The missing part is requested (see `outgoing_requests`) or may arrive by sync.
    UnknownEpoch {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// The commit is on a branch that this device cannot follow, because the branch's base is not
    /// kept in full. Messages on that branch cannot be read here. If all devices go on with that
    /// branch, this device joins it by itself; the app need not do anything.
    ///
    /// With the code `"out_of_time"` the commit adds a device whose key package is not valid by
    /// this device's clock. Either that clock is wrong (see `Update::ClockOff`), or the committer
    /// did what it should not.
    Forked {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// A peer or the homeserver sent something malformed, forged or forbidden. It was ignored.
    Rejected {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// This version does not support something; `reason` names it.
    Unsupported {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
    /// This library has a defect. The call changed nothing; please report it.
    Internal {
        /// The code, the reason, and whether to try again.
        details: ErrorDetails,
    },
}

impl ErrorDetails {
    /// Of an error that the same call meets again, unless the app changes something.
    pub(super) fn permanent(code: &str, reason: impl ToString) -> Self {
        Self { code: code.to_owned(), reason: reason.to_string(), retryable: false }
    }

    /// Of an error that may be gone when the same call is made later.
    pub(super) fn transient(code: &str, reason: impl ToString) -> Self {
        Self { retryable: true, ..Self::permanent(code, reason) }
    }
}

impl fmt::Display for MlsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code(), self.reason())
    }
}

#[uniffi::export]
impl MlsError {
    /// The details, whichever variant the error is.
    pub fn details(&self) -> ErrorDetails {
        self.as_details().clone()
    }

    /// Why an event cannot be read, if this error says that; stable, for what an app shows and
    /// does.
    pub fn unreadable_cause(&self) -> Option<UnreadableCause> {
        UnreadableCause::of(&self.as_details().code)
    }
}

impl MlsError {
    /// The details that every variant holds.
    fn as_details(&self) -> &ErrorDetails {
        match self {
            Self::InvalidInput { details }
            | Self::StoreWrongKey { details }
            | Self::StoreDamaged { details }
            | Self::StoreTooNew { details }
            | Self::StoreFull { details }
            | Self::StoreInUse { details }
            | Self::StoreIo { details }
            | Self::Closed { details }
            | Self::Suspended { details }
            | Self::Unauthorized { details }
            | Self::NewDeviceNeeded { details }
            | Self::NotInGroup { details }
            | Self::NotReady { details }
            | Self::UntrustedMembers { details, .. }
            | Self::RoomReplaced { details, .. }
            | Self::TooLarge { details }
            | Self::UnknownEpoch { details }
            | Self::Forked { details }
            | Self::Rejected { details }
            | Self::Unsupported { details }
            | Self::Internal { details } => details,
        }
    }

    /// The stable code.
    pub fn code(&self) -> &str {
        &self.as_details().code
    }

    /// The sentence for a log.
    pub fn reason(&self) -> &str {
        &self.as_details().reason
    }

    /// Whether the same call may succeed later.
    pub fn retryable(&self) -> bool {
        self.as_details().retryable
    }

    /// An argument is not what the call takes.
    pub(crate) fn invalid(code: &str, reason: impl ToString) -> Self {
        Self::InvalidInput { details: ErrorDetails::permanent(code, reason) }
    }

    /// The machine was closed.
    pub(crate) fn closed() -> Self {
        Self::Closed { details: ErrorDetails::permanent("closed", CLOSED) }
    }

    /// This library has a defect.
    pub(crate) fn internal(code: &str, reason: impl ToString) -> Self {
        Self::Internal { details: ErrorDetails::permanent(code, reason) }
    }
}
