//! Which backup there is, and whether this device writes to it.
//!
//! A homeserver has one current version. Whatever is wanted of it begins with asking for that: a key is
//! proved by the version's `auth_data` before it is used, and a backup is made only where there is none,
//! or where the app says that it may be replaced. A Megolm backup is shared: MLS sessions go beside the
//! Megolm ones, under a key derived from its own.

use ruma::api::client::backup::{
    create_backup_version, delete_backup_version, get_latest_backup_info,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    key::BackupKey,
    restore, seal,
    seal::{AuthData, PassphraseInfo},
    upload,
};
use crate::{
    error::MlsError,
    group::Turn,
    requests::{self, BACKUP_SCOPE, Purpose, REQUESTS},
    store::{Collection, StoreError, Tx},
    updates::Update,
};

/// The algorithm of a backup of our own, as it is written.
const OWN: &str = "org.matrix.msc4038.v0.aes-hmac-sha2";
/// The same once the MSC is accepted.
const OWN_STABLE: &str = "m.dmls_backup.v1.aes-hmac-sha2";
/// The algorithm of Megolm backups.
const MEGOLM: &str = "m.megolm_backup.v1.curve25519-aes-sha2";

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
struct Version {
    version: String,
    algorithm: String,
    /// JSON.
    auth_data: String,
}

/// The backup that this device writes to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Active {
    pub(super) version: String,
    pub(super) mode: Mode,
    pub(super) recovery_key: BackupKey,
    /// What sessions are sealed with.
    pub(super) session_key: BackupKey,
    passphrase: PassphraseInfo,
    /// How many epochs of this device are in it.
    pub(super) backed_up: u64,
    /// How many sessions the homeserver says it has, of all devices and kinds.
    pub(super) on_server: Option<u64>,
    /// The most bytes in one upload.
    pub(super) most_bytes: usize,
}

/// What the app has asked for and waits for the homeserver.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Wish {
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
    asked: bool,
    version: Option<Version>,
    pub(super) active: Option<Active>,
    wish: Option<Wish>,
}

const RECORD: Collection<Record> = Collection::new("key_backup");

pub(super) fn load(tx: &Tx<'_>) -> Result<Record, StoreError> {
    Ok(RECORD.get(tx, b"", b"")?.unwrap_or_default())
}

pub(super) fn save(tx: &Tx<'_>, record: &Record) -> Result<(), StoreError> {
    RECORD.put(tx, b"", b"", record)
}

/// How things stand, for the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Unknown,
    Absent,
    Working,
    Locked { version: String, megolm: bool, passphrase: PassphraseInfo },
    Unsupported { version: String, algorithm: String },
    Enabled { version: String, mode: Mode },
}

/// How things stand.
pub(crate) fn state(tx: &Tx<'_>) -> Result<State, StoreError> {
    Ok(state_of(&load(tx)?))
}

fn state_of(record: &Record) -> State {
    if record.wish.is_some() {
        return State::Working;
    }
    if let Some(active) = &record.active {
        return State::Enabled { version: active.version.clone(), mode: active.mode };
    }
    match &record.version {
        None if record.asked => State::Absent,
        None => State::Unknown,
        Some(Version { version, algorithm, auth_data }) => {
            let megolm = algorithm == MEGOLM;
            if !megolm && !is_own(algorithm) {
                let (version, algorithm) = (version.clone(), algorithm.clone());
                return State::Unsupported { version, algorithm };
            }
            let passphrase = serde_json::from_str(auth_data).unwrap_or_default();
            State::Locked { version: version.clone(), megolm, passphrase }
        }
    }
}

fn is_own(algorithm: &str) -> bool {
    algorithm == OWN || algorithm == OWN_STABLE
}

/// The recovery key of the backup that this device writes to, and how a passphrase makes it.
pub(crate) fn recovery_key(
    tx: &Tx<'_>,
) -> Result<Option<(BackupKey, PassphraseInfo, Mode)>, StoreError> {
    let active = load(tx)?.active;
    Ok(active.map(|active| (active.recovery_key, active.passphrase, active.mode)))
}

/// How many epochs of this device are in the backup, how many are still to be, and how many sessions the
/// homeserver has.
pub(crate) fn counts(tx: &Tx<'_>) -> Result<(u64, u64, Option<u64>), StoreError> {
    let Some(active) = load(tx)?.active else { return Ok((0, 0, None)) };
    Ok((active.backed_up, upload::waiting(tx)?, active.on_server))
}

/// Changes the record and tells the state if that changed.
fn change<T>(turn: &Turn<'_>, work: impl FnOnce(&mut Record) -> T) -> Result<T, MlsError> {
    let mut record = load(turn.tx)?;
    let before = state_of(&record);
    let result = work(&mut record);
    save(turn.tx, &record)?;
    let after = state_of(&record);
    if before != after {
        turn.tell(Update::BackupChanged { state: after.into() });
    }
    Ok(result)
}

