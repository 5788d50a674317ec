//! Restoring epochs from the backup: those of all rooms, of one room, or the one that a message
//! needs. A backup with very many sessions is fetched room by room, and a message's session alone,
//! with the leaves that it names.
//!
//! A restore is a record in the store, so it continues after the app was killed. First the key is
//! proved, then the sessions are fetched, then they are taken in portions. Each portion is a turn
//! of its own, so that nothing else waits for long and a restore can be cancelled between two
//! portions. Bad sessions are counted by kind; the others are kept.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    OwnedRoomId, RoomId,
    api::client::backup::{get_backup_keys, get_backup_keys_for_room, get_backup_keys_for_session},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    error::BackupError,
    import::keep_session,
    lookup::request_version,
    proof::{self, UnlockFailure, Unlocked},
    record,
    restores::{self, MOST_RESTORES, Phase, Portion, Restore, Scope},
    saved,
};
use crate::{
    exported::Update,
    failure::Failure,
    history::{ChunkId, archive, restored::Source},
    requests::{self, BACKUP_SCOPE, Purpose},
    room::{self, Room},
    sessions::{
        BackupKey, FailureCounts, Kept, SealedError, Session, SessionData, SessionError,
        is_leaves_session_id, is_mls_session_id, leaves_session_id, seal,
    },
    store::StoreError,
    turn::Turn,
};

/// How many sessions are taken in one turn.
const PORTION: usize = 64;
/// From how many sessions on a backup is fetched room by room: one answer with all sessions of a
/// shared Megolm backup has no bound.
const MOST_AT_ONCE: u64 = 2_000;
/// How many chunks of leaves are fetched one by one for one session.
const MOST_LEAVES: usize = 32;

/// Starts a restore and gives its id. If the same restore is under way, its id is given.
pub(crate) fn start_restore(
    turn: &Turn<'_>,
    key: Option<BackupKey>,
    scope: Scope,
) -> Result<u64, BackupError> {
    let running = restores::under_way(turn.tx)?;
    if let Some(same) = running.iter().find(|restore| restore.scope == scope && restore.key == key)
    {
        return Ok(same.id);
    }
    if running.len() >= MOST_RESTORES {
        return Err(BackupError::TooManyRestores);
    }
    if key.is_none() && record::load(turn.tx)?.active.is_none() {
        return Err(BackupError::NoKey);
    }
    let id = restores::next_id(turn.tx)?;
    let needs_proof = key.is_some();
    let mut restore = Restore {
        id,
        scope,
        page: None,
        pages: Vec::new(),
        key,
        phase: if needs_proof { Phase::Proving } else { Phase::Fetching },
        version: None,
        total: 0,
        done: 0,
        epochs: 0,
        failures: FailureCounts::new(),
    };
    if needs_proof {
        restores::put(turn.tx, &restore)?;
        request_version(turn)?;
    } else {
        request_sessions(turn, &mut restore)?;
    }
    Ok(id)
}

/// Stops a restore; tells whether it was under way. Restored epochs stay. Observers are told that
/// it has ended.
pub(crate) fn cancel_restore(turn: &Turn<'_>, id: u64) -> Result<bool, BackupError> {
    let Some(restore) = restores::find(turn.tx, id)? else { return Ok(false) };
    fail(turn, &restore, "cancelled")?;
    Ok(true)
}

/// The version and the key of its sessions; `None` if the restore's key is not the version's.
fn unlock(turn: &Turn<'_>, restore: &Restore) -> Result<Option<Unlocked>, BackupError> {
    match &restore.key {
        Some(key) => proof::unlock(turn, key),
        None => Ok(record::load(turn.tx)?
            .active
            .map(|active| Unlocked { version: active.version, session_key: active.session_key })),
    }
}

/// Continues the restores that waited for the homeserver to say which version it has.
pub(super) fn continue_proving(turn: &Turn<'_>) -> Result<(), BackupError> {
    for mut restore in restores::under_way(turn.tx)? {
        if restore.phase == Phase::Proving {
            restore.phase = Phase::Fetching;
            request_sessions(turn, &mut restore)?;
        }
    }
    Ok(())
}

