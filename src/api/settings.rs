//! `RoomSettings`: how a room uses MLS on this device, checked on its way in. Thin, like `machine`.

use super::error::MlsError;
use crate::room::{Retention, Settings};

/// How a room uses MLS. The same settings on every device of a room are best, but not required.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct RoomSettings {
    /// This device starts a new epoch after this many messages of its own in one.
    #[uniffi(default = 100)]
    pub rotate_after_messages: u32,
    /// This device starts a new epoch when the current one is older than this, in milliseconds.
    #[uniffi(default = 604800000)]
    pub rotate_after_ms: u64,
    /// Whether invited users' devices are members too, not only joined users'.
    #[uniffi(default = false)]
    pub include_invited: bool,
    /// How many epochs beside the current one can still take a commit, so that what others commit at the
    /// same time, or were cut off from, is not lost. Each costs some space in the store (a few percent of
    /// the first), and whoever takes this device can process what others commit on it.
    #[uniffi(default = 16)]
    pub kept_epochs: u32,
    /// For how long such an epoch is kept at the most, in milliseconds. One that all its members have
    /// moved on from goes earlier.
    #[uniffi(default = 604800000)]
    pub kept_for_ms: u64,
    /// Whether a device of a joined user may join the group with nobody online, this one included.
    #[uniffi(default = true)]
    pub allow_external_joins: bool,
    /// Whether commits that add or remove devices without a reason in the Matrix room (see
    /// `Update::UnfitCommit`) are passed over when the current epoch is chosen. Such members are never
    /// sent to in either case. All devices of a room should have the same.
    #[uniffi(default = false)]
    pub refuse_unfit_commits: bool,
    /// For how long this device can read the room's past, in milliseconds after an epoch has ended; nothing
    /// means for ever. Until then whoever takes the device can read it, too; then it is deleted here and in
    /// the key backup. What is kept for commits (`kept_epochs`, `kept_for_ms`) is not deleted before that.
    #[uniffi(default = None)]
    pub keep_history_ms: Option<u64>,
    /// Whether messages are read once: what makes a message readable is gone when it was read, so whoever takes
    /// the device later cannot read it. The app must keep what it read. The price: nothing is backed up;
    /// this device's own messages, and messages read before, fail with `read_once`; `MlsReader` reads
    /// none; and each message costs as much as the room has devices. It counts from the next epoch on, which
    /// `prepare_to_send` then begins, and for this device alone. Not together with `keep_history_ms`.
    #[uniffi(default = false)]
    pub read_once: bool,
    /// Whether devices that this one adds get what was said before, as far as the room's history visibility
    /// (`shared`, `world_readable`) let those read it who come later. With this a change of the visibility
    /// begins a new epoch.
    #[uniffi(default = false)]
    pub share_history: bool,
}

impl Default for RoomSettings {
    fn default() -> Self {
        Settings::default().into()
    }
}

impl From<Settings> for RoomSettings {
    fn from(settings: Settings) -> Self {
        Self {
            rotate_after_messages: settings.rotate_after_messages,
            rotate_after_ms: settings.rotate_after_ms,
            include_invited: settings.include_invited,
            kept_epochs: settings.kept_epochs,
            kept_for_ms: settings.kept_for_ms,
            allow_external_joins: settings.allow_external_joins,
            refuse_unfit_commits: settings.refuse_unfit_commits,
            keep_history_ms: match settings.history {
                Retention::KeepFor(ms) => Some(ms),
                Retention::Keep | Retention::ReadOnce => None,
            },
            read_once: settings.history == Retention::ReadOnce,
            share_history: settings.share_history,
        }
    }
}

impl RoomSettings {
    pub(super) fn checked(self) -> Result<Settings, MlsError> {
        if self.rotate_after_messages == 0 {
            return Err(MlsError::invalid(
                "bad_settings",
                "settings: rotate_after_messages must be at least 1",
            ));
        }
        if self.kept_epochs > MOST_KEPT_EPOCHS {
            return Err(MlsError::invalid(
                "bad_settings",
                format!("settings: kept_epochs can be {MOST_KEPT_EPOCHS} at the most"),
            ));
        }
        let history = match (self.read_once, self.keep_history_ms) {
            (false, None) => Retention::Keep,
            (false, Some(ms)) => Retention::KeepFor(ms),
            (true, None) => Retention::ReadOnce,
            (true, Some(_)) => {
                return Err(MlsError::invalid(
                    "bad_settings",
                    "settings: what is read once is not kept: read_once or keep_history_ms",
                ));
            }
        };
        Ok(Settings {
            rotate_after_messages: self.rotate_after_messages,
            rotate_after_ms: self.rotate_after_ms,
            include_invited: self.include_invited,
            kept_epochs: self.kept_epochs,
            kept_for_ms: self.kept_for_ms,
            allow_external_joins: self.allow_external_joins,
            refuse_unfit_commits: self.refuse_unfit_commits,
            history,
            share_history: self.share_history,
        })
    }
}

/// The largest value of `kept_epochs`.
const MOST_KEPT_EPOCHS: u32 = 256;
