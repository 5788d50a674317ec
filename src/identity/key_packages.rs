//! This device's key packages: made, kept while they may be needed, and forgotten.
//!
//! The homeserver hands each one-time package to one device that adds us, and the last-resort one
//! (the fallback key) to any number once those are used up. A package's private keys are in the
//! store from the moment it exists, before anybody can have heard of it. They go when the package
//! was used (in the joining transaction), when it has expired, when far too many newer ones were
//! made, or, for a replaced last-resort one, after a time of grace.

use openmls::prelude::{
    KeyPackage, KeyPackageBundle, KeyPackageRef, Lifetime, tls_codec::Serialize as _,
};
use openmls_traits::{OpenMlsProvider, storage::StorageProvider};
use ruma::{OwnedOneTimeKeyId, encryption::OneTimeKey, serde::Raw};
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;

use super::{
    crypto::Crypto,
    device::{Identity, IdentityError, encoding},
    provider::Provider,
};
use crate::{
    protocol::{encode_base64, identifiers},
    store::{Collection, MlsStorage, Namespace, StoreError, Tx},
};

/// How long a package is valid, in seconds: a little under the most that OpenMLS accepts.
pub(super) const LIFETIME_S: u64 = 80 * 24 * 60 * 60;
/// How far into the past a package is valid, in seconds, for clocks that are behind.
const SKEW_S: u64 = 60 * 60;
/// A one-time package that expires in less than this, in seconds, no longer counts as there.
const MARGIN_S: u64 = 7 * 24 * 60 * 60;
/// How long the private key of a replaced fallback key is kept, in seconds: somebody may have
/// claimed it just before, and their Welcome may take a while. Counted from when the homeserver
/// took the one that replaces it: until then the old one is still handed out.
const GRACE_S: u64 = 7 * 24 * 60 * 60;
/// How many one-time packages are kept at most. Anybody can claim ours and never invite us, so
/// without a bound their private keys would pile up for all of their lifetime.
pub(super) const MOST_KEPT: usize = 1_000;

/// One package of ours.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct OwnKeyPackage {
    pub(super) reference: KeyPackageRef,
    pub(super) last_resort: bool,
    /// When it expires, in seconds since 1970.
    not_after_s: u64,
    /// When it was replaced, in seconds since 1970.
    replaced_s: Option<u64>,
    /// The homeserver has not yet confirmed that it took it.
    #[serde(default)]
    unpublished: bool,
}

impl OwnKeyPackage {
    fn is_done(&self, now_s: u64) -> bool {
        self.not_after_s <= now_s
            || self.replaced_s.is_some_and(|at| at.saturating_add(GRACE_S) <= now_s)
    }

    /// Whether the homeserver may still hold it as a one-time key of use.
    pub(super) fn is_good_one_time(&self, now_s: u64) -> bool {
        !self.last_resort && !self.unpublished && self.not_after_s > now_s.saturating_add(MARGIN_S)
    }

    /// Whether it is the published fallback key, with half of its life or more before it.
    pub(super) fn is_good_fallback(&self, now_s: u64) -> bool {
        self.last_resort
            && !self.unpublished
            && self.replaced_s.is_none()
            && self.not_after_s > now_s.saturating_add(LIFETIME_S / 2)
    }
}

const PACKAGES: Collection<OwnKeyPackage> = Collection::new("own_key_package");

/// All packages whose private keys are kept, oldest first.
pub(super) fn list(tx: &Tx<'_>) -> Result<Vec<OwnKeyPackage>, StoreError> {
    PACKAGES.list(tx, b"")
}

/// Makes a package and keeps its private keys.
pub(super) fn make(
    tx: &Tx<'_>,
    provider: &Provider<'_>,
    identity: &Identity,
    last_resort: bool,
    now_s: u64,
) -> Result<KeyPackageRef, IdentityError> {
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
    let reference = bundle.key_package().hash_ref(provider.crypto()).map_err(encoding)?;
    let package = OwnKeyPackage {
        reference: reference.clone(),
        last_resort,
        not_after_s,
        replaced_s: None,
        unpublished: true,
    };
    PACKAGES.put(tx, b"", reference.as_slice(), &package)?;
    Ok(reference)
}

