//! The homeserver's backup version, and whether this device writes to it.
//!
//! A homeserver has one current version. Every operation begins with asking for it: a key is proved
//! by the version's `auth_data` before it is used, and a backup is created only if there is none,
//! or if the app allows replacing it. A Megolm backup is shared: MLS sessions go beside Megolm's,
//! under a key that is derived from the backup's key.

use ruma::api::client::backup::{create_backup_version, delete_backup_version};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    backlog,
    error::BackupError,
    lookup::request_version,
    proof::{Proved, UnlockFailure, prove},
    record::{Active, Intent, Mode, OWN, Version, edit, load},
    restore, upload,
};
use crate::{
    exported::Update,
    failure::Failure,
    requests::{self, BACKUP_SCOPE, Purpose},
    sessions::{BackupKey, PassphraseInfo, seal},
    turn::Turn,
};

/// Creates a backup with this key, if there is none or it may be replaced.
pub(crate) fn create(
    turn: &Turn<'_>,
    key: BackupKey,
    passphrase: PassphraseInfo,
    replace: bool,
) -> Result<(), BackupError> {
    edit(turn, |record| record.intent = Some(Intent::Create { key, passphrase, replace }))?;
    Ok(request_version(turn)?)
}

/// Writes to the homeserver's backup from now on, if this is its key.
pub(crate) fn enable(turn: &Turn<'_>, key: BackupKey) -> Result<(), BackupError> {
    edit(turn, |record| record.intent = Some(Intent::Enable { key, others: Vec::new() }))?;
    Ok(request_version(turn)?)
}

/// The same with the one of these keys that is the backup's.
pub(crate) fn enable_one_of(turn: &Turn<'_>, mut keys: Vec<BackupKey>) -> Result<(), BackupError> {
    let Some(key) = keys.pop() else { return Ok(()) };
    edit(turn, |record| record.intent = Some(Intent::Enable { key, others: keys }))?;
    Ok(request_version(turn)?)
}

/// Stops writing to the backup, and forgets its key.
pub(crate) fn disable(turn: &Turn<'_>) -> Result<(), BackupError> {
    edit(turn, |record| {
        record.active = None;
        record.intent = None;
    })?;
    Ok(backlog::clear(turn)?)
}

/// Deletes the backup from the homeserver, with everything in it.
pub(crate) fn delete(turn: &Turn<'_>) -> Result<(), BackupError> {
    let record = load(turn.tx)?;
    let active = record.active.map(|active| active.version);
    let Some(version) = active.or(record.version.map(|version| version.version)) else {
        return Err(BackupError::NoBackup);
    };
    disable(turn)?;
    edit(turn, |record| record.intent = Some(Intent::Delete { version: version.clone() }))?;
    let request = delete_backup_version::v3::Request::new(version);
    requests::enqueue(turn.tx, BACKUP_SCOPE, turn.now_ms, Purpose::DeleteBackup, request)?;
    Ok(())
}

/// Takes in that the homeserver has deleted the backup, or never had it.
pub(crate) fn version_deleted(turn: &Turn<'_>) -> Result<(), BackupError> {
    edit(turn, |record| {
        if let Some(Intent::Delete { version }) = &record.intent {
            if record.version.as_ref().is_some_and(|known| known.version == *version) {
                record.version = None;
            }
            record.intent = None;
        }
    })?;
    // An older version may have become the current one.
    Ok(request_version(turn)?)
}

/// Takes in the homeserver's answer with its current version.
pub(crate) fn version_found(turn: &Turn<'_>, body: &[u8]) -> Result<(), BackupError> {
    #[derive(Deserialize)]
    struct Answer {
        version: String,
        algorithm: String,
        auth_data: Box<RawValue>,
        #[serde(default)]
        count: Option<u64>,
    }
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|_| BackupError::MalformedAnswer("the backup's version is not readable"))?;
    let version = Version {
        version: answer.version,
        algorithm: answer.algorithm,
        auth_data: answer.auth_data.get().to_owned(),
        count: answer.count,
    };
    let record = load(turn.tx)?;
    let is_other = record.active.as_ref().is_some_and(|active| active.version != version.version);
    edit(turn, |record| {
        record.asked = true;
        record.version = Some(version.clone());
    })?;
    match record.intent {
        Some(Intent::Create { key, passphrase, replace: true }) => {
            request_new_version(turn, &key, passphrase)?;
        }
        Some(Intent::Create { .. }) => {
            give_up(
                turn,
                "backup_exists",
                "the homeserver has a backup already: enable it with its recovery key, or create another with replace, which ends the old one",
            )?;
        }
        Some(Intent::Enable { mut key, others }) => {
            for other in others {
                if prove(turn, &version, &key)?.is_none() {
                    key = other;
                }
            }
            try_key(turn, &version, key, answer.count)?;
        }
        Some(Intent::Follow { key }) => try_key(turn, &version, key, answer.count)?,
        Some(Intent::Delete { .. }) => {}
        None => match record.active {
            Some(active) if is_other => follow(turn, active, &version, answer.count)?,
            _ => {}
        },
    }
    restore::continue_proving(turn)
}

