//! A session: one epoch, or one chunk of leaves that many epochs share, as it leaves the device and
//! comes back. A backup (which seals each by itself), a file and a bundle hold the same JSON.
//!
//! A session that comes back is trusted only as far as it proves itself: its room is the one that
//! it was looked up in, number and creator are those of its session id, the group is the room's,
//! and a chunk hashes to its name. Whoever has the backup's key could have written the rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU64,
};

use openmls_traits::types::Ciphersuite;
use ruma::{OwnedEventId, OwnedRoomId, RoomId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zeroize::{Zeroize, Zeroizing};

use crate::{
    history::{
        self, ChunkId, EpochKeys, Header, LeafChunk, LeavesError, Malformed,
        archive::{self, StoredExport},
        restored::{self, ReadableEpoch, Source, Taken},
        transfer::{self, TransferError},
    },
    protocol::{
        DeviceName, EpochId, GroupName, JsonError, MessageContent, PayloadError, RoomEvent,
        decode_base64, encode_base64, identifiers, parse,
    },
    store::{StoreError, Tx},
};

/// The start of a chunk's session id. An epoch's session id has its number there.
const LEAVES: &str = "leaves";

/// Why a session was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SessionError {
    /// It is not the JSON of a session.
    #[error("the session is not in the form it should have")]
    Malformed,
    /// It belongs to another room.
    #[error("the session is another room's")]
    OtherRoom,
    /// It belongs to another epoch.
    #[error("the session is another epoch's")]
    OtherEpoch,
    /// It is of a ciphersuite or a kind that this version does not know.
    #[error("the session is of a kind that this version does not know")]
    Unsupported,
    /// The epoch's export is invalid.
    #[error(transparent)]
    Export(#[from] TransferError),
    /// The chunk of leaves is invalid.
    #[error(transparent)]
    Leaves(#[from] LeavesError),
    /// The epoch names leaves that are not there.
    #[error("the session lacks leaves that it names")]
    MissingLeaves(Vec<ChunkId>),
    /// On this device the messages of the epoch, or of the whole room, are read once.
    #[error("the session's messages are read once on this device")]
    ReadOnce,
    /// The store failed, so nothing can be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SessionError {
    /// A code that is stable across releases.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed_session",
            Self::OtherRoom => "other_room",
            Self::OtherEpoch => "other_epoch",
            Self::Unsupported => "unsupported_session",
            Self::Export(_) => "bad_export",
            Self::Leaves(_) => "bad_leaves",
            Self::MissingLeaves(_) => "missing_leaves",
            Self::ReadOnce => "read_once",
            Self::Store(_) => "store",
        }
    }
}

/// The JSON of a session.
#[derive(Serialize, Deserialize)]
pub(crate) struct SessionJson {
    algorithm: String,
    room_id: OwnedRoomId,
    /// The epoch's number as text, and the device that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epoch: Option<(String, DeviceName)>,
    /// Base64 of the EpochExport of [`transfer`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group_export: Option<String>,
    /// The event with the commit that made the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    commit_event: Option<OwnedEventId>,
    /// When the epoch began, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    began_ms: Option<NonZeroU64>,
    /// Whether later members of the room may read it, according to the room's history visibility.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    shared_history: bool,
    /// The member whose word it is, if no device of this user was in the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shared_by: Option<DeviceName>,
    /// Base64 of a chunk of leaves in CBOR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leaf_chunk: Option<String>,
}

impl Drop for SessionJson {
    fn drop(&mut self) {
        self.group_export.zeroize();
    }
}

/// The session id of an epoch. A suffix distinguishes epochs with the same number and creator.
pub(crate) fn epoch_session_id(number: u64, creator: &DeviceName, suffix: Option<&str>) -> String {
    let creator = encode_base64(creator.to_string().as_bytes());
    match suffix {
        None => format!("{number}|{creator}"),
        Some(suffix) => format!("{number}|{creator}|{suffix}"),
    }
}

