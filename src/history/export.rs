//! The epoch export without its leaves: what one epoch needs to open and seal application messages.
//! It is small and of one size in every room.
//!
//! A value of [`EpochKeys`] is always consistent: the group context parses, the secrets have the
//! suite's length, the tree size is one that a secret tree can have, and the own leaf lies in the
//! tree. Reading checks this too, so it also holds for a value from a store or a backup.
//!
//! An export has no forward secrecy: whoever holds it can read every message of the epoch until it
//! is deleted. It holds no private key of the ratchet tree and leads to no other epoch.

use std::fmt;

use openmls_traits::types::Ciphersuite;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use tls_codec::{SecretVLByteVec, VLByteVec};

use super::framing::GroupContext;

/// Why bytes or values do not make an epoch export.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// The group context is not a GroupContext of MLS 1.0.
    #[error("the group context does not parse")]
    GroupContext,
    /// The group context names a ciphersuite that OpenMLS does not know.
    #[error("ciphersuite {0:#06x} is unknown")]
    Ciphersuite(u16),
    /// A secret is not as long as the ciphersuite's hash.
    #[error("a secret has {found} bytes where the ciphersuite wants {expected}")]
    SecretLength {
        /// What the ciphersuite wants.
        expected: usize,
        /// What there is.
        found: usize,
    },
    /// The number of leaves is not a power of two, or more than a tree can have.
    #[error("a secret tree cannot have {0} leaves")]
    TreeSize(u32),
    /// The own leaf lies outside the tree.
    #[error("the own leaf {0} lies outside the tree")]
    OwnLeaf(u32),
}

/// The stored form. The other fields of [`EpochKeys`] are read out of it.
#[derive(Clone, Serialize, Deserialize)]
struct Record {
    group_context: VLByteVec,
    sender_data_secret: SecretVLByteVec,
    encryption_secret: SecretVLByteVec,
    tree_size: u32,
    own_leaf: Option<u32>,
}

/// The secrets of one epoch for application messages, and what they are bound to.
///
/// In CBOR a map with the group context (TLS), the two secrets, the size of the secret tree in
/// leaves (RFC 9420 appendix C: a power of two) and the leaf of this device. An export that came
/// from elsewhere has no leaf of this device: it opens messages and seals none.
#[derive(Clone)]
pub struct EpochKeys {
    record: Record,
    ciphersuite: Ciphersuite,
    group_id: Vec<u8>,
    epoch: u64,
    fingerprint: [u8; 32],
}

impl EpochKeys {
    /// Builds an export and checks that its parts fit.
    pub fn new(
        group_context: Vec<u8>,
        sender_data_secret: SecretVLByteVec,
        encryption_secret: SecretVLByteVec,
        tree_size: u32,
        own_leaf: Option<u32>,
    ) -> Result<Self, ExportError> {
        Self::from_record(Record {
            group_context: group_context.into(),
            sender_data_secret,
            encryption_secret,
            tree_size,
            own_leaf,
        })
    }

    fn from_record(record: Record) -> Result<Self, ExportError> {
        let context = GroupContext::read_exact(record.group_context.as_slice())
            .map_err(|_| ExportError::GroupContext)?;
        let ciphersuite = Ciphersuite::try_from(context.ciphersuite)
            .map_err(|_| ExportError::Ciphersuite(context.ciphersuite))?;
        let expected = ciphersuite.hash_length();
        for secret in [&record.sender_data_secret, &record.encryption_secret] {
            let found = secret.as_slice().len();
            if found != expected {
                return Err(ExportError::SecretLength { expected, found });
            }
        }
        // A leaf index has 31 bits, so that twice the index fits a node index.
        if !record.tree_size.is_power_of_two() || record.tree_size > 1 << 31 {
            return Err(ExportError::TreeSize(record.tree_size));
        }
        if let Some(own_leaf) = record.own_leaf
            && own_leaf >= record.tree_size
        {
            return Err(ExportError::OwnLeaf(own_leaf));
        }
        let fingerprint = Sha256::new()
            .chain_update(record.encryption_secret.as_slice())
            .chain_update(record.tree_size.to_be_bytes())
            .finalize()
            .into();
        Ok(Self {
            ciphersuite,
            group_id: context.group_id.to_vec(),
            epoch: context.epoch,
            fingerprint,
            record,
        })
    }

    /// The ciphersuite of the group.
    pub fn ciphersuite(&self) -> Ciphersuite {
        self.ciphersuite
    }

    /// The MLS group id. In this library it is the room id.
    pub fn group_id(&self) -> &[u8] {
        &self.group_id
    }

    /// The epoch's number.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The GroupContext (TLS): every signature of the epoch covers it.
    pub fn group_context(&self) -> &[u8] {
        self.record.group_context.as_slice()
    }

    /// How many leaves the secret tree has, blank ones included.
    pub fn tree_size(&self) -> u32 {
        self.record.tree_size
    }

    /// The leaf of this device, for which [`super::seal`] seals; `None` if the export came from
    /// elsewhere.
    pub fn own_leaf(&self) -> Option<u32> {
        self.record.own_leaf
    }

    /// The same export, for reading alone.
    pub fn without_own_leaf(mut self) -> Self {
        self.record.own_leaf = None;
        self
    }

    pub(super) fn sender_data_secret(&self) -> &[u8] {
        self.record.sender_data_secret.as_slice()
    }

    pub(super) fn encryption_secret(&self) -> &[u8] {
        self.record.encryption_secret.as_slice()
    }

    /// Tells secret trees apart in memory. Epochs with equal fingerprints have equal ratchets.
    pub(super) fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }
}

impl fmt::Debug for EpochKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpochKeys")
            .field("ciphersuite", &self.ciphersuite)
            .field("epoch", &self.epoch)
            .field("tree_size", &self.record.tree_size)
            .field("own_leaf", &self.record.own_leaf)
            .finish_non_exhaustive()
    }
}

impl Serialize for EpochKeys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.record.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for EpochKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_record(Record::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}
