//! This device's own binding, where an Olm machine beside it holds the device's Ed25519 key.
//!
//! The app has that key sign one text, once, and hands the signature in. From then on it stands in
//! each leaf that this device makes. Without it nobody could tell that the leaf is the device's, so
//! a device beside Olm that has neither a binding nor ever published a key package does nothing
//! yet.

use std::collections::HashMap;

use openmls::prelude::{Capabilities, Extensions, LeafNode};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::device::{Identity, IdentityError, Publishing};
use crate::{
    protocol::{binding, decode_base64},
    store::{Collection, StoreError, Tx},
};

/// The row of the binding.
#[derive(Serialize, Deserialize)]
struct OwnBinding {
    /// The device's Ed25519 key.
    device_key: ByteBuf,
    signature: ByteBuf,
}

const BINDING: Collection<OwnBinding> = Collection::new("own_binding");

/// Signatures as an Olm machine gives them: by user id and key id, in base64.
pub(crate) type OlmSignatures = HashMap<String, HashMap<String, String>>;

/// What stands in each leaf of this device beside its keys.
pub(crate) struct LeafParts {
    pub(crate) capabilities: Capabilities,
    pub(crate) extensions: Extensions<LeafNode>,
}

impl Identity {
    /// The text that the device's Ed25519 key has to sign; nothing where none is needed, or it was
    /// signed already.
    pub(crate) fn binding_to_sign(&self, tx: &Tx<'_>) -> Result<Option<String>, StoreError> {
        let is_needed = self.publishing == Publishing::BesideOlm && !is_bound(tx)?;
        Ok(is_needed.then(|| binding::text(&self.name, self.public_key())))
    }

    /// Takes in the signature over that text. Other signatures, such as the owner's, are dropped.
    /// Gives the signature if it is another than before, or the first.
    pub(crate) fn bind(
        &self,
        tx: &Tx<'_>,
        device_key: &str,
        signatures: &OlmSignatures,
    ) -> Result<Option<Vec<u8>>, IdentityError> {
        if self.publishing != Publishing::BesideOlm {
            return Err(IdentityError::BadBinding("this device has no Olm machine beside it"));
        }
        let device_key = decode_base64(device_key)
            .ok_or(IdentityError::BadBinding("the device's key is no base64"))?;
        let signature = signatures
            .get(self.name.user_id.as_str())
            .and_then(|of_user| of_user.get(&format!("ed25519:{}", self.name.device_id)))
            .and_then(|signature| decode_base64(signature))
            .ok_or(IdentityError::BadBinding("the device's key has signed nothing"))?;
        if !binding::is_valid(&self.name, self.public_key(), &signature, &device_key) {
            return Err(IdentityError::BadBinding(
                "the signature is not over this device's binding",
            ));
        }
        if BINDING.get(tx, b"", b"")?.is_some_and(|known| known.signature == signature) {
            return Ok(None);
        }
        let own = OwnBinding { device_key: device_key.into(), signature: signature.into() };
        BINDING.put(tx, b"", b"", &own)?;
        Ok(Some(own.signature.into_vec()))
    }

    /// What stands in the leaves that this device makes now.
    pub(crate) fn leaf_parts(&self, tx: &Tx<'_>) -> Result<LeafParts, StoreError> {
        let Some(own) = BINDING.get(tx, b"", b"")? else {
            let capabilities = self.capabilities(Vec::new());
            return Ok(LeafParts { capabilities, extensions: Extensions::empty() });
        };
        // A leaf has to name the extensions that it carries (RFC 9420, section 7.2).
        let capabilities = self.capabilities(vec![binding::extension_type()]);
        let extensions = binding::extensions(&own.signature);
        Ok(LeafParts { capabilities, extensions })
    }
}

/// Whether this device has its binding.
pub(super) fn is_bound(tx: &Tx<'_>) -> Result<bool, StoreError> {
    BINDING.has(tx, b"", b"")
}
