//! Where epoch exports are kept, and reading messages with them.
//!
//! An export is two things: the epoch's keys, small and of one size whatever the room's, and the
//! leaves of its members, in chunks named by their content, so that epochs share the chunks in which
//! nothing changed. Opening a message reads the keys and the one chunk with the sender's leaf. It
//! writes nothing.

use openmls_rust_crypto::RustCrypto;
use ruma::RoomId;
use serde::{Deserialize, Serialize};

use super::{ChunkId, EpochKeys, Leaf, LeafChunk, OpenError, Opened, RatchetCache, leaves, open};
use crate::{
    group::EpochId,
    store::{Collection, StoreError, Tx},
};

/// An epoch's export, the leaves by reference.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredExport {
    pub(crate) keys: EpochKeys,
    chunks: Vec<ChunkId>,
}

const EXPORTS: Collection<StoredExport> = Collection::new("epoch_export");
const CHUNKS: Collection<LeafChunk> = Collection::new("leaf_chunk");

/// Keeps the export of an epoch.
pub(crate) fn keep(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: EpochId,
    keys: EpochKeys,
    members: impl IntoIterator<Item = (u32, Leaf)>,
) -> Result<(), StoreError> {
    let mut chunks = Vec::new();
    for (id, chunk) in leaves::chunks(members) {
        if CHUNKS.get(tx, room.as_bytes(), id.as_bytes())?.is_none() {
            CHUNKS.put(tx, room.as_bytes(), id.as_bytes(), &chunk)?;
        }
        chunks.push(id);
    }
    EXPORTS.put(tx, room.as_bytes(), epoch.as_bytes(), &StoredExport { keys, chunks })
}

/// The export of an epoch.
pub(crate) fn load(tx: &Tx<'_>, room: &RoomId, epoch: EpochId) -> Result<StoredExport, StoreError> {
    EXPORTS
        .get(tx, room.as_bytes(), epoch.as_bytes())?
        .ok_or_else(|| StoreError::Damaged("the export of a known epoch is missing".into()))
}

/// Forgets the export of an epoch. Chunks stay: others may share them.
pub(crate) fn remove(tx: &Tx<'_>, room: &RoomId, epoch: EpochId) -> Result<(), StoreError> {
    EXPORTS.delete(tx, room.as_bytes(), epoch.as_bytes()).map(drop)
}

/// The members of an epoch, by leaf index.
pub(crate) fn leaves(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: EpochId,
) -> Result<Vec<(u32, Leaf)>, StoreError> {
    let export = load(tx, room, epoch)?;
    let mut members = Vec::new();
    for (number, id) in export.chunks.iter().enumerate() {
        members.extend(chunk(tx, room, *id)?.into_members(number));
    }
    Ok(members)
}

fn chunk(tx: &Tx<'_>, room: &RoomId, id: ChunkId) -> Result<LeafChunk, StoreError> {
    CHUNKS
        .get(tx, room.as_bytes(), id.as_bytes())?
        .ok_or_else(|| StoreError::Damaged("a chunk of an epoch's leaves is missing".into()))
}

/// Reads the messages of one epoch. Keeps ratchet positions between messages.
pub(crate) struct Reader {
    export: StoredExport,
    ratchets: RatchetCache,
}

impl Reader {
    /// A reader of an epoch's messages.
    pub(crate) fn load(tx: &Tx<'_>, room: &RoomId, epoch: EpochId) -> Result<Self, StoreError> {
        Ok(Self { export: load(tx, room, epoch)?, ratchets: RatchetCache::default() })
    }

    /// Opens one message.
    pub(crate) fn open(
        &mut self,
        tx: &Tx<'_>,
        room: &RoomId,
        crypto: &RustCrypto,
        message: &[u8],
    ) -> Result<Opened, OpenError<StoreError>> {
        let chunks = &self.export.chunks;
        open(&self.export.keys, &mut self.ratchets, crypto, message, |index| {
            let (number, offset) = leaves::place(index);
            match chunks.get(number) {
                Some(id) => Ok(chunk(tx, room, *id)?.leaf(offset)),
                None => Ok(None),
            }
        })
    }
}
