//! Which backup there is, and whether this device writes to it.
//!
//! A homeserver has one current version. Whatever is wanted of it begins with asking for that: a key
//! is proved by the version's `auth_data` before it is used, and a backup is made only where there is
//! none, or where the app says that it may be replaced. A Megolm backup is shared: MLS sessions go
//! beside the Megolm ones, under a key derived from its own.

use ruma::api::client::backup::{create_backup_version, delete_backup_version};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    backlog,
    error::BackupError,
    lookup::look,
    proof::{Locked, prove},
    record::{Active, Mode, OWN, Version, Wish, change, load},
    restore, upload,
};
use crate::{
    exported::Update,
    failure::Failure,
    requests::{self, BACKUP_SCOPE, Purpose},
    sessions::{BackupKey, PassphraseInfo, seal},
    turn::Turn,
};

/// Makes a backup with this key, where there is none or it may be replaced.
pub(crate) fn create(
    turn: &Turn<'_>,
    key: BackupKey,
    passphrase: PassphraseInfo,
    replace: bool,
) -> Result<(), BackupError> {
    change(turn, |record| record.wish = Some(Wish::Create { key, passphrase, replace }))?;
    Ok(look(turn)?)
}

/// Goes on with the backup that there is, if this is its key.
pub(crate) fn enable(turn: &Turn<'_>, key: BackupKey) -> Result<(), BackupError> {
    change(turn, |record| record.wish = Some(Wish::Enable { key }))?;
    Ok(look(turn)?)
}

/// Writes to the backup no longer, and forgets its key.
pub(crate) fn disable(turn: &Turn<'_>) -> Result<(), BackupError> {
    change(turn, |record| {
        record.active = None;
        record.wish = None;
    })?;
    Ok(backlog::stop(turn)?)
}

/// Deletes the backup from the homeserver, with all that is in it.
pub(crate) fn delete(turn: &Turn<'_>) -> Result<(), BackupError> {
    let record = load(turn.tx)?;
    let active = record.active.map(|active| active.version);
    let Some(version) = active.or(record.version.map(|version| version.version)) else {
        return Err(BackupError::NoBackup);
    };
    disable(turn)?;
    change(turn, |record| record.wish = Some(Wish::Delete { version: version.clone() }))?;
    let request = delete_backup_version::v3::Request::new(version);
    requests::enqueue(turn.tx, BACKUP_SCOPE, turn.now_ms, Purpose::DeleteBackup, request)?;
    Ok(())
}

/// The homeserver has deleted the backup, or never had it.
pub(crate) fn deleted(turn: &Turn<'_>) -> Result<(), BackupError> {
    change(turn, |record| {
        if let Some(Wish::Delete { version }) = &record.wish {
            if record.version.as_ref().is_some_and(|known| known.version == *version) {
                record.version = None;
            }
            record.wish = None;
        }
    })?;
    // An older version may have become the current one.
    Ok(look(turn)?)
}

/// The homeserver says which backup there is.
pub(crate) fn looked(turn: &Turn<'_>, body: &[u8]) -> Result<(), BackupError> {
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
    };
    let record = load(turn.tx)?;
    let stale = record.active.as_ref().is_some_and(|active| active.version != version.version);
    change(turn, |record| {
        record.asked = true;
        record.version = Some(version.clone());
    })?;
    match record.wish {
        Some(Wish::Create { key, passphrase, replace: true }) => post(turn, &key, passphrase)?,
        Some(Wish::Create { .. }) => {
            give_up(turn, "backup_exists", "there is a backup already: enable or replace it")?;
        }
        Some(Wish::Enable { key } | Wish::Follow { key }) => {
            try_key(turn, &version, key, answer.count)?;
        }
        Some(Wish::Delete { .. }) => {}
        None => match record.active {
            Some(active) if stale => follow(turn, active, &version, answer.count)?,
            _ => {}
        },
    }
    restore::go_on_with_proof(turn)
}

