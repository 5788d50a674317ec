//! A difference of two ratchet trees, in CBOR (RFC 8949, definite lengths, shortest forms, keys in
//! this order):
//!
//! ```text
//! { "nodes": uint, "changed": [ [uint, bytes / null], … ] }
//! ```
//!
//! `nodes` is the number of nodes of the new tree; `changed` has each node of it that is another in
//! the old tree, in the order of their places, `null` for a blank one. So two trees have one
//! difference, and whoever knows both trees knows its hash.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{
    fingerprint::Fingerprint,
    nodes::{MOST_NODES, Nodes, is_node},
};
use crate::{failure::Failure, rejection::Rejection, store::cbor};

/// The largest difference, in bytes. One that a device makes has at most 1.5 MB.
pub(crate) const MOST_MIDDLE: usize = 4_000_000;

/// A difference as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Difference {
    nodes: usize,
    changed: Vec<(usize, Option<ByteBuf>)>,
}

/// What leads from one tree to another.
#[derive(Debug, Clone)]
pub(super) struct Changes {
    places: Vec<usize>,
    /// About how many bytes the difference will have, and no fewer.
    pub(super) size: usize,
}

impl Changes {
    /// What leads to these nodes from a tree of this fingerprint.
    pub(super) fn new(from: &Fingerprint, to: &Fingerprint, nodes: &Nodes<'_>) -> Self {
        let places = from.places_changed_to(to);
        let node = |place: &usize| nodes.0.get(*place).copied().flatten().map_or(0, <[u8]>::len);
        // Each node comes with its place, its length and a frame.
        let size = 40 + places.iter().map(|place| 11 + node(place)).sum::<usize>();
        Self { places, size }
    }

    /// The difference in CBOR.
    pub(super) fn write(&self, nodes: &Nodes<'_>) -> Result<Vec<u8>, Failure> {
        let node = |place: &usize| {
            let node = nodes.0.get(*place).copied().flatten();
            (*place, node.map(|node| ByteBuf::from(node.to_vec())))
        };
        let changed = self.places.iter().map(node).collect();
        let difference = Difference { nodes: nodes.0.len(), changed };
        let mut bytes = Vec::with_capacity(self.size);
        cbor::write(&difference, &mut bytes)
            .map_err(|error| Failure::defect("tree_difference", error))?;
        Ok(bytes)
    }
}

/// Puts a tree together: a whole one, and differences one after the other.
pub(crate) fn put_together(whole: Vec<u8>, differences: &[Vec<u8>]) -> Result<Vec<u8>, Rejection> {
    let mut tree = whole;
    for difference in differences {
        tree = apply(&tree, difference)?;
    }
    Ok(tree)
}

/// The tree to which a difference leads.
fn apply(tree: &[u8], difference: &[u8]) -> Result<Vec<u8>, Rejection> {
    let bad = |reason| Err(Rejection::BadTreeDifference(reason));
    if difference.len() > MOST_MIDDLE {
        return bad("the difference is larger than any tree needs");
    }
    let Ok(Difference { nodes: count, changed }) = cbor::read(difference) else {
        return bad("the difference does not parse");
    };
    if count > MOST_NODES {
        return bad("the difference leads to a tree larger than any room needs");
    }
    let mut nodes = Nodes::read(tree)?;
    nodes.0.resize(count, None);
    let mut before = None;
    for (place, node) in &changed {
        if before.is_some_and(|before| before >= *place) {
            return bad("the nodes of the difference are not in order");
        }
        before = Some(*place);
        let Some(old) = nodes.0.get_mut(*place) else {
            return bad("a node of the difference is outside of the tree");
        };
        *old = node.as_deref().map(|node| &**node);
        if old.is_some_and(|node| !is_node(node)) {
            return bad("the difference has what is no node");
        }
    }
    if nodes.0.last().is_none_or(Option::is_none) {
        return bad("the tree ends with a blank node");
    }
    nodes.write()
}
