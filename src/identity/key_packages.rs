//! This device's key packages: making them, keeping them while they may be needed, deleting them.
//!
//! The homeserver hands each one-time package to one device that adds this one. Once those are used
//! up, it hands the last-resort package (the fallback key) to any number of devices. A package's
//! private keys are in the store from the moment the package exists, before anybody can have heard
//! of it. They are deleted when the package was used (in the joining transaction), when far too
//! many newer packages were made, when this device took the package back from the homeserver, or a
//! time of grace after the package has expired or, as last-resort package, was replaced.
//!
//! A homeserver hands out the oldest one-time package first, and there is no way to delete one from
//! it. So packages are valid for two years and others take their places long before. The device
//! then claims its own old packages, as anybody else might, until the homeserver holds new ones
//! only.

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
    protocol::{decode_base64, encode_base64, identifiers},
    store::{Collection, MlsStorage, Namespace, StoreError, Tx},
};

/// How long a package is valid from when it is made, in seconds: two years.
pub(super) const LIFETIME_S: u64 = 730 * DAY_S;
/// From when on a package is valid, in seconds since 1970. It is the beginning of time, so that no
/// clock is behind it: every device takes in the commit that adds the package.
const NOT_BEFORE_S: u64 = 0;
/// A package with less left than this, in seconds, is replaced: a device that stays away for a year
/// then still has 60 days on its packages, which is what others want of them
/// ([`super::validate`]).
const REPLACED_WITH_S: u64 = (365 + 60) * DAY_S;
/// The age at which the last-resort package is replaced, in seconds. Any number of Welcomes can be
/// sealed with it, so its private key lives for a shorter time than it could.
const FALLBACK_AGE_S: u64 = 40 * DAY_S;
/// No clock that is right shows an earlier time, in seconds since 1970: the first of January 2026.
/// A device that has just been switched on without a battery may believe that it is 1970. Packages
/// with a lifetime from then would be good for nobody.
pub(super) const EARLIEST_S: u64 = 1_767_225_600;
/// How long the private key of a replaced or expired package is kept, in seconds. Somebody may have
/// claimed the package just before, and their Welcome may take a while. For a fallback key the time
/// counts from when the homeserver took the replacement: until then the old key is still handed
/// out. For an expired package it counts from when this device noticed, so that a device that comes
/// back after years still opens the Welcomes that wait for it, and a clock that was years ahead for
/// a moment destroys nothing.
const GRACE_S: u64 = 7 * DAY_S;
/// The most one-time packages that are kept. Anybody can claim packages and never send a Welcome,
/// so without a limit their private keys would pile up for their whole lifetime.
pub(super) const MOST_KEPT: usize = 1_000;
const DAY_S: u64 = 24 * 60 * 60;

/// What a key package is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PackageUse {
    /// One device claims it and adds this device with it.
    OneTime,
    /// The fallback key: any number of devices may use it once the others are gone.
    LastResort,
}

/// The row of one key package of this device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct OwnKeyPackage {
    pub(super) reference: KeyPackageRef,
    pub(super) last_resort: bool,
    /// When it expires, in seconds since 1970.
    not_after_s: u64,
    /// When it was replaced, or noticed to have expired; in seconds since 1970.
    replaced_s: Option<u64>,
    /// The homeserver has not confirmed yet that it took the package.
    #[serde(default)]
    unpublished: bool,
    /// It was made before this device had its binding.
    #[serde(default)]
    lacks_binding: bool,
}

impl OwnKeyPackage {
    /// Whether others may use the package for long.
    fn is_current(&self, now_s: u64) -> bool {
        !self.lacks_binding && self.not_after_s > now_s.saturating_add(REPLACED_WITH_S)
    }

    /// Whether the homeserver may hold the package as a one-time key that need not be replaced.
    pub(super) fn is_good_one_time(&self, now_s: u64) -> bool {
        !self.last_resort && !self.unpublished && self.is_current(now_s)
    }

    /// Whether the homeserver may hold the package as a one-time key that should go.
    pub(super) fn is_stale_one_time(&self, now_s: u64) -> bool {
        !self.last_resort && !self.unpublished && !self.is_current(now_s)
    }

