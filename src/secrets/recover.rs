//! Opening what is in secret storage, and using it.
//!
//! The recovery key is what the user knows, so what it opens is the user's. A private master key
//! from there says which of two identities is the user's own: if it is that of the published master
//! key, this is pinned, whatever was before. A private key of a key that is not published is not
//! kept.

use std::collections::BTreeSet;

use zeroize::Zeroizing;

use super::{
    error::SecretsError,
    format::{SECRETS, Secret, Unreadable, open},
    record::{WORK, Work, fail, tell_state},
};
use crate::{
    backup::{self, Scope},
    devices::{self, PrivateKey, PrivateKeys},
    exported::{SecretFailure, Update},
    requests::{self, PausedWork},
    sessions::BackupKey,
    signing,
    turn::Turn,
};

/// What was opened, and what was not.
#[derive(Default)]
pub(super) struct Opened {
    keys: PrivateKeys,
    backup_keys: Vec<(Secret, BackupKey)>,
    failures: Vec<(Secret, &'static str)>,
}

impl Opened {
    /// A secret is there with these bytes.
    pub(super) fn add(&mut self, secret: Secret, bytes: &[u8]) {
        let private = PrivateKey::from_bytes(bytes);
        if private.is_none() {
            self.failures.push((secret, DAMAGED));
        }
        match secret {
            Secret::Master => self.keys.master = private,
            Secret::SelfSigning => self.keys.self_signing = private,
            Secret::UserSigning => self.keys.user_signing = private,
            Secret::OwnBackup | Secret::MegolmBackup => {
                let key = BackupKey::from_bytes(bytes).ok();
                self.backup_keys.extend(key.map(|key| (secret, key)));
            }
        }
    }

    /// A secret is not there.
    pub(super) fn miss(&mut self, secret: Secret) {
        self.failures.push((secret, MISSING));
    }
}

/// Opens the secrets that were read.
pub(super) fn recover(
    turn: &Turn<'_>,
    work: &Work,
    key: &BackupKey,
    with_history: bool,
) -> Result<(), SecretsError> {
    let Some(id) = work.default_key_id() else {
        return Ok(fail(turn, "no_recovery", "there is no secret storage")?);
    };
    let description = work.description(&id).filter(|description| description.is_supported());
    let Some(description) = description else {
        return Ok(fail(turn, "unsupported_recovery", "the secrets are sealed in an unknown way")?);
    };
    let is_key = description.is_of(turn.crypto, key);
    if is_key == Some(false) {
        return Ok(fail(
            turn,
            "wrong_key",
            "this is not the key of the secret storage: have the user type the recovery key that was shown last",
        )?);
    }
    if !devices::is_list_current(turn.tx, &turn.identity.name().user_id)? {
        // Which keys are published is known with the next answer.
        return Ok(());
    }
    let opened = open_all(turn, work, key, &id);
    let is_opened = opened.keys != PrivateKeys::default() || !opened.backup_keys.is_empty();
    if is_key.is_none() && !is_opened && opened.failures.iter().any(|(_, why)| *why == DAMAGED) {
        return Ok(fail(turn, "wrong_key", "the key opens no secret")?);
    }
    let backup_keys: Vec<_> = opened.backup_keys.iter().map(|(_, key)| key.clone()).collect();
    let (recovered, failures) = use_keys(turn, opened, true)?;
    WORK.delete(turn.tx, b"", b"")?;
    turn.tell(Update::RecoveryFinished { recovered, failures });
    if with_history {
        for key in backup_keys {
            backup::start_restore(turn, Some(key), Scope::All)?;
        }
    }
    Ok(tell_state(turn)?)
}

const MISSING: &str = "missing";
const DAMAGED: &str = "damaged";
const OTHER: &str = "other_identity";

fn open_all(turn: &Turn<'_>, work: &Work, key: &BackupKey, id: &str) -> Opened {
    let mut opened = Opened::default();
    for secret in SECRETS {
        let content = work.content(secret.name());
        let bytes: Zeroizing<Vec<u8>> = match open(turn.crypto, key, id, secret, &content) {
            Ok(bytes) => bytes,
            // A user has one backup, or none.
            Err(Unreadable::Missing)
                if matches!(secret, Secret::OwnBackup | Secret::MegolmBackup) =>
            {
                continue;
            }
            Err(Unreadable::Missing) => {
                opened.miss(secret);
                continue;
            }
            Err(Unreadable::Damaged) => {
                opened.failures.push((secret, DAMAGED));
                continue;
            }
        };
        opened.add(secret, &bytes);
    }
    opened
}

/// Uses what was opened. Gives the names of what is used, and what is not. `says_who`: whose master
/// key it is, that is the user's. It is not where this device itself has replaced that key: then
/// the homeserver has brought back what was stored before.
pub(super) fn use_keys(
    turn: &Turn<'_>,
    mut opened: Opened,
    says_who: bool,
) -> Result<(Vec<String>, Vec<SecretFailure>), SecretsError> {
    let own = turn.identity.name().user_id;
    let mut recovered = Vec::new();
    let known = devices::user_identity(turn.tx, &own)?;
    let is_old = |public: &[u8]| known.as_ref().is_some_and(|known| known.is_replaced_here(public));
    if let Some(master) = opened.keys.master.as_ref().filter(|_| says_who)
        && !is_old(&master.public())
    {
        let public = master.public();
        let accepted = devices::accept_identity(turn.tx, &own, &public, turn.now_ms)?;
        let confirmed = devices::confirm_own_identity(turn.tx, &own, &public)?;
        let others = accepted.into_iter().chain(confirmed).flatten();
        signing::tell_trust_changed(turn, others.collect::<BTreeSet<_>>())?;
    }
    let identity = devices::user_identity(turn.tx, &own)?;
    let good = identity
        .filter(|identity| !identity.has_changed())
        .map(|identity| (opened.keys.of_identity(&identity), identity));
    let known = match &good {
        Some((_, identity)) => devices::private_keys(turn.tx)?.of_identity(identity),
        None => PrivateKeys::default(),
    };
    let good = good.map(|(keys, _)| keys).unwrap_or_default();
    for (secret, opened_key, good_key) in [
        (Secret::Master, &opened.keys.master, &good.master),
        (Secret::SelfSigning, &opened.keys.self_signing, &good.self_signing),
        (Secret::UserSigning, &opened.keys.user_signing, &good.user_signing),
    ] {
        match (opened_key, good_key) {
            (_, Some(_)) => recovered.push(secret.name().to_owned()),
            (Some(_), None) => opened.failures.push((secret, OTHER)),
            (None, None) => {}
        }
    }
    if good != PrivateKeys::default() {
        let keys = PrivateKeys {
            master: good.master.or(known.master),
            self_signing: good.self_signing.or(known.self_signing),
            user_signing: good.user_signing.or(known.user_signing),
        };
        devices::keep_private_keys(turn.tx, &keys)?;
        requests::end_pause(turn.tx, PausedWork::SignDevice)?;
    }
    recovered.extend(opened.backup_keys.iter().map(|(secret, _)| secret.name().to_owned()));
    let backup_keys = opened.backup_keys.into_iter().map(|(_, key)| key).collect::<Vec<_>>();
    if !backup_keys.is_empty() {
        backup::enable_one_of(turn, backup_keys)?;
    }
    let failure = |(secret, code): (Secret, &str)| SecretFailure {
        name: secret.name().to_owned(),
        code: code.to_owned(),
    };
    let failures = opened.failures.into_iter().map(failure).collect();
    signing::tell_state(turn)?;
    Ok((recovered, failures))
}
