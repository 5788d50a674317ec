//! Bringing epochs into the backup, in batches, as they appear.
//!
//! What is still to be uploaded stands in a queue of its own until the homeserver has taken it, so that
//! nothing is lost when the app is killed, and nothing counts as backed up too early. One upload is under
//! way at a time. A chunk of leaves goes in once for all the epochs that share it.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    OwnedRoomId, RoomId,
    api::client::backup::{RoomKeyBackup, add_backup_keys, delete_backup_keys_for_session},
    serde::Raw,
};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::{
    seal::{self, SessionData},
    session::{Contents, epoch_session_id, leaves_session_id, suffix_of},
    state::{self, Active},
};
use crate::{
    error::MlsError,
    group::{EpochId, EpochRecord, Status, Turn, graph},
    history::{
        ChunkId, archive,
        restored::{self, ReadableEpoch, Source},
    },
    requests::{self, BACKUP_SCOPE, Purpose, REQUESTS},
    store::{Collection, Queue, StoreError, Tx},
    updates::Update,
};

/// The most epochs in one upload.
const MOST_EPOCHS: usize = 100;
/// The most bytes in one upload, unless the homeserver wants less.
pub(super) const MOST_BYTES: usize = 1024 * 1024;
/// Below this an upload does not shrink.
const LEAST_BYTES: usize = 32 * 1024;

/// The epochs that are still to be uploaded.
const BACKLOG: Queue<(OwnedRoomId, EpochId)> = Queue::new("backup_backlog");
/// Where each epoch is, by room.
const SAVED: Collection<Saved> = Collection::new("backup_saved");
/// In which version each chunk of leaves is, by room.
const SAVED_CHUNKS: Collection<String> = Collection::new("backup_saved_chunk");
/// Which epoch has each session id, by room.
const NAMES: Collection<EpochId> = Collection::new("backup_session_name");

/// An epoch in the backup.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    version: String,
    session_id: String,
}

/// What one upload holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Batch {
    version: String,
    epochs: Vec<Entry>,
    chunks: Vec<(OwnedRoomId, ChunkId)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    /// Its place in the backlog.
    waiting: i64,
    room: OwnedRoomId,
    epoch: EpochId,
    session_id: String,
}

/// One session of `/room_keys/keys`.
#[derive(Serialize)]
struct KeyBackupData {
    first_message_index: u64,
    forwarded_count: u64,
    is_verified: bool,
    session_data: SessionData,
}

/// An epoch has become part of a room: it belongs into the backup.
pub(crate) fn note_epoch(turn: &Turn<'_>, room: &RoomId, epoch: EpochId) -> Result<(), MlsError> {
    if state::load(turn.tx)?.active.is_some() {
        BACKLOG.push(turn.tx, b"", turn.now_ms, &(room.to_owned(), epoch))?;
    }
    Ok(())
}

/// How many epochs are still to be uploaded.
pub(super) fn waiting(tx: &Tx<'_>) -> Result<u64, StoreError> {
    BACKLOG.count(tx)
}

/// All that can be read is to be in this version; tells how much of it is.
pub(super) fn begin(turn: &Turn<'_>, version: &str) -> Result<u64, MlsError> {
    let mut backed_up = 0;
    for room in archive::rooms(turn.tx)? {
        for epoch in readable(turn.tx, &room)? {
            let saved = SAVED.get(turn.tx, room.as_bytes(), epoch.id.as_bytes())?;
            if saved.is_some_and(|saved| saved.version == version) {
                backed_up += 1;
            } else {
                BACKLOG.push(turn.tx, b"", turn.now_ms, &(room.clone(), epoch.id))?;
            }
        }
    }
    Ok(backed_up)
}

/// The epochs of a room of which an export is kept.
pub(crate) fn readable(tx: &Tx<'_>, room: &RoomId) -> Result<Vec<ReadableEpoch>, StoreError> {
    let own = graph::all(tx, room)?.into_iter().filter(|epoch| epoch.status == Status::Accepted);
    let mut epochs: BTreeMap<EpochId, ReadableEpoch> =
        restored::all(tx, room)?.into_iter().map(|epoch| (epoch.id, epoch)).collect();
    epochs.extend(own.map(EpochRecord::readable).map(|epoch| (epoch.id, epoch)));
    let mut kept = Vec::with_capacity(epochs.len());
    for epoch in epochs.into_values() {
        if archive::has(tx, room, epoch.id)? {
            kept.push(epoch);
        }
    }
    kept.sort_by_key(|epoch| epoch.number);
    Ok(kept)
}

/// Nothing is uploaded from now on.
pub(super) fn stop(turn: &Turn<'_>) -> Result<(), MlsError> {
    drop_uploads(turn)?;
    for (id, _) in BACKLOG.in_scope(turn.tx, b"")? {
        BACKLOG.remove(turn.tx, id)?;
    }
    Ok(())
}

