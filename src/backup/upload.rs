//! Uploading epochs into the backup, in batches, as they appear.
//!
//! An epoch stays in the backlog until the homeserver has confirmed its upload. So nothing is lost
//! when the app is killed, and nothing counts as backed up too early. One upload is under way at a
//! time. A chunk of leaves is uploaded once for all epochs that share it.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    OwnedRoomId,
    api::client::backup::{KeyBackupData as RumaKeyBackupData, RoomKeyBackup, add_backup_keys},
    serde::Raw,
};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::{
    backlog,
    error::BackupError,
    record::{self, Active},
    saved::{self, Saved},
};
use crate::{
    epochs::graph,
    exported::Update,
    failure::Failure,
    history::{ChunkId, archive},
    protocol::EpochId,
    requests::{self, BACKUP_SCOPE, BackupBatch, BackupEntry, PausedWork, Purpose, REQUESTS},
    sessions::{SessionData, SessionJson, leaves_session_id, seal},
    store::{StoreError, Tx},
    turn::Turn,
};

/// The most epochs in one upload.
const MOST_EPOCHS: usize = 100;
/// The largest upload, in bytes, unless the homeserver refused one of that size.
pub(super) const MOST_BYTES: usize = 1024 * 1024;
/// An upload does not shrink below this size, in bytes.
const LEAST_BYTES: usize = 32 * 1024;

/// One session of `/room_keys/keys`.
#[derive(Serialize)]
struct KeyBackupData {
    first_message_index: u64,
    forwarded_count: u64,
    is_verified: bool,
    session_data: SessionData,
}

/// How much is backed up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// The epochs of this device that are in the backup.
    pub(crate) backed_up: u64,
    /// The epochs of this device that are still to be uploaded.
    pub(crate) waiting: u64,
    /// The sessions that the homeserver says it holds.
    pub(crate) on_server: Option<u64>,
}

/// How much is backed up; nothing if no backup is enabled.
pub(crate) fn counts(tx: &Tx<'_>) -> Result<Counts, StoreError> {
    let Some(active) = record::load(tx)?.active else { return Ok(Counts::default()) };
    Ok(Counts {
        backed_up: active.backed_up,
        waiting: backlog::count(tx)?,
        on_server: active.on_server,
    })
}

/// Queues the next upload, if there is something to upload and no upload is under way.
pub(crate) fn plan_upload(turn: &Turn<'_>) -> Result<(), Failure> {
    let Some(active) = record::load(turn.tx)?.active else { return Ok(()) };
    if requests::is_paused(turn.tx, PausedWork::BackUp, turn.now_ms)? {
        return Ok(());
    }
    let waiting = backlog::oldest(turn.tx, MOST_EPOCHS)?;
    if waiting.is_empty() {
        return Ok(());
    }
    let queued = REQUESTS.in_scope(turn.tx, BACKUP_SCOPE)?;
    if queued.iter().any(|(_, queued)| matches!(queued.purpose, Purpose::BackUp(_))) {
        return Ok(());
    }
    let mut upload = Upload {
        turn,
        active: &active,
        rooms: BTreeMap::new(),
        bytes: 0,
        chunks: BTreeSet::new(),
        epochs: Vec::new(),
    };
    for (id, (room, epoch)) in waiting {
        // An epoch that was deleted in the meantime is not uploaded.
        if !upload.add_epoch(id, &room, epoch)? {
            backlog::remove(turn.tx, id)?;
        }
        if upload.bytes >= active.most_bytes {
            break;
        }
    }
    if upload.epochs.is_empty() {
        return plan_upload(turn);
    }
    let Upload { rooms, chunks, epochs, .. } = upload;
    let rooms = rooms.into_iter().map(|(room, keys)| (room, RoomKeyBackup::new(keys))).collect();
    let request = add_backup_keys::v3::Request::new(active.version.clone(), rooms);
    let chunks = chunks.into_iter().collect();
    let batch = BackupBatch { version: active.version, epochs, chunks };
    requests::enqueue(turn.tx, BACKUP_SCOPE, turn.now_ms, Purpose::BackUp(batch), request)?;
    Ok(())
}

/// An upload that is being built.
struct Upload<'a> {
    turn: &'a Turn<'a>,
    active: &'a Active,
    rooms: BTreeMap<OwnedRoomId, BTreeMap<String, Raw<RumaKeyBackupData>>>,
    bytes: usize,
    chunks: BTreeSet<(OwnedRoomId, ChunkId)>,
    epochs: Vec<BackupEntry>,
}