/// Asks the homeserver which backup there is.
pub(crate) fn look(turn: &Turn<'_>) -> Result<(), MlsError> {
    let queued = REQUESTS.in_scope(turn.tx, BACKUP_SCOPE)?;
    if queued.iter().any(|(_, queued)| matches!(queued.purpose, Purpose::BackupVersion)) {
        return Ok(());
    }
    let request = get_latest_backup_info::v3::Request::new();
    requests::enqueue(turn.tx, BACKUP_SCOPE, turn.now_ms, Purpose::BackupVersion, request)?;
    Ok(())
}

/// Makes a backup with this key, where there is none or it may be replaced.
pub(crate) fn create(
    turn: &Turn<'_>,
    key: BackupKey,
    passphrase: PassphraseInfo,
    replace: bool,
) -> Result<(), MlsError> {
    change(turn, |record| record.wish = Some(Wish::Create { key, passphrase, replace }))?;
    look(turn)
}

/// Goes on with the backup that there is, if this is its key.
pub(crate) fn enable(turn: &Turn<'_>, key: BackupKey) -> Result<(), MlsError> {
    change(turn, |record| record.wish = Some(Wish::Enable { key }))?;
    look(turn)
}

/// Writes to the backup no longer, and forgets its key.
pub(crate) fn disable(turn: &Turn<'_>) -> Result<(), MlsError> {
    change(turn, |record| {
        record.active = None;
        record.wish = None;
    })?;
    upload::stop(turn)
}

/// Deletes the backup from the homeserver, with all that is in it.
pub(crate) fn delete(turn: &Turn<'_>) -> Result<(), MlsError> {
    let record = load(turn.tx)?;
    let active = record.active.map(|active| active.version);
    let Some(version) = active.or(record.version.map(|version| version.version)) else {
        return Err(MlsError::invalid("no_backup", "there is no backup that this device knows of"));
    };
    disable(turn)?;
    change(turn, |record| record.wish = Some(Wish::Delete { version: version.clone() }))?;
    let request = delete_backup_version::v3::Request::new(version);
    requests::enqueue(turn.tx, BACKUP_SCOPE, turn.now_ms, Purpose::DeleteBackup, request)?;
    Ok(())
}

/// The homeserver has deleted the backup, or never had it.
pub(crate) fn deleted(turn: &Turn<'_>) -> Result<(), MlsError> {
    change(turn, |record| {
        if let Some(Wish::Delete { version }) = &record.wish {
            if record.version.as_ref().is_some_and(|known| known.version == *version) {
                record.version = None;
            }
            record.wish = None;
        }
    })?;
    // An older version may have become the current one.
    look(turn)
}

/// The homeserver says which backup there is.
pub(crate) fn looked(turn: &Turn<'_>, body: &[u8]) -> Result<(), MlsError> {
    #[derive(Deserialize)]
    struct Answer {
        version: String,
        algorithm: String,
        auth_data: Box<RawValue>,
        #[serde(default)]
        count: Option<u64>,
    }
    let answer: Answer = serde_json::from_slice(body).map_err(|_| {
        MlsError::rejected("malformed_answer", "the backup's version is not readable")
    })?;
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
    restore::looked(turn)
}

/// The homeserver has another version than the one that this device writes to.
fn follow(
    turn: &Turn<'_>,
    active: Active,
    version: &Version,
    count: Option<u64>,
) -> Result<(), MlsError> {
    tracing::info!(version = %version.version, "the backup has another version");
    change(turn, |record| record.active = None)?;
    upload::stop(turn)?;
    try_key(turn, version, active.recovery_key, count)
}

/// Goes on with this version, if the key is its.
fn try_key(
    turn: &Turn<'_>,
    version: &Version,
    key: BackupKey,
    count: Option<u64>,
) -> Result<(), MlsError> {
    match prove(turn, version, &key)? {
        Some((mode, session_key)) => {
            let passphrase = serde_json::from_str(&version.auth_data).unwrap_or_default();
            activate(turn, version.version.clone(), mode, key, session_key, passphrase, count)
        }
        None if !is_own(&version.algorithm) && version.algorithm != MEGOLM => {
            give_up(turn, "unsupported_backup", "the backup is of a kind that is not known here")
        }
        None => give_up(turn, "wrong_key", "the key is not that of the backup"),
    }
}

/// How sessions are sealed in a version with this key, if it is the version's.
fn prove(
    turn: &Turn<'_>,
    version: &Version,
    key: &BackupKey,
) -> Result<Option<(Mode, BackupKey)>, MlsError> {
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
) -> Result<Option<(String, BackupKey)>, MlsError> {
    let Some(version) = load(turn.tx)?.version else { return Ok(None) };
    Ok(prove(turn, &version, key)?.map(|(_, session_key)| (version.version, session_key)))
}