/// Ends the restores that waited for the homeserver to say which version it has: it refuses to.
pub(super) fn fail_proving(turn: &Turn<'_>, code: &str) -> Result<(), StoreError> {
    for restore in restores::under_way(turn.tx)? {
        if restore.phase == Phase::Proving {
            fail(turn, &restore, code)?;
        }
    }
    Ok(())
}

/// Asks for the sessions if the restore's key is the version's. Otherwise the restore fails.
fn request_sessions(turn: &Turn<'_>, restore: &mut Restore) -> Result<(), BackupError> {
    let Some(Unlocked { version, .. }) = unlock(turn, restore)? else {
        return Ok(fail(turn, restore, proof::unlock_failure(turn.tx)?.code())?);
    };
    restore.version = Some(version);
    if restore.scope == Scope::All && restore.page.is_none() && is_large(turn)? {
        restore.pages = rooms(turn)?.into_iter().map(Scope::Room).collect();
        // Before the first sync no room is known: then it is one answer after all.
        restore.page = restore.pages.pop();
    }
    request_page(turn, restore)
}

/// Whether the backup has too many sessions to be fetched at once.
fn is_large(turn: &Turn<'_>) -> Result<bool, StoreError> {
    let record = record::load(turn.tx)?;
    let found = record.version.and_then(|version| version.count);
    let told = record.active.and_then(|active| active.on_server);
    Ok(found.max(told).is_some_and(|count| count > MOST_AT_ONCE))
}

/// The rooms that may have MLS sessions in the backup, as far as this device knows.
fn rooms(turn: &Turn<'_>) -> Result<BTreeSet<OwnedRoomId>, StoreError> {
    let known = room::all(turn.tx)?.into_iter();
    let mut rooms: BTreeSet<_> = known.filter(Room::uses_mls).map(|room| room.id).collect();
    rooms.extend(archive::rooms(turn.tx)?);
    Ok(rooms)
}

