//! Whether published cross-signing keys hold together.
//!
//! A user's master key signs the self-signing key, which signs the user's devices, and the
//! user-signing key, which signs other users. The homeserver hands all of them out, so each object
//! must name exactly the user that was asked about and hold one key for the one purpose, and each
//! signature is verified. Nothing here is remembered (`user_identity`).

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, UserId,
    signatures::to_canonical_json_string_for_signing,
};
use serde_json::value::RawValue;

use crate::protocol::{decode_base64, encode_base64, is_signed};

/// How long an Ed25519 key is, in bytes.
const KEY_LENGTH: usize = 32;

/// How many signatures of one user on a key are looked at. One user has one user-signing key at a
/// time.
const MOST_SIGNERS: usize = 8;

/// What a cross-signing key is for, as its object says.
#[derive(Debug, Clone, Copy)]
pub(super) enum Usage {
    Master,
    SelfSigning,
    UserSigning,
}

impl Usage {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::SelfSigning => "self_signing",
            Self::UserSigning => "user_signing",
        }
    }
}

/// A cross-signing key as a homeserver hands it out.
pub(super) struct PublishedKey {
    /// The Ed25519 public key.
    pub(super) key: Vec<u8>,
    object: CanonicalJsonObject,
}

impl PublishedKey {
    /// Reads a key of exactly this user, for exactly this purpose; nothing where it is anything
    /// else.
    pub(super) fn read(user: &UserId, usage: Usage, text: &RawValue) -> Option<Self> {
        let CanonicalJsonValue::Object(object) = serde_json::from_str(text.get()).ok()? else {
            return None;
        };
        // The ids of two users may look alike, or differ in case only.
        if object.get("user_id")?.as_str()? != user.as_str() {
            return None;
        }
        // A key for two purposes would let a signature for one pass for the other.
        let CanonicalJsonValue::Array(usages) = object.get("usage")? else { return None };
        if usages.len() != 1 || usages[0].as_str() != Some(usage.name()) {
            return None;
        }
        let keys = object.get("keys")?.as_object()?;
        let (id, value) = keys.first_key_value().filter(|_| keys.len() == 1)?;
        let key = decode_base64(value.as_str()?).filter(|key| key.len() == KEY_LENGTH)?;
        (*id == key_id(&key)).then_some(Self { key, object })
    }

    /// The keys of a user that have signed this one. The id of a signature names its key, so no
    /// other list is needed.
    pub(super) fn signers(&self, user: &UserId) -> Vec<Vec<u8>> {
        let signatures =
            || self.object.get("signatures")?.as_object()?.get(user.as_str())?.as_object();
        let keys = signatures().into_iter().flatten().filter_map(|(id, _)| {
            decode_base64(id.strip_prefix("ed25519:")?).filter(|key| key.len() == KEY_LENGTH)
        });
        keys.take(MOST_SIGNERS).filter(|key| self.is_signed_by(user, key)).collect()
    }

    /// Whether another key of the user has signed this one.
    pub(super) fn is_signed_by(&self, user: &UserId, key: &[u8]) -> bool {
        is_signed_by(&self.object, user, key)
    }
}

/// Whether a cross-signing key of this user has signed an object, such as device keys.
pub(super) fn is_signed_by(object: &CanonicalJsonObject, user: &UserId, key: &[u8]) -> bool {
    is_signed_under(object, user, &key_id(key), key)
}

/// Whether an object has this key's signature under this id.
pub(super) fn is_signed_under(
    object: &CanonicalJsonObject,
    user: &UserId,
    key_id: &str,
    key: &[u8],
) -> bool {
    let signature = || {
        let signatures = object.get("signatures")?.as_object()?.get(user.as_str())?.as_object()?;
        decode_base64(signatures.get(key_id)?.as_str()?)
    };
    let Some(signature) = signature() else { return false };
    to_canonical_json_string_for_signing(object).is_ok_and(|text| is_signed(&text, key, &signature))
}

/// The id under which a cross-signing key is listed, and signs.
pub(super) fn key_id(key: &[u8]) -> String {
    format!("ed25519:{}", encode_base64(key))
}
