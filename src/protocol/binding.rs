//! The binding of a device's MLS credential to the device: a signature in its leaves.
//!
//! A device beside Olm has published its Ed25519 key long before it has an MLS credential, and its
//! owner has signed what it published. So the credential is not put there. Instead the Ed25519 key
//! signs a small object that names the credential's key ([`text`]), and the signature stands in an
//! extension of each of the device's leaves ([`in_leaf`]). The object has neither `keys` nor
//! `algorithms`, so its signature is none of device keys. What it names is in the leaf already, so
//! the extension holds the 64 bytes of the signature and nothing that could be read in two ways.

use openmls::prelude::{Extension, ExtensionType, Extensions, LeafNode, UnknownExtension};
use ruma::{CanonicalJsonObject, CanonicalJsonValue};

use super::{
    device_name::DeviceName, identifiers::BINDING_TYPE, payload::encode_base64,
    signature::is_signed,
};

/// The extension's type, of those for private use (RFC 9420 §17.3): 0xF000 and the number 2883.
const EXTENSION: u16 = 0xFB43;
/// How long an Ed25519 signature is, in bytes.
pub(crate) const SIGNATURE_LENGTH: usize = 64;

/// The type of the extension, as capabilities list it.
pub(crate) fn extension_type() -> ExtensionType {
    ExtensionType::Unknown(EXTENSION)
}

/// The extensions of a leaf that holds a binding.
pub(crate) fn extensions(signature: &[u8]) -> Extensions<LeafNode> {
    let extension = Extension::Unknown(EXTENSION, UnknownExtension(signature.to_vec()));
    // OpenMLS refuses those that have a place elsewhere; it knows nothing of this one.
    Extensions::single(extension).unwrap_or_else(|_| Extensions::empty())
}

/// What stands in a leaf as its binding: of the right length, listed in the leaf's capabilities,
/// and not verified yet.
pub(crate) fn in_leaf(leaf: &LeafNode) -> Option<&[u8]> {
    if !leaf.capabilities().extensions().contains(&extension_type()) {
        return None;
    }
    let mut found = leaf.extensions().iter().filter_map(|extension| match extension {
        Extension::Unknown(EXTENSION, UnknownExtension(bytes)) => Some(&**bytes),
        _ => None,
    });
    let first = found.next()?;
    (found.next().is_none() && first.len() == SIGNATURE_LENGTH).then_some(first)
}

/// The canonical JSON that a device's Ed25519 key signs to bind an MLS key to the device.
pub(crate) fn text(device: &DeviceName, mls_key: &[u8]) -> String {
    let object: CanonicalJsonObject = [
        ("type", BINDING_TYPE.to_owned()),
        ("user_id", device.user_id.to_string()),
        ("device_id", device.device_id.to_string()),
        ("mls_key", encode_base64(mls_key)),
    ]
    .map(|(name, value)| (name.to_owned(), CanonicalJsonValue::String(value)))
    .into();
    CanonicalJsonValue::Object(object).to_string()
}

/// Whether a device's Ed25519 key has bound this MLS key to this very device.
pub(crate) fn is_valid(
    device: &DeviceName,
    mls_key: &[u8],
    signature: &[u8],
    device_key: &[u8],
) -> bool {
    is_signed(&text(device, mls_key), device_key, signature)
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use openmls_basic_credential::SignatureKeyPair;
    use openmls_traits::{signatures::Signer, types::SignatureScheme};
    use ruma::owned_user_id;
    use tls_codec::{Deserialize as _, Serialize as _, VLBytes};

    use super::*;

    fn device(user: &str, device: &str) -> Result<DeviceName, Box<dyn Error>> {
        Ok(DeviceName::new(ruma::UserId::parse(user)?, device.into()))
    }

    #[test]
    fn the_text_is_canonical_and_no_device_keys() -> Result<(), Box<dyn Error>> {
        let name = DeviceName::new(owned_user_id!("@a:b"), "D\"\u{e9}".into());
        let text = text(&name, &[0; 3]);
        assert_eq!(
            text,
            "{\"device_id\":\"D\\\"\u{e9}\",\"mls_key\":\"AAAA\",\
             \"type\":\"org.matrix.msc2883.v1.dmls.binding\",\"user_id\":\"@a:b\"}"
        );
        let object: CanonicalJsonObject = serde_json::from_str(&text)?;
        assert!(!object.contains_key("keys") && !object.contains_key("algorithms"));
        Ok(())
    }

    #[test]
    fn no_leaf_holds_two_extensions_of_one_type() -> Result<(), Box<dyn Error>> {
        let one = extensions(&[7; SIGNATURE_LENGTH]).tls_serialize_detached()?;
        assert!(Extensions::<LeafNode>::tls_deserialize_exact(&one).is_ok());
        // The length of the list takes two bytes.
        let item = &one[2..];
        let twice = [item, item].concat();
        let twice = VLBytes::new(twice).tls_serialize_detached()?;
        assert!(Extensions::<LeafNode>::tls_deserialize_exact(&twice).is_err());
        Ok(())
    }

    #[test]
    fn a_binding_counts_for_one_device_one_key_and_one_signer() -> Result<(), Box<dyn Error>> {
        let pair = SignatureKeyPair::new(SignatureScheme::ED25519)?;
        let other = SignatureKeyPair::new(SignatureScheme::ED25519)?;
        let name = device("@a:b", "D")?;
        let key = [7; 32];
        let signature =
            pair.sign(text(&name, &key).as_bytes()).map_err(|error| format!("{error:?}"))?;
        assert!(is_valid(&name, &key, &signature, pair.public()));
        assert!(!is_valid(&device("@a:c", "D")?, &key, &signature, pair.public()));
        assert!(!is_valid(&device("@a:b", "E")?, &key, &signature, pair.public()));
        assert!(!is_valid(&name, &[8; 32], &signature, pair.public()));
        assert!(!is_valid(&name, &key, &signature, other.public()));
        for bad in [&signature[..63], &[], &[&signature[..], &[0]].concat()] {
            assert!(!is_valid(&name, &key, bad, pair.public()));
        }
        for bad_key in [&[][..], &pair.public()[..31], &[0; 32], &[0xff; 32]] {
            assert!(!is_valid(&name, &key, &signature, bad_key));
        }
        Ok(())
    }
}
