//! What a device remembers of a published tree: a hash of each node.
//!
//! A hash has 16 bytes, so a tree of 10,000 devices takes 320 kB where the tree itself has 2.8 MB.
//! Two nodes of one hash would make a difference that leaves one of them out. The tree hash shows
//! that to whoever joins; finding such a pair takes 2^64 tries.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use sha2::{Digest, Sha256};

use super::nodes::Nodes;

/// The length of a node's hash, in bytes.
const LENGTH: usize = 16;
/// What stands for a blank node.
const BLANK: [u8; LENGTH] = [0; LENGTH];

/// The hashes of a tree's nodes, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fingerprint(ByteBuf);

impl Fingerprint {
    /// The hashes of these nodes.
    pub(super) fn of(nodes: &Nodes<'_>) -> Self {
        let mut bytes = Vec::with_capacity(nodes.0.len() * LENGTH);
        for node in &nodes.0 {
            bytes.extend_from_slice(&node.map_or(BLANK, hash));
        }
        Self(ByteBuf::from(bytes))
    }

    /// The places at which a tree of this fingerprint is another than one of that fingerprint,
    /// which has the place.
    pub(super) fn places_changed_to(&self, new: &Self) -> Vec<usize> {
        let of_new = new.0.chunks_exact(LENGTH).enumerate();
        let changed = of_new.filter(|(place, hash)| self.at(*place) != *hash);
        changed.map(|(place, _)| place).collect()
    }

    /// The hash at a place. What lies behind the end of a tree is blank.
    fn at(&self, place: usize) -> &[u8] {
        self.0.chunks_exact(LENGTH).nth(place).unwrap_or(&BLANK)
    }
}

/// The hash of a node. None is that of a blank one, but for one in 2^128.
fn hash(node: &[u8]) -> [u8; LENGTH] {
    let mut hash = [0; LENGTH];
    for (to, from) in hash.iter_mut().zip(Sha256::digest(node)) {
        *to = from;
    }
    hash
}
