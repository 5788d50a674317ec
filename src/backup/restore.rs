//! Bringing epochs back from the backup: of all rooms, of one, or the one that a message needs.
//!
//! A restore is a record in the store, so that it goes on where it was when the app is killed. First the
//! key is proved, then the sessions are fetched, then taken in portions, each a turn of its own, so that
//! nothing else waits for long and cancelling takes effect between two. What is wrong with a session is
//! counted by kind; the others are kept.

use std::collections::BTreeMap;

use ruma::{
    OwnedRoomId, RoomId,
    api::client::backup::{get_backup_keys, get_backup_keys_for_room, get_backup_keys_for_session},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    key::BackupKey,
    seal::{self, SealedError, SessionData},
    session::{self, Failures, Session, SessionError, Taken},
    state, upload,
};
use crate::{
    error::MlsError,
    group::{Turn, timeline},
    history::restored::Source,
    requests::{self, BACKUP_SCOPE, Purpose, REQUESTS},
    store::{Collection, StoreError, Tx},
    updates::Update,
};

/// How many sessions are taken in one turn.
const PORTION: usize = 64;
/// How many restores can be under way.
const MOST_RESTORES: usize = 64;

/// What is to be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Scope {
    All,
    Room(OwnedRoomId),
    /// One session, which a message needs.
    Session(OwnedRoomId, String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    /// It is asked which version there is, to prove the key.
    Proving,
    Fetching,
    Taking {
        next: u32,
        portions: u32,
    },
}

/// A restore under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Restore {
    pub(crate) id: u64,
    pub(crate) scope: Scope,
    /// The recovery key; nothing stands for that of the enabled backup.
    key: Option<BackupKey>,
    phase: Phase,
    /// Which version it is from, once its key was proved.
    version: Option<String>,
    pub(crate) total: u64,
    pub(crate) done: u64,
    /// How many epochs became readable.
    epochs: u64,
    failures: Failures,
}

/// Some of the sessions that were fetched.
type Portion = Vec<(String, String, Box<RawValue>)>;

const RESTORES: Collection<Restore> = Collection::new("restore");
const NEXT_ID: Collection<u64> = Collection::new("restore_next_id");
/// Portions that were fetched and not taken yet, by restore.
const PORTIONS: Collection<Vec<(String, String, String)>> = Collection::new("restore_portion");

/// Begins a restore; gives its id.
pub(crate) fn begin(
    turn: &Turn<'_>,
    key: Option<BackupKey>,
    scope: Scope,
) -> Result<u64, MlsError> {
    let running = RESTORES.list(turn.tx, b"")?;
    if let Some(same) = running.iter().find(|restore| restore.scope == scope && restore.key == key)
    {
        return Ok(same.id);
    }
    if running.len() >= MOST_RESTORES {
        return Err(MlsError::not_ready("too many restores are under way"));
    }
    if key.is_none() && state::load(turn.tx)?.active.is_none() {
        return Err(MlsError::invalid(
            "no_key",
            "key: no backup is enabled whose key could be used",
        ));
    }
    let id = NEXT_ID.get(turn.tx, b"", b"")?.unwrap_or(1);
    NEXT_ID.put(turn.tx, b"", b"", &(id + 1))?;
    let phase = if key.is_none() { Phase::Fetching } else { Phase::Proving };
    let mut restore = Restore {
        id,
        scope,
        key,
        phase,
        version: None,
        total: 0,
        done: 0,
        epochs: 0,
        failures: Failures::new(),
    };
    if restore.key.is_some() {
        put(turn.tx, &restore)?;
        state::look(turn)?;
    } else {
        fetch(turn, &mut restore)?;
    }
    Ok(id)
}

/// The restores under way.
pub(crate) fn under_way(tx: &Tx<'_>) -> Result<Vec<Restore>, StoreError> {
    RESTORES.list(tx, b"")
}

/// Stops a restore. What it has brought back stays. Tells whether there was one; whoever waits for its end
/// hears of that.
pub(crate) fn cancel(turn: &Turn<'_>, id: u64) -> Result<bool, MlsError> {
    let Some(restore) = RESTORES.get(turn.tx, b"", &id.to_be_bytes())? else { return Ok(false) };
    fail(turn, &restore, "cancelled")?;
    Ok(true)
}

