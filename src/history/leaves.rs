//! The members of an epoch, as far as checking a sender takes, in chunks named by their content.
//!
//! Most commits change no credential and no signature key, and the others change those of a few
//! leaves. So an epoch's leaves are cut into chunks of [`CHUNK`], each stored under its hash, and
//! consecutive epochs of a large room share all but one or two.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How many leaves a chunk holds: a chunk is a few kilobytes, and a hundred changed leaves in a
/// row are two of them.
const CHUNK: usize = 64;

/// One member's leaf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leaf {
    /// The identity in its credential.
    #[serde(with = "serde_bytes")]
    pub(crate) identity: Vec<u8>,
    /// Its public signature key.
    #[serde(with = "serde_bytes")]
    pub(crate) signature_key: Vec<u8>,
}

/// Names a chunk by what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct ChunkId([u8; 32]);

impl ChunkId {
    /// As a storage key.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A run of leaves, blank ones included.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeafChunk {
    leaves: Vec<Option<Leaf>>,
}

impl LeafChunk {
    fn id(&self) -> ChunkId {
        let mut hash = Sha256::new();
        for leaf in &self.leaves {
            match leaf {
                None => hash.update([0]),
                Some(leaf) => {
                    hash.update([1]);
                    for part in [&leaf.identity, &leaf.signature_key] {
                        hash.update((part.len() as u64).to_be_bytes());
                        hash.update(part);
                    }
                }
            }
        }
        ChunkId(hash.finalize().into())
    }

    /// The leaf at a place in this chunk.
    pub(crate) fn leaf(mut self, offset: usize) -> Option<Leaf> {
        self.leaves.get_mut(offset)?.take()
    }

    /// The members in the chunk with this number, by leaf index.
    pub(crate) fn into_members(self, number: usize) -> impl Iterator<Item = (u32, Leaf)> {
        self.leaves.into_iter().enumerate().filter_map(move |(offset, leaf)| {
            Some((u32::try_from(number * CHUNK + offset).ok()?, leaf?))
        })
    }
}

/// In which chunk, and where in it, a leaf is.
pub(crate) fn place(index: u32) -> (usize, usize) {
    let index = index as usize;
    (index / CHUNK, index % CHUNK)
}

/// Cuts an epoch's members into chunks, in order, blank ones in between included.
pub(crate) fn chunks(members: impl IntoIterator<Item = (u32, Leaf)>) -> Vec<(ChunkId, LeafChunk)> {
    let mut chunks: Vec<LeafChunk> = Vec::new();
    for (index, leaf) in members {
        let (number, offset) = place(index);
        if chunks.len() <= number {
            chunks.resize_with(number + 1, LeafChunk::default);
        }
        let leaves = &mut chunks[number].leaves;
        if leaves.len() <= offset {
            leaves.resize_with(offset + 1, || None);
        }
        leaves[offset] = Some(leaf);
    }
    chunks.into_iter().map(|chunk| (chunk.id(), chunk)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(name: u32) -> Leaf {
        Leaf { identity: name.to_be_bytes().to_vec(), signature_key: vec![name as u8; 32] }
    }

    #[test]
    fn members_come_back_by_index() {
        let members: Vec<_> = [0, 1, 63, 64, 200].map(|index| (index, leaf(index))).into();
        let chunks = chunks(members.clone());
        assert_eq!(chunks.len(), 4);
        let back: Vec<_> = chunks
            .iter()
            .enumerate()
            .flat_map(|(number, (_, chunk))| chunk.clone().into_members(number))
            .collect();
        assert_eq!(back, members);
        let (number, offset) = place(200);
        assert_eq!(chunks[number].1.clone().leaf(offset), Some(leaf(200)));
        assert_eq!(chunks[number].1.clone().leaf(offset + 1), None);
        assert_eq!(chunks[number].1.clone().leaf(usize::MAX), None);
    }

    #[test]
    fn only_the_chunk_that_changed_has_another_name() {
        let before = chunks((0..200).map(|index| (index, leaf(index))));
        let after = chunks((0..200).map(|index| (index, leaf(index.max(1)))));
        let same = before.iter().zip(&after).filter(|(a, b)| a.0 == b.0).count();
        assert_eq!((before.len(), same), (4, 3));
        assert_ne!(chunks([(0, leaf(1))])[0].0, chunks([(1, leaf(1))])[0].0);
    }
}