/// The session id of a chunk of leaves.
pub(crate) fn leaves_session_id(chunk: ChunkId) -> String {
    format!("{LEAVES}|{}", encode_base64(chunk.as_bytes()))
}

/// Whether a session id is an MLS session's, in a backup that Megolm uses too.
pub(crate) fn is_mls_session_id(session_id: &str) -> bool {
    // A Megolm session id is base64, which has no `|`.
    session_id.split_once('|').is_some_and(|(first, _)| {
        first == LEAVES || (!first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

/// Whether a session id is that of a chunk of leaves.
pub(crate) fn is_leaves_session_id(session_id: &str) -> bool {
    session_id.split_once('|').is_some_and(|(first, _)| first == LEAVES)
}

impl SessionJson {
    /// The session of an epoch.
    pub(crate) fn epoch(
        room: &RoomId,
        epoch: &ReadableEpoch,
        export: &StoredExport,
    ) -> Result<Self, TransferError> {
        let bytes = transfer::write(&export.keys, &export.chunks)?;
        Ok(Self {
            algorithm: identifiers::room_algorithm(export.keys.ciphersuite()),
            room_id: room.to_owned(),
            epoch: Some((epoch.number.to_string(), epoch.creator.clone())),
            group_export: Some(encode_base64(&bytes)),
            commit_event: epoch.commit_event.clone(),
            began_ms: NonZeroU64::new(epoch.began_ms),
            shared_history: epoch.shared,
            shared_by: match &epoch.source {
                Source::Member(member) => Some(member.clone()),
                Source::Own | Source::Backup | Source::File => None,
            },
            leaf_chunk: None,
        })
    }

    /// The session of a chunk of leaves.
    pub(crate) fn leaves(
        room: &RoomId,
        suite: Ciphersuite,
        chunk: &LeafChunk,
    ) -> Result<Self, LeavesError> {
        Ok(Self {
            algorithm: identifiers::room_algorithm(suite),
            room_id: room.to_owned(),
            epoch: None,
            group_export: None,
            commit_event: None,
            began_ms: None,
            shared_history: false,
            shared_by: None,
            leaf_chunk: Some(encode_base64(&chunk.to_cbor()?)),
        })
    }

    /// The JSON. Writing it leaves no copy behind.
    pub(crate) fn to_json(&self) -> Result<Zeroizing<Vec<u8>>, SessionError> {
        let size = self.group_export.as_ref().map_or(0, String::len)
            + self.leaf_chunk.as_ref().map_or(0, String::len);
        let mut json = Zeroizing::new(Vec::with_capacity(size + 2_048));
        serde_json::to_writer(&mut *json, self).map_err(|_| SessionError::Malformed)?;
        Ok(json)
    }

    /// Whether the session is another member's word. Otherwise a device of this user was in the
    /// epoch.
    pub(crate) fn is_from_member(&self) -> bool {
        self.shared_by.is_some()
    }
}

/// A session that came from outside and passed all checks.
pub(crate) enum Session {
    Epoch { about: ReadableEpoch, keys: Box<EpochKeys>, chunks: Vec<ChunkId> },
    Leaves { id: ChunkId, chunk: LeafChunk },
}

/// The result of keeping a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// An epoch that was not readable on this device before.
    NewEpoch(EpochId),
    /// An epoch that was readable already.
    KnownEpoch(EpochId),
    /// A chunk of leaves.
    Leaves(ChunkId),
}

impl Session {
    /// Reads a session of this room from its JSON. If it came under a session id, it must be that
    /// id's.
    pub(crate) fn read(
        json: &[u8],
        room: &RoomId,
        session_id: Option<&str>,
        source: Source,
    ) -> Result<Self, SessionError> {
        let contents: SessionJson =
            serde_json::from_slice(json).map_err(|_| SessionError::Malformed)?;
        if contents.room_id != room {
            return Err(SessionError::OtherRoom);
        }
        let suite = identifiers::suite_of_room_algorithm(&contents.algorithm)
            .ok_or(SessionError::Unsupported)?;
        match &contents.leaf_chunk {
            Some(chunk) => Self::read_leaves(chunk, session_id),
            None => Self::read_epoch(&contents, suite, session_id, source),
        }
    }

    fn read_leaves(chunk: &str, session_id: Option<&str>) -> Result<Self, SessionError> {
        let cbor = decode(chunk)?;
        let id = ChunkId::of(&cbor);
        if session_id.is_some_and(|session_id| session_id != leaves_session_id(id)) {
            return Err(SessionError::Leaves(LeavesError::OtherChunk));
        }
        Ok(Self::Leaves { id, chunk: LeafChunk::from_cbor(&cbor, id)? })
    }

    fn read_epoch(
        contents: &SessionJson,
        suite: Ciphersuite,
        session_id: Option<&str>,
        source: Source,
    ) -> Result<Self, SessionError> {
        let (Some((number, creator)), Some(export)) = (&contents.epoch, &contents.group_export)
        else {
            return Err(SessionError::Unsupported);
        };
        let (keys, chunks) = transfer::read(&Zeroizing::new(decode(export)?))?;
        if GroupName::of(&contents.room_id, keys.group_id()).is_none() {
            return Err(SessionError::OtherRoom);
        }
        if keys.ciphersuite() != suite {
            return Err(SessionError::Malformed);
        }
        let id = EpochId::of_tls(keys.group_context());
        let fits = session_id.is_none_or(|session_id| {
            session_id == epoch_session_id(keys.epoch(), creator, None)
                || session_id
                    == epoch_session_id(keys.epoch(), creator, Some(&session_id_suffix(id)))
        });
        if *number != keys.epoch().to_string() || !fits {
            return Err(SessionError::OtherEpoch);
        }
        let about = ReadableEpoch {
            ended_ms: None,
            id,
            number: keys.epoch(),
            creator: creator.clone(),
            commit_event: contents.commit_event.clone(),
            began_ms: contents.began_ms.map_or(0, NonZeroU64::get),
            shared: contents.shared_history,
            // A member's word stays a member's word when it comes out of the user's own backup.
            source: match (source, &contents.shared_by) {
                (Source::Backup | Source::File, Some(member)) => Source::Member(member.clone()),
                (source, _) => source,
            },
        };
        Ok(Self::Epoch { about, keys: Box::new(keys), chunks })
    }

    /// Keeps the session, beside what this device's own group has reached. An epoch's leaves must
    /// be kept before the epoch.
    pub(crate) fn keep(self, tx: &Tx<'_>, room: &RoomId) -> Result<Kept, SessionError> {
        match self {
            Self::Leaves { id, chunk } => {
                archive::put_chunk(tx, room, id, &chunk)?;
                Ok(Kept::Leaves(id))
            }
            Self::Epoch { about, keys, chunks } => {
                let mut missing = Vec::new();
                for chunk in &chunks {
                    if !archive::has_chunk(tx, room, *chunk)? {
                        missing.push(*chunk);
                    }
                }
                if !missing.is_empty() {
                    return Err(SessionError::MissingLeaves(missing));
                }
                let id = about.id;
                match restored::keep(tx, room, about, *keys, chunks)? {
                    Taken::New => Ok(Kept::NewEpoch(id)),
                    Taken::Known => Ok(Kept::KnownEpoch(id)),
                    Taken::Closed => Err(SessionError::ReadOnce),
                }
            }
        }
    }
}

fn decode(text: &str) -> Result<Vec<u8>, SessionError> {
    decode_base64(text).ok_or(SessionError::Malformed)
}

/// The suffix that an epoch's session id has if another epoch has the same number and creator.
pub(crate) fn session_id_suffix(id: EpochId) -> String {
    id.to_hex().chars().take(16).collect()
}

/// How many sessions failed for which reason: counts by the stable code of the reason.
pub(crate) type FailureCounts = BTreeMap<String, u32>;

/// Sessions with their rooms, or what is wrong with each.
pub(crate) type Sessions = Vec<Result<(OwnedRoomId, Session), SessionError>>;

/// Why a message's event does not say which session it needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EventSessionError {
    /// The event is malformed.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The ciphertext is not base64, or not in the event.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// The ciphertext is no MLS message.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The ciphertext is another kind of MLS message.
    #[error("the ciphertext is not a PrivateMessage")]
    NotPrivate,
}

/// The id of the session that opens a message's event.
pub(crate) fn session_id_of_event(event: &str) -> Result<String, EventSessionError> {
    let event: RoomEvent = parse(event, "event")?;
    let content: MessageContent = parse(event.content.get(), "the event's content")?;
    match history::peek(&content.ciphertext.bytes()?)? {
        Header::Private { epoch, .. } => Ok(epoch_session_id(epoch, &content.epoch_creator, None)),
        _ => Err(EventSessionError::NotPrivate),
    }
}

/// The sessions of epochs, to be written as one JSON array. Each chunk of leaves is there once,
/// before the epochs that need it.
#[derive(Default)]
pub(crate) struct SessionArray {
    sessions: Vec<Zeroizing<Vec<u8>>>,
    written: BTreeSet<(OwnedRoomId, ChunkId)>,
}

impl SessionArray {
    /// Adds epochs of a room. One that was deleted meanwhile is left out.
    pub(crate) fn add(
        &mut self,
        tx: &Tx<'_>,
        room: &RoomId,
        epochs: &[ReadableEpoch],
    ) -> Result<(), SessionError> {
        for epoch in epochs {
            let Some(export) = restored::export_of(tx, room, epoch)? else { continue };
            for chunk in &export.chunks {
                if self.written.insert((room.to_owned(), *chunk)) {
                    let leaves = archive::chunk(tx, room, *chunk)?;
                    let suite = export.keys.ciphersuite();
                    self.sessions.push(SessionJson::leaves(room, suite, &leaves)?.to_json()?);
                }
            }
            self.sessions.push(SessionJson::epoch(room, epoch, &export)?.to_json()?);
        }
        Ok(())
    }

    /// The sessions, each as JSON.
    #[cfg(test)]
    pub(super) fn into_sessions(self) -> Vec<Zeroizing<Vec<u8>>> {
        self.sessions
    }

    /// The array. Writing it leaves no copy behind.
    pub(crate) fn to_json(&self) -> Zeroizing<Vec<u8>> {
        let size = self.sessions.iter().map(|session| session.len() + 1).sum::<usize>() + 2;
        let mut json = Zeroizing::new(Vec::with_capacity(size));
        json.push(b'[');
        for (at, session) in self.sessions.iter().enumerate() {
            if at > 0 {
                json.push(b',');
            }
            json.extend_from_slice(session);
        }
        json.push(b']');
        json
    }
}

/// The sessions of a JSON array, leaves before epochs; `None` if the JSON is not an array.
pub(super) fn read_array(json: &[u8], source: &Source) -> Option<Sessions> {
    #[derive(Deserialize)]
    struct Room {
        room_id: OwnedRoomId,
    }
    let sessions: Vec<&RawValue> = serde_json::from_slice(json).ok()?;
    let mut read: Vec<_> = sessions
        .into_iter()
        .map(|session| {
            let json = session.get().as_bytes();
            let Room { room_id } =
                serde_json::from_slice(json).map_err(|_| SessionError::Malformed)?;
            let session = Session::read(json, &room_id, None, source.clone())?;
            Ok((room_id, session))
        })
        .collect();
    read.sort_by_key(|session| !matches!(session, Ok((_, Session::Leaves { .. }))));
    Some(read)
}
