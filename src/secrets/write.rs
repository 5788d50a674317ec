//! Storing this device's secrets.
//!
//! The event that makes a new key the default one is written last. Until then what was stored
//! before counts: each secret stays sealed under the earlier keys as well. So a device that dies in
//! between has lost nothing.

use openmls_traits::random::OpenMlsRand as _;
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    error::SecretsError,
    format::{DEFAULT_KEY, KeyDescription, Secret, key_type, sealed_into},
    record::{WORK, Work, fail, note_key, path, tell_state},
};
use crate::{
    backup::{self, ActiveKey, Mode},
    devices::{self, PrivateKey, PrivateKeys},
    failure::Failure,
    requests::{self, DEVICE_SCOPE, Purpose},
    sessions::{BackupKey, PassphraseInfo},
    store::StoreError,
    turn::Turn,
};

/// Fails unless this device has all that is to be stored.
pub(super) fn check(turn: &Turn<'_>) -> Result<(), SecretsError> {
    keys(turn).map(drop)
}

/// The private keys of the user's identity, all three.
fn keys(turn: &Turn<'_>) -> Result<[(Secret, PrivateKey); 3], SecretsError> {
    let own = turn.identity.name().user_id;
    let identity = devices::user_identity(turn.tx, &own)?;
    let identity = identity.filter(|identity| !identity.has_changed());
    let keys = match identity {
        Some(identity) => devices::private_keys(turn.tx)?.of_identity(&identity),
        None => PrivateKeys::default(),
    };
    match (keys.master, keys.self_signing, keys.user_signing) {
        (Some(master), Some(self_signing), Some(user_signing)) => Ok([
            (Secret::Master, master),
            (Secret::SelfSigning, self_signing),
            (Secret::UserSigning, user_signing),
        ]),
        _ => Err(SecretsError::Incomplete),
    }
}

/// A secret and what it is.
type Value = (Secret, Zeroizing<Vec<u8>>);

/// All secrets of this device.
pub(super) fn secrets(turn: &Turn<'_>) -> Result<Vec<Value>, SecretsError> {
    let mut secrets: Vec<_> = keys(turn)?
        .into_iter()
        .map(|(secret, key)| (secret, Zeroizing::new(key.bytes().to_vec())))
        .collect();
    if let Some(ActiveKey { recovery_key, mode, .. }) = backup::recovery_key(turn.tx)? {
        let secret = match mode {
            Mode::Own => Secret::OwnBackup,
            Mode::BesideMegolm => Secret::MegolmBackup,
        };
        secrets.push((secret, Zeroizing::new(recovery_key.bytes().to_vec())));
    }
    Ok(secrets)
}

/// Seals this device's secrets under a key, beside what was read, and begins to write them.
pub(super) fn store(
    turn: &Turn<'_>,
    mut work: Work,
    key: &BackupKey,
    passphrase: &PassphraseInfo,
    replace: bool,
) -> Result<(), SecretsError> {
    // The identity may have changed since this was begun.
    let secrets = match secrets(turn) {
        Err(SecretsError::Incomplete) => {
            let reason = "this device does not have all private keys of its user's identity";
            return Ok(fail(turn, "identity_incomplete", reason)?);
        }
        secrets => secrets?,
    };
    let default = work.default_key_id();
    let is_default = |id: &String| {
        let description = work.description(id).filter(KeyDescription::is_supported);
        description.and_then(|description| description.is_of(turn.crypto, key)) == Some(true)
    };
    let same = default.clone().filter(is_default);
    if default.is_some() && same.is_none() && !replace {
        return Ok(fail(turn, "recovery_exists", "there is secret storage with another key")?);
    }
    let is_new = same.is_none();
    let id = match same {
        Some(id) => id,
        None => {
            let id: [u8; 16] =
                turn.crypto.random_array().map_err(|error| Failure::defect("random", error))?;
            hex::encode(id)
        }
    };
    let mut to_write = Vec::new();
    if is_new {
        let description = KeyDescription::of_new(turn.crypto, key, passphrase)?;
        to_write.push((key_type(&id), json!(description).to_string()));
    }
    for (secret, bytes) in secrets {
        let before = work.content(secret.name());
        let content = sealed_into(turn.crypto, key, &id, secret, &bytes, &before)?;
        to_write.push((secret.name().to_owned(), content.to_string()));
    }
    if is_new {
        to_write.push((DEFAULT_KEY.to_owned(), json!({ "key": id }).to_string()));
    }
    work.to_write = to_write;
    WORK.put(turn.tx, b"", b"", &work)?;
    Ok(write_next(turn, &work)?)
}

/// Queues the next event that has to be written.
fn write_next(turn: &Turn<'_>, work: &Work) -> Result<(), StoreError> {
    let Some((kind, content)) = work.to_write.first() else { return Ok(()) };
    let path = path(turn, kind);
    let purpose = Purpose::WriteSecret { kind: kind.clone() };
    let body = content.clone().into_bytes();
    let line = ("PUT", &*path);
    requests::enqueue_json(turn.tx, DEVICE_SCOPE, turn.now_ms, purpose, line, body)?;
    Ok(())
}

/// The homeserver has taken an event.
pub(crate) fn written(turn: &Turn<'_>, kind: &str) -> Result<(), SecretsError> {
    let Some(mut work) = WORK.get(turn.tx, b"", b"")? else { return Ok(()) };
    if work.to_write.first().is_none_or(|(next, _)| next != kind) {
        return Ok(());
    }
    let (kind, content) = work.to_write.remove(0);
    work.found.insert(kind, Some(content));
    if !work.to_write.is_empty() {
        WORK.put(turn.tx, b"", b"", &work)?;
        return Ok(write_next(turn, &work)?);
    }
    note_key(turn, &work)?;
    WORK.delete(turn.tx, b"", b"")?;
    Ok(tell_state(turn)?)
}
