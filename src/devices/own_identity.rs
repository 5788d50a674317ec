//! The private keys of this user's own cross-signing identity, and signing with them.
//!
//! A private key signs only if its public key is the one that the homeserver hands out for this
//! user now, and only if the master key that leads there is the pinned one. So a key that was
//! replaced signs nothing any more, and neither does any key while the homeserver hands out an
//! identity that the user has not accepted.
//!
//! What is signed is never the homeserver's choice. A device's object must be signed by the
//! device's own key, which the caller names. A user's master key is signed in the one form that
//! Matrix gives it.

use std::fmt;

use ed25519_dalek::{Signer as _, SigningKey};
use openmls_traits::random::OpenMlsRand;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, DeviceId, UserId,
    signatures::to_canonical_json_string_for_signing,
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use zeroize::{Zeroize, Zeroizing};

use super::{
    cross_signing::{Usage, key_id},
    own_devices,
    user_identity::{UserIdentity, user_identity},
};
use crate::{
    protocol::encode_base64,
    store::{Collection, StoreError, Tx},
};

/// How long a private key is, in bytes.
const SEED_LENGTH: usize = 32;

/// Why nothing was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SigningError {
    /// The homeserver hands out no identity for this user, as far as is known.
    #[error(
        "this user has no cross-signing identity, as far as this device knows: send the machine's \
         requests and call again, or create one"
    )]
    NoIdentity,
    /// The homeserver hands out another identity than the pinned one.
    #[error(
        "the homeserver hands out another identity for this user than the one that is pinned: have \
         the user confirm it, or recover the identity with its recovery key"
    )]
    Changed,
    /// This device does not have the private key.
    #[error(
        "this device does not have the private key of its user's identity: recover it with the \
         recovery key first"
    )]
    NoPrivateKey,
    /// The private key is that of another public key than the published one.
    #[error(
        "the private key on this device is not that of the published key: recover the identity with \
         its newer recovery key"
    )]
    OtherPrivateKey,
    /// The homeserver does not list the device, or with other keys, or the keys have not signed
    /// themselves.
    #[error(
        "the homeserver lists no such device of this user with this key: send the machine's \
         requests, and call again"
    )]
    NoSuchDevice,
    /// The homeserver hands out another master key for the user, or none.
    #[error(
        "the homeserver hands out another master key for this user, or none: send the machine's \
         requests, show the identity anew, and ask the user again"
    )]
    OtherMasterKey,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A private Ed25519 key. It is wiped on drop, and `Debug` never shows it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PrivateKey(Zeroizing<[u8; SEED_LENGTH]>);

impl PrivateKey {
    fn generate<R: OpenMlsRand>(random: &R) -> Result<Self, R::Error> {
        Ok(Self(Zeroizing::new(random.random_array()?)))
    }

    /// The key of these bytes, as secret storage has them.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(Zeroizing::new(bytes.try_into().ok()?)))
    }

    /// The bytes, for secret storage.
    pub(crate) fn bytes(&self) -> &[u8] {
        &*self.0
    }

    /// The public key.
    pub(crate) fn public(&self) -> [u8; 32] {
        SigningKey::from_bytes(&self.0).verifying_key().to_bytes()
    }

    /// Adds this key's signature to an object of a user's, as that of another user of Matrix or of
    /// the same.
    fn sign(&self, mut object: CanonicalJsonObject, signer: &UserId) -> CanonicalJsonObject {
        // A value of canonical JSON can be written as such.
        let text = to_canonical_json_string_for_signing(&object).unwrap_or_default();
        let signature = SigningKey::from_bytes(&self.0).sign(text.as_bytes()).to_bytes();
        let signature = CanonicalJsonValue::String(encode_base64(&signature));
        let of_user = CanonicalJsonObject::from([(key_id(&self.public()), signature)]);
        let all = [(signer.to_string(), CanonicalJsonValue::Object(of_user))];
        object.insert("signatures".to_owned(), CanonicalJsonValue::Object(all.into()));
        object
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PrivateKey(..)")
    }
}

impl Serialize for PrivateKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&*self.0)
    }
}

impl<'de> Deserialize<'de> for PrivateKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut bytes = ByteBuf::deserialize(deserializer)?;
        let key = Self::from_bytes(&bytes);
        bytes.zeroize();
        key.ok_or_else(|| serde::de::Error::custom("a private key has another length"))
    }
}

/// The private keys of an identity, as far as this device has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PrivateKeys {
    pub(crate) master: Option<PrivateKey>,
    pub(crate) self_signing: Option<PrivateKey>,
    pub(crate) user_signing: Option<PrivateKey>,
}

impl PrivateKeys {
    /// The private keys of a new identity.
    pub(crate) fn generate<R: OpenMlsRand>(random: &R) -> Result<Self, R::Error> {
        Ok(Self {
            master: Some(PrivateKey::generate(random)?),
            self_signing: Some(PrivateKey::generate(random)?),
            user_signing: Some(PrivateKey::generate(random)?),
        })
    }

