//! The form in which an epoch leaves the device: the `group_export` of a backup, a file or a
//! bundle.
//!
//! The form holds what opening the epoch's messages needs, and nothing that leads further: no leaf
//! of this device, no private key, no secret of another epoch. Leaves are named by the hashes of
//! their chunks, and a chunk is transferred once for many epochs.
//!
//! ```text
//! struct {
//!     uint16 version = 1;
//!     opaque group_context<V>;          // GroupContext of RFC 9420, with version and suite
//!     opaque sender_data_secret<V>;
//!     opaque encryption_secret<V>;
//!     uint32 tree_size;                 // in leaves
//!     opaque leaf_chunks<V>;            // 32 bytes each
//! } EpochExport;
//! ```

use tls_codec::{
    Deserialize, SecretVLByteVec, Serialize, TlsDeserialize, TlsSerialize, TlsSize, VLByteVec,
};
use zeroize::Zeroizing;

use super::{
    export::{EpochKeys, ExportError},
    leaves::{CHUNK_LEAVES, ChunkId},
};

const VERSION: u16 = 1;
const HASH: usize = 32;

/// Why bytes are no epoch export.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// The bytes are not the struct, or more follows it.
    #[error("the epoch export does not parse")]
    Malformed,
    /// A newer form.
    #[error("version {0} of epoch exports is not known")]
    Version(u16),
    /// The chunks of leaves are not what a tree of this size has.
    #[error("the chunks of leaves do not fit the tree")]
    Chunks,
    /// The parts do not fit each other.
    #[error(transparent)]
    Export(#[from] ExportError),
}

#[derive(TlsSerialize, TlsDeserialize, TlsSize)]
struct EpochExport {
    version: u16,
    group_context: VLByteVec,
    sender_data_secret: SecretVLByteVec,
    encryption_secret: SecretVLByteVec,
    tree_size: u32,
    leaf_chunks: VLByteVec,
}

/// Writes an epoch's export.
pub fn write(keys: &EpochKeys, chunks: &[ChunkId]) -> Result<Zeroizing<Vec<u8>>, TransferError> {
    let export = EpochExport {
        version: VERSION,
        group_context: keys.group_context().to_vec().into(),
        sender_data_secret: keys.sender_data_secret().into(),
        encryption_secret: keys.encryption_secret().into(),
        tree_size: keys.tree_size(),
        leaf_chunks: chunks.iter().flat_map(|chunk| *chunk.as_bytes()).collect::<Vec<u8>>().into(),
    };
    export.tls_serialize_detached().map(Zeroizing::new).map_err(|_| TransferError::Malformed)
}

/// Reads an epoch's export. It is for reading messages alone: it has no leaf of this device.
pub fn read(bytes: &[u8]) -> Result<(EpochKeys, Vec<ChunkId>), TransferError> {
    let version: [u8; 2] = bytes.get(..2).and_then(|v| v.try_into().ok()).unwrap_or_default();
    match u16::from_be_bytes(version) {
        VERSION => {}
        0 => return Err(TransferError::Malformed),
        newer => return Err(TransferError::Version(newer)),
    }
    let mut rest = bytes;
    // Through `Read`: tls_codec's slice readers assert in debug builds.
    let export = EpochExport::tls_deserialize(&mut rest).map_err(|_| TransferError::Malformed)?;
    if !rest.is_empty() {
        return Err(TransferError::Malformed);
    }
    let (chunks, odd) = export.leaf_chunks.as_slice().as_chunks::<HASH>();
    let most = (export.tree_size as usize).div_ceil(CHUNK_LEAVES);
    if !odd.is_empty() || chunks.is_empty() || chunks.len() > most {
        return Err(TransferError::Chunks);
    }
    let keys = EpochKeys::new(
        export.group_context.into(),
        export.sender_data_secret,
        export.encryption_secret,
        export.tree_size,
        None,
    )?;
    Ok((keys, chunks.iter().copied().map(ChunkId).collect()))
}