/// Why no key opens the backup that the homeserver has told of; if one could, it is another.
pub(super) fn why_locked(tx: &Tx<'_>) -> Result<&'static str, StoreError> {
    Ok(match load(tx)?.version {
        None => "no_backup",
        Some(version) if !is_own(&version.algorithm) && version.algorithm != MEGOLM => {
            "unsupported_backup"
        }
        Some(_) => "wrong_key",
    })
}

fn activate(
    turn: &Turn<'_>,
    version: String,
    mode: Mode,
    recovery_key: BackupKey,
    session_key: BackupKey,
    passphrase: PassphraseInfo,
    on_server: Option<u64>,
) -> Result<(), MlsError> {
    upload::stop(turn)?;
    let backed_up = upload::begin(turn, &version)?;
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
    })
}

/// What was wanted does not come about, and what was before goes on.
fn give_up(turn: &Turn<'_>, code: &str, reason: &str) -> Result<(), MlsError> {
    turn.tell(Update::BackupFailed { code: code.to_owned(), reason: reason.to_owned() });
    change(turn, |record| record.wish = None)
}

/// The homeserver has no backup.
fn none_there(turn: &Turn<'_>) -> Result<(), MlsError> {
    let record = load(turn.tx)?;
    change(turn, |record| {
        record.asked = true;
        record.version = None;
    })?;
    if record.active.is_some() {
        change(turn, |record| record.active = None)?;
        upload::stop(turn)?;
    }
    match record.wish {
        Some(Wish::Create { key, passphrase, .. }) => post(turn, &key, passphrase)?,
        Some(Wish::Enable { .. } | Wish::Follow { .. }) => {
            give_up(turn, "no_backup", "the homeserver has no backup")?;
        }
        Some(Wish::Delete { .. }) | None => {}
    }
    restore::looked(turn)
}

/// Asks the homeserver to make a version with this key.
fn post(turn: &Turn<'_>, key: &BackupKey, passphrase: PassphraseInfo) -> Result<(), MlsError> {
    let auth_data = seal::auth_data(turn.crypto, key, passphrase)?;
    let algorithm = serde_json::json!({ "algorithm": OWN, "auth_data": auth_data });
    let algorithm = serde_json::value::to_raw_value(&algorithm)
        .map_err(|error| MlsError::internal("auth_data", error))?;
    let algorithm = ruma::serde::Raw::from_json(algorithm);
    let request = create_backup_version::v3::Request::new(algorithm);
    requests::enqueue(turn.tx, BACKUP_SCOPE, turn.now_ms, Purpose::CreateBackup, request)?;
    Ok(())
}

/// The homeserver has made the version.
pub(crate) fn created(turn: &Turn<'_>, body: &[u8]) -> Result<(), MlsError> {
    #[derive(Deserialize)]
    struct Answer {
        version: String,
    }
    let Answer { version } = serde_json::from_slice(body)
        .map_err(|_| MlsError::rejected("malformed_answer", "the new backup has no version"))?;
    let Some(Wish::Create { key, passphrase, .. }) = load(turn.tx)?.wish else {
        // Something else is wanted by now: it finds the version when it looks.
        return look(turn);
    };
    activate(turn, version, Mode::Own, key.clone(), key, passphrase, Some(0))?;
    // What there is on the homeserver is known by what it says.
    look(turn)
}

/// What a refusal of the homeserver comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It says something that is of use: as good as an answer.
    Answer,
    /// The request is to be sent again.
    Later,
    /// What was wanted does not come about.
    Refusal,
}

/// The homeserver refuses a request of the backup's.
pub(crate) fn refused(
    turn: &Turn<'_>,
    purpose: &Purpose,
    status: u16,
    code: &str,
) -> Result<Verdict, MlsError> {
    match purpose {
        Purpose::BackupVersion if status == 404 => none_there(turn)?,
        Purpose::DeleteBackup if status == 404 => deleted(turn)?,
        Purpose::CreateBackup => {
            give_up(turn, code, "the homeserver refuses to make a backup")?;
            return Ok(Verdict::Refusal);
        }
        Purpose::BackUp(_) if status == 413 => upload::too_large(turn)?,
        Purpose::BackUp(_) if status == 404 || code == "M_WRONG_ROOM_KEYS_VERSION" => {
            change(turn, |record| {
                if let Some(active) = record.active.take()
                    && record.wish.is_none()
                {
                    record.wish = Some(Wish::Follow { key: active.recovery_key });
                }
            })?;
            upload::stop(turn)?;
            look(turn)?;
        }
        // It was not there, or will go with its version.
        Purpose::Unback { .. } => {}
        Purpose::RestoreKeys { restore } => restore::refused(turn, *restore, status, code)?,
        _ => return Ok(Verdict::Later),
    }
    Ok(Verdict::Answer)
}
