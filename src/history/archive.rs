//! Where epoch exports are kept, and reading messages with them.
//!
//! An export is two things: the epoch's keys, small and of one size whatever the room's, and the
//! leaves of its members, in chunks named by their content, so that epochs share the chunks in which
//! nothing changed. Opening a message reads the keys and the one chunk with the sender's leaf, and
//! both only the first time. It writes nothing.

use std::collections::HashMap;

use openmls::prelude::Member;
use openmls_traits::crypto::OpenMlsCrypto;
use ruma::RoomId;
use serde::{Deserialize, Serialize};

use super::{
    CHUNK_LEAVES, ChunkId, EpochKeys, Leaf, LeafChunk, LeavesError, OpenError, Opened,
    RatchetCache, chunks, locate, open,
};
use crate::{
    group::EpochId,
    store::{Collection, StoreError, Tx},
};

/// How many senders of one epoch keep their leaf in memory.
const MAX_CACHED_LEAVES: usize = 256;

/// Why an epoch's export could not be kept or read with.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The message is at fault.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A member's leaf is at fault.
    #[error(transparent)]
    Leaves(#[from] LeavesError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An epoch's export, the leaves by reference.
#[derive(Serialize, Deserialize)]
pub struct StoredExport {
    /// The keys.
    pub keys: EpochKeys,
    chunks: Vec<ChunkId>,
}

const EXPORTS: Collection<StoredExport> = Collection::new("epoch_export");
const CHUNKS: Collection<LeafChunk> = Collection::new("leaf_chunk");

/// Keeps the export of an epoch.
pub fn keep(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: EpochId,
    keys: EpochKeys,
    members: impl IntoIterator<Item = Member>,
) -> Result<(), ArchiveError> {
    let mut ids = Vec::new();
    for (id, chunk) in chunks(members)? {
        if CHUNKS.get(tx, room.as_bytes(), &id.0)?.is_none() {
            CHUNKS.put(tx, room.as_bytes(), &id.0, &chunk)?;
        }
        ids.push(id);
    }
    Ok(EXPORTS.put(tx, room.as_bytes(), epoch.as_bytes(), &StoredExport { keys, chunks: ids })?)
}

/// The export of an epoch.
pub fn load(tx: &Tx<'_>, room: &RoomId, epoch: EpochId) -> Result<StoredExport, StoreError> {
    EXPORTS
        .get(tx, room.as_bytes(), epoch.as_bytes())?
        .ok_or_else(|| StoreError::Damaged("the export of a known epoch is missing".into()))
}

/// Forgets the export of an epoch. Chunks stay: others may share them.
pub fn remove(tx: &Tx<'_>, room: &RoomId, epoch: EpochId) -> Result<(), StoreError> {
    EXPORTS.delete(tx, room.as_bytes(), epoch.as_bytes()).map(drop)
}

/// The members of an epoch, by leaf index.
pub fn leaves(tx: &Tx<'_>, room: &RoomId, epoch: EpochId) -> Result<Vec<(u32, Leaf)>, StoreError> {
    let export = load(tx, room, epoch)?;
    let mut members = Vec::new();
    for (number, id) in export.chunks.iter().enumerate() {
        let chunk = chunk(tx, room, *id)?;
        for offset in 0..CHUNK_LEAVES {
            if let (Some(leaf), Ok(index)) =
                (chunk.leaf(offset), u32::try_from(number * CHUNK_LEAVES + offset))
            {
                members.push((index, leaf.clone()));
            }
        }
    }
    Ok(members)
}

/// The member of an epoch at one leaf.
pub fn leaf(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: EpochId,
    index: u32,
) -> Result<Option<Leaf>, StoreError> {
    let (number, offset) = locate(index);
    match load(tx, room, epoch)?.chunks.get(number) {
        Some(id) => Ok(chunk(tx, room, *id)?.leaf(offset).cloned()),
        None => Ok(None),
    }
}

fn chunk(tx: &Tx<'_>, room: &RoomId, id: ChunkId) -> Result<LeafChunk, StoreError> {
    CHUNKS
        .get(tx, room.as_bytes(), &id.0)?
        .ok_or_else(|| StoreError::Damaged("a chunk of an epoch's leaves is missing".into()))
}

/// Reads the messages of one epoch. Remembers between messages what it looked up and derived.
pub struct Reader {
    export: StoredExport,
    ratchets: RatchetCache,
    leaves: HashMap<u32, Leaf>,
}

impl Reader {
    /// A reader of an epoch's messages.
    pub fn load(tx: &Tx<'_>, room: &RoomId, epoch: EpochId) -> Result<Self, StoreError> {
        Ok(Self {
            export: load(tx, room, epoch)?,
            ratchets: RatchetCache::default(),
            leaves: HashMap::new(),
        })
    }

    /// The leaf of this device in the epoch.
    pub fn own_leaf(&self) -> u32 {
        self.export.keys.own_leaf()
    }

    /// Opens one message.
    pub fn open(
        &mut self,
        tx: &Tx<'_>,
        room: &RoomId,
        crypto: &impl OpenMlsCrypto,
        message: &[u8],
    ) -> Result<Opened, ArchiveError> {
        let Self { export, ratchets, leaves } = self;
        open(&export.keys, ratchets, crypto, message, |index| {
            if let Some(leaf) = leaves.get(&index) {
                return Ok(Some(leaf.clone()));
            }
            let (number, offset) = locate(index);
            let Some(id) = export.chunks.get(number) else { return Ok(None) };
            let leaf = chunk(tx, room, *id)?.leaf(offset).cloned();
            if let Some(leaf) = &leaf {
                if leaves.len() >= MAX_CACHED_LEAVES {
                    leaves.clear();
                }
                leaves.insert(index, leaf.clone());
            }
            Ok::<_, ArchiveError>(leaf)
        })
    }
}
