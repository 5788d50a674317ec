//! This device's key packages: made, published, replaced and forgotten.
//!
//! The homeserver hands each one-time package to one device that adds us, and the last-resort one
//! (the fallback key) to any number once those are used up. A package and the request that
//! publishes it come into being in one transaction, so none is lost to a crash. Private keys go when
//! their package was used (by OpenMLS, in the joining transaction), when it has expired, or, for
//! a replaced fallback key, after a time of grace.

use std::collections::{BTreeMap, HashMap};

use openmls::prelude::{
    Ciphersuite, KeyPackage, KeyPackageBundle, KeyPackageRef, Lifetime, tls_codec::Serialize as _,
};
use openmls_rust_crypto::RustCrypto;
use openmls_traits::{OpenMlsProvider, storage::StorageProvider};
use ruma::{OwnedOneTimeKeyId, api::client::keys::upload_keys, serde::Raw};
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;

use super::{Identity, IdentityError, Provider, Publishing};
use crate::{
    protocol::{encode_base64, identifiers},
    store::{Collection, MlsStorage, Namespace, StoreError, Tx},
};

/// How many one-time packages the homeserver should hold.
const TARGET: u64 = 50;
/// How long a package is valid, in seconds: a little under the most that OpenMLS accepts.
const LIFETIME_S: u64 = 80 * 24 * 60 * 60;
/// How far into the past a package is valid, in seconds, for clocks that are behind.
const SKEW_S: u64 = 60 * 60;
/// A one-time package that expires in less than this, in seconds, no longer counts as there.
const MARGIN_S: u64 = 7 * 24 * 60 * 60;
/// How long the private key of a replaced fallback key is kept, in seconds: somebody may have
/// claimed it just before, and their Welcome may take a while.
const GRACE_S: u64 = 7 * 24 * 60 * 60;

/// One package of ours.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct OwnKeyPackage {
    reference: KeyPackageRef,
    last_resort: bool,
    /// When it expires, in seconds since 1970.
    not_after_s: u64,
    /// When it was replaced, in seconds since 1970.
    replaced_s: Option<u64>,
}

impl OwnKeyPackage {
    fn is_done(&self, now_s: u64) -> bool {
        self.not_after_s <= now_s || self.replaced_s.is_some_and(|at| at + GRACE_S <= now_s)
    }
}

const PACKAGES: Collection<OwnKeyPackage> = Collection::new("own_key_package");

/// What the homeserver holds of ours, as far as it has said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Published {
    device_keys: bool,
    one_time: u64,
    fallback_used: bool,
}

const PUBLISHED: Collection<Published> = Collection::new("published_keys");

/// What an upload brings to the homeserver.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct UploadPlan {
    device_keys: bool,
    fallback: bool,
    suite: u16,
}

fn published(tx: &Tx<'_>) -> Result<Published, StoreError> {
    Ok(PUBLISHED.get(tx, b"", b"")?.unwrap_or_default())
}

/// Takes in a sync's counts. What the sync does not say stays as it was.
pub(crate) fn note_counts(
    tx: &Tx<'_>,
    suite: Ciphersuite,
    one_time: Option<&HashMap<String, u64>>,
    unused_fallback: Option<&[String]>,
) -> Result<(), StoreError> {
    let before = published(tx)?;
    let mut known = before.clone();
    if let Some(counts) = one_time {
        // An algorithm of which nothing is left is not named.
        known.one_time = counts
            .iter()
            .filter(|(algorithm, _)| identifiers::is_key_package_algorithm(algorithm, suite))
            .fold(0, |sum, (_, count)| sum.saturating_add(*count));
    }
    if let Some(unused) = unused_fallback {
        known.fallback_used =
            !unused.iter().any(|algorithm| identifiers::is_key_package_algorithm(algorithm, suite));
    }
    // Most syncs bring no news, and should cost no write.
    if known != before {
        PUBLISHED.put(tx, b"", b"", &known)?;
    }
    Ok(())
}

/// Makes what is missing on the homeserver, and the request that brings it there; nothing when
/// nothing is missing. Must not be called while an earlier upload is in the queue.
pub(crate) fn plan_upload(
    tx: &Tx<'_>,
    crypto: &RustCrypto,
    identity: &Identity,
    now_ms: u64,
) -> Result<Option<(UploadPlan, upload_keys::v3::Request)>, IdentityError> {
    let now_s = now_ms / 1000;
    let provider = Provider::new(crypto, MlsStorage::new(tx, Namespace::GLOBAL));
    remove_done(tx, &provider, now_s)?;

    let known = published(tx)?;
    let packages = PACKAGES.list(tx, b"")?;
    let one_time = packages
        .iter()
        .filter(|package| !package.last_resort && package.not_after_s > now_s + MARGIN_S)
        .count() as u64;
    let missing = TARGET.saturating_sub(one_time.min(known.one_time));
    let has_fallback = packages
        .iter()
        .find(|package| package.last_resort && package.replaced_s.is_none())
        .is_some_and(|package| {
            !known.fallback_used && package.not_after_s > now_s + LIFETIME_S / 2
        });
    let device_keys = identity.publishing == Publishing::Alone && !known.device_keys;
    if missing == 0 && has_fallback && !device_keys {
        return Ok(None);
    }

    let mut request = upload_keys::v3::Request::new();
    if device_keys {
        let keys = to_raw_value(&identity.own_device_keys()?).map_err(encoding)?;
        request.device_keys = Some(Raw::from_json(keys));
    }
    for _ in 0..missing {
        let (id, key) = make(tx, &provider, identity, false, now_s)?;
        request.one_time_keys.insert(id, key);
    }
    if !has_fallback {
        for mut package in packages {
            if package.last_resort && package.replaced_s.is_none() {
                package.replaced_s = Some(now_s);
                PACKAGES.put(tx, b"", package.reference.as_slice(), &package)?;
            }
        }
        let (id, key) = make(tx, &provider, identity, true, now_s)?;
        request.fallback_keys.insert(id, key);
    }
    let plan = UploadPlan { device_keys, fallback: !has_fallback, suite: identity.suite.into() };
    Ok(Some((plan, request)))
}