/// Takes back the uploads that are under way. What they hold stays in the backlog; should the homeserver
/// have it already, it takes it again.
pub(super) fn drop_uploads(turn: &Turn<'_>) -> Result<(), MlsError> {
    for (id, queued) in REQUESTS.in_scope(turn.tx, BACKUP_SCOPE)? {
        if matches!(queued.purpose, Purpose::BackUp(_)) {
            requests::remove(turn.tx, id)?;
        }
    }
    Ok(())
}

/// Queues the next upload, if there is something to upload and none is under way.
pub(crate) fn plan(turn: &Turn<'_>) -> Result<(), MlsError> {
    let Some(active) = state::load(turn.tx)?.active else { return Ok(()) };
    let waiting = BACKLOG.due(turn.tx, u64::MAX, MOST_EPOCHS)?;
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
        // What was deleted meanwhile is not uploaded.
        if !upload.epoch(id, &room, epoch)? {
            BACKLOG.remove(turn.tx, id)?;
        }
        if upload.bytes >= active.most_bytes {
            break;
        }
    }
    if upload.epochs.is_empty() {
        return plan(turn);
    }
    let Upload { rooms, chunks, epochs, .. } = upload;
    let rooms = rooms.into_iter().map(|(room, keys)| (room, RoomKeyBackup::new(keys))).collect();
    let request = add_backup_keys::v3::Request::new(active.version.clone(), rooms);
    let batch = Batch { version: active.version, epochs, chunks: chunks.into_iter().collect() };
    requests::enqueue(turn.tx, BACKUP_SCOPE, turn.now_ms, Purpose::BackUp(batch), request)?;
    Ok(())
}

/// An upload that is being put together.
struct Upload<'a> {
    turn: &'a Turn<'a>,
    active: &'a Active,
    rooms: BTreeMap<OwnedRoomId, BTreeMap<String, Raw<ruma::api::client::backup::KeyBackupData>>>,
    bytes: usize,
    chunks: BTreeSet<(OwnedRoomId, ChunkId)>,
    epochs: Vec<Entry>,
}

impl Upload<'_> {
    /// Adds an epoch, with those of its leaves that are not in the backup yet. Tells whether there is one.
    fn epoch(&mut self, waiting: i64, room: &OwnedRoomId, id: EpochId) -> Result<bool, MlsError> {
        let tx = self.turn.tx;
        let Some(export) = archive::find(tx, room, id)? else { return Ok(false) };
        let own = graph::find(tx, room, id)?.filter(|epoch| epoch.status == Status::Accepted);
        let Some(epoch) = own
            .map(EpochRecord::readable)
            .map_or_else(|| restored::find(tx, room, id), |e| Ok(Some(e)))?
        else {
            return Ok(false);
        };
        for chunk in &export.chunks {
            let place = (room.clone(), *chunk);
            let saved = SAVED_CHUNKS.get(tx, room.as_bytes(), &chunk.0)?;
            if self.chunks.contains(&place)
                || saved.is_some_and(|version| version == self.active.version)
            {
                continue;
            }
            let leaves = archive::chunk(tx, room, *chunk)?;
            let contents = Contents::leaves(room, export.keys.ciphersuite(), &leaves)?;
            self.session(room, leaves_session_id(*chunk), &contents, true)?;
            self.chunks.insert(place);
        }
        let session_id = name(tx, room, &epoch)?;
        let contents = Contents::epoch(room, &epoch, &export)?;
        let verified = !matches!(epoch.source, Source::Member(_));
        self.session(room, session_id.clone(), &contents, verified)?;
        self.epochs.push(Entry { waiting, room: room.clone(), epoch: id, session_id });
        Ok(true)
    }

    fn session(
        &mut self,
        room: &OwnedRoomId,
        session_id: String,
        contents: &Contents,
        is_verified: bool,
    ) -> Result<(), MlsError> {
        let json = contents.to_json()?;
        let session_data =
            seal::seal(self.turn.crypto, &self.active.session_key, &session_id, &json)?;
        let data =
            KeyBackupData { first_message_index: 0, forwarded_count: 0, is_verified, session_data };
        let data: Box<RawValue> =
            to_raw_value(&data).map_err(|error| MlsError::internal("session", error))?;
        self.bytes += data.get().len() + session_id.len();
        self.rooms.entry(room.clone()).or_default().insert(session_id, Raw::from_json(data));
        Ok(())
    }
}

/// The session id of an epoch: once it has one it keeps it.
fn name(tx: &Tx<'_>, room: &RoomId, epoch: &ReadableEpoch) -> Result<String, StoreError> {
    let plain = epoch_session_id(epoch.number, &epoch.creator, None);
    match NAMES.get(tx, room.as_bytes(), plain.as_bytes())? {
        Some(id) if id != epoch.id => {
            Ok(epoch_session_id(epoch.number, &epoch.creator, Some(&suffix_of(epoch.id))))
        }
        Some(_) => Ok(plain),
        None => {
            NAMES.put(tx, room.as_bytes(), plain.as_bytes(), &epoch.id)?;
            Ok(plain)
        }
    }
}