/// The homeserver has another version than the one that this device writes to.
fn follow(
    turn: &Turn<'_>,
    active: Active,
    version: &Version,
    count: Option<u64>,
) -> Result<(), BackupError> {
    tracing::info!(version = %version.version, "the backup has another version");
    change(turn, |record| record.active = None)?;
    backlog::stop(turn)?;
    try_key(turn, version, active.recovery_key, count)
}

/// Goes on with this version, if the key is its.
fn try_key(
    turn: &Turn<'_>,
    version: &Version,
    key: BackupKey,
    count: Option<u64>,
) -> Result<(), BackupError> {
    match prove(turn, version, &key)? {
        Some((mode, session_key)) => {
            let passphrase = serde_json::from_str(&version.auth_data).unwrap_or_default();
            activate(turn, version.version.clone(), mode, key, session_key, passphrase, count)
        }
        None => {
            let locked = version.why_locked();
            give_up(turn, locked.code(), locked.reason())
        }
    }
}

fn activate(
    turn: &Turn<'_>,
    version: String,
    mode: Mode,
    recovery_key: BackupKey,
    session_key: BackupKey,
    passphrase: PassphraseInfo,
    on_server: Option<u64>,
) -> Result<(), BackupError> {
    backlog::stop(turn)?;
    let backed_up = backlog::begin(turn, &version)?;
    change(turn, |record| {
        record.wish = None;
        record.active = Some(Active {
            version,
            mode,
            recovery_key,
            session_key,
            passphrase,
            backed_up,
            on_server,
            most_bytes: upload::MOST_BYTES,
        });
    })?;
    Ok(())
}

/// What was wanted does not come about, and what was before goes on.
pub(super) fn give_up(turn: &Turn<'_>, code: &str, reason: &str) -> Result<(), BackupError> {
    turn.tell(Update::BackupFailed { code: code.to_owned(), reason: reason.to_owned() });
    Ok(change(turn, |record| record.wish = None)?)
}

/// The homeserver has no backup.
pub(super) fn none_there(turn: &Turn<'_>) -> Result<(), BackupError> {
    let record = load(turn.tx)?;
    change(turn, |record| {
        record.asked = true;
        record.version = None;
    })?;
    if record.active.is_some() {
        change(turn, |record| record.active = None)?;
        backlog::stop(turn)?;
    }
    match record.wish {
        Some(Wish::Create { key, passphrase, .. }) => post(turn, &key, passphrase)?,
        Some(Wish::Enable { .. } | Wish::Follow { .. }) => {
            give_up(turn, Locked::NoBackup.code(), Locked::NoBackup.reason())?;
        }
        Some(Wish::Delete { .. }) | None => {}
    }
    restore::go_on_with_proof(turn)
}

/// Asks the homeserver to make a version with this key.
fn post(turn: &Turn<'_>, key: &BackupKey, passphrase: PassphraseInfo) -> Result<(), BackupError> {
    let auth_data = seal::auth_data(turn.crypto, key, passphrase)?;
    let algorithm = serde_json::json!({ "algorithm": OWN, "auth_data": auth_data });
    let algorithm = serde_json::value::to_raw_value(&algorithm)
        .map_err(|error| Failure::defect("auth_data", error))?;
    let algorithm = ruma::serde::Raw::from_json(algorithm);
    let request = create_backup_version::v3::Request::new(algorithm);
    requests::enqueue(turn.tx, BACKUP_SCOPE, turn.now_ms, Purpose::CreateBackup, request)?;
    Ok(())
}

/// The homeserver has made the version.
pub(crate) fn created(turn: &Turn<'_>, body: &[u8]) -> Result<(), BackupError> {
    #[derive(Deserialize)]
    struct Answer {
        version: String,
    }
    let Answer { version } = serde_json::from_slice(body)
        .map_err(|_| BackupError::MalformedAnswer("the new backup has no version"))?;
    let Some(Wish::Create { key, passphrase, .. }) = load(turn.tx)?.wish else {
        // Something else is wanted by now: it finds the version when it looks.
        return Ok(look(turn)?);
    };
    activate(turn, version, Mode::Own, key.clone(), key, passphrase, Some(0))?;
    // What there is on the homeserver is known by what it says.
    Ok(look(turn)?)
}
