//! The name of one epoch of one branch (docs/decisions/001).
//!
//! Two commits on one base lead to two epochs with the same number. The hash of the GroupContext
//! tells them apart. Every member can compute it, including one that joined by a Welcome.

use openmls::prelude::GroupContext;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tls_codec::Serialize as _;

/// SHA-256 of an epoch's GroupContext (RFC 9420 §8.1), which holds the group id, the epoch number,
/// the tree hash and the confirmed transcript hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct EpochId([u8; 32]);

/// A GroupContext that cannot be written in its TLS form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the group context has no TLS form: {0}")]
pub(crate) struct UnwritableContext(tls_codec::Error);

impl EpochId {
    /// The id of the epoch that a group context describes.
    pub(crate) fn of(context: &GroupContext) -> Result<Self, UnwritableContext> {
        context.tls_serialize_detached().map(|tls| Self::of_tls(&tls)).map_err(UnwritableContext)
    }

    /// The id of the epoch whose GroupContext has this TLS form.
    pub(crate) fn of_tls(context: &[u8]) -> Self {
        Self(Sha256::digest(context).into())
    }

    /// What [`Self::to_hex`] has written.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// An id that no group has.
    #[cfg(test)]
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes, for storage keys and for ranking.
    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Lower-case hex, for logs and debug screens.
    pub(crate) fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}
