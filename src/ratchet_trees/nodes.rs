//! Cutting a ratchet tree into its nodes, without looking further into them.
//!
//! The form is that of the extension `ratchet_tree` (RFC 9420 §12.4.3.3): a vector of optional
//! nodes, the last of which is not blank. Reading borrows from the tree.

use tls_codec::{Deserialize, Serialize, TlsVarInt};

use crate::rejection::Rejection;

/// The most nodes of a tree: those of half a million devices.
pub(super) const MOST_NODES: usize = 1 << 20;
/// The largest tree, in bytes; also the largest value that is fetched.
const MOST_BYTES: usize = 50_000_000;

/// The values of `NodeType`.
const LEAF: u8 = 1;
const PARENT: u8 = 2;

/// The values of `LeafNodeSource`.
const OF_KEY_PACKAGE: u8 = 1;
const OF_UPDATE: u8 = 2;
const OF_COMMIT: u8 = 3;
/// What a `Lifetime` takes, in bytes.
const LIFETIME: usize = 16;

/// A tree's nodes in their order: the bytes of each `Node`, nothing for a blank one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Nodes<'a>(pub(super) Vec<Option<&'a [u8]>>);

impl<'a> Nodes<'a> {
    /// Cuts a tree. What a node holds is left to OpenMLS.
    pub(super) fn read(mut tree: &'a [u8]) -> Result<Self, Rejection> {
        let mut rest = opaque(&mut tree)?;
        if !tree.is_empty() {
            return Err(Rejection::BadTree);
        }
        let mut nodes = Vec::new();
        while !rest.is_empty() {
            if nodes.len() == MOST_NODES {
                return Err(Rejection::BadTree);
            }
            nodes.push(match byte(&mut rest)? {
                0 => None,
                1 => Some(node(&mut rest)?),
                _ => return Err(Rejection::BadTree),
            });
        }
        if nodes.last().is_none_or(Option::is_none) {
            return Err(Rejection::BadTree);
        }
        Ok(Self(nodes))
    }

    /// The tree with these nodes. It may not be larger than any that is fetched.
    pub(super) fn write(&self) -> Result<Vec<u8>, Rejection> {
        let length: usize = self.0.iter().map(|node| 1 + node.map_or(0, <[u8]>::len)).sum();
        let prefix = u64::try_from(length).ok().and_then(|length| TlsVarInt::try_from(length).ok());
        let (Some(prefix), true) = (prefix, length <= MOST_BYTES) else {
            return Err(Rejection::BadTreeDifference("the tree is larger than any room needs"));
        };
        let mut bytes = Vec::with_capacity(length + 4);
        prefix.tls_serialize(&mut bytes).map_err(|_| Rejection::BadTree)?;
        for node in &self.0 {
            bytes.push(u8::from(node.is_some()));
            bytes.extend_from_slice(node.unwrap_or_default());
        }
        Ok(bytes)
    }
}

/// Whether these bytes are one node and nothing else.
pub(super) fn is_node(mut bytes: &[u8]) -> bool {
    node(&mut bytes).is_ok() && bytes.is_empty()
}

/// Takes one `Node`.
fn node<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], Rejection> {
    let start = *input;
    match byte(input)? {
        LEAF => {
            leaf(input)?;
        }
        PARENT => {
            // encryption_key, parent_hash, unmerged_leaves
            for _ in 0..3 {
                opaque(input)?;
            }
        }
        _ => return Err(Rejection::BadTree),
    }
    start.get(..start.len() - input.len()).ok_or(Rejection::BadTree)
}

/// A LeafNode (§7.2), as far as its signature goes.
pub(super) struct Leaf<'a> {
    /// `signature_key`
    pub(super) key: &'a [u8],
    /// What stands in front of the signature.
    pub(super) signed: &'a [u8],
    pub(super) signature: &'a [u8],
    /// Whether its group and its place are signed as well.
    pub(super) is_of_a_tree: bool,
}

/// The leaf in a node, if it holds one.
pub(super) fn leaf_of(mut node: &[u8]) -> Option<Leaf<'_>> {
    (byte(&mut node) == Ok(LEAF)).then(|| leaf(&mut node).ok()).flatten()
}

/// Takes a LeafNode. Each kind of Credential (§5.3) is a type and a vector.
fn leaf<'a>(input: &mut &'a [u8]) -> Result<Leaf<'a>, Rejection> {
    let start = *input;
    // encryption_key
    opaque(input)?;
    let key = opaque(input)?;
    input.split_off(..2).ok_or(Rejection::BadTree)?;
    opaque(input)?;
    // Capabilities: versions, cipher_suites, extensions, proposals, credentials
    for _ in 0..5 {
        opaque(input)?;
    }
    let source = byte(input)?;
    match source {
        OF_KEY_PACKAGE => {
            input.split_off(..LIFETIME).ok_or(Rejection::BadTree)?;
        }
        OF_UPDATE => {}
        OF_COMMIT => {
            opaque(input)?;
        }
        _ => return Err(Rejection::BadTree),
    }
    // extensions
    opaque(input)?;
    let signed = start.get(..start.len() - input.len()).ok_or(Rejection::BadTree)?;
    let signature = opaque(input)?;
    Ok(Leaf { key, signed, signature, is_of_a_tree: source != OF_KEY_PACKAGE })
}

fn byte(input: &mut &[u8]) -> Result<u8, Rejection> {
    input.split_off_first().copied().ok_or(Rejection::BadTree)
}

/// Takes an `opaque <V>`, or any other vector, as bytes.
fn opaque<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], Rejection> {
    let length = TlsVarInt::tls_deserialize(input).map_err(|_| Rejection::BadTree)?;
    let length = usize::try_from(length.value()).map_err(|_| Rejection::BadTree)?;
    input.split_off(..length).ok_or(Rejection::BadTree)
}
