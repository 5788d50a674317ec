//! The key backup's exported types: its state, and what a restore left out.

use serde::{Deserialize, Serialize};

/// The state of the key backup.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Enum)]
pub enum BackupState {
    /// The homeserver was not asked yet: call `look`.
    Unknown,
    /// The homeserver has no backup: `create` one.
    Absent,
    /// A request to the homeserver is under way.
    Working,
    /// The homeserver has a backup whose key this device does not have: `enable` it with the key.
    Locked {
        /// The backup version, as the homeserver names it.
        version: String,
        /// Whether it is a Megolm backup. This device would share it.
        megolm: bool,
        /// How a passphrase makes the backup's key, if one does.
        passphrase: Option<PassphraseParameters>,
    },
    /// The homeserver has a backup of a kind that this library does not know.
    Unsupported {
        /// The backup version, as the homeserver names it.
        version: String,
        /// The backup's algorithm.
        algorithm: String,
    },
    /// This device backs up epochs as they appear.
    Enabled {
        /// The backup version, as the homeserver names it.
        version: String,
        /// Whether it is a Megolm backup, which this device shares.
        megolm: bool,
    },
}

/// How a passphrase makes a key: PBKDF2 with HMAC-SHA-512 (`m.pbkdf2` of the Matrix spec).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, uniffi::Record)]
pub struct PassphraseParameters {
    /// The salt.
    pub salt: String,
    /// The number of rounds.
    pub rounds: u32,
}

/// How many sessions were left out for one reason. A session is one epoch, or part of its members.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct HistoryFailure {
    /// The reason: the same in every release.
    ///
    /// For a single session it is `"damaged_session"`, `"malformed_session"`, `"other_room"`,
    /// `"other_epoch"`, `"missing_leaves"`, `"bad_leaves"`, `"bad_export"`,
    /// `"unsupported_session"`, or `"read_once"` where this device reads the room's or the
    /// epoch's messages once. For a whole restore it is `"wrong_key"`, `"not_in_backup"`,
    /// `"no_backup"`, `"unsupported_backup"`, `"cancelled"`, or the homeserver's own code.
    pub code: String,
    /// The number of sessions.
    pub count: u32,
    /// The reason, as a sentence for a log, and what to do. The wording may change between releases.
    #[uniffi(default = "")]
    pub reason: String,
}

impl From<(String, u32)> for HistoryFailure {
    fn from((code, count): (String, u32)) -> Self {
        let reason = reason_of(&code).to_owned();
        Self { code, count, reason }
    }
}

/// What a code of a [`HistoryFailure`] means. The store keeps such failures by their codes alone.
fn reason_of(code: &str) -> &'static str {
    match code {
        "damaged_session" => "the session is damaged, or was sealed with another key",
        "malformed_session" => "the session does not have the form of one",
        "other_room" => "the session belongs to another room than it was filed under",
        "other_epoch" => "the session belongs to another epoch than it was filed under",
        "missing_leaves" => "the list of the epoch's members is missing: restore the whole room",
        "bad_leaves" => "the list of the epoch's members is damaged",
        "bad_export" => "the keys in the session are damaged",
        "unsupported_session" => "a newer version has written the session: update the app",
        "read_once" => "this device reads the room's messages once, and restores none",
        "wrong_key" => {
            "the key is not that of the homeserver's backup: have the user type the recovery key of \
             the current backup; an older one opens nothing"
        }
        "not_in_backup" => "the backup does not have it: another device may still upload it",
        "no_backup" => "the homeserver has no backup: there is nothing to restore",
        "unsupported_backup" => "a newer version has made the backup: update the app",
        "cancelled" => "the restore was stopped: what it had restored stays",
        _ => "the homeserver refused: its code says why; try again later",
    }
}
