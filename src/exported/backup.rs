//! What apps hear of the key backup: how it stands, and what was left out of a restore.

/// How the backup stands.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Enum)]
pub enum BackupState {
    /// Nobody has asked the homeserver: call `look`.
    Unknown,
    /// The homeserver has no backup: `create` one.
    Absent,
    /// Something was asked for, and the homeserver has not answered yet.
    Working,
    /// There is a backup whose key this device does not have: `enable` it with the key.
    Locked {
        /// The homeserver's name of the version.
        version: String,
        /// Whether it is a Megolm backup, which this device would share.
        megolm: bool,
        /// How a passphrase makes its key, where one does.
        passphrase: Option<PassphraseParameters>,
    },
    /// There is a backup of a kind that this library does not know.
    Unsupported {
        /// The homeserver's name of the version.
        version: String,
        /// Its kind.
        algorithm: String,
    },
    /// Epochs are backed up as they appear.
    Enabled {
        /// The homeserver's name of the version.
        version: String,
        /// Whether it is a Megolm backup that this device shares.
        megolm: bool,
    },
}

/// How a passphrase makes a key (PBKDF2 with HMAC-SHA-512).
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct PassphraseParameters {
    /// The salt.
    pub salt: String,
    /// How many rounds.
    pub rounds: u32,
}

/// How many sessions were left out for one reason.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct HistoryFailure {
    /// Stable across releases: `wrong_key`, `damaged_session`, `malformed_session`, `other_room`, `other_epoch`,
    /// `missing_leaves`, `bad_leaves`, `bad_export`, `unsupported_session`; for all that was asked for
    /// `not_in_backup`, `no_backup`, `unsupported_backup`, `cancelled`, or the homeserver's own.
    pub code: String,
    /// How many.
    pub count: u32,
}

impl From<(String, u32)> for HistoryFailure {
    fn from((code, count): (String, u32)) -> Self {
        Self { code, count }
    }
}
