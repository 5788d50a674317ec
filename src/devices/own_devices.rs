//! The device keys of this user's own devices, as the homeserver hands them out.
//!
//! Whoever signs a device signs the whole object that it has published, and a homeserver takes the
//! signature only with exactly that object. So the objects of the own user's devices are kept, all
//! but the signatures of others. A device that its user has not signed is told once: the user has
//! logged in somewhere and not verified that device yet, or the homeserver has made it up.
//!
//! What a homeserver can make this store keep is bounded. A device beyond that cannot be signed by
//! this one, and is told all the same.

use std::collections::BTreeMap;

use ruma::{CanonicalJsonObject, CanonicalJsonValue, DeviceId, OwnedDeviceId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    cross_signing::is_signed_under, record::LONGEST_DEVICE_ID, verify::is_signed_by_owner,
};
use crate::{
    protocol::{DeviceName, decode_base64},
    store::{Collection, StoreError, Tx},
};

/// The longest object that is kept, in bytes of JSON. One with Olm and MLS has 1 kB.
const LONGEST: usize = 8 * 1024;
/// Of how many it is kept.
const MOST: usize = 1_000;

/// A device of the own user, as it is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Published {
    device_id: OwnedDeviceId,
    /// The object as canonical JSON, with the device's own signature alone; empty where it is not
    /// kept.
    object: String,
    /// Whether the app was told that the user has not signed it.
    told: bool,
}

const PUBLISHED: Collection<Published> = Collection::new("own_device_object");

/// Takes in what an answer says of all devices of this device's own user. Gives the devices that a
/// user with an identity has not signed, each once; nothing is signed where the identity has no
/// self-signing key. This very device is not among them.
pub(super) fn take_in(
    tx: &Tx<'_>,
    own: &DeviceName,
    devices: &BTreeMap<String, Box<RawValue>>,
    has_identity: bool,
    self_signing: Option<&[u8]>,
) -> Result<Vec<OwnedDeviceId>, StoreError> {
    let mut before: BTreeMap<OwnedDeviceId, Published> = BTreeMap::new();
    for published in PUBLISHED.list(tx, b"")? {
        before.insert(published.device_id.clone(), published);
    }
    let mut unsigned = Vec::new();
    let this = devices.get_key_value(own.device_id.as_str());
    let others = devices.iter().filter(|(device, _)| **device != *own.device_id.as_str());
    for (number, (device, keys)) in this.into_iter().chain(others).enumerate() {
        let Some((keys, object)) = readable(&own.user_id, device, keys) else { continue };
        let object = object.filter(|_| number < MOST).unwrap_or_default();
        let device_id = OwnedDeviceId::from(device.as_str());
        let known = before.remove(&device_id);
        let is_signed = self_signing
            .is_some_and(|key| is_signed_by_owner(&own.user_id, &device_id, &keys, key));
        let was_told = known.as_ref().is_some_and(|known| known.told);
        let told = has_identity && !is_signed && device_id != own.device_id;
        if told && !was_told {
            unsigned.push(device_id.clone());
        }
        let published = Published { device_id, object, told };
        if known.as_ref() != Some(&published) {
            PUBLISHED.put(tx, b"", device.as_bytes(), &published)?;
        }
    }
    for gone in before.into_keys() {
        PUBLISHED.delete(tx, b"", gone.as_bytes())?;
    }
    Ok(unsigned)
}

/// The object of a device, and its text with the device's own signature alone, if it names this
/// user and device. A text that is too long is left out.
fn readable(
    user: &UserId,
    device: &str,
    keys: &RawValue,
) -> Option<(CanonicalJsonObject, Option<String>)> {
    if device.len() > LONGEST_DEVICE_ID {
        return None;
    }
    let CanonicalJsonValue::Object(object) = serde_json::from_str(keys.get()).ok()? else {
        return None;
    };
    if object.get("user_id")?.as_str()? != user.as_str()
        || object.get("device_id")?.as_str()? != device
    {
        return None;
    }
    let id = own_key_id(device);
    let signature = object.get("signatures")?.as_object()?.get(user.as_str())?.as_object()?;
    let signature = CanonicalJsonObject::from([(id.clone(), signature.get(&id)?.clone())]);
    let signatures =
        CanonicalJsonObject::from([(user.to_string(), CanonicalJsonValue::Object(signature))]);
    let mut kept = object.clone();
    kept.insert("signatures".to_owned(), CanonicalJsonValue::Object(signatures));
    kept.remove("unsigned");
    let text = serde_json::to_string(&kept).ok().filter(|text| text.len() <= LONGEST);
    Some((object, text))
}

/// The object that the homeserver hands out for a device of the own user.
pub(crate) fn published_object(
    tx: &Tx<'_>,
    device: &DeviceId,
) -> Result<Option<CanonicalJsonObject>, StoreError> {
    let published = PUBLISHED.get(tx, b"", device.as_bytes())?;
    let Some(published) = published.filter(|published| !published.object.is_empty()) else {
        return Ok(None);
    };
    let object = serde_json::from_str(&published.object)
        .map_err(|_| StoreError::Damaged("a device's published keys are no JSON".into()))?;
    Ok(Some(object))
}

/// The object of a device of the own user, if this is its Ed25519 key and it has signed the object.
pub(crate) fn signed_object(
    tx: &Tx<'_>,
    user: &UserId,
    device: &DeviceId,
    ed25519: &[u8],
) -> Result<Option<CanonicalJsonObject>, StoreError> {
    let Some(object) = published_object(tx, device)? else { return Ok(None) };
    let id = own_key_id(device.as_str());
    let key = object
        .get("keys")
        .and_then(CanonicalJsonValue::as_object)
        .and_then(|keys| decode_base64(keys.get(&id)?.as_str()?));
    let is_its_own =
        key.as_deref() == Some(ed25519) && is_signed_under(&object, user, &id, ed25519);
    Ok(is_its_own.then_some(object))
}

fn own_key_id(device: &str) -> String {
    format!("ed25519:{device}")
}
