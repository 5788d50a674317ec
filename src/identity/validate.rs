//! Whether a claimed key package may be used to add its device.

use openmls::prelude::{
    BasicCredential, Capabilities, Ciphersuite, CredentialType, KeyPackage, KeyPackageIn,
    ProtocolVersion, VerifiableCiphersuite, tls_codec::Deserialize as _,
};

use super::{crypto::Crypto, device::IdentityError};
use crate::protocol::{DeviceName, credential};

/// Reads a key package and checks it: its signatures (RFC 9420, section 10.1), its suite, that its
/// credential names `device`, that its key is the one that the device publishes, that its leaf
/// has the capabilities that groups of this library need, and that it is valid now. (OpenMLS
/// compares its lifetime with the system's clock besides.)
pub(crate) fn validate_key_package(
    crypto: &Crypto,
    bytes: &[u8],
    device: &DeviceName,
    credential_key: &[u8],
    suite: Ciphersuite,
    now_ms: u64,
) -> Result<KeyPackage, IdentityError> {
    let bad = IdentityError::BadKeyPackage;
    let package = KeyPackageIn::tls_deserialize_exact(bytes)
        .map_err(|_| bad("cannot be read"))?
        .validate(crypto, ProtocolVersion::Mls10)
        .map_err(|_| bad("is not valid"))?;
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
    if leaf.signature_key().as_slice() != credential_key {
        return Err(bad("is not signed by the key its device publishes"));
    }
    if !can_take_part(leaf.capabilities(), suite) {
        return Err(bad("lacks a capability that groups need"));
    }
    let lifetime = package.life_time();
    let now = now_ms / 1000;
    if now < lifetime.not_before() || lifetime.not_after() <= now {
        return Err(bad("is not valid at this time"));
    }
    if !lifetime.has_acceptable_range() {
        return Err(bad("is valid for too long"));
    }
    Ok(package)
}

/// Whether a leaf names the capabilities that groups of this library use. Other members would
/// refuse every commit that adds a leaf without them (RFC 9420, section 7.3).
fn can_take_part(capabilities: &Capabilities, suite: Ciphersuite) -> bool {
    capabilities.versions().contains(&ProtocolVersion::Mls10)
        && capabilities.ciphersuites().contains(&VerifiableCiphersuite::from(suite))
        && capabilities.credentials().contains(&CredentialType::Basic)
}
