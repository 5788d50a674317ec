//! The leaf sets of epochs: who may have sent a message, by leaf index.
//!
//! In a large room most leaves stay the same from epoch to epoch. So a leaf set is cut into chunks
//! of [`CHUNK_LEAVES`], each named by the hash of its content. Epochs share the chunks that did not
//! change, and opening a message needs one chunk, whatever the room's size.

use openmls::prelude::{Credential, Member};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest, Sha256};
use tls_codec::{Deserialize as _, Serialize as _, VLByteVec};

use crate::store::cbor;

/// How many leaves a chunk spans.
pub const CHUNK_LEAVES: usize = 64;

/// Why a leaf set cannot be written or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeavesError {
    /// A credential has no TLS form, or bytes are not a credential's TLS form.
    #[error("a credential is malformed")]
    Credential,
    /// A chunk could not be written as CBOR.
    #[error("a chunk of leaves cannot be encoded or read")]
    Encoding,
    /// The chunk is not the one of this name.
    #[error("a chunk of leaves is not the one that was named")]
    OtherChunk,
}

/// What is kept of a member's leaf node: enough to check its signatures and to say whose they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    credential: VLByteVec,
    signature_key: VLByteVec,
}

impl Leaf {
    /// A leaf from its credential and its public signature key.
    pub fn new(credential: &Credential, signature_key: Vec<u8>) -> Result<Self, LeavesError> {
        let credential =
            credential.tls_serialize_detached().map_err(|_| LeavesError::Credential)?;
        Ok(Self { credential: credential.into(), signature_key: signature_key.into() })
    }

    /// The credential.
    pub fn credential(&self) -> Result<Credential, LeavesError> {
        Credential::tls_deserialize_exact(self.credential.as_slice())
            .map_err(|_| LeavesError::Credential)
    }

    /// The public signature key.
    pub fn signature_key(&self) -> &[u8] {
        self.signature_key.as_slice()
    }
}

/// The name of a chunk: SHA-256 of its CBOR. In CBOR a byte string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub [u8; 32]);

impl ChunkId {
    /// The name of the chunk with this CBOR.
    pub fn of(cbor: &[u8]) -> Self {
        Self(Sha256::digest(cbor).into())
    }

    /// The 32 bytes of the hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Serialize for ChunkId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for ChunkId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = VLByteVec::deserialize(deserializer)?;
        let id = bytes.as_slice().try_into();
        id.map(Self).map_err(|_| D::Error::custom("a chunk id has 32 bytes"))
    }
}

/// A run of [`CHUNK_LEAVES`] leaves. Blank leaves are `None`. Blank leaves at the end are left out,
/// so that a growing tree changes only the chunks that get a new member.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeafChunk {
    leaves: Vec<Option<Leaf>>,
}

impl LeafChunk {
    /// The leaf at an offset that [`locate`] gave.
    pub fn leaf(&self, offset: usize) -> Option<&Leaf> {
        self.leaves.get(offset)?.as_ref()
    }

    /// The chunk's CBOR. The chunk's name is the hash of it.
    pub fn to_cbor(&self) -> Result<Vec<u8>, LeavesError> {
        let mut bytes = Vec::new();
        cbor::write(self, &mut bytes).map_err(|_| LeavesError::Encoding)?;
        Ok(bytes)
    }

    /// Reads the chunk of this name.
    pub fn from_cbor(bytes: &[u8], id: ChunkId) -> Result<Self, LeavesError> {
        if ChunkId::of(bytes) != id {
            return Err(LeavesError::OtherChunk);
        }
        let chunk: Self = cbor::read(bytes).map_err(|_| LeavesError::Encoding)?;
        // A chunk in another encoding than ours would get another name when it is written here.
        if chunk.leaves.len() > CHUNK_LEAVES || chunk.id()? != id {
            return Err(LeavesError::OtherChunk);
        }
        Ok(chunk)
    }

    /// The chunk's name. A chunk from a backup is the right one if it has the name that was asked
    /// for.
    pub fn id(&self) -> Result<ChunkId, LeavesError> {
        Ok(ChunkId::of(&self.to_cbor()?))
    }
}

/// The place of a leaf: the number of its chunk, and the offset in the chunk.
pub fn locate(leaf: u32) -> (usize, usize) {
    let leaf = leaf as usize;
    (leaf / CHUNK_LEAVES, leaf % CHUNK_LEAVES)
}

/// Cuts a group's members into chunks, in order. Each chunk comes with its name.
pub fn chunks(
    members: impl IntoIterator<Item = Member>,
) -> Result<Vec<(ChunkId, LeafChunk)>, LeavesError> {
    let mut chunks: Vec<LeafChunk> = Vec::new();
    for member in members {
        let (number, offset) = locate(member.index.u32());
        if chunks.len() <= number {
            chunks.resize_with(number + 1, LeafChunk::default);
        }
        let Some(chunk) = chunks.get_mut(number) else {
            continue;
        };
        if chunk.leaves.len() <= offset {
            chunk.leaves.resize_with(offset + 1, || None);
        }
        if let Some(place) = chunk.leaves.get_mut(offset) {
            *place = Some(Leaf::new(&member.credential, member.signature_key)?);
        }
    }
    chunks.into_iter().map(|c| Ok((c.id()?, c))).collect()
}
