//! Whether the published keys of one device are consistent.
//!
//! `device_keys` must name the user and the device that they were asked for, hold the device's
//! Ed25519 key, and be signed by it. This key is the one that people verify in Matrix. It vouches
//! for the MLS credential's key in one of two ways. Where `device_keys` hold that key, it has
//! signed them too, which proves that the device holds the credential's private key. Where they
//! hold none, a binding in the device's leaves may name it (`bindings`). The owner's signature,
//! which the policy may ask for, is looked for here too.

use std::fmt;

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, DeviceId, UserId,
    signatures::to_canonical_json_string_for_signing,
};
use serde::{Deserialize, Serialize};

use super::cross_signing;
use crate::protocol::{DeviceName, decode_base64, identifiers, is_signed};

/// Why a device may not take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DeviceFault {
    /// The published keys cannot be read.
    Malformed,
    /// The published keys name another user or device.
    WrongIdentity,
    /// The device publishes no MLS credential, and no binding of one is known: its app may not use
    /// this library's protocol.
    NoCredential,
    /// The device's own key or its credential key has not signed what it publishes.
    BadSignature,
    /// The credential key is another than before.
    Changed,
    /// Its user has had more devices than this device remembers.
    TooMany,
    /// Its owner has not signed it, and the policy asks for that.
    NotCrossSigned,
}

impl DeviceFault {
    /// A code that is stable across releases.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed_keys",
            Self::WrongIdentity => "wrong_identity",
            Self::NoCredential => "no_credential",
            Self::BadSignature => "bad_signature",
            Self::Changed => "changed_keys",
            Self::TooMany => "too_many_devices",
            Self::NotCrossSigned => "not_cross_signed",
        }
    }
}

impl fmt::Display for DeviceFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Malformed => "its device keys cannot be read",
            Self::WrongIdentity => "its device keys name another user or device",
            Self::NoCredential => "no MLS credential of it is known",
            Self::BadSignature => "its device keys are not signed by its own keys",
            Self::Changed => "its MLS credential is not the one it had before",
            Self::TooMany => "its user has had more devices than are remembered",
            Self::NotCrossSigned => "its owner has not signed it",
        })
    }
}

/// A device that may not take part.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RejectedDevice {
    pub(crate) name: DeviceName,
    pub(crate) reason: DeviceFault,
}

/// What vouches for a device's credential.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Voucher {
    /// The published keys hold the credential's key.
    Published { credential_key: Vec<u8> },
    /// They hold none. A binding by the device's Ed25519 key may name it.
    Binding { device_key: Vec<u8> },
}

/// What vouches for a device's credential, if its published keys are consistent.
pub(super) fn voucher(
    user: &UserId,
    device: &DeviceId,
    device_keys: &CanonicalJsonObject,
) -> Result<Voucher, DeviceFault> {
    let named = |field: &str| device_keys.get(field).and_then(CanonicalJsonValue::as_str);
    if named("user_id") != Some(user.as_str()) || named("device_id") != Some(device.as_str()) {
        return Err(DeviceFault::WrongIdentity);
    }
    let keys = object(device_keys, "keys").ok_or(DeviceFault::Malformed)?;
    let key = |id: &str| keys.get(id)?.as_str().and_then(decode_base64);

    let credential_ids = identifiers::credential_key_ids(device.as_str());
    let mut present = credential_ids.iter().filter(|id| keys.contains_key(id.as_str()));
    let device_key_id = format!("ed25519:{device}");
    let Some(credential_id) = present.next() else {
        // A device that may never have heard of MLS. What is wrong with its keys is Olm's matter.
        let device_key = key(&device_key_id).ok_or(DeviceFault::NoCredential)?;
        return match check_signatures(user, device_keys, &[(&device_key_id, &device_key)]) {
            Ok(()) => Ok(Voucher::Binding { device_key }),
            Err(_) => Err(DeviceFault::NoCredential),
        };
    };
    let credential = key(credential_id).ok_or(DeviceFault::Malformed)?;
    // Two different keys would make one device into two, depending on which one a reader takes.
    if present.any(|other| key(other).as_ref() != Some(&credential)) {
        return Err(DeviceFault::Malformed);
    }
    let device_key = key(&device_key_id).ok_or(DeviceFault::BadSignature)?;
    let signers = [(&device_key_id, &device_key), (credential_id, &credential)];
    check_signatures(user, device_keys, &signers)?;
    Ok(Voucher::Published { credential_key: credential })
}

/// Whether these keys of the device have signed what it publishes.
fn check_signatures(
    user: &UserId,
    device_keys: &CanonicalJsonObject,
    signers: &[(&String, &Vec<u8>)],
) -> Result<(), DeviceFault> {
    let signatures = object(device_keys, "signatures")
        .and_then(|signatures| object(signatures, user.as_str()))
        .ok_or(DeviceFault::BadSignature)?;
    let canonical =
        to_canonical_json_string_for_signing(device_keys).map_err(|_| DeviceFault::Malformed)?;
    for (id, key) in signers {
        let signature = signatures
            .get(id.as_str())
            .and_then(CanonicalJsonValue::as_str)
            .and_then(decode_base64)
            .ok_or(DeviceFault::BadSignature)?;
        if !is_signed(&canonical, key, &signature) {
            return Err(DeviceFault::BadSignature);
        }
    }
    Ok(())
}

/// Whether the owner of a device has signed what it publishes, or what it published before it got
/// its MLS credential.
///
/// Earlier versions of this library had apps beside Olm add the credential to device keys that the
/// owner may have signed long ago. That signature stays on the homeserver. It covers the device's
/// Ed25519 key, and this key has signed the credential ([`voucher`]).
pub(super) fn is_signed_by_owner(
    user: &UserId,
    device: &DeviceId,
    device_keys: &CanonicalJsonObject,
    self_signing: &[u8],
) -> bool {
    let is_signed =
        |keys: &CanonicalJsonObject| cross_signing::is_signed_by(keys, user, self_signing);
    is_signed(device_keys) || is_signed(&without_credential(device, device_keys))
}

/// Device keys as they were before the MLS credential was put in.
fn without_credential(device: &DeviceId, device_keys: &CanonicalJsonObject) -> CanonicalJsonObject {
    let mut before = device_keys.clone();
    if let Some(CanonicalJsonValue::Object(keys)) = before.get_mut("keys") {
        for id in identifiers::credential_key_ids(device.as_str()) {
            keys.remove(&id);
        }
    }
    if let Some(CanonicalJsonValue::Array(algorithms)) = before.get_mut("algorithms") {
        algorithms.retain(|name| !name.as_str().is_some_and(identifiers::is_room_algorithm));
    }
    before
}

fn object<'a>(parent: &'a CanonicalJsonObject, field: &str) -> Option<&'a CanonicalJsonObject> {
    parent.get(field)?.as_object()
}
