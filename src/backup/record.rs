//! The state of the backup: which version the homeserver has, what the app intends, and which
//! version this device writes to.

use serde::{Deserialize, Serialize};

use crate::{
    exported::{BackupState, PassphraseParameters, Update},
    sessions::{BackupKey, PassphraseInfo},
    store::{Collection, StoreError, Tx},
    turn::Turn,
};

/// The algorithm of a backup of this library's kind, as it is written.
pub(super) const OWN: &str = "org.matrix.msc4038.v0.aes-hmac-sha2";
/// The same algorithm once the MSC is accepted.
const OWN_STABLE: &str = "m.dmls_backup.v1.aes-hmac-sha2";
/// The algorithm of Megolm backups.
pub(super) const MEGOLM: &str = "m.megolm_backup.v1.curve25519-aes-sha2";

/// The name of a Megolm backup's key in secret storage (Matrix spec, "Secrets").
pub(crate) const MEGOLM_SECRET: &str = "m.megolm_backup.v1";
/// The name of the key of a backup of this library's kind in secret storage.
pub(crate) const OWN_SECRET: &str = "org.matrix.msc4038.v0";

/// How this device writes to a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mode {
    /// The backup is for MLS alone.
    Own,
    /// The backup is Megolm's, and MLS sessions are beside Megolm's.
    BesideMegolm,
}

/// A backup version that the homeserver has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) version: String,
    pub(super) algorithm: String,
    /// As JSON.
    pub(super) auth_data: String,
    /// How many sessions the homeserver said it holds, of all devices and kinds.
    #[serde(default)]
    pub(super) count: Option<u64>,
}

/// The backup that this device writes to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Active {
    pub(super) version: String,
    pub(super) mode: Mode,
    pub(super) recovery_key: BackupKey,
    /// The key that seals sessions.
    pub(super) session_key: BackupKey,
    pub(super) passphrase: PassphraseInfo,
    /// How many of this device's epochs are in it.
    pub(super) backed_up: u64,
    /// How many sessions the homeserver says it holds, of all devices and kinds.
    pub(super) on_server: Option<u64>,
    /// The largest upload, in bytes.
    pub(super) most_bytes: usize,
}

/// What the app intends with the backup, until the homeserver has answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Intent {
    Create {
        key: BackupKey,
        passphrase: PassphraseInfo,
        replace: bool,
    },
    Enable {
        key: BackupKey,
        /// Other keys that may be the backup's.
        #[serde(default)]
        others: Vec<BackupKey>,
    },
    /// The version was replaced by another: use the new one if it has the same key.
    Follow {
        key: BackupKey,
    },
    Delete {
        version: String,
    },
}

/// The state of the backup.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Record {
    /// Whether the homeserver has ever said which version it has.
    pub(super) asked: bool,
    pub(super) version: Option<Version>,
    pub(super) active: Option<Active>,
    #[serde(rename = "wish")]
    pub(super) intent: Option<Intent>,
}

const RECORD: Collection<Record> = Collection::new("key_backup");

pub(super) fn load(tx: &Tx<'_>) -> Result<Record, StoreError> {
    Ok(RECORD.get(tx, b"", b"")?.unwrap_or_default())
}

pub(super) fn save(tx: &Tx<'_>, record: &Record) -> Result<(), StoreError> {
    RECORD.put(tx, b"", b"", record)
}

/// The state of the backup, as an app sees it.
pub(crate) fn state(tx: &Tx<'_>) -> Result<BackupState, StoreError> {
    Ok(state_of(&load(tx)?))
}

fn state_of(record: &Record) -> BackupState {
    if record.intent.is_some() {
        return BackupState::Working;
    }
    if let Some(active) = &record.active {
        let megolm = active.mode == Mode::BesideMegolm;
        return BackupState::Enabled { version: active.version.clone(), megolm };
    }
    match &record.version {
        None if record.asked => BackupState::Absent,
        None => BackupState::Unknown,
        Some(Version { version, algorithm, auth_data, .. }) => {
            let megolm = algorithm == MEGOLM;
            if !megolm && !is_own(algorithm) {
                let (version, algorithm) = (version.clone(), algorithm.clone());
                return BackupState::Unsupported { version, algorithm };
            }
            let passphrase = passphrase_parameters(auth_data);
            BackupState::Locked { version: version.clone(), megolm, passphrase }
        }
    }
}

/// How a passphrase makes the key of a version with this `auth_data`, if one does.
fn passphrase_parameters(auth_data: &str) -> Option<PassphraseParameters> {
    let info: PassphraseInfo = serde_json::from_str(auth_data).unwrap_or_default();
    let (salt, rounds) = info.private_key_salt.zip(info.private_key_iterations)?;
    Some(PassphraseParameters { salt, rounds })
}

/// Whether an algorithm is that of a backup of this library's kind.
pub(super) fn is_own(algorithm: &str) -> bool {
    algorithm == OWN || algorithm == OWN_STABLE
}

/// The key of the backup that this device writes to.
pub(crate) struct ActiveKey {
    pub(crate) recovery_key: BackupKey,
    /// How a passphrase makes the recovery key.
    pub(crate) passphrase: PassphraseInfo,
    pub(crate) mode: Mode,
}

/// The key of the backup that this device writes to.
pub(crate) fn recovery_key(tx: &Tx<'_>) -> Result<Option<ActiveKey>, StoreError> {
    let key = |Active { recovery_key, passphrase, mode, .. }: Active| ActiveKey {
        recovery_key,
        passphrase,
        mode,
    };
    Ok(load(tx)?.active.map(key))
}

/// Changes the record. If the state changes with it, the app is told.
pub(super) fn edit<T>(
    turn: &Turn<'_>,
    work: impl FnOnce(&mut Record) -> T,
) -> Result<T, StoreError> {
    let mut record = load(turn.tx)?;
    let before = state_of(&record);
    let result = work(&mut record);
    save(turn.tx, &record)?;
    let after = state_of(&record);
    if before != after {
        turn.tell(Update::BackupChanged { state: after });
    }
    Ok(result)
}
