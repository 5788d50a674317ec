//! Proving that a key is the backup's, before the key is used.

use serde::Deserialize;

use super::{
    error::BackupError,
    record::{MEGOLM, Mode, Version, is_own, load},
};
use crate::{
    sessions::{AuthData, BackupKey, seal},
    store::{StoreError, Tx},
    turn::Turn,
};

/// Why a key does not open the homeserver's backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnlockFailure {
    /// There is no backup.
    NoBackup,
    /// The backup is of a kind that this version does not know.
    Unsupported,
    /// The backup has another key.
    WrongKey,
}

impl UnlockFailure {
    /// A code that is stable across releases.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::NoBackup => "no_backup",
            Self::Unsupported => "unsupported_backup",
            Self::WrongKey => "wrong_key",
        }
    }

    /// A sentence for a log.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::NoBackup => "the homeserver has no backup: create one, or restore from a file",
            Self::Unsupported => "the backup is of a kind that this version does not know",
            Self::WrongKey => {
                "the key is not that of the homeserver's backup: have the user type the recovery key of the current backup; an older one opens nothing"
            }
        }
    }
}

impl Version {
    /// Why a key that was not proved does not open this version.
    pub(super) fn unlock_failure(&self) -> UnlockFailure {
        if is_own(&self.algorithm) || self.algorithm == MEGOLM {
            UnlockFailure::WrongKey
        } else {
            UnlockFailure::Unsupported
        }
    }
}

/// What a proved key gives: how this device writes to the version, and with which key.
pub(super) struct Proved {
    pub(super) mode: Mode,
    pub(super) session_key: BackupKey,
}

/// Proves a key by a version's `auth_data`; `None` if it is not the version's key.
pub(super) fn prove(
    turn: &Turn<'_>,
    version: &Version,
    key: &BackupKey,
) -> Result<Option<Proved>, BackupError> {
    if is_own(&version.algorithm) {
        let auth_data: Option<AuthData> = serde_json::from_str(&version.auth_data).ok();
        let proved = auth_data
            .is_some_and(|auth_data| seal::proves(turn.crypto, key, &auth_data).unwrap_or(false));
        return Ok(proved.then(|| Proved { mode: Mode::Own, session_key: key.clone() }));
    }
    if version.algorithm == MEGOLM {
        #[derive(Deserialize)]
        struct MegolmAuthData {
            public_key: String,
        }
        let auth_data: Option<MegolmAuthData> = serde_json::from_str(&version.auth_data).ok();
        if auth_data.is_some_and(|auth_data| seal::proves_megolm(key, &auth_data.public_key)) {
            let session_key = seal::beside_megolm(turn.crypto, key)?;
            return Ok(Some(Proved { mode: Mode::BesideMegolm, session_key }));
        }
    }
    Ok(None)
}

/// What a restore reads from: a version, and the key that opens its sessions.
pub(super) struct Unlocked {
    pub(super) version: String,
    pub(super) session_key: BackupKey,
}

/// Unlocks the homeserver's version with this key; `None` if it is not the version's key.
pub(super) fn unlock(turn: &Turn<'_>, key: &BackupKey) -> Result<Option<Unlocked>, BackupError> {
    let Some(version) = load(turn.tx)?.version else { return Ok(None) };
    let proved = prove(turn, &version, key)?;
    Ok(proved.map(|Proved { session_key, .. }| Unlocked { version: version.version, session_key }))
}

/// Why a key that was not proved does not open the homeserver's version.
pub(super) fn unlock_failure(tx: &Tx<'_>) -> Result<UnlockFailure, StoreError> {
    Ok(load(tx)?.version.map_or(UnlockFailure::NoBackup, |version| version.unlock_failure()))
}
