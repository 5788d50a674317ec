//! A session: one epoch, or one chunk of leaves that many epochs share, as it leaves the device and
//! comes back. The same JSON is in a backup (sealed one by one), in a file and in a bundle.
//!
//! What comes back is believed only as far as it proves itself: the room is the one it was looked for in,
//! number and creator are those of its session id, the group is the room's, and a chunk hashes to its
//! name. Whoever has the backup's key wrote the rest.

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
        restored::{self, ReadableEpoch, Source},
        transfer::{self, TransferError},
    },
    protocol::{
        DeviceName, EpochId, JsonError, MessageContent, PayloadError, RoomEvent, decode_base64,
        encode_base64, identifiers, parse,
    },
    store::{StoreError, Tx},
};

/// The beginning of the session id of a chunk of leaves, where that of an epoch has its number.
const LEAVES: &str = "leaves";

/// Why a session was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SessionError {
    /// It is not the JSON it should be.
    #[error("the session is not in the form it should have")]
    Malformed,
    /// It belongs to another room.
    #[error("the session is another room's")]
    OtherRoom,
    /// It belongs to another epoch.
    #[error("the session is another epoch's")]
    OtherEpoch,
    /// Of a ciphersuite or a kind that is not known here.
    #[error("the session is of a kind that this version does not know")]
    Unsupported,
    /// The epoch's export is no good.
    #[error(transparent)]
    Export(#[from] TransferError),
    /// The chunk of leaves is no good.
    #[error(transparent)]
    Leaves(#[from] LeavesError),
    /// Leaves that the epoch names are not there.
    #[error("the session lacks leaves that it names")]
    MissingLeaves,
    /// The store failed: nothing can be taken.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SessionError {
    /// Stable across releases.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed_session",
            Self::OtherRoom => "other_room",
            Self::OtherEpoch => "other_epoch",
            Self::Unsupported => "unsupported_session",
            Self::Export(_) => "bad_export",
            Self::Leaves(_) => "bad_leaves",
            Self::MissingLeaves => "missing_leaves",
            Self::Store(_) => "store",
        }
    }
}

/// The JSON of a session.
#[derive(Serialize, Deserialize)]
pub(crate) struct Contents {
    algorithm: String,
    room_id: OwnedRoomId,
    /// The epoch's number as text, and the device that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epoch: Option<(String, DeviceName)>,
    /// Base64 of an [`transfer`]'s EpochExport.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group_export: Option<String>,
    /// The event with the commit that made the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    commit_event: Option<OwnedEventId>,
    /// When it began, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    began_ms: Option<NonZeroU64>,
    /// Whoever comes into the room later may read it, as its history visibility said.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    shared_history: bool,
    /// The member whose word it is, where this user's devices were not in the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shared_by: Option<DeviceName>,
    /// Base64 of a chunk of leaves in CBOR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leaf_chunk: Option<String>,
}

impl Drop for Contents {
    fn drop(&mut self) {
        self.group_export.zeroize();
    }
}

/// The session id of an epoch. The suffix tells epochs apart that have number and creator in common.
pub(crate) fn epoch_session_id(number: u64, creator: &DeviceName, suffix: Option<&str>) -> String {
    let creator = encode_base64(creator.to_string().as_bytes());
    match suffix {
        None => format!("{number}|{creator}"),
        Some(suffix) => format!("{number}|{creator}|{suffix}"),
    }
}

/// The session id of a chunk of leaves.
pub(crate) fn leaves_session_id(chunk: ChunkId) -> String {
    format!("{LEAVES}|{}", encode_base64(&chunk.0))
}