/// Takes a restore away, with what was fetched for it.
fn remove(turn: &Turn<'_>, id: u64) -> Result<(), MlsError> {
    for (request, queued) in REQUESTS.in_scope(turn.tx, BACKUP_SCOPE)? {
        if matches!(queued.purpose, Purpose::RestoreKeys { restore } if restore == id) {
            requests::remove(turn.tx, request)?;
        }
    }
    PORTIONS.delete_scope(turn.tx, &id.to_be_bytes())?;
    RESTORES.delete(turn.tx, b"", &id.to_be_bytes())?;
    Ok(())
}

fn put(tx: &Tx<'_>, restore: &Restore) -> Result<(), StoreError> {
    RESTORES.put(tx, b"", &restore.id.to_be_bytes(), restore)
}

/// The version's name and the key of its sessions, if the restore's key is the version's.
fn unlock(turn: &Turn<'_>, restore: &Restore) -> Result<Option<(String, BackupKey)>, MlsError> {
    match &restore.key {
        Some(key) => state::unlock(turn, key),
        None => {
            let active = state::load(turn.tx)?.active;
            Ok(active.map(|active| (active.version, active.session_key)))
        }
    }
}

/// The homeserver has said which backup there is: restores that waited for that go on.
pub(super) fn looked(turn: &Turn<'_>) -> Result<(), MlsError> {
    for mut restore in RESTORES.list(turn.tx, b"")? {
        if restore.phase == Phase::Proving {
            restore.phase = Phase::Fetching;
            fetch(turn, &mut restore)?;
        }
    }
    Ok(())
}