/// Changes over to another version than the one that this device writes to.
fn follow(
    turn: &Turn<'_>,
    active: Active,
    version: &Version,
    count: Option<u64>,
) -> Result<(), BackupError> {
    tracing::info!(version = %version.version, "the backup has another version");
    edit(turn, |record| record.active = None)?;
    backlog::clear(turn)?;
    try_key(turn, version, active.recovery_key, count)
}

/// Writes to this version from now on, if the key is the version's.
fn try_key(
    turn: &Turn<'_>,
    version: &Version,
    key: BackupKey,
    count: Option<u64>,
) -> Result<(), BackupError> {
    let Some(Proved { mode, session_key }) = prove(turn, version, &key)? else {
        let failure = version.unlock_failure();
        return give_up(turn, failure.code(), failure.reason());
    };
    let passphrase = serde_json::from_str(&version.auth_data).unwrap_or_default();
    let active = Active {
        version: version.version.clone(),
        mode,
        recovery_key: key,
        session_key,
        passphrase,
        backed_up: 0,
        on_server: count,
        most_bytes: upload::MOST_BYTES,
    };
    activate(turn, active)
}

/// Writes to this version from now on, beginning with what is not in it yet.
fn activate(turn: &Turn<'_>, mut active: Active) -> Result<(), BackupError> {
    backlog::clear(turn)?;
    active.backed_up = backlog::fill(turn, &active.version)?;
    edit(turn, |record| {
        record.intent = None;
        record.active = Some(active);
    })?;
    Ok(())
}

/// Gives up what the app intended. The backup that was enabled before stays enabled.
pub(super) fn give_up(turn: &Turn<'_>, code: &str, reason: &str) -> Result<(), BackupError> {
    turn.tell(Update::BackupFailed { code: code.to_owned(), reason: reason.to_owned() });
    Ok(edit(turn, |record| record.intent = None)?)
}

/// Takes in that the homeserver has no backup.
pub(super) fn no_version_found(turn: &Turn<'_>) -> Result<(), BackupError> {
    let record = load(turn.tx)?;
    edit(turn, |record| {
        record.asked = true;
        record.version = None;
    })?;
    if record.active.is_some() {
        edit(turn, |record| record.active = None)?;
        backlog::clear(turn)?;
    }
    match record.intent {
        Some(Intent::Create { key, passphrase, .. }) => {
            request_new_version(turn, &key, passphrase)?;
        }
        Some(Intent::Enable { .. } | Intent::Follow { .. }) => {
            give_up(turn, UnlockFailure::NoBackup.code(), UnlockFailure::NoBackup.reason())?;
        }
        Some(Intent::Delete { .. }) | None => {}
    }
    restore::continue_proving(turn)
}

/// Asks the homeserver to create a version with this key.
fn request_new_version(
    turn: &Turn<'_>,
    key: &BackupKey,
    passphrase: PassphraseInfo,
) -> Result<(), BackupError> {
    let auth_data = seal::auth_data(turn.crypto, key, passphrase)?;
    let algorithm = serde_json::json!({ "algorithm": OWN, "auth_data": auth_data });
    let algorithm = serde_json::value::to_raw_value(&algorithm)
        .map_err(|error| Failure::defect("auth_data", error))?;
    let algorithm = ruma::serde::Raw::from_json(algorithm);
    let request = create_backup_version::v3::Request::new(algorithm);
    requests::enqueue(turn.tx, BACKUP_SCOPE, turn.now_ms, Purpose::CreateBackup, request)?;
    Ok(())
}

/// Takes in that the homeserver has created the version.
pub(crate) fn version_created(turn: &Turn<'_>, body: &[u8]) -> Result<(), BackupError> {
    #[derive(Deserialize)]
    struct Answer {
        version: String,
    }
    let Answer { version } = serde_json::from_slice(body)
        .map_err(|_| BackupError::MalformedAnswer("the new backup has no version"))?;
    let Some(Intent::Create { key, passphrase, .. }) = load(turn.tx)?.intent else {
        // The app intends something else by now. Asking again finds the new version.
        return Ok(request_version(turn)?);
    };
    let active = Active {
        version,
        mode: Mode::Own,
        recovery_key: key.clone(),
        session_key: key,
        passphrase,
        backed_up: 0,
        on_server: Some(0),
        most_bytes: upload::MOST_BYTES,
    };
    activate(turn, active)?;
    // Asking again records the version as the homeserver has it.
    Ok(request_version(turn)?)
}
