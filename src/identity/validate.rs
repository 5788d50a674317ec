//! Whether a claimed key package may be used to add its device.

use openmls::prelude::{
    BasicCredential, Capabilities, Ciphersuite, CredentialType, ExtensionType, KeyPackage,
    KeyPackageIn, KeyPackageVerifyError, LeafNode, Lifetime, ProtocolVersion,
    VerifiableCiphersuite,
    tls_codec::{Deserialize as _, Serialize as _, VLBytes},
};

use super::{crypto::Crypto, usable::is_usable_key};
use crate::protocol::{DeviceName, credential};

/// The most that has to be left of a package's lifetime when it is used, in seconds: 60 days.
/// Whoever takes in the commit later than that finds the package expired, and OpenMLS refuses the
/// commit. A package with a short lifetime, as other clients make, has to have a quarter left.
const LEFT_S: u64 = 60 * 24 * 60 * 60;
/// The longest lifetime that is accepted, in seconds (RFC 9420, section 7.2, has applications set
/// one): a century. The lifetimes of this library begin in 1970, for clocks that are behind, and
/// end two years after the clock of their maker, which may be ahead.
const LONGEST_S: u64 = 100 * 365 * 24 * 60 * 60;

/// Why a key package does not fit the device that it was claimed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key package {0}")]
pub(crate) struct BadKeyPackage(&'static str);

impl BadKeyPackage {
    /// The package has no binding of the device, without which others would not know the device.
    pub(crate) const UNBOUND: Self = Self("lacks its device's binding");

    /// A code that is stable across releases. No call fails for it: it is in the log.
    pub(crate) fn code(self) -> &'static str {
        "bad_key_package"
    }
}

/// Reads a key package and checks it: its signatures (RFC 9420, section 10.1), its suite, that its
/// credential names `device`, that its key is that of the device's credential if that is known,
/// that its leaf has the capabilities that groups of this library need, and that it is valid now
/// and for as long as those who are away may need. (OpenMLS compares its lifetime with the system's
/// clock besides.)
pub(crate) fn validate_key_package(
    crypto: &Crypto,
    bytes: &[u8],
    device: &DeviceName,
    credential_key: Option<&[u8]>,
    suite: Ciphersuite,
    now_ms: u64,
) -> Result<KeyPackage, BadKeyPackage> {
    let bad = BadKeyPackage;
    let package = KeyPackageIn::tls_deserialize_exact(bytes)
        .map_err(|_| bad("cannot be read"))?
        .validate(crypto, ProtocolVersion::Mls10)
        .map_err(|error| match error {
            KeyPackageVerifyError::LifetimeError(_) => bad("is not valid at this time"),
            _ => bad("is not valid"),
        })?;
    if package.ciphersuite() != suite {
        return Err(bad("is of another ciphersuite"));
    }
    let leaf = package.leaf_node();
    let identity = BasicCredential::try_from(leaf.credential().clone())
        .map_err(|_| bad("has no basic credential"))?;
    let named =
        credential::parse(identity.identity()).map_err(|_| bad("names no Matrix device"))?;
    if named != *device {
        return Err(bad("names another device"));
    }
    if credential_key.is_some_and(|key| key != leaf.signature_key().as_slice()) {
        return Err(bad("is not signed by the key of its device's credential"));
    }
    if !can_take_part(leaf.capabilities(), suite) {
        return Err(bad("lacks a capability that groups need"));
    }
    if !can_be_added(leaf) {
        return Err(bad(
            "has a leaf extension that its capabilities do not list, or GREASE as one",
        ));
    }
    let has_usable_key = encryption_key(leaf).is_some_and(|key| is_usable_key(&key));
    if !is_usable_key(package.hpke_init_key().as_slice()) || !has_usable_key {
        return Err(bad("has a key to which nobody can seal"));
    }
    check_lifetime(package.life_time(), now_ms / 1000)?;
    Ok(package)
}

/// A leaf's encryption key as a member's stands in the group. OpenMLS gives it in its encoding
/// only.
pub(crate) fn encryption_key(leaf: &LeafNode) -> Option<Vec<u8>> {
    let encoded = leaf.encryption_key().tls_serialize_detached().ok()?;
    Some(VLBytes::tls_deserialize_exact(&encoded).ok()?.into())
}

fn check_lifetime(lifetime: &Lifetime, now_s: u64) -> Result<(), BadKeyPackage> {
    let bad = BadKeyPackage;
    let (from_s, to_s) = (lifetime.not_before(), lifetime.not_after());
    if now_s < from_s || to_s <= now_s {
        return Err(bad("is not valid at this time"));
    }
    let whole_s = to_s.saturating_sub(from_s);
    if whole_s > LONGEST_S {
        return Err(bad("is valid for too long"));
    }
    if to_s.saturating_sub(now_s) < LEFT_S.min(whole_s / 4) {
        return Err(bad("expires too soon"));
    }
    Ok(())
}

/// Whether a commit can add a leaf with these extensions: OpenMLS refuses the others only then.
/// Each has to be among the capabilities (RFC 9420, section 7.2). OpenMLS 0.9.2 never finds a
/// GREASE extension there, as it takes the one for unknown and the other for GREASE.
fn can_be_added(leaf: &LeafNode) -> bool {
    let listed = leaf.capabilities().extensions();
    leaf.extensions().iter().all(|extension| match extension.extension_type() {
        ExtensionType::ApplicationId => true,
        kind @ ExtensionType::Unknown(_) => listed.contains(&kind),
        _ => false,
    })
}

/// Whether a leaf names the capabilities that groups of this library use. Other members would
/// refuse every commit that adds a leaf without them (RFC 9420, section 7.3).
fn can_take_part(capabilities: &Capabilities, suite: Ciphersuite) -> bool {
    capabilities.versions().contains(&ProtocolVersion::Mls10)
        && capabilities.ciphersuites().contains(&VerifiableCiphersuite::from(suite))
        && capabilities.credentials().contains(&CredentialType::Basic)
}
