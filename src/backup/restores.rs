//! The restores under way, as the store keeps them: how far each is, and what was fetched for it.

use ruma::OwnedRoomId;
use serde::{Deserialize, Serialize};

use crate::{
    requests::{self, BACKUP_SCOPE, Purpose, REQUESTS},
    sessions::{BackupKey, FailureCounts},
    store::{Collection, StoreError, Tx},
    turn::Turn,
};

/// The most restores that can be under way.
pub(super) const MOST_RESTORES: usize = 64;

/// What to restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Scope {
    All,
    Room(OwnedRoomId),
    /// One session, by its id: the one that a message needs.
    Session(OwnedRoomId, String),
}

/// How far a restore is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// The homeserver was asked which version there is, in order to prove the key.
    Proving,
    /// The homeserver was asked for the sessions.
    Fetching,
    /// The sessions are being taken, portion by portion.
    Taking {
        /// The number of the next portion.
        next: u32,
        portions: u32,
    },
}

/// A restore under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Restore {
    pub(crate) id: u64,
    pub(crate) scope: Scope,
    /// What is fetched now, and what is fetched after it; nothing where `scope` is fetched at once.
    #[serde(default)]
    pub(super) page: Option<Scope>,
    #[serde(default)]
    pub(super) pages: Vec<Scope>,
    /// The recovery key; `None` stands for the enabled backup's key.
    pub(super) key: Option<BackupKey>,
    pub(super) phase: Phase,
    /// The version that it restores from, once its key was proved.
    pub(super) version: Option<String>,
    pub(crate) total: u64,
    pub(crate) done: u64,
    /// How many epochs became readable.
    pub(super) epochs: u64,
    pub(super) failures: FailureCounts,
}

impl Restore {
    /// What is fetched now.
    pub(super) fn page(&self) -> &Scope {
        self.page.as_ref().unwrap_or(&self.scope)
    }
}

/// Sessions that were fetched and are taken in one turn: room, session id, data as JSON.
pub(super) type Portion = Vec<(String, String, String)>;

const RESTORES: Collection<Restore> = Collection::new("restore");
const NEXT_ID: Collection<u64> = Collection::new("restore_next_id");
/// The portions that were fetched and not taken yet, by restore.
const PORTIONS: Collection<Portion> = Collection::new("restore_portion");

/// The restores under way.
pub(crate) fn under_way(tx: &Tx<'_>) -> Result<Vec<Restore>, StoreError> {
    RESTORES.list(tx, b"")
}

pub(super) fn find(tx: &Tx<'_>, id: u64) -> Result<Option<Restore>, StoreError> {
    RESTORES.get(tx, b"", &id.to_be_bytes())
}

pub(super) fn put(tx: &Tx<'_>, restore: &Restore) -> Result<(), StoreError> {
    RESTORES.put(tx, b"", &restore.id.to_be_bytes(), restore)
}

/// A new id. Ids are never reused.
pub(super) fn next_id(tx: &Tx<'_>) -> Result<u64, StoreError> {
    let id = NEXT_ID.get(tx, b"", b"")?.unwrap_or(1);
    NEXT_ID.put(tx, b"", b"", &(id + 1))?;
    Ok(id)
}

/// A portion of a restore's sessions. A portion that was taken already is empty.
pub(super) fn portion(tx: &Tx<'_>, id: u64, number: u32) -> Result<Portion, StoreError> {
    Ok(PORTIONS.get(tx, &id.to_be_bytes(), &number.to_be_bytes())?.unwrap_or_default())
}

pub(super) fn put_portion(
    tx: &Tx<'_>,
    id: u64,
    number: u32,
    portion: &Portion,
) -> Result<(), StoreError> {
    PORTIONS.put(tx, &id.to_be_bytes(), &number.to_be_bytes(), portion)
}

pub(super) fn delete_portion(tx: &Tx<'_>, id: u64, number: u32) -> Result<(), StoreError> {
    PORTIONS.delete(tx, &id.to_be_bytes(), &number.to_be_bytes()).map(drop)
}

/// Removes a restore, with its request and with what was fetched for it.
pub(super) fn remove(turn: &Turn<'_>, id: u64) -> Result<(), StoreError> {
    for (request, queued) in REQUESTS.in_scope(turn.tx, BACKUP_SCOPE)? {
        if matches!(queued.purpose, Purpose::RestoreKeys { restore } if restore == id) {
            requests::remove(turn.tx, request)?;
        }
    }
    PORTIONS.delete_scope(turn.tx, &id.to_be_bytes())?;
    RESTORES.delete(turn.tx, b"", &id.to_be_bytes()).map(drop)
}
