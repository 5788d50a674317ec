//! Proving that a key is the backup's, before it is used.

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

/// Why no key opens the backup that the homeserver has told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locked {
    /// There is no backup.
    NoBackup,
    /// It is of a kind that is not known here.
    Unsupported,
    /// Another key opens it.
    WrongKey,
}

impl Locked {
    /// Stable across releases.
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
            Self::NoBackup => "the homeserver has no backup",
            Self::Unsupported => "the backup is of a kind that is not known here",
            Self::WrongKey => "the key is not that of the backup",
        }
    }
}

impl Version {
    /// Why a key that does not prove this version's does not.
    pub(super) fn why_locked(&self) -> Locked {
        if is_own(&self.algorithm) || self.algorithm == MEGOLM {
            Locked::WrongKey
        } else {
            Locked::Unsupported
        }
    }
}

/// How sessions are sealed in a version with this key, if it is the version's.
pub(super) fn prove(
    turn: &Turn<'_>,
    version: &Version,
    key: &BackupKey,
) -> Result<Option<(Mode, BackupKey)>, BackupError> {
    if is_own(&version.algorithm) {
        let auth_data: Option<AuthData> = serde_json::from_str(&version.auth_data).ok();
        let proved = auth_data
            .is_some_and(|auth_data| seal::proves(turn.crypto, key, &auth_data).unwrap_or(false));
        return Ok(proved.then(|| (Mode::Own, key.clone())));
    }
    if version.algorithm == MEGOLM {
        #[derive(Deserialize)]
        struct MegolmAuthData {
            public_key: String,
        }
        let auth_data: Option<MegolmAuthData> = serde_json::from_str(&version.auth_data).ok();
        if auth_data.is_some_and(|auth_data| seal::proves_megolm(key, &auth_data.public_key)) {
            return Ok(Some((Mode::BesideMegolm, seal::beside_megolm(turn.crypto, key)?)));
        }
    }
    Ok(None)
}

/// What a restore with this key takes: the version's name and the key of its sessions.
pub(super) fn unlock(
    turn: &Turn<'_>,
    key: &BackupKey,
) -> Result<Option<(String, BackupKey)>, BackupError> {
    let Some(version) = load(turn.tx)?.version else { return Ok(None) };
    Ok(prove(turn, &version, key)?.map(|(_, session_key)| (version.version, session_key)))
}

/// Why no key opens the backup that the homeserver has told of; if one could, it is another.
pub(super) fn why_locked(tx: &Tx<'_>) -> Result<Locked, StoreError> {
    Ok(load(tx)?.version.map_or(Locked::NoBackup, |version| version.why_locked()))
}
