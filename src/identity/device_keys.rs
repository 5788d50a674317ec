//! The `device_keys` object, with this device's MLS credential in it.

use openmls_traits::signatures::Signer;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, signatures::to_canonical_json_string_for_signing,
};
use serde_json::json;

use super::device::{Identity, IdentityError, encoding};
use crate::protocol::{encode_base64, identifiers};

/// Device keys to publish, and the text that an Olm machine has to sign.
pub(crate) struct SignedKeys {
    pub(crate) device_keys: String,
    pub(crate) to_sign: String,
}

impl Identity {
    /// The `device_keys` of a device without Olm. Its credential key is also its Ed25519 key.
    pub(crate) fn own_device_keys(&self) -> Result<CanonicalJsonObject, IdentityError> {
        let keys = json!({ "user_id": self.name.user_id, "device_id": self.name.device_id });
        let mut keys: CanonicalJsonObject = serde_json::from_value(keys).map_err(encoding)?;
        let device_key_id = format!("ed25519:{}", self.name.device_id);
        self.put_credential(&mut keys);
        let key = CanonicalJsonValue::String(encode_base64(self.public_key()));
        child(&mut keys, "keys").insert(device_key_id.clone(), key);
        let (_, signature) = self.sign(&keys)?;
        let signatures = child(child(&mut keys, "signatures"), self.name.user_id.as_str());
        signatures.insert(device_key_id, signature.clone());
        signatures.insert(identifiers::credential_key_id(self.name.device_id.as_str()), signature);
        Ok(keys)
    }

    /// Puts the credential into the device keys of an Olm machine, and signs them. Signatures that
    /// were there are removed, because they no longer fit. They stay only if the credential was
    /// there already and nothing that they cover has changed.
    pub(crate) fn sign_device_keys(&self, text: &str) -> Result<SignedKeys, IdentityError> {
        let mut keys: CanonicalJsonObject = serde_json::from_str(text)
            .map_err(|_| IdentityError::BadDeviceKeys("they are not a JSON object"))?;
        let named = |field: &str| keys.get(field).and_then(CanonicalJsonValue::as_str);
        if named("user_id") != Some(self.name.user_id.as_str())
            || named("device_id") != Some(self.name.device_id.as_str())
        {
            return Err(IdentityError::BadDeviceKeys("they are another device's"));
        }
        if keys.get("keys").and_then(CanonicalJsonValue::as_object).is_none() {
            return Err(IdentityError::BadDeviceKeys("they hold no keys"));
        }
        let before = to_canonical_json_string_for_signing(&keys).map_err(encoding)?;
        self.put_credential(&mut keys);
        let (to_sign, signature) = self.sign(&keys)?;
        if to_sign != before {
            keys.remove("signatures");
        }
        child(child(&mut keys, "signatures"), self.name.user_id.as_str())
            .insert(identifiers::credential_key_id(self.name.device_id.as_str()), signature);
        let device_keys = serde_json::to_string(&keys).map_err(encoding)?;
        Ok(SignedKeys { device_keys, to_sign })
    }

    fn put_credential(&self, keys: &mut CanonicalJsonObject) {
        let algorithm = CanonicalJsonValue::String(identifiers::room_algorithm(self.suite));
        let algorithms = keys
            .entry("algorithms".to_owned())
            .or_insert_with(|| CanonicalJsonValue::Array(Vec::new()));
        match algorithms {
            CanonicalJsonValue::Array(known) if known.contains(&algorithm) => {}
            CanonicalJsonValue::Array(known) => known.push(algorithm),
            other => *other = CanonicalJsonValue::Array(vec![algorithm]),
        }
        let device_id = self.name.device_id.as_str();
        let keys = child(keys, "keys");
        // A credential of an earlier store, or under the other name, would contradict this one.
        for id in identifiers::credential_key_ids(device_id) {
            keys.remove(&id);
        }
        keys.insert(
            identifiers::credential_key_id(device_id),
            CanonicalJsonValue::String(encode_base64(self.public_key())),
        );
    }

    /// The canonical JSON of device keys, and this device's signature over it.
    fn sign(
        &self,
        keys: &CanonicalJsonObject,
    ) -> Result<(String, CanonicalJsonValue), IdentityError> {
        let text = to_canonical_json_string_for_signing(keys).map_err(encoding)?;
        let signature = self
            .signer
            .sign(text.as_bytes())
            .map_err(|error| IdentityError::Encoding(format!("{error:?}")))?;
        Ok((text, CanonicalJsonValue::String(encode_base64(&signature))))
    }
}

/// The object under a field. If the field is missing or not an object, an empty object is put
/// there.
fn child<'a>(parent: &'a mut CanonicalJsonObject, field: &str) -> &'a mut CanonicalJsonObject {
    let value = parent
        .entry(field.to_owned())
        .and_modify(|value| {
            if value.as_object().is_none() {
                *value = CanonicalJsonValue::Object(CanonicalJsonObject::new());
            }
        })
        .or_insert_with(|| CanonicalJsonValue::Object(CanonicalJsonObject::new()));
    match value {
        CanonicalJsonValue::Object(object) => object,
        _ => unreachable!("the value was just made an object"),
    }
}
