//! This device: its signature key and its MLS credential.

use std::fmt;

use openmls::prelude::{
    BasicCredential, Capabilities, Ciphersuite, CredentialWithKey, ExtensionType,
    KeyPackageNewError,
};
use openmls_basic_credential::SignatureKeyPair;
use openmls_traits::{crypto::OpenMlsCrypto, types::CryptoError};
use ruma::{OwnedDeviceId, OwnedUserId};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::crypto::{Crypto, SUITE};
use crate::{
    protocol::{DeviceName, credential},
    store::{Collection, StoreError, Tx},
};

/// What an app is told when the homeserver has other keys under this device's id.
pub(crate) const OTHER_KEYS: &str = "the homeserver has other keys for this device: the store that \
     held them was lost, or another app uses the device's id; log in as a new device";

/// Who holds this device's Ed25519 key, and uploads its `device_keys`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Publishing {
    Alone,
    BesideOlm,
}

/// Why an operation on this device's own keys failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// The store was made for another device.
    #[error("the store belongs to {0}: give each device a directory of its own")]
    OtherDevice(DeviceName),
    /// The app passed something else than this device's signed binding.
    #[error("binding: {0}")]
    BadBinding(&'static str),
    /// The homeserver has other keys under this device's id.
    #[error("{}", OTHER_KEYS)]
    OtherKeys,
    /// An answer of the homeserver does not follow the specification.
    #[error("the answer about this device's keys cannot be read")]
    MalformedAnswer,
    /// The crypto provider refused.
    #[error("crypto: {0}")]
    Crypto(#[from] CryptoError),
    /// OpenMLS refused to make a key package.
    #[error("key package: {0}")]
    NewKeyPackage(#[from] KeyPackageNewError),
    /// A value could not be written as JSON or TLS.
    #[error("encoding: {0}")]
    Encoding(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The row of this device.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(super) struct IdentityRecord {
    #[zeroize(skip)]
    user_id: OwnedUserId,
    #[zeroize(skip)]
    device_id: OwnedDeviceId,
    suite: u16,
    pub(super) private_key: Vec<u8>,
    public_key: Vec<u8>,
    /// The store's generations and the mark of its file are sealed. Stores of earlier versions have
    /// them in clear, and only those may: whoever edits a file cannot make it one of them, as this
    /// row is sealed.
    #[serde(default)]
    sealed_marks: bool,
}

pub(super) const IDENTITY: Collection<IdentityRecord> = Collection::new("identity");

/// This device.
pub(crate) struct Identity {
    pub(super) name: DeviceName,
    pub(super) suite: Ciphersuite,
    pub(super) signer: SignatureKeyPair,
    ciphersuites: Vec<Ciphersuite>,
    pub(super) publishing: Publishing,
}

impl Identity {
    /// The device of this store. A new store gets a new one.
    pub(crate) fn load_or_create(
        tx: &Tx<'_>,
        crypto: &Crypto,
        user_id: &OwnedUserId,
        device_id: &OwnedDeviceId,
        publishing: Publishing,
    ) -> Result<Self, IdentityError> {
        let record = match IDENTITY.get(tx, b"", b"own")? {
            Some(record) => record,
            None => {
                let (private_key, public_key) =
                    crypto.signature_key_gen(SUITE.signature_algorithm())?;
                let record = IdentityRecord {
                    user_id: user_id.clone(),
                    device_id: device_id.clone(),
                    suite: SUITE.into(),
                    private_key,
                    public_key,
                    sealed_marks: false,
                };
                IDENTITY.put(tx, b"", b"own", &record)?;
                record
            }
        };
        let name = DeviceName::new(record.user_id.clone(), record.device_id.clone());
        if name.user_id != *user_id || name.device_id != *device_id {
            return Err(IdentityError::OtherDevice(name));
        }
        Self::of(&record, crypto, publishing)
    }

    /// The device of a store that has one, for a reader, which publishes nothing.
    pub(crate) fn load(tx: &Tx<'_>, crypto: &Crypto) -> Result<Self, IdentityError> {
        let record = IDENTITY.get(tx, b"", b"own")?;
        let record =
            record.ok_or_else(|| StoreError::Damaged("the store has no device".to_owned()))?;
        Self::of(&record, crypto, Publishing::Alone)
    }

    fn of(
        record: &IdentityRecord,
        crypto: &Crypto,
        publishing: Publishing,
    ) -> Result<Self, IdentityError> {
        let name = DeviceName::new(record.user_id.clone(), record.device_id.clone());
        let suite = Ciphersuite::try_from(record.suite)
            .map_err(|_| StoreError::Damaged("the device's ciphersuite is unknown".into()))?;
        let signer = SignatureKeyPair::from_raw(
            suite.signature_algorithm(),
            record.private_key.clone(),
            record.public_key.clone(),
        );
        let ciphersuites = crypto.supported_ciphersuites();
        Ok(Self { name, suite, signer, ciphersuites, publishing })
    }

    /// The user id and the device id.
    pub(crate) fn name(&self) -> DeviceName {
        self.name.clone()
    }

    /// The suite of this device's groups and key packages.
    pub(crate) fn ciphersuite(&self) -> Ciphersuite {
        self.suite
    }

    /// Who uploads this device's `device_keys`.
    pub(crate) fn publishing(&self) -> Publishing {
        self.publishing
    }

    /// Signs as this device.
    pub(crate) fn signer(&self) -> &SignatureKeyPair {
        &self.signer
    }

    /// The public half of the signature key.
    pub(crate) fn public_key(&self) -> &[u8] {
        self.signer.public()
    }

    /// The capabilities of this device's leaves, with these kinds of extensions among them.
    pub(super) fn capabilities(&self, mut extensions: Vec<ExtensionType>) -> Capabilities {
        // The last-resort package carries the extension that says so, and a leaf has to name the
        // extensions that it carries (RFC 9420, section 7.2).
        extensions.insert(0, ExtensionType::LastResort);
        let ciphersuites = self.ciphersuites.clone();
        Capabilities::builder().ciphersuites(ciphersuites).extensions(extensions).build()
    }

    /// The credential of this device's leaves.
    pub(crate) fn credential_with_key(&self) -> CredentialWithKey {
        CredentialWithKey {
            credential: BasicCredential::new(credential::encode(&self.name)).into(),
            signature_key: self.public_key().into(),
        }
    }
}

/// Whether what says how far the store has come is sealed in it. A store of an earlier version has
/// that in clear.
pub(crate) fn has_sealed_marks(tx: &Tx<'_>) -> Result<bool, StoreError> {
    Ok(IDENTITY.get(tx, b"", b"own")?.is_some_and(|record| record.sealed_marks))
}

/// Notes that it is sealed.
pub(crate) fn note_sealed_marks(tx: &Tx<'_>) -> Result<(), StoreError> {
    let Some(mut record) = IDENTITY.get(tx, b"", b"own")? else { return Ok(()) };
    record.sealed_marks = true;
    IDENTITY.put(tx, b"", b"own", &record)
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Identity").field("name", &self.name).finish_non_exhaustive()
    }
}

pub(super) fn encoding(error: impl fmt::Display) -> IdentityError {
    IdentityError::Encoding(error.to_string())
}