/// Asks for the sessions, if the key is right.
fn fetch(turn: &Turn<'_>, restore: &mut Restore) -> Result<(), MlsError> {
    let Some((version, _)) = unlock(turn, restore)? else {
        return fail(turn, restore, state::why_locked(turn.tx)?);
    };
    restore.version = Some(version.clone());
    put(turn.tx, restore)?;
    let purpose = Purpose::RestoreKeys { restore: restore.id };
    let (tx, scope, now) = (turn.tx, BACKUP_SCOPE, turn.now_ms);
    match restore.scope.clone() {
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

/// The homeserver has given the sessions.
pub(crate) fn fetched(turn: &Turn<'_>, id: u64, body: &[u8]) -> Result<(), MlsError> {
    let Some(mut restore) = RESTORES.get(turn.tx, b"", &id.to_be_bytes())? else { return Ok(()) };
    if restore.phase != Phase::Fetching {
        return Ok(());
    }
    let mut sessions = read_answer(&restore.scope, body)?;
    // Beside a Megolm backup's own, which are none of ours. Leaves come first: epochs need them.
    sessions.retain(|(_, session_id, _)| session::is_ours(session_id));
    sessions.sort_by_key(|(_, session_id, _)| !session::is_leaves(session_id));
    restore.total = sessions.len() as u64;
    let mut portions = 0_u32;
    for portion in sessions.chunks(PORTION) {
        let portion = portion
            .iter()
            .map(|(room, id, data)| (room.clone(), id.clone(), data.get().to_owned()))
            .collect();
        PORTIONS.put(turn.tx, &id.to_be_bytes(), &portions.to_be_bytes(), &portion)?;
        portions += 1;
    }
    restore.phase = Phase::Taking { next: 0, portions };
    put(turn.tx, &restore)?;
    Ok(())
}

fn read_answer(scope: &Scope, body: &[u8]) -> Result<Portion, MlsError> {
    let malformed =
        |_| MlsError::rejected("malformed_answer", "the backup's sessions are not readable");
    let of_room = |room: &str, sessions: OneRoom| {
        let sessions = sessions.sessions.into_iter();
        sessions.map(|(id, data)| (room.to_owned(), id, data)).collect::<Portion>()
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

/// Takes the next portion of some restore; tells whether there may be more to do.
pub(crate) fn step(turn: &Turn<'_>) -> Result<bool, MlsError> {
    let mut taking = RESTORES.list(turn.tx, b"")?.into_iter();
    let Some(mut restore) = taking.find(|restore| matches!(restore.phase, Phase::Taking { .. }))
    else {
        return Ok(false);
    };
    let Phase::Taking { next, portions } = restore.phase else { return Ok(false) };
    if next >= portions {
        finish(turn, &restore)?;
        return Ok(true);
    }
    let scope = restore.id.to_be_bytes();
    let portion = PORTIONS.get(turn.tx, &scope, &next.to_be_bytes())?.unwrap_or_default();
    let Some((version, key)) =
        unlock(turn, &restore)?.filter(|(version, _)| restore.version.as_ref() == Some(version))
    else {
        // The backup was disabled, or became another, while its sessions waited.
        fail(turn, &restore, "wrong_key")?;
        return Ok(true);
    };
    let mut incomplete = false;
    for (room, session_id, data) in &portion {
        restore.done += 1;
        match take(turn, &version, &key, room, session_id, data) {
            Ok(true) => restore.epochs += 1,
            Ok(false) => {}
            Err(Failure::Stop(error)) => return Err(error),
            Err(Failure::Session(code)) => {
                incomplete |= code == "missing_leaves";
                tracing::warn!(session = %session_id, code, "a session was not restored");
                *restore.failures.entry(code.to_owned()).or_default() += 1;
            }
        }
    }
    PORTIONS.delete(turn.tx, &scope, &next.to_be_bytes())?;
    // The one session was not enough: its leaves are sessions of their own.
    if let (true, Scope::Session(room, _)) = (incomplete, restore.scope.clone()) {
        restore = Restore {
            scope: Scope::Room(room),
            phase: Phase::Fetching,
            total: 0,
            done: 0,
            failures: Failures::new(),
            ..restore
        };
        fetch(turn, &mut restore)?;
        return Ok(true);
    }
    restore.phase = Phase::Taking { next: next + 1, portions };
    put(turn.tx, &restore)?;
    let (id, done, total) = (restore.id, restore.done, restore.total);
    turn.tell(Update::RestoreProgress { restore: id, done, total });
    Ok(true)
}

enum Failure {
    Stop(MlsError),
    Session(&'static str),
}

/// Opens one session and keeps what it holds; tells whether that made an epoch readable.
fn take(
    turn: &Turn<'_>,
    version: &str,
    key: &BackupKey,
    room: &str,
    session_id: &str,
    data: &str,
) -> Result<bool, Failure> {
    #[derive(Deserialize)]
    struct KeyBackupData {
        session_data: SessionData,
    }
    let room = RoomId::parse(room).map_err(|_| Failure::Session("other_room"))?;
    let data: KeyBackupData =
        serde_json::from_str(data).map_err(|_| Failure::Session("malformed_session"))?;
    let json = match seal::open(turn.crypto, key, session_id, &data.session_data) {
        Ok(json) => json,
        Err(SealedError::Mac) => return Err(Failure::Session("damaged_session")),
        Err(_) => return Err(Failure::Session("malformed_session")),
    };
    let taken = Session::read(&json, &room, Some(session_id), Source::Backup)
        .and_then(|session| session.take(turn.tx, &room));
    let kept = match taken {
        Ok(Taken::Leaves(chunk)) => {
            upload::found_chunk(turn.tx, &room, chunk, version).map(|()| false)
        }
        Ok(Taken::NewEpoch(id)) => {
            upload::found(turn.tx, &room, id, version, session_id).map(|()| true)
        }
        Ok(Taken::KnownEpoch(id)) => {
            upload::found(turn.tx, &room, id, version, session_id).map(|()| false)
        }
        Err(SessionError::Store(error)) => return Err(Failure::Stop(error.into())),
        Err(error) => return Err(Failure::Session(error.code())),
    };
    let new = kept.map_err(|error| Failure::Stop(error.into()))?;
    if new {
        // Messages that waited for the epoch can be read now.
        timeline::stir(turn, &room).map_err(Failure::Stop)?;
    }
    Ok(new)
}

fn finish(turn: &Turn<'_>, restore: &Restore) -> Result<(), MlsError> {
    remove(turn, restore.id)?;
    turn.tell(Update::RestoreFinished {
        restore: restore.id,
        epochs: restore.epochs,
        failures: restore.failures.clone().into_iter().map(Into::into).collect(),
    });
    Ok(())
}

fn fail(turn: &Turn<'_>, restore: &Restore, code: &str) -> Result<(), MlsError> {
    let mut restore = restore.clone();
    restore.failures.insert(code.to_owned(), 1);
    finish(turn, &restore)
}

/// The homeserver refuses the sessions.
pub(super) fn refused(turn: &Turn<'_>, id: u64, status: u16, code: &str) -> Result<(), MlsError> {
    let Some(restore) = RESTORES.get(turn.tx, b"", &id.to_be_bytes())? else { return Ok(()) };
    match (status, &restore.scope) {
        // It has no such session.
        (404, Scope::Session(..)) => fail(turn, &restore, "not_in_backup"),
        (404, _) => fail(turn, &restore, "no_backup"),
        _ => fail(turn, &restore, code),
    }
}