/// The homeserver has taken an upload.
pub(crate) fn uploaded(turn: &Turn<'_>, batch: &Batch, body: &[u8]) -> Result<(), MlsError> {
    #[derive(Default, Deserialize)]
    struct Answer {
        count: Option<u64>,
    }
    let answer: Answer = serde_json::from_slice(body).map_err(|_| {
        MlsError::rejected("malformed_answer", "the answer to an upload is not readable")
    })?;
    let mut record = state::load(turn.tx)?;
    let Some(active) = record.active.as_mut().filter(|active| active.version == batch.version)
    else {
        return Ok(());
    };
    for (room, chunk) in &batch.chunks {
        SAVED_CHUNKS.put(turn.tx, room.as_bytes(), &chunk.0, &batch.version)?;
    }
    for Entry { waiting, room, epoch, session_id } in &batch.epochs {
        BACKLOG.remove(turn.tx, *waiting)?;
        let saved = Saved { version: batch.version.clone(), session_id: session_id.clone() };
        if archive::has(turn.tx, room, *epoch)? {
            let before = SAVED.get(turn.tx, room.as_bytes(), epoch.as_bytes())?;
            active.backed_up += u64::from(before.is_none_or(|b| b.version != saved.version));
            SAVED.put(turn.tx, room.as_bytes(), epoch.as_bytes(), &saved)?;
        } else {
            unback(turn, room, &saved)?;
        }
    }
    active.on_server = answer.count.or(active.on_server);
    let backed_up = active.backed_up;
    state::save(turn.tx, &record)?;
    let total = backed_up + waiting(turn.tx)?;
    turn.tell(Update::BackupProgress { backed_up, total });
    plan(turn)
}

/// The homeserver takes no upload of this size.
pub(super) fn too_large(turn: &Turn<'_>) -> Result<(), MlsError> {
    let mut record = state::load(turn.tx)?;
    if let Some(active) = &mut record.active {
        active.most_bytes = (active.most_bytes / 2).max(LEAST_BYTES);
    }
    Ok(state::save(turn.tx, &record)?)
}

/// An epoch was found in a version of the backup, under this session id.
pub(super) fn found(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: EpochId,
    version: &str,
    session_id: &str,
) -> Result<(), StoreError> {
    let saved = Saved { version: version.to_owned(), session_id: session_id.to_owned() };
    let news = SAVED
        .get(tx, room.as_bytes(), epoch.as_bytes())?
        .is_none_or(|before| before.version != version);
    let mut record = state::load(tx)?;
    if let Some(active) = record.active.as_mut().filter(|active| news && active.version == version)
    {
        active.backed_up += 1;
        state::save(tx, &record)?;
    }
    SAVED.put(tx, room.as_bytes(), epoch.as_bytes(), &saved)?;
    if NAMES.get(tx, room.as_bytes(), session_id.as_bytes())?.is_none() {
        NAMES.put(tx, room.as_bytes(), session_id.as_bytes(), &epoch)?;
    }
    Ok(())
}

/// A chunk of leaves was found in a version of the backup.
pub(super) fn found_chunk(
    tx: &Tx<'_>,
    room: &RoomId,
    chunk: ChunkId,
    version: &str,
) -> Result<(), StoreError> {
    SAVED_CHUNKS.put(tx, room.as_bytes(), &chunk.0, &version.to_owned())
}

/// The export of an epoch was deleted: it goes from the backup too, and from uploads under way.
pub(crate) fn forget(turn: &Turn<'_>, room: &RoomId, epoch: EpochId) -> Result<(), MlsError> {
    for (id, queued) in REQUESTS.in_scope(turn.tx, BACKUP_SCOPE)? {
        if let Purpose::BackUp(batch) = &queued.purpose
            && let Some(entry) = batch.epochs.iter().find(|entry| entry.epoch == epoch)
        {
            requests::remove(turn.tx, id)?;
            if queued.handed_out {
                let (version, session_id) = (batch.version.clone(), entry.session_id.clone());
                unback(turn, room, &Saved { version, session_id })?;
            }
        }
    }
    if let Some(saved) = SAVED.get(turn.tx, room.as_bytes(), epoch.as_bytes())? {
        SAVED.delete(turn.tx, room.as_bytes(), epoch.as_bytes())?;
        unback(turn, room, &saved)?;
        let mut record = state::load(turn.tx)?;
        if let Some(active) = record.active.as_mut().filter(|a| a.version == saved.version) {
            active.backed_up = active.backed_up.saturating_sub(1);
            state::save(turn.tx, &record)?;
        }
    }
    Ok(())
}

/// Has a session deleted from the backup.
fn unback(turn: &Turn<'_>, room: &RoomId, saved: &Saved) -> Result<(), MlsError> {
    let active = state::load(turn.tx)?.active;
    if active.is_none_or(|active| active.version != saved.version) {
        return Ok(());
    }
    let request = delete_backup_keys_for_session::v3::Request::new(
        saved.version.clone(),
        room.to_owned(),
        saved.session_id.clone(),
    );
    let purpose = Purpose::Unback { room_id: room.to_owned() };
    requests::enqueue(turn.tx, BACKUP_SCOPE, turn.now_ms, purpose, request)?;
    Ok(())
}
