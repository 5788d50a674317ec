//! Which epochs and chunks of leaves are in the backup, and under which session ids.

use ruma::{RoomId, api::client::backup::delete_backup_keys_for_session};
use serde::{Deserialize, Serialize};

use super::record;
use crate::{
    failure::Failure,
    history::{ChunkId, restored::ReadableEpoch},
    protocol::EpochId,
    requests::{self, BACKUP_SCOPE, Purpose, REQUESTS},
    sessions::{epoch_session_id, session_id_suffix},
    store::{Collection, StoreError, Tx},
    turn::Turn,
};

/// Where each epoch is in the backup, by room.
const SAVED: Collection<Saved> = Collection::new("backup_saved");
/// The version that each chunk of leaves is in, by room.
const SAVED_CHUNKS: Collection<String> = Collection::new("backup_saved_chunk");
/// The epoch that each session id stands for, by room.
const NAMES: Collection<EpochId> = Collection::new("backup_session_name");

/// An epoch in the backup.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) version: String,
    pub(super) session_id: String,
}

/// Whether an epoch is in this version of the backup.
pub(super) fn is_in_version(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: EpochId,
    version: &str,
) -> Result<bool, StoreError> {
    let saved = SAVED.get(tx, room.as_bytes(), epoch.as_bytes())?;
    Ok(saved.is_some_and(|saved| saved.version == version))
}

/// Whether a chunk of leaves is in this version of the backup.
pub(super) fn is_chunk_in_version(
    tx: &Tx<'_>,
    room: &RoomId,
    chunk: ChunkId,
    version: &str,
) -> Result<bool, StoreError> {
    let saved = SAVED_CHUNKS.get(tx, room.as_bytes(), chunk.as_bytes())?;
    Ok(saved.is_some_and(|saved| saved == version))
}

/// Notes that an epoch is in the backup now.
pub(super) fn note_saved(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: EpochId,
    saved: &Saved,
) -> Result<(), StoreError> {
    SAVED.put(tx, room.as_bytes(), epoch.as_bytes(), saved)
}

/// Notes that a chunk of leaves is in a version of the backup: it was uploaded, or found there.
pub(super) fn note_chunk(
    tx: &Tx<'_>,
    room: &RoomId,
    chunk: ChunkId,
    version: &str,
) -> Result<(), StoreError> {
    SAVED_CHUNKS.put(tx, room.as_bytes(), chunk.as_bytes(), &version.to_owned())
}

/// The session id of an epoch. An epoch keeps the session id that it gets first.
pub(super) fn session_id_for(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: &ReadableEpoch,
) -> Result<String, StoreError> {
    let plain = epoch_session_id(epoch.number, &epoch.creator, None);
    match NAMES.get(tx, room.as_bytes(), plain.as_bytes())? {
        Some(id) if id != epoch.id => {
            Ok(epoch_session_id(epoch.number, &epoch.creator, Some(&session_id_suffix(epoch.id))))
        }
        Some(_) => Ok(plain),
        None => {
            NAMES.put(tx, room.as_bytes(), plain.as_bytes(), &epoch.id)?;
            Ok(plain)
        }
    }
}

/// Notes that an epoch was found in a version of the backup, under this session id.
pub(super) fn note_found(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: EpochId,
    version: &str,
    session_id: &str,
) -> Result<(), StoreError> {
    let is_new = !is_in_version(tx, room, epoch, version)?;
    let mut record = record::load(tx)?;
    if let Some(active) =
        record.active.as_mut().filter(|active| is_new && active.version == version)
    {
        active.backed_up += 1;
        record::save(tx, &record)?;
    }
    let saved = Saved { version: version.to_owned(), session_id: session_id.to_owned() };
    note_saved(tx, room, epoch, &saved)?;
    if NAMES.get(tx, room.as_bytes(), session_id.as_bytes())?.is_none() {
        NAMES.put(tx, room.as_bytes(), session_id.as_bytes(), &epoch)?;
    }
    Ok(())
}

/// Removes an epoch, whose export was deleted, from the backup and from the uploads under way.
pub(crate) fn forget_epoch(turn: &Turn<'_>, room: &RoomId, epoch: EpochId) -> Result<(), Failure> {
    for (id, queued) in REQUESTS.in_scope(turn.tx, BACKUP_SCOPE)? {
        if let Purpose::BackUp(batch) = &queued.purpose
            && let Some(entry) = batch.epochs.iter().find(|entry| entry.epoch == epoch)
        {
            requests::remove(turn.tx, id)?;
            if queued.handed_out {
                let (version, session_id) = (batch.version.clone(), entry.session_id.clone());
                delete_from_backup(turn, room, &Saved { version, session_id })?;
            }
        }
    }
    if let Some(saved) = SAVED.get(turn.tx, room.as_bytes(), epoch.as_bytes())? {
        SAVED.delete(turn.tx, room.as_bytes(), epoch.as_bytes())?;
        delete_from_backup(turn, room, &saved)?;
        let mut record = record::load(turn.tx)?;
        if let Some(active) = record.active.as_mut().filter(|a| a.version == saved.version) {
            active.backed_up = active.backed_up.saturating_sub(1);
            record::save(turn.tx, &record)?;
        }
    }
    Ok(())
}

/// Asks the homeserver to delete a session, if the session is in the version that this device
/// writes to.
pub(super) fn delete_from_backup(
    turn: &Turn<'_>,
    room: &RoomId,
    saved: &Saved,
) -> Result<(), Failure> {
    let active = record::load(turn.tx)?.active;
    if active.is_none_or(|active| active.version != saved.version) {
        return Ok(());
    }
    let request = delete_backup_keys_for_session::v3::Request::new(
        saved.version.clone(),
        room.to_owned(),
        saved.session_id.clone(),
    );
    let purpose = Purpose::DeleteFromBackup { room_id: room.to_owned() };
    requests::enqueue(turn.tx, BACKUP_SCOPE, turn.now_ms, purpose, request)?;
    Ok(())
}
