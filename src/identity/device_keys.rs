//! The `device_keys` object of a device without Olm, with its MLS credential in it.

use openmls_traits::signatures::Signer;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, signatures::to_canonical_json_string_for_signing,
};
use serde_json::json;

use super::device::{Identity, IdentityError, encoding};
use crate::protocol::{encode_base64, identifiers};

impl Identity {
    /// The `device_keys` of a device without Olm. Its credential key is also its Ed25519 key.
    pub(crate) fn own_device_keys(&self) -> Result<CanonicalJsonObject, IdentityError> {
        let (user, device) = (&self.name.user_id, self.name.device_id.as_str());
        let key = encode_base64(self.public_key());
        let ids = [format!("ed25519:{device}"), identifiers::credential_key_id(device)];
        let keys = json!({
            "user_id": user,
            "device_id": device,
            "algorithms": [identifiers::room_algorithm(self.suite)],
            "keys": { &ids[0]: key, &ids[1]: key },
        });
        let mut keys: CanonicalJsonObject = serde_json::from_value(keys).map_err(encoding)?;
        let text = to_canonical_json_string_for_signing(&keys).map_err(encoding)?;
        let signature = self
            .signer
            .sign(text.as_bytes())
            .map_err(|error| IdentityError::Encoding(format!("{error:?}")))?;
        let signature = encode_base64(&signature);
        let signatures = json!({ user.as_str(): { &ids[0]: signature, &ids[1]: signature } });
        let signatures = CanonicalJsonValue::try_from(signatures).map_err(encoding)?;
        keys.insert("signatures".to_owned(), signatures);
        Ok(keys)
    }
}
