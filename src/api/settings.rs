//! `RoomSettings`: how a room uses MLS on this device, checked on its way in. Thin, like `machine`.

use super::error::MlsError;
use crate::room::{Retention, Settings};

/// How a room uses MLS on this device. All devices of a room should have the same settings, but
/// need not.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct RoomSettings {
    /// How many messages this device sends before it renews its own keys in the group; at least 1.
    ///
    /// Whoever has taken a copy of the device reads along until then. A renewal is a commit, made
    /// before the next message, whatever others have committed: an event of some 2 to 60 kB, and
    /// one more call of the homeserver before that message. Keys that came with a Welcome are
    /// renewed with the first message; in a group of more than 8 devices with one of the next
    /// hour's, unless they came from a last-resort key package.
    #[uniffi(default = 100)]
    pub rotate_after_messages: u32,
    /// How old this device's own keys in the group may be, in milliseconds, before it renews them in
    /// the same way. Nothing is renewed while nothing is sent.
    #[uniffi(default = 604800000)]
    pub rotate_after_ms: u64,
    /// Whether the devices of invited users are members of the group, in addition to joined users',
    /// where the room's history visibility is known to let invited people read (`invited`,
    /// `shared`, `world_readable`). Then whoever is invited reads the first message of a direct
    /// chat.
    #[uniffi(default = true)]
    pub include_invited: bool,
    /// How many epochs beside the current one can still take a commit; at most 256.
    ///
    /// Kept epochs let this device follow commits that others made at the same time or while they
    /// were disconnected. Each costs some space in the store, a few percent of the first. Whoever
    /// takes this device can process the commits that others make on a kept epoch.
    #[uniffi(default = 16)]
    pub kept_epochs: u32,
    /// How long such an epoch is kept at most, in milliseconds. It is dropped earlier once all its
    /// members have moved on.
    #[uniffi(default = 604800000)]
    pub kept_for_ms: u64,
    /// Whether a joined user's device may join the group with nobody online, including this device.
    #[uniffi(default = true)]
    pub allow_external_joins: bool,
    /// Whether unfit commits are ignored when the current epoch is chosen.
    ///
    /// A commit is unfit if it adds or removes devices without a reason in the Matrix room (see
    /// `Update::UnfitCommit`). Messages never go to members that were added without a reason,
    /// whatever this setting says. All devices of a room should have the same value.
    #[uniffi(default = false)]
    pub refuse_unfit_commits: bool,
    /// How long this device can read an epoch after its end, in milliseconds. Absent means for
    /// ever.
    ///
    /// Until then whoever takes the device can read the epoch, too. After that its keys are deleted
    /// on this device and in the key backup. The keys of an epoch that can still take commits
    /// (`kept_epochs`, `kept_for_ms`) are deleted only once it no longer can.
    #[uniffi(default = None)]
    pub keep_history_ms: Option<u64>,
    /// Whether a message can be decrypted only once. Its key is deleted when it is decrypted.
    ///
    /// Whoever takes the device later cannot read the message, so the app must keep what it has
    /// decrypted. The price: nothing is backed up; this device's own messages and already decrypted
    /// messages fail with the code `"read_once"`; `MlsReader` reads none; and each message costs in
    /// proportion to the number of devices in the room.
    ///
    /// The setting applies to this device alone, from the next epoch on, which `prepare_to_send`
    /// then starts. It excludes `keep_history_ms`.
    #[uniffi(default = false)]
    pub read_once: bool,
    /// Whether devices that this one adds also get earlier messages, and devices that join by
    /// themselves if their owner has signed them.
    ///
    /// They get what the room's history visibility let later members read (`shared` or
    /// `world_readable`). With this setting, a change of the visibility starts a new epoch.
    #[uniffi(default = false)]
    pub share_history: bool,
    /// How many missed events this device goes through in a day to follow the commits among them.
    ///
    /// A device that was away reads the room's encrypted events from where it left off, 100 with
    /// each request. Beyond this number it joins the group anew, and cannot decrypt the messages
    /// in between (see `Update::EpochsMissed`).
    #[uniffi(default = 100000)]
    pub catch_up_events: u32,
    /// Whether messages are refused that come when their epoch has long ended
    /// (`DecryptedMessage::is_late`): they fail with `Rejected` (`"late"`).
    ///
    /// Most of them are honest and were long on their way. But whoever was removed can write so
    /// with the homeserver's help, and so can a thief of old keys.
    #[uniffi(default = false)]
    pub refuse_late_messages: bool,
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
            catch_up_events: settings.catch_up_events,
            refuse_late_messages: settings.refuse_late_messages,
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
            catch_up_events: self.catch_up_events,
            refuse_late_messages: self.refuse_late_messages,
        })
    }
}

/// The largest `kept_epochs`.
const MOST_KEPT_EPOCHS: u32 = 256;