/// A package's key id and value, as they are published; nothing when it is no longer kept.
pub(super) fn published_form(
    provider: &Provider<'_>,
    identity: &Identity,
    reference: &KeyPackageRef,
) -> Result<Option<(OwnedOneTimeKeyId, Raw<OneTimeKey>)>, IdentityError> {
    let bundle: Option<KeyPackageBundle> = provider.storage().key_package(reference)?;
    let Some(bundle) = bundle else { return Ok(None) };
    let bytes = bundle.key_package().tls_serialize_detached().map_err(encoding)?;
    let algorithm = identifiers::key_package_algorithm(identity.suite);
    let id = format!("{algorithm}:{}", encode_base64(reference.as_slice()));
    let id = OwnedOneTimeKeyId::try_from(id).map_err(encoding)?;
    let value = Raw::from_json(to_raw_value(&encode_base64(&bytes)).map_err(encoding)?);
    Ok(Some((id, value)))
}

/// The homeserver has these packages. A last-resort one among them replaces those before it.
pub(super) fn mark_published(
    tx: &Tx<'_>,
    references: &[KeyPackageRef],
    now_s: u64,
) -> Result<(), StoreError> {
    let packages = list(tx)?;
    let is_new = |package: &OwnKeyPackage| references.contains(&package.reference);
    let replaces = packages.iter().any(|package| package.last_resort && is_new(package));
    for mut package in packages {
        if is_new(&package) {
            package.unpublished = false;
        } else if replaces && package.last_resort && package.replaced_s.is_none() {
            package.replaced_s = Some(now_s);
        } else {
            continue;
        }
        PACKAGES.put(tx, b"", package.reference.as_slice(), &package)?;
    }
    Ok(())
}

/// A Welcome was opened with this package. A one-time package is forgotten with its private keys;
/// the last-resort one stays, as others may have claimed it too. Tells whether one was forgotten.
pub(crate) fn mark_used(
    tx: &Tx<'_>,
    crypto: &Crypto,
    reference: &KeyPackageRef,
) -> Result<bool, IdentityError> {
    match PACKAGES.get(tx, b"", reference.as_slice())? {
        Some(package) if !package.last_resort => {
            let provider = Provider::new(crypto, MlsStorage::new(tx, Namespace::GLOBAL));
            forget(tx, &provider, reference)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Forgets the one-time packages whose private keys OpenMLS deleted when it joined with them, for
/// callers that cannot tell which one a Welcome was for.
pub(crate) fn forget_used_key_packages(tx: &Tx<'_>, crypto: &Crypto) -> Result<(), IdentityError> {
    let provider = Provider::new(crypto, MlsStorage::new(tx, Namespace::GLOBAL));
    for package in list(tx)? {
        let kept: Option<KeyPackageBundle> = provider.storage().key_package(&package.reference)?;
        if kept.is_none() {
            mark_used(tx, crypto, &package.reference)?;
        }
    }
    Ok(())
}

/// Deletes the private keys of packages that nobody may use any more, and of the oldest where
/// there are more than are kept.
pub(super) fn remove_done(
    tx: &Tx<'_>,
    provider: &Provider<'_>,
    now_s: u64,
) -> Result<(), IdentityError> {
    let (done, kept): (Vec<_>, Vec<_>) =
        list(tx)?.into_iter().partition(|package| package.is_done(now_s));
    let one_time: Vec<_> = kept.iter().filter(|package| !package.last_resort).collect();
    let surplus = one_time.len().saturating_sub(MOST_KEPT);
    for package in done.iter().chain(one_time.into_iter().take(surplus)) {
        forget(tx, provider, &package.reference)?;
    }
    Ok(())
}

/// Deletes a package with its private keys: they are all in OpenMLS's row for it.
fn forget(
    tx: &Tx<'_>,
    provider: &Provider<'_>,
    reference: &KeyPackageRef,
) -> Result<(), StoreError> {
    provider.storage().delete_key_package(reference)?;
    PACKAGES.delete(tx, b"", reference.as_slice())?;
    Ok(())
}
