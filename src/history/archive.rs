//! The archive of this device's own epoch exports, and reading messages with exports.
//!
//! What is here was captured from a group that this device was in. Exports that came from elsewhere
//! are kept apart (`restored`); nothing of theirs gets in here, so what this device seals with, and
//! what it has deleted, is its own matter.
//!
//! An export has two parts: the epoch's keys, small and of one size in every room, and the leaves
//! of its members. The leaves are in chunks that are named by their content, so epochs share the
//! chunks in which nothing changed. Opening a message reads the keys and the one chunk with the
//! sender's leaf, both only the first time. It writes nothing.

use std::collections::{BTreeSet, HashMap};

use openmls::prelude::Member;
use openmls_traits::crypto::OpenMlsCrypto;
use ruma::{OwnedRoomId, RoomId};
use serde::{Deserialize, Serialize};

use super::{
    CHUNK_LEAVES, ChunkId, EpochKeys, Leaf, LeafChunk, LeavesError, OpenError, Opened,
    RatchetCache, chunks, locate, open,
};
use crate::{
    protocol::EpochId,
    store::{Collection, StoreError, Tx},
};

/// How many senders of one epoch have their leaf kept in memory.
const MAX_CACHED_LEAVES: usize = 256;

/// Why an epoch's export could not be kept or used.
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

/// The row of an epoch. Where messages are read once, it has the leaves alone.
#[derive(Serialize, Deserialize)]
struct Row {
    keys: Option<EpochKeys>,
    chunks: Vec<ChunkId>,
    /// The keys were deleted for their age alone. Rows of earlier versions do not say why.
    #[serde(default)]
    may_return: bool,
}

/// What is known of an epoch's export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// This device was not in the epoch.
    Nothing,
    /// The keys.
    Keys,
    /// The leaves alone. `may_return`: the keys were deleted for their age, and a copy from
    /// elsewhere may open the messages again. Otherwise they were read once.
    Leaves { may_return: bool },
}

/// An epoch's export. It names the chunks of leaves instead of holding them.
#[derive(Clone, Serialize, Deserialize)]
pub struct StoredExport {
    /// The keys.
    pub keys: EpochKeys,
    /// The names of the chunks with the leaves.
    pub chunks: Vec<ChunkId>,
}

const EXPORTS: Collection<Row> = Collection::new("epoch_export");
const ROOMS: Collection<OwnedRoomId> = Collection::new("archived_room");
const CHUNKS: Collection<LeafChunk> = Collection::new("leaf_chunk");

/// Keeps the export of an epoch. Without keys, only the leaves are kept.
pub fn keep(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: EpochId,
    keys: Option<EpochKeys>,
    members: impl IntoIterator<Item = Member>,
) -> Result<(), ArchiveError> {
    let mut ids = Vec::new();
    for (id, chunk) in chunks(members)? {
        put_chunk(tx, room, id, &chunk)?;
        ids.push(id);
    }
    note_room(tx, room)?;
    let row = Row { keys, chunks: ids, may_return: false };
    Ok(EXPORTS.put(tx, room.as_bytes(), epoch.as_bytes(), &row)?)
}

/// Notes that exports of a room are kept.
pub(super) fn note_room(tx: &Tx<'_>, room: &RoomId) -> Result<(), StoreError> {
    if !ROOMS.has(tx, b"", room.as_bytes())? {
        ROOMS.put(tx, b"", room.as_bytes(), &room.to_owned())?;
    }
    Ok(())
}

/// The rooms of which exports are kept, or were.
pub fn rooms(tx: &Tx<'_>) -> Result<Vec<OwnedRoomId>, StoreError> {
    ROOMS.list(tx, b"")
}

/// What is known of an epoch's export.
pub fn holding(tx: &Tx<'_>, room: &RoomId, epoch: EpochId) -> Result<Holding, StoreError> {
    let row = EXPORTS.get(tx, room.as_bytes(), epoch.as_bytes())?;
    Ok(match row {
        None => Holding::Nothing,
        Some(Row { keys: Some(_), .. }) => Holding::Keys,
        Some(Row { may_return, .. }) => Holding::Leaves { may_return },
    })
}

/// Whether the export of an epoch is kept.
pub fn has(tx: &Tx<'_>, room: &RoomId, epoch: EpochId) -> Result<bool, StoreError> {
    Ok(find(tx, room, epoch)?.is_some())
}