    /// Whether the package is the published fallback key, and young enough. One that was made in
    /// the future was made by a clock that was ahead, and may be of any age.
    pub(super) fn is_good_fallback(&self, now_s: u64) -> bool {
        let made_s = self.not_after_s.saturating_sub(LIFETIME_S);
        let is_young = made_s.saturating_add(FALLBACK_AGE_S) > now_s
            && made_s <= now_s.saturating_add(FALLBACK_AGE_S);
        let is_published = self.last_resort && !self.unpublished && !self.lacks_binding;
        is_published && self.replaced_s.is_none() && is_young
    }

    /// The package as it is from now on. An expired one has a time of grace. A time of grace that
    /// begins in the future was noted by a clock that was ahead.
    fn aged(mut self, now_s: u64) -> Self {
        if self.replaced_s.is_some_and(|at| at > now_s) {
            self.replaced_s = self.last_resort.then_some(now_s);
        }
        if self.not_after_s <= now_s {
            self.replaced_s.get_or_insert(now_s);
        }
        self
    }

    /// Whether the time of grace is over.
    fn is_over(&self, now_s: u64) -> bool {
        self.replaced_s.is_some_and(|at| at.saturating_add(GRACE_S) <= now_s)
    }
}

const PACKAGES: Collection<OwnKeyPackage> = Collection::new("own_key_package");

/// All packages whose private keys are kept, oldest first.
pub(super) fn list(tx: &Tx<'_>) -> Result<Vec<OwnKeyPackage>, StoreError> {
    PACKAGES.list(tx, b"")
}

/// Makes a package for the leaf of a group of this device's own. Nobody else ever sees it, and the
/// caller keeps its private keys: what this writes has to be undone.
pub(crate) fn make_founders_package(
    tx: &Tx<'_>,
    crypto: &Crypto,
    identity: &Identity,
    now_ms: u64,
) -> Result<KeyPackageBundle, IdentityError> {
    let provider = Provider::new(crypto, MlsStorage::new(tx, Namespace::GLOBAL));
    build(tx, &provider, identity, PackageUse::OneTime, now_ms / 1000)
}

/// Makes a package and keeps its private keys.
pub(super) fn make(
    tx: &Tx<'_>,
    provider: &Provider<'_>,
    identity: &Identity,
    package_use: PackageUse,
    now_s: u64,
) -> Result<KeyPackageRef, IdentityError> {
    let last_resort = package_use == PackageUse::LastResort;
    let bundle = build(tx, provider, identity, package_use, now_s)?;
    let reference = bundle.key_package().hash_ref(provider.crypto()).map_err(encoding)?;
    let package = OwnKeyPackage {
        reference: reference.clone(),
        last_resort,
        not_after_s: now_s.saturating_add(LIFETIME_S),
        replaced_s: None,
        unpublished: true,
        lacks_binding: false,
    };
    PACKAGES.put(tx, b"", reference.as_slice(), &package)?;
    Ok(reference)
}

/// Makes a package with its private keys, which OpenMLS writes down.
fn build(
    tx: &Tx<'_>,
    provider: &Provider<'_>,
    identity: &Identity,
    package_use: PackageUse,
    now_s: u64,
) -> Result<KeyPackageBundle, IdentityError> {
    let not_after_s = now_s.saturating_add(LIFETIME_S);
    let leaf = identity.leaf_parts(tx)?;
    let mut builder = KeyPackage::builder()
        .key_package_lifetime(Lifetime::init(NOT_BEFORE_S, not_after_s))
        .leaf_node_capabilities(leaf.capabilities)
        .leaf_node_extensions(leaf.extensions);
    if package_use == PackageUse::LastResort {
        builder = builder.mark_as_last_resort();
    }
    let (signer, credential) = (&identity.signer, identity.credential_with_key());
    Ok(builder.build(identity.suite, provider, signer, credential)?)
}

/// Has all packages replaced: they were made before this device had its binding.
pub(crate) fn replace_key_packages(tx: &Tx<'_>) -> Result<(), StoreError> {
    for mut package in list(tx)? {
        package.lacks_binding = true;
        PACKAGES.put(tx, b"", package.reference.as_slice(), &package)?;
    }
    Ok(())
}

