//! The keys of an epoch: all that its messages take, besides the senders' leaves.

use std::fmt;

use openmls_traits::types::Ciphersuite;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{HistoryError, framing::GroupContextHead};

/// The version of this form; readers refuse others.
const VERSION: u8 = 1;

/// What one epoch takes to open and seal messages. Its size does not depend on the room's.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(crate) struct EpochKeys {
    version: u8,
    suite: u16,
    /// The TLS-serialised GroupContext.
    #[zeroize(skip)]
    #[serde(with = "serde_bytes")]
    group_context: Vec<u8>,
    #[serde(with = "serde_bytes")]
    sender_data_secret: Vec<u8>,
    #[serde(with = "serde_bytes")]
    encryption_secret: Vec<u8>,
    /// How many leaves the secret tree has: a power of two.
    leaf_count: u32,
    own_leaf: u32,
}

impl EpochKeys {
    /// The keys of an epoch. Its suite is the group context's.
    pub(super) fn new(
        group_context: Vec<u8>,
        sender_data_secret: Vec<u8>,
        encryption_secret: Vec<u8>,
        leaf_count: u32,
        own_leaf: u32,
    ) -> Result<Self, HistoryError> {
        let suite = GroupContextHead::parse(&group_context)?.suite;
        let keys = Self {
            version: VERSION,
            suite,
            group_context,
            sender_data_secret,
            encryption_secret,
            leaf_count,
            own_leaf,
        };
        keys.suite()?;
        Ok(keys)
    }

    pub(super) fn suite(&self) -> Result<Ciphersuite, HistoryError> {
        if self.version != VERSION {
            return Err(HistoryError::Malformed("an export of another version"));
        }
        Ciphersuite::try_from(self.suite)
            .map_err(|_| HistoryError::Malformed("an unknown ciphersuite"))
    }

    pub(super) fn context(&self) -> Result<GroupContextHead, HistoryError> {
        GroupContextHead::parse(&self.group_context)
    }

    pub(super) fn group_context(&self) -> &[u8] {
        &self.group_context
    }

    pub(super) fn sender_data_secret(&self) -> &[u8] {
        &self.sender_data_secret
    }

    pub(super) fn encryption_secret(&self) -> &[u8] {
        &self.encryption_secret
    }

    pub(super) fn leaf_count(&self) -> u32 {
        self.leaf_count
    }

    pub(super) fn own_leaf(&self) -> u32 {
        self.own_leaf
    }
}

impl fmt::Debug for EpochKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EpochKeys")
            .field("leaf_count", &self.leaf_count)
            .field("own_leaf", &self.own_leaf)
            .finish_non_exhaustive()
    }
}
