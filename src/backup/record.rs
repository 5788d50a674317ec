//! What is known of the backup: which version there is, what the app wants of it, and what this
//! device writes to.

use serde::{Deserialize, Serialize};

use crate::{
    exported::{BackupState, PassphraseParameters, Update},
    sessions::{BackupKey, PassphraseInfo},
    store::{Collection, StoreError, Tx},
    turn::Turn,
};

/// The algorithm of a backup of our own, as it is written.
pub(super) const OWN: &str = "org.matrix.msc4038.v0.aes-hmac-sha2";
/// The same once the MSC is accepted.
const OWN_STABLE: &str = "m.dmls_backup.v1.aes-hmac-sha2";
/// The algorithm of Megolm backups.
pub(super) const MEGOLM: &str = "m.megolm_backup.v1.curve25519-aes-sha2";

/// How this device writes to a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mode {
    /// It is for MLS alone.
    Own,
    /// It is a Megolm backup.
    BesideMegolm,
}

/// A version that the homeserver has told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) version: String,
    pub(super) algorithm: String,
    /// JSON.
    pub(super) auth_data: String,
}

/// The backup that this device writes to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Active {
    pub(super) version: String,
    pub(super) mode: Mode,
    pub(super) recovery_key: BackupKey,
    /// What sessions are sealed with.
    pub(super) session_key: BackupKey,
    pub(super) passphrase: PassphraseInfo,
    /// How many epochs of this device are in it.
    pub(super) backed_up: u64,
    /// How many sessions the homeserver says it has, of all devices and kinds.
    pub(super) on_server: Option<u64>,
    /// The most bytes in one upload.
    pub(super) most_bytes: usize,
}

/// What the app has asked for and waits for the homeserver.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Wish {
    Create {
        key: BackupKey,
        passphrase: PassphraseInfo,
        replace: bool,
    },
    Enable {
        key: BackupKey,
    },
    /// The version has changed under this device: go on with the new one, if the key is its.
    Follow {
        key: BackupKey,
    },
    Delete {
        version: String,
    },
}

/// What is known of the backup.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Record {
    /// The homeserver has been asked.
    pub(super) asked: bool,
    pub(super) version: Option<Version>,
    pub(super) active: Option<Active>,
    pub(super) wish: Option<Wish>,
}

const RECORD: Collection<Record> = Collection::new("key_backup");

pub(super) fn load(tx: &Tx<'_>) -> Result<Record, StoreError> {
    Ok(RECORD.get(tx, b"", b"")?.unwrap_or_default())
}

pub(super) fn save(tx: &Tx<'_>, record: &Record) -> Result<(), StoreError> {
    RECORD.put(tx, b"", b"", record)
}

/// How the backup stands.
pub(crate) fn state(tx: &Tx<'_>) -> Result<BackupState, StoreError> {
    Ok(state_of(&load(tx)?))
}

fn state_of(record: &Record) -> BackupState {
    if record.wish.is_some() {
        return BackupState::Working;
    }
    if let Some(active) = &record.active {
        let megolm = active.mode == Mode::BesideMegolm;
        return BackupState::Enabled { version: active.version.clone(), megolm };
    }
    match &record.version {
        None if record.asked => BackupState::Absent,
        None => BackupState::Unknown,
        Some(Version { version, algorithm, auth_data }) => {
            let megolm = algorithm == MEGOLM;
            if !megolm && !is_own(algorithm) {
                let (version, algorithm) = (version.clone(), algorithm.clone());
                return BackupState::Unsupported { version, algorithm };
            }
            let passphrase = parameters_of(auth_data);
            BackupState::Locked { version: version.clone(), megolm, passphrase }
        }
    }
}

/// How a passphrase makes the key of a version with this `auth_data`, where one does.
fn parameters_of(auth_data: &str) -> Option<PassphraseParameters> {
    let info: PassphraseInfo = serde_json::from_str(auth_data).unwrap_or_default();
    let (salt, rounds) = info.private_key_salt.zip(info.private_key_iterations)?;
    Some(PassphraseParameters { salt, rounds })
}

/// Whether a version's algorithm is that of a backup of our own.
pub(super) fn is_own(algorithm: &str) -> bool {
    algorithm == OWN || algorithm == OWN_STABLE
}

/// The recovery key of the backup that this device writes to, and how a passphrase makes it.
pub(crate) fn recovery_key(
    tx: &Tx<'_>,
) -> Result<Option<(BackupKey, PassphraseInfo, Mode)>, StoreError> {
    let active = load(tx)?.active;
    Ok(active.map(|active| (active.recovery_key, active.passphrase, active.mode)))
}

/// Changes the record and tells the state if that changed.
pub(super) fn change<T>(
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