/// Deletes the keys of an epoch and keeps its leaves; tells whether it had keys. Where they may not
/// return, no later call says otherwise.
pub fn drop_keys(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: EpochId,
    may_return: bool,
) -> Result<bool, StoreError> {
    let Some(mut row) = EXPORTS.get(tx, room.as_bytes(), epoch.as_bytes())? else {
        return Ok(false);
    };
    let had_keys = row.keys.take().is_some();
    let may_return = may_return && (had_keys || row.may_return);
    if had_keys {
        tx.note_deleted_secrets();
    }
    if had_keys || row.may_return != may_return {
        row.may_return = may_return;
        EXPORTS.put(tx, room.as_bytes(), epoch.as_bytes(), &row)?;
    }
    Ok(had_keys)
}

/// The export of an epoch, unless it was deleted or never kept.
pub fn find(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: EpochId,
) -> Result<Option<StoredExport>, StoreError> {
    let row = EXPORTS.get(tx, room.as_bytes(), epoch.as_bytes())?;
    Ok(row.and_then(|Row { keys, chunks, .. }| Some(StoredExport { keys: keys?, chunks })))
}

/// Keeps a chunk of leaves.
pub fn put_chunk(
    tx: &Tx<'_>,
    room: &RoomId,
    id: ChunkId,
    chunk: &LeafChunk,
) -> Result<(), StoreError> {
    if has_chunk(tx, room, id)? {
        return Ok(());
    }
    CHUNKS.put(tx, room.as_bytes(), id.as_bytes(), chunk)
}

/// Whether a chunk of leaves is kept.
pub fn has_chunk(tx: &Tx<'_>, room: &RoomId, id: ChunkId) -> Result<bool, StoreError> {
    CHUNKS.has(tx, room.as_bytes(), id.as_bytes())
}

/// The row of an epoch, which must exist.
fn row(tx: &Tx<'_>, room: &RoomId, epoch: EpochId) -> Result<Row, StoreError> {
    EXPORTS
        .get(tx, room.as_bytes(), epoch.as_bytes())?
        .ok_or_else(|| StoreError::Damaged("the leaves of a known epoch are missing".into()))
}

/// Deletes the export of an epoch. Its chunks stay, because other epochs may share them.
pub fn remove(tx: &Tx<'_>, room: &RoomId, epoch: EpochId) -> Result<(), StoreError> {
    EXPORTS.delete(tx, room.as_bytes(), epoch.as_bytes()).map(drop)
}

/// The names of the chunks with an epoch's leaves. The same name is the same leaves.
pub fn chunk_ids(tx: &Tx<'_>, room: &RoomId, epoch: EpochId) -> Result<Vec<ChunkId>, StoreError> {
    Ok(row(tx, room, epoch)?.chunks)
}

/// The members of an epoch, by leaf index.
pub fn leaves(tx: &Tx<'_>, room: &RoomId, epoch: EpochId) -> Result<Vec<(u32, Leaf)>, StoreError> {
    let export = row(tx, room, epoch)?;
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

/// Deletes the chunks of a room that no export here names, and that are not in use elsewhere.
pub(super) fn drop_chunks_beside(
    tx: &Tx<'_>,
    room: &RoomId,
    mut used: BTreeSet<ChunkId>,
) -> Result<(), StoreError> {
    for export in EXPORTS.list(tx, room.as_bytes())? {
        used.extend(export.chunks);
    }
    for chunk in CHUNKS.list(tx, room.as_bytes())? {
        // A chunk that does not encode could not have been stored.
        if let Ok(id) = chunk.id()
            && !used.contains(&id)
        {
            CHUNKS.delete(tx, room.as_bytes(), id.as_bytes())?;
        }
    }
    Ok(())
}

/// The member of an epoch at one leaf.
pub fn leaf(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: EpochId,
    index: u32,
) -> Result<Option<Leaf>, StoreError> {
    let (number, offset) = locate(index);
    match row(tx, room, epoch)?.chunks.get(number) {
        Some(id) => Ok(chunk(tx, room, *id)?.leaf(offset).cloned()),
        None => Ok(None),
    }
}

/// A chunk of leaves.
pub fn chunk(tx: &Tx<'_>, room: &RoomId, id: ChunkId) -> Result<LeafChunk, StoreError> {
    CHUNKS
        .get(tx, room.as_bytes(), id.as_bytes())?
        .ok_or_else(|| StoreError::Damaged("a chunk of an epoch's leaves is missing".into()))
}

/// Reads the messages of one epoch. It remembers what it has looked up and derived.
pub struct EpochReader {
    export: StoredExport,
    ratchets: RatchetCache,
    leaves: HashMap<u32, Leaf>,
}

impl EpochReader {
    /// A reader of an epoch's messages.
    pub fn new(export: StoredExport) -> Self {
        Self { export, ratchets: RatchetCache::default(), leaves: HashMap::new() }
    }

    /// The leaf of this device in the epoch, if the export is its own.
    pub fn own_leaf(&self) -> Option<u32> {
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