    /// The private keys among these whose public keys belong to this identity.
    pub(crate) fn of_identity(&self, identity: &UserIdentity) -> Self {
        let fits = |private: &Option<PrivateKey>, public: Option<&ByteBuf>| {
            private.clone().filter(|key| public.is_some_and(|public| **public == key.public()))
        };
        Self {
            master: fits(&self.master, Some(&identity.master)),
            self_signing: fits(&self.self_signing, identity.self_signing.as_ref()),
            user_signing: fits(&self.user_signing, identity.user_signing.as_ref()),
        }
    }
}

/// What is uploaded of a new identity.
pub(crate) struct NewIdentity {
    /// The public keys: master, self-signing, user-signing.
    pub(crate) keys: [[u8; 32]; 3],
    /// The members of the upload.
    pub(crate) objects: CanonicalJsonObject,
}

impl PrivateKeys {
    /// What has to be published of these keys; nothing where one is missing.
    pub(crate) fn new_identity(&self, user: &UserId) -> Option<NewIdentity> {
        let master = self.master.as_ref()?;
        let (self_signing, user_signing) =
            (self.self_signing.as_ref()?, self.user_signing.as_ref()?);
        let signed =
            |usage, key: &PrivateKey| master.sign(bare_object(user, usage, &key.public()), user);
        let objects = [
            ("master_key", bare_object(user, Usage::Master, &master.public())),
            ("self_signing_key", signed(Usage::SelfSigning, self_signing)),
            ("user_signing_key", signed(Usage::UserSigning, user_signing)),
        ];
        let objects = objects.into_iter();
        Some(NewIdentity {
            keys: [master, self_signing, user_signing].map(PrivateKey::public),
            objects: objects
                .map(|(name, object)| (name.to_owned(), CanonicalJsonValue::Object(object)))
                .collect(),
        })
    }
}

/// The private keys of the identity that this user has, or had.
const KEYS: Collection<PrivateKeys> = Collection::new("own_cross_signing_keys");

/// An object with a signature, to be uploaded.
pub(crate) struct SignedObject {
    /// The name under which it is uploaded: a device id, or a master key.
    pub(crate) name: String,
    pub(crate) object: CanonicalJsonObject,
}

/// The private keys in the store, whether or not they may be used.
pub(crate) fn private_keys(tx: &Tx<'_>) -> Result<PrivateKeys, StoreError> {
    Ok(KEYS.get(tx, b"", b"")?.unwrap_or_default())
}

/// Keeps private keys, in place of all that were there.
pub(crate) fn keep_private_keys(tx: &Tx<'_>, keys: &PrivateKeys) -> Result<(), StoreError> {
    KEYS.put(tx, b"", b"", keys)
}

/// The private key for one purpose, if it may be used.
fn usable(tx: &Tx<'_>, own: &UserId, usage: Usage) -> Result<PrivateKey, SigningError> {
    let identity = user_identity(tx, own)?.ok_or(SigningError::NoIdentity)?;
    if identity.has_changed() {
        return Err(SigningError::Changed);
    }
    let keys = private_keys(tx)?;
    let key = |keys: PrivateKeys| match usage {
        Usage::Master => keys.master,
        Usage::SelfSigning => keys.self_signing,
        Usage::UserSigning => keys.user_signing,
    };
    match (key(keys.of_identity(&identity)), key(keys)) {
        (Some(key), _) => Ok(key),
        (None, Some(_)) => Err(SigningError::OtherPrivateKey),
        (None, None) => Err(SigningError::NoPrivateKey),
    }
}

/// Signs the one of the own user's devices that has this Ed25519 key, with the self-signing key.
pub(crate) fn sign_device(
    tx: &Tx<'_>,
    own: &UserId,
    device: &DeviceId,
    ed25519: &[u8],
) -> Result<SignedObject, SigningError> {
    let key = usable(tx, own, Usage::SelfSigning)?;
    let object = own_devices::signed_object(tx, own, device, ed25519)?;
    let object = key.sign(object.ok_or(SigningError::NoSuchDevice)?, own);
    Ok(SignedObject { name: device.to_string(), object })
}

/// Signs another user's master key with the user-signing key. It has to be the one that the
/// homeserver hands out.
pub(crate) fn sign_user(
    tx: &Tx<'_>,
    own: &UserId,
    user: &UserId,
    master: &[u8],
) -> Result<SignedObject, SigningError> {
    let key = usable(tx, own, Usage::UserSigning)?;
    if user_identity(tx, user)?.is_none_or(|identity| *identity.master != *master) {
        return Err(SigningError::OtherMasterKey);
    }
    let object = key.sign(bare_object(user, Usage::Master, master), own);
    Ok(SignedObject { name: encode_base64(master), object })
}

/// A cross-signing key in the form in which it is published, without signatures.
fn bare_object(user: &UserId, usage: Usage, key: &[u8]) -> CanonicalJsonObject {
    let text = |text: &str| CanonicalJsonValue::String(text.to_owned());
    let keys = CanonicalJsonObject::from([(key_id(key), text(&encode_base64(key)))]);
    CanonicalJsonObject::from([
        ("user_id".to_owned(), text(user.as_str())),
        ("usage".to_owned(), CanonicalJsonValue::Array(vec![text(usage.name())])),
        ("keys".to_owned(), CanonicalJsonValue::Object(keys)),
    ])
}