/// The homeserver has taken an upload.
pub(crate) fn mark_uploaded(
    tx: &Tx<'_>,
    plan: &UploadPlan,
    body: &[u8],
) -> Result<(), IdentityError> {
    #[derive(Deserialize)]
    struct Answer {
        one_time_key_counts: BTreeMap<String, u64>,
    }
    let answer: Answer =
        serde_json::from_slice(body).map_err(|_| IdentityError::MalformedAnswer)?;
    let suite = Ciphersuite::try_from(plan.suite)
        .map_err(|_| StoreError::Damaged("an upload's ciphersuite is unknown".into()))?;
    let counts: HashMap<_, _> = answer.one_time_key_counts.into_iter().collect();
    note_counts(tx, suite, Some(&counts), None)?;
    let mut known = published(tx)?;
    known.device_keys |= plan.device_keys;
    known.fallback_used &= !plan.fallback;
    Ok(PUBLISHED.put(tx, b"", b"", &known)?)
}

/// Forgets the one-time packages whose private keys OpenMLS deleted when it joined with them.
pub(crate) fn forget_used_key_packages(
    tx: &Tx<'_>,
    crypto: &RustCrypto,
) -> Result<(), IdentityError> {
    let provider = Provider::new(crypto, MlsStorage::new(tx, Namespace::GLOBAL));
    for package in PACKAGES.list(tx, b"")? {
        let kept: Option<KeyPackageBundle> = provider.storage().key_package(&package.reference)?;
        if kept.is_none() {
            PACKAGES.delete(tx, b"", package.reference.as_slice())?;
        }
    }
    Ok(())
}

/// Makes a package, keeps its private keys, and gives its key id and value as they are published.
fn make(
    tx: &Tx<'_>,
    provider: &Provider<'_>,
    identity: &Identity,
    last_resort: bool,
    now_s: u64,
) -> Result<(OwnedOneTimeKeyId, Raw<ruma::encryption::OneTimeKey>), IdentityError> {
    let not_after_s = now_s.saturating_add(LIFETIME_S);
    let mut builder = KeyPackage::builder()
        .key_package_lifetime(Lifetime::init(now_s.saturating_sub(SKEW_S), not_after_s))
        .leaf_node_capabilities(identity.capabilities());
    if last_resort {
        builder = builder.mark_as_last_resort();
    }
    let bundle = builder.build(
        identity.suite,
        provider,
        &identity.signer,
        identity.credential_with_key(),
    )?;
    let package = bundle.key_package();
    let reference = package
        .hash_ref(provider.crypto())
        .map_err(|error| IdentityError::Encoding(error.to_string()))?;
    let bytes = package.tls_serialize_detached().map_err(encoding)?;
    let algorithm = identifiers::key_package_algorithm(identity.suite);
    let id = format!("{algorithm}:{}", encode_base64(reference.as_slice()));
    let id = OwnedOneTimeKeyId::try_from(id).map_err(encoding)?;
    let value = Raw::from_json(to_raw_value(&encode_base64(&bytes)).map_err(encoding)?);
    let kept =
        OwnKeyPackage { reference: reference.clone(), last_resort, not_after_s, replaced_s: None };
    PACKAGES.put(tx, b"", reference.as_slice(), &kept)?;
    Ok((id, value))
}

/// Deletes the private keys of packages that nobody may use any more.
fn remove_done(tx: &Tx<'_>, provider: &Provider<'_>, now_s: u64) -> Result<(), IdentityError> {
    for package in PACKAGES.list(tx, b"")? {
        if !package.is_done(now_s) {
            continue;
        }
        let storage = provider.storage();
        let bundle: Option<KeyPackageBundle> = storage.key_package(&package.reference)?;
        if let Some(bundle) = bundle {
            let leaf = bundle.key_package().leaf_node();
            storage.delete_encryption_key_pair(leaf.encryption_key())?;
        }
        storage.delete_key_package(&package.reference)?;
        PACKAGES.delete(tx, b"", package.reference.as_slice())?;
    }
    Ok(())
}

fn encoding(error: impl std::fmt::Display) -> IdentityError {
    IdentityError::Encoding(error.to_string())
}
