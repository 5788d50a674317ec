//! A ratchet tree of leaves alone, as Adds without a path leave it: every parent is blank.

use tls_codec::Error;

use super::wire::Writer;

/// `NodeType`s (section 7.8).
const LEAF: u8 = 1;
const PARENT: u8 = 2;
/// `optional<T>`.
const ABSENT: u8 = 0;
const PRESENT: u8 = 1;

/// The tree's nodes in their order, `optional<Node> ratchet_tree<V>` (section 12.4.3.3). `leaves`
/// are encoded LeafNodes.
pub(super) fn nodes(leaves: &[Vec<u8>]) -> Result<Vec<u8>, Error> {
    let mut nodes = Writer::default();
    for (place, leaf) in leaves.iter().enumerate() {
        if place > 0 {
            nodes = nodes.u8(ABSENT);
        }
        nodes = nodes.u8(PRESENT).u8(LEAF).raw(leaf);
    }
    Ok(Writer::default().opaque(&nodes.finish())?.finish())
}

/// The tree hash (section 7.8).
pub(super) fn hash<E: From<Error>>(
    leaves: &[Vec<u8>],
    hash: &impl Fn(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, E> {
    let mut hashes = Vec::with_capacity(leaves.len());
    for place in 0..leaves.len().max(1).next_power_of_two() {
        let index = u32::try_from(place).map_err(|_| Error::InvalidVectorLength)?;
        let input = Writer::default().u8(LEAF).u32(index);
        let input = match leaves.get(place) {
            Some(leaf) => input.u8(PRESENT).raw(leaf),
            None => input.u8(ABSENT),
        };
        hashes.push(hash(&input.finish())?);
    }
    while hashes.len() > 1 {
        let mut above = Vec::with_capacity(hashes.len() / 2);
        for pair in hashes.chunks(2) {
            let mut input = Writer::default().u8(PARENT).u8(ABSENT);
            for child in pair {
                input = input.opaque(child)?;
            }
            above.push(hash(&input.finish())?);
        }
        hashes = above;
    }
    Ok(hashes.pop().unwrap_or_default())
}