impl Upload<'_> {
    /// Adds an epoch, with those of its leaves that are not in the backup yet. `false` means that
    /// the epoch is not readable any longer.
    fn add_epoch(
        &mut self,
        backlog_id: i64,
        room: &OwnedRoomId,
        id: EpochId,
    ) -> Result<bool, Failure> {
        let tx = self.turn.tx;
        let Some((epoch, export)) = graph::find_readable(tx, room, id)? else { return Ok(false) };
        for chunk in &export.chunks {
            let place = (room.clone(), *chunk);
            let version = &self.active.version;
            if self.chunks.contains(&place)
                || saved::is_chunk_in_version(tx, room, *chunk, version)?
            {
                continue;
            }
            let leaves = archive::chunk(tx, room, *chunk)?;
            let contents = SessionJson::leaves(room, export.keys.ciphersuite(), &leaves)?;
            self.add_session(room, leaves_session_id(*chunk), &contents)?;
            self.chunks.insert(place);
        }
        let session_id = saved::session_id_for(tx, room, &epoch)?;
        let contents = SessionJson::epoch(room, &epoch, &export)
            .map_err(|error| Failure::defect("session", error))?;
        self.add_session(room, session_id.clone(), &contents)?;
        self.epochs.push(BackupEntry { backlog_id, room: room.clone(), epoch: id, session_id });
        Ok(true)
    }

    /// Seals a session and adds it. It is marked as verified unless it is another member's word.
    fn add_session(
        &mut self,
        room: &OwnedRoomId,
        session_id: String,
        contents: &SessionJson,
    ) -> Result<(), Failure> {
        let defect = |error: &dyn std::fmt::Display| Failure::defect("session", error);
        let json = contents.to_json().map_err(|error| defect(&error))?;
        let key = &self.active.session_key;
        let session_data = seal::seal(self.turn.crypto, key, &session_id, &json)
            .map_err(|error| defect(&error))?;
        let data = KeyBackupData {
            first_message_index: 0,
            forwarded_count: 0,
            is_verified: !contents.is_from_member(),
            session_data,
        };
        let data: Box<RawValue> = to_raw_value(&data).map_err(|error| defect(&error))?;
        self.bytes += data.get().len() + session_id.len();
        self.rooms.entry(room.clone()).or_default().insert(session_id, Raw::from_json(data));
        Ok(())
    }
}

/// Takes in the homeserver's confirmation of an upload.
pub(crate) fn uploaded(
    turn: &Turn<'_>,
    batch: &BackupBatch,
    body: &[u8],
) -> Result<(), BackupError> {
    #[derive(Default, Deserialize)]
    struct Answer {
        count: Option<u64>,
    }
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|_| BackupError::MalformedAnswer("the answer to an upload is not readable"))?;
    requests::end_pause(turn.tx, PausedWork::BackUp)?;
    let mut record = record::load(turn.tx)?;
    let Some(active) = record.active.as_mut().filter(|active| active.version == batch.version)
    else {
        return Ok(());
    };
    for (room, chunk) in &batch.chunks {
        saved::note_chunk(turn.tx, room, *chunk, &batch.version)?;
    }
    for BackupEntry { backlog_id, room, epoch, session_id } in &batch.epochs {
        backlog::remove(turn.tx, *backlog_id)?;
        let saved = Saved { version: batch.version.clone(), session_id: session_id.clone() };
        if graph::find_readable(turn.tx, room, *epoch)?.is_some() {
            let was_there = saved::is_in_version(turn.tx, room, *epoch, &saved.version)?;
            active.backed_up += u64::from(!was_there);
            saved::note_saved(turn.tx, room, *epoch, &saved)?;
        } else {
            // The epoch was deleted here while it was on its way.
            saved::delete_from_backup(turn, room, &saved)?;
        }
    }
    active.on_server = answer.count.or(active.on_server);
    let backed_up = active.backed_up;
    record::save(turn.tx, &record)?;
    let total = backed_up + backlog::count(turn.tx)?;
    turn.tell(Update::BackupProgress { backed_up, total });
    Ok(plan_upload(turn)?)
}

/// Halves the largest upload: the homeserver has refused one for its size. Tells whether that can
/// help: the smallest uploads shrink no further.
pub(super) fn shrink(turn: &Turn<'_>) -> Result<bool, StoreError> {
    let mut record = record::load(turn.tx)?;
    let Some(active) = &mut record.active else { return Ok(true) };
    let before = active.most_bytes;
    active.most_bytes = (before / 2).max(LEAST_BYTES);
    let shrunk = active.most_bytes < before;
    record::save(turn.tx, &record)?;
    Ok(shrunk)
}