/// Asks for the sessions of the page that is to be fetched now.
fn request_page(turn: &Turn<'_>, restore: &Restore) -> Result<(), BackupError> {
    restores::put(turn.tx, restore)?;
    let version = restore.version.clone().unwrap_or_default();
    let purpose = Purpose::RestoreKeys { restore: restore.id };
    let (tx, scope, now) = (turn.tx, BACKUP_SCOPE, turn.now_ms);
    match restore.page().clone() {
        Scope::All => {
            let request = get_backup_keys::v3::Request::new(version);
            requests::enqueue(tx, scope, now, purpose, request)?;
        }
        Scope::Room(room) => {
            let request = get_backup_keys_for_room::v3::Request::new(version, room);
            requests::enqueue(tx, scope, now, purpose, request)?;
        }
        Scope::Session(room, session) => {
            let request = get_backup_keys_for_session::v3::Request::new(version, room, session);
            requests::enqueue(tx, scope, now, purpose, request)?;
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct AllRooms {
    rooms: BTreeMap<String, OneRoom>,
}

#[derive(Deserialize)]
struct OneRoom {
    sessions: BTreeMap<String, Box<RawValue>>,
}

/// Takes in the homeserver's answer with the sessions of a restore.
pub(crate) fn sessions_fetched(turn: &Turn<'_>, id: u64, body: &[u8]) -> Result<(), BackupError> {
    let Some(mut restore) = restores::find(turn.tx, id)? else { return Ok(()) };
    if restore.phase != Phase::Fetching {
        return Ok(());
    }
    let mut sessions = read_answer(restore.page(), body)?;
    // A Megolm backup also has Megolm's sessions. Leaves come first, because epochs need them.
    sessions.retain(|(_, session_id, _)| is_mls_session_id(session_id));
    sessions.sort_by_key(|(_, session_id, _)| !is_leaves_session_id(session_id));
    restore.total += sessions.len() as u64;
    let mut portions = 0_u32;
    for portion in sessions.chunks(PORTION) {
        let portion = portion
            .iter()
            .map(|(room, id, data)| (room.clone(), id.clone(), data.get().to_owned()))
            .collect();
        restores::put_portion(turn.tx, id, portions, &portion)?;
        portions += 1;
    }
    restore.phase = Phase::Taking { next: 0, portions };
    restores::put(turn.tx, &restore)?;
    Ok(())
}

/// The sessions in an answer: room, session id, data.
type Answered = Vec<(String, String, Box<RawValue>)>;

fn read_answer(scope: &Scope, body: &[u8]) -> Result<Answered, BackupError> {
    let malformed = |_| BackupError::MalformedAnswer("the backup's sessions are not readable");
    let of_room = |room: &str, sessions: OneRoom| {
        let sessions = sessions.sessions.into_iter();
        sessions.map(|(id, data)| (room.to_owned(), id, data)).collect::<Answered>()
    };
    Ok(match scope {
        Scope::All => {
            let answer: AllRooms = serde_json::from_slice(body).map_err(malformed)?;
            let rooms = answer.rooms.into_iter();
            rooms.flat_map(|(room, sessions)| of_room(&room, sessions)).collect()
        }
        Scope::Room(room) => {
            of_room(room.as_str(), serde_json::from_slice(body).map_err(malformed)?)
        }
        Scope::Session(room, session) => {
            let data: Box<RawValue> = serde_json::from_slice(body).map_err(malformed)?;
            vec![(room.to_string(), session.clone(), data)]
        }
    })
}

/// Takes the next portion of a restore; tells whether there may be more to do.
pub(crate) fn restore_next_portion(turn: &Turn<'_>) -> Result<bool, BackupError> {
    let mut under_way = restores::under_way(turn.tx)?.into_iter();
    let Some((mut restore, next, portions)) = under_way.find_map(|restore| match restore.phase {
        Phase::Taking { next, portions } => Some((restore, next, portions)),
        Phase::Proving | Phase::Fetching => None,
    }) else {
        return Ok(false);
    };
    if next >= portions {
        next_page(turn, restore)?;
        return Ok(true);
    }
    let unlocked = unlock(turn, &restore)?;
    let Some(unlocked) = unlocked.filter(|now| restore.version.as_ref() == Some(&now.version))
    else {
        // The backup was disabled or replaced while its sessions waited.
        fail(turn, &restore, UnlockFailure::WrongKey.code())?;
        return Ok(true);
    };
    let portion = restores::portion(turn.tx, restore.id, next)?;
    let missing = take_portion(turn, &mut restore, &unlocked, &portion)?;
    restores::delete_portion(turn.tx, restore.id, next)?;
    if let Scope::Session(room, session) = restore.page().clone()
        && !missing.is_empty()
        && restore.page.is_none()
    {
        fetch_leaves(turn, restore, room, session, &missing)?;
        return Ok(true);
    }
    restore.phase = Phase::Taking { next: next + 1, portions };
    restores::put(turn.tx, &restore)?;
    let (id, done, total) = (restore.id, restore.done, restore.total);
    turn.tell(Update::RestoreProgress { restore: id, done, total });
    Ok(true)
}

/// Fetches what a restore has to fetch next, or ends it.
fn next_page(turn: &Turn<'_>, mut restore: Restore) -> Result<(), BackupError> {
    let Some(next) = restore.pages.pop() else { return Ok(finish(turn, &restore)?) };
    restore.page = Some(next);
    restore.phase = Phase::Fetching;
    request_page(turn, &restore)
}

/// Fetches the leaves that a session names, which are sessions of their own, and the session again.
/// Where those are many, the whole room is one answer.
fn fetch_leaves(
    turn: &Turn<'_>,
    mut restore: Restore,
    room: OwnedRoomId,
    session: String,
    missing: &[ChunkId],
) -> Result<(), BackupError> {
    restore.failures = FailureCounts::new();
    (restore.total, restore.done) = (0, 0);
    restore.pages = if missing.len() > MOST_LEAVES {
        vec![Scope::Room(room)]
    } else {
        // The last is fetched first.
        let leaves = missing.iter().map(|chunk| leaves_session_id(*chunk));
        [session].into_iter().chain(leaves).map(|id| Scope::Session(room.clone(), id)).collect()
    };
    next_page(turn, restore)
}

/// Takes the sessions of a portion and counts the bad ones; gives the leaves that were missing.
fn take_portion(
    turn: &Turn<'_>,
    restore: &mut Restore,
    backup: &Unlocked,
    portion: &Portion,
) -> Result<Vec<ChunkId>, Failure> {
    let mut missing = Vec::new();
    for (room, session_id, data) in portion {
        restore.done += 1;
        match take_session(turn, backup, room, session_id, data) {
            Ok(true) => restore.epochs += 1,
            Ok(false) => {}
            Err(NotTaken::Session(SessionError::Store(error))) => return Err(error.into()),
            Err(error) => {
                if let NotTaken::Session(SessionError::MissingLeaves(chunks)) = &error {
                    missing.extend(chunks);
                }
                let code = error.code();
                tracing::warn!(session = %session_id, code, "a session was not restored");
                *restore.failures.entry(code.to_owned()).or_default() += 1;
            }
        }
    }
    Ok(missing)
}

/// Why a session of the backup was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum NotTaken {
    /// It does not open with the backup's key.
    #[error("the session is damaged, or was sealed with another key")]
    Damaged,
    /// What the session holds is not accepted.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl NotTaken {
    /// A code that is stable across releases.
    fn code(&self) -> &'static str {
        match self {
            Self::Damaged => "damaged_session",
            Self::Session(error) => error.code(),
        }
    }
}

impl From<StoreError> for NotTaken {
    fn from(error: StoreError) -> Self {
        Self::Session(error.into())
    }
}

/// Opens one session and keeps what it holds; tells whether that made an epoch readable.
fn take_session(
    turn: &Turn<'_>,
    backup: &Unlocked,
    room: &str,
    session_id: &str,
    data: &str,
) -> Result<bool, NotTaken> {
    #[derive(Deserialize)]
    struct KeyBackupData {
        session_data: SessionData,
    }
    let room = RoomId::parse(room).map_err(|_| SessionError::OtherRoom)?;
    let data: KeyBackupData = serde_json::from_str(data).map_err(|_| SessionError::Malformed)?;
    let json = seal::open(turn.crypto, &backup.session_key, session_id, &data.session_data)
        .map_err(|error| match error {
            SealedError::Mac => NotTaken::Damaged,
            _ => SessionError::Malformed.into(),
        })?;
    let session = Session::read(&json, &room, Some(session_id), Source::Backup)?;
    match keep_session(turn, &room, session)? {
        Kept::Leaves(chunk) => {
            saved::note_chunk(turn.tx, &room, chunk, &backup.version)?;
            Ok(false)
        }
        Kept::KnownEpoch(id) => {
            saved::note_found(turn.tx, &room, id, &backup.version, session_id)?;
            Ok(false)
        }
        Kept::NewEpoch(id) => {
            saved::note_found(turn.tx, &room, id, &backup.version, session_id)?;
            Ok(true)
        }
    }
}

fn finish(turn: &Turn<'_>, restore: &Restore) -> Result<(), StoreError> {
    restores::remove(turn, restore.id)?;
    turn.tell(Update::RestoreFinished {
        restore: restore.id,
        epochs: restore.epochs,
        failures: restore.failures.clone().into_iter().map(Into::into).collect(),
    });
    Ok(())
}

fn fail(turn: &Turn<'_>, restore: &Restore, code: &str) -> Result<(), StoreError> {
    let mut restore = restore.clone();
    restore.failures.insert(code.to_owned(), 1);
    finish(turn, &restore)
}

/// Takes in the homeserver's refusal to give a restore's sessions.
pub(super) fn refused(turn: &Turn<'_>, id: u64, status: u16, code: &str) -> Result<(), StoreError> {
    let Some(mut restore) = restores::find(turn.tx, id)? else { return Ok(()) };
    if status == 404 && restore.page.is_some() {
        // The backup has nothing of this page; what lacks it is counted when it is taken.
        restore.phase = Phase::Taking { next: 0, portions: 0 };
        restores::put(turn.tx, &restore)?;
        return Ok(());
    }
    match (status, &restore.scope) {
        // The backup has no such session.
        (404, Scope::Session(..)) => fail(turn, &restore, "not_in_backup"),
        (404, _) => fail(turn, &restore, UnlockFailure::NoBackup.code()),
        _ => fail(turn, &restore, code),
    }
}