/// Whether a session id is one of ours, in a backup that others use too.
pub(crate) fn is_ours(session_id: &str) -> bool {
    // A Megolm session's is base64.
    session_id.split_once('|').is_some_and(|(first, _)| {
        first == LEAVES || (!first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

/// Whether a session id is that of a chunk of leaves.
pub(crate) fn is_leaves(session_id: &str) -> bool {
    session_id.split_once('|').is_some_and(|(first, _)| first == LEAVES)
}

impl Contents {
    /// An epoch.
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

    /// A chunk of leaves.
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

    /// The JSON, without copies left behind.
    pub(crate) fn to_json(&self) -> Result<Zeroizing<Vec<u8>>, SessionError> {
        let size = self.group_export.as_ref().map_or(0, String::len)
            + self.leaf_chunk.as_ref().map_or(0, String::len);
        let mut json = Zeroizing::new(Vec::with_capacity(size + 2_048));
        serde_json::to_writer(&mut *json, self).map_err(|_| SessionError::Malformed)?;
        Ok(json)
    }
}

/// A session that came from outside and proved to be what it should be.
pub(crate) enum Session {
    Epoch { about: ReadableEpoch, keys: Box<EpochKeys>, chunks: Vec<ChunkId> },
    Leaves { id: ChunkId, chunk: LeafChunk },
}

/// What taking a session came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// An epoch that was not readable here before.
    NewEpoch(EpochId),
    /// An epoch that was.
    KnownEpoch(EpochId),
    /// A chunk of leaves.
    Leaves(ChunkId),
}

impl Session {
    /// Reads a session of this room from its JSON. Where it came under a session id it must be that one's.
    pub(crate) fn read(
        json: &[u8],
        room: &RoomId,
        session_id: Option<&str>,
        source: Source,
    ) -> Result<Self, SessionError> {
        let contents: Contents =
            serde_json::from_slice(json).map_err(|_| SessionError::Malformed)?;
        if contents.room_id != room {
            return Err(SessionError::OtherRoom);
        }
        let suite = identifiers::suite_of_room_algorithm(&contents.algorithm)
            .ok_or(SessionError::Unsupported)?;
        let decode = |text: &String| decode_base64(text).ok_or(SessionError::Malformed);
        if let Some(text) = &contents.leaf_chunk {
            let cbor = decode(text)?;
            let id = ChunkId::of(&cbor);
            if session_id.is_some_and(|session_id| session_id != leaves_session_id(id)) {
                return Err(SessionError::Leaves(LeavesError::OtherChunk));
            }
            return Ok(Self::Leaves { id, chunk: LeafChunk::from_cbor(&cbor, id)? });
        }
        let (Some((number, creator)), Some(export)) = (&contents.epoch, &contents.group_export)
        else {
            return Err(SessionError::Unsupported);
        };
        let (keys, chunks) = transfer::read(&Zeroizing::new(decode(export)?))?;
        if keys.group_id() != room.as_bytes() {
            return Err(SessionError::OtherRoom);
        }
        if keys.ciphersuite() != suite {
            return Err(SessionError::Malformed);
        }
        let id = EpochId::of_tls(keys.group_context());
        let plain = epoch_session_id(keys.epoch(), creator, None);
        let fits = session_id.is_none_or(|session_id| {
            let suffix = suffix_of(id);
            session_id == plain
                || session_id == epoch_session_id(keys.epoch(), creator, Some(&suffix))
        });
        if *number != keys.epoch().to_string() || !fits {
            return Err(SessionError::OtherEpoch);
        }
        let about = ReadableEpoch {
            id,
            number: keys.epoch(),
            creator: creator.clone(),
            commit_event: contents.commit_event.clone(),
            began_ms: contents.began_ms.map_or(0, NonZeroU64::get),
            shared: contents.shared_history,
            // A member's word does not become this user's own by having been in the user's backup.
            source: match (source, &contents.shared_by) {
                (Source::Backup | Source::File, Some(member)) => Source::Member(member.clone()),
                (source, _) => source,
            },
        };
        Ok(Self::Epoch { about, keys: Box::new(keys), chunks })
    }

    /// Keeps it. An epoch's leaves must be there before it.
    pub(crate) fn take(self, tx: &Tx<'_>, room: &RoomId) -> Result<Taken, SessionError> {
        match self {
            Self::Leaves { id, chunk } => {
                archive::put_chunk(tx, room, id, &chunk)?;
                Ok(Taken::Leaves(id))
            }
            Self::Epoch { about, keys, chunks } => {
                for chunk in &chunks {
                    if !archive::has_chunk(tx, room, *chunk)? {
                        return Err(SessionError::MissingLeaves);
                    }
                }
                let id = about.id;
                Ok(match restored::keep(tx, room, about, *keys, chunks)? {
                    true => Taken::NewEpoch(id),
                    false => Taken::KnownEpoch(id),
                })
            }
        }
    }
}

/// The suffix of the session id of an epoch that shares number and creator with another.
pub(crate) fn suffix_of(id: EpochId) -> String {
    id.to_hex().chars().take(16).collect()
}

/// Why sessions were not taken: how many of each kind, by the stable code of the kind.
pub(crate) type Failures = BTreeMap<String, u32>;

/// Sessions with their rooms, or what is wrong with each.
pub(crate) type Sessions = Vec<Result<(OwnedRoomId, Session), SessionError>>;

/// Why a message's event does not say which session it needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EventSessionError {
    /// The event is malformed.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// Its ciphertext is not base64, or not in the event.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// Its ciphertext is no MLS message.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Its ciphertext is another kind of MLS message.
    #[error("it is no PrivateMessage")]
    NotPrivate,
}

/// The session id that a message's event needs.
pub(crate) fn session_of_event(event: &str) -> Result<String, EventSessionError> {
    let event: RoomEvent = parse(event, "event")?;
    let content: MessageContent = parse(event.content.get(), "the event's content")?;
    match history::peek(&content.ciphertext.bytes()?)? {
        Header::Private { epoch, .. } => Ok(epoch_session_id(epoch, &content.epoch_creator, None)),
        _ => Err(EventSessionError::NotPrivate),
    }
}

/// The epochs of a room as JSON sessions, each chunk of leaves once, before those that need it.
pub(super) fn sessions_of(
    tx: &Tx<'_>,
    room: &RoomId,
    epochs: &[ReadableEpoch],
) -> Result<Vec<Zeroizing<Vec<u8>>>, SessionError> {
    let mut written = BTreeSet::new();
    let mut sessions = Vec::new();
    for epoch in epochs {
        let Some(export) = archive::find(tx, room, epoch.id)? else { continue };
        for chunk in &export.chunks {
            if written.insert(*chunk) {
                let leaves = archive::chunk(tx, room, *chunk)?;
                let suite = export.keys.ciphersuite();
                sessions.push(Contents::leaves(room, suite, &leaves)?.to_json()?);
            }
        }
        sessions.push(Contents::epoch(room, epoch, &export)?.to_json()?);
    }
    Ok(sessions)
}

/// The sessions of these epochs, each list with its room, as one JSON array.
pub(crate) fn array_of_sessions<'a>(
    tx: &Tx<'_>,
    rooms: impl IntoIterator<Item = (&'a RoomId, &'a [ReadableEpoch])>,
) -> Result<Zeroizing<Vec<u8>>, SessionError> {
    let mut sessions = Vec::new();
    for (room, epochs) in rooms {
        sessions.extend(sessions_of(tx, room, epochs)?);
    }
    let size = sessions.iter().map(|session| session.len() + 1).sum::<usize>() + 2;
    let mut json = Zeroizing::new(Vec::with_capacity(size));
    json.push(b'[');
    for (at, session) in sessions.iter().enumerate() {
        if at > 0 {
            json.push(b',');
        }
        json.extend_from_slice(session);
    }
    json.push(b']');
    Ok(json)
}

/// The sessions of a JSON array, leaves before epochs; nothing where it is no array.
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