/// The published form of a package that is to be uploaded now. `None` if it is not kept any longer,
/// or has become too old on the way.
pub(super) fn uploaded_form(
    tx: &Tx<'_>,
    provider: &Provider<'_>,
    identity: &Identity,
    reference: &KeyPackageRef,
    now_s: u64,
) -> Result<Option<(OwnedOneTimeKeyId, Raw<OneTimeKey>)>, IdentityError> {
    match PACKAGES.get(tx, b"", reference.as_slice())? {
        Some(package) if package.is_current(now_s) => published_form(provider, identity, reference),
        _ => Ok(None),
    }
}

/// The published form of a package: its key id and its value. `None` if the package is not kept any
/// longer.
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

/// Marks these packages as held by the homeserver. A last-resort package among them replaces the
/// earlier ones.
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

/// Marks this package as used by a Welcome. A one-time package is deleted with its private keys.
/// The last-resort package stays, because others may have claimed it too. Tells whether a package
/// was deleted.
pub(crate) fn mark_used(
    tx: &Tx<'_>,
    crypto: &Crypto,
    reference: &KeyPackageRef,
) -> Result<bool, IdentityError> {
    match PACKAGES.get(tx, b"", reference.as_slice())? {
        Some(package) if !package.last_resort => {
            let provider = Provider::new(crypto, MlsStorage::new(tx, Namespace::GLOBAL));
            delete(tx, &provider, reference)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Deletes the one-time packages whose private keys OpenMLS deleted when it joined with them; tells
/// whether there was one. This is for callers that cannot tell which package a Welcome was for.
pub(crate) fn forget_used_key_packages(
    tx: &Tx<'_>,
    crypto: &Crypto,
) -> Result<bool, IdentityError> {
    let provider = Provider::new(crypto, MlsStorage::new(tx, Namespace::GLOBAL));
    let mut forgot = false;
    for package in list(tx)? {
        let kept: Option<KeyPackageBundle> = provider.storage().key_package(&package.reference)?;
        if kept.is_none() {
            forgot |= mark_used(tx, crypto, &package.reference)?;
        }
    }
    Ok(forgot)
}

/// Deletes the private keys of packages whose time of grace is over. If more one-time packages are
/// left than are kept, the oldest go too.
pub(super) fn delete_expired(
    tx: &Tx<'_>,
    provider: &Provider<'_>,
    now_s: u64,
) -> Result<(), IdentityError> {
    let (mut expired, mut kept) = (Vec::new(), Vec::new());
    for package in list(tx)? {
        let before = package.replaced_s;
        let package = package.aged(now_s);
        if package.is_over(now_s) {
            expired.push(package);
            continue;
        }
        if package.replaced_s != before {
            PACKAGES.put(tx, b"", package.reference.as_slice(), &package)?;
        }
        kept.push(package);
    }
    let one_time: Vec<_> = kept.iter().filter(|package| !package.last_resort).collect();
    let surplus = one_time.len().saturating_sub(MOST_KEPT);
    for package in expired.iter().chain(one_time.into_iter().take(surplus)) {
        delete(tx, provider, &package.reference)?;
    }
    Ok(())
}

/// Takes back a package that this device claimed itself, so that nobody else can have got it: it is
/// deleted with its private keys. Tells whether it was one that should go.
pub(super) fn take_back(
    tx: &Tx<'_>,
    provider: &Provider<'_>,
    key_id: &str,
    now_s: u64,
) -> Result<bool, StoreError> {
    let Some(package) = decode_base64(key_id)
        .map(|reference| PACKAGES.get(tx, b"", &reference))
        .transpose()?
        .flatten()
        .filter(|package| !package.last_resort)
    else {
        return Ok(false);
    };
    delete(tx, provider, &package.reference)?;
    Ok(package.is_stale_one_time(now_s))
}

/// Deletes a package with its private keys. OpenMLS's row of the package holds all of them.
fn delete(
    tx: &Tx<'_>,
    provider: &Provider<'_>,
    reference: &KeyPackageRef,
) -> Result<(), StoreError> {
    provider.storage().delete_key_package(reference)?;
    PACKAGES.delete(tx, b"", reference.as_slice())?;
    Ok(())
}
