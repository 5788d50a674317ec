//! One device's engine: the store, the lock, and what a turn is.

use std::{
    num::NonZeroUsize,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use lru::LruCache;
use ruma::{OwnedDeviceId, OwnedRoomId, OwnedUserId, RoomId};

use super::{error::EngineError, opener::Opener, opening, outcomes::RoomOutcomes};
use crate::{
    compared::Compared,
    exported::{
        MemberPolicy, Observers, RollbackGuard, Update, UpdateObserver, UpdateSubscription,
    },
    failure::Failure,
    groups::{Groups, LeftGroups},
    history::replay::MessageName,
    identity::{Identity, Publishing},
    incoming::media,
    messages::Sealer,
    rejoin,
    requests::Unmarked,
    rollback::Rollback,
    room,
    store::{Store, StoreError, StoreKeyMaterial, Tx},
    turn::Turn,
    verification::{self, Secrets},
};

/// For how many rooms the state of sealing is kept in memory. Loading it again reads a few rows.
const MAX_SEALERS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);

/// One device's engine.
pub(crate) struct Engine {
    pub(super) store: Store,
    pub(super) identity: Identity,
    pub(super) work: Mutex<Work>,
    pub(super) opener: Opener,
    groups: Groups,
    compared: Compared,
    observers: Arc<Observers>,
    pub(super) rollback: Rollback,
    /// The keys of verifications under way.
    pub(super) secrets: Secrets,
    /// Held while a group is founded (`founding`).
    pub(super) founding: Mutex<()>,
    /// How often requests were handed out without an answer.
    pub(super) unmarked: Unmarked,
    /// When a room was last prepared for a message, in milliseconds since 1970.
    pub(super) prepared_ms: AtomicU64,
    /// Set from the moment the engine is to be suspended: turns under way end, and none begins.
    suspended: AtomicBool,
}

/// What only the holder of the lock may touch.
pub(super) struct Work {
    /// Sealers by room, each with the turn in which it was last found current.
    pub(super) sealers: LruCache<OwnedRoomId, (u64, Sealer)>,
    /// Counts turns: a sealer is checked again after each.
    pub(super) turns: u64,
    /// Results that no call has given yet, as it failed in a later turn.
    pub(super) untold: RoomOutcomes,
}

/// What a turn leaves to be done once it is on disk.
struct Done {
    /// The bindings of messages to events that were written.
    bound: Vec<MessageName>,
    updates: Vec<Update>,
    /// Whether keys of past epochs were deleted.
    keys_deleted: bool,
    groups: LeftGroups,
}

impl Engine {
    /// Opens a device's store, making it where there is none.
    pub(crate) fn open(
        user_id: OwnedUserId,
        device_id: OwnedDeviceId,
        publishing: Publishing,
        policy: MemberPolicy,
        directory: &Path,
        key: StoreKeyMaterial<'_>,
        guard: Option<Arc<dyn RollbackGuard>>,
    ) -> Result<Self, EngineError> {
        let store = Store::open(directory, key)?;
        let opener = Opener::default();
        let identity = store.write(|tx| {
            Identity::load_or_create(tx, &opener.crypto, &user_id, &device_id, publishing)
                .map_err(EngineError::from)
        })?;
        let work =
            Mutex::new(Work { sealers: LruCache::new(MAX_SEALERS), turns: 0, untold: Vec::new() });
        let engine = Self {
            store,
            identity,
            work,
            opener,
            groups: Groups::default(),
            compared: Compared::default(),
            observers: Arc::default(),
            rollback: Rollback::new(guard),
            secrets: Secrets::default(),
            founding: Mutex::default(),
            unmarked: Unmarked::default(),
            prepared_ms: AtomicU64::new(0),
            suspended: AtomicBool::new(false),
        };
        engine.turn(|turn| {
            opening::check_store(turn, engine.store.file_mark(), &engine.rollback, policy)?;
            Ok(verification::lose(turn, &engine.secrets)?)
        })?;
        Ok(engine)
    }

    /// This device.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Seals the store's key anew.
    pub(crate) fn change_key(&self, key: StoreKeyMaterial<'_>) -> Result<(), EngineError> {
        let _work = self.lock();
        Ok(self.store.change_key(key)?)
    }

    /// Ends the turn under way, then closes the store's file and releases every lock. Until
    /// [`Engine::resume`] every call that needs the store fails.
    pub(crate) fn suspend(&self) {
        // What cannot be written is made again later, so it must not keep the store open.
        if let Err(error) = self.write_bindings() {
            tracing::warn!(%error, "not all was written before the store was suspended");
        }
        self.suspended.store(true, Ordering::SeqCst);
        let mut work = self.lock();
        // Another process may use the store meanwhile.
        work.sealers.clear();
        work.turns += 1;
        self.opener.readers.clear();
        self.groups.release();
        self.compared.release();
        self.store.suspend();
    }

    /// Opens the store's file again, if it is closed.
    pub(crate) fn resume(&self) -> Result<(), EngineError> {
        let work = self.lock();
        self.store.resume()?;
        self.suspended.store(false, Ordering::SeqCst);
        drop(work);
        self.turn(|turn| opening::check_count(turn, &self.rollback))
    }

    /// Lets go of what is in memory only to be at hand, without waiting for a turn under way.
    pub(crate) fn release_memory(&self) {
        self.groups.release();
        self.compared.release();
        self.opener.readers.clear();
        self.opener.crypto.release_memory();
        self.store.release_memory();
    }

    /// Whether the engine is suspended, or about to be.
    pub(super) fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::SeqCst)
    }

    /// Tells an observer of updates from now on.
    pub(crate) fn subscribe(
        &self,
        observer: Arc<dyn UpdateObserver>,
    ) -> Result<UpdateSubscription, EngineError> {
        let subscription = self.observers.add(observer);
        Ok(subscription.map_err(|error| Failure::defect("thread", error))?)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Work> {
        // Sealers only ever hold more reserved generations than they use, and the rest is on disk:
        // a panic elsewhere leaves nothing here that is wrong.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one turn: all of it happens, or none, and it survives a loss of power.
    pub(super) fn turn<T>(
        &self,
        job: impl FnOnce(&Turn<'_>) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        self.repeatable_turn(|turn| {
            turn.tx.promise();
            job(turn)
        })
    }

    /// Runs a turn that is done again where it is lost: the app is asked for the same, or the
    /// homeserver answers the same. Only what leaves in it has to be on disk, and whatever has it
    /// leave promises that (`Tx::promise`). Only the call of the job is compiled for each of them
    /// (docs/decisions/005).
    pub(super) fn repeatable_turn<T>(
        &self,
        job: impl FnOnce(&Turn<'_>) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        // A call of many turns ends here, also when it would get the lock before whoever suspends.
        if self.is_suspended() {
            return Err(StoreError::Suspended.into());
        }
        let mut work = self.lock();
        // Also where the turn fails: its commit may have been made all the same.
        work.turns += 1;
        let now_ms = now_ms();
        let (value, done) = self.store.write_repeatable(|tx| {
            let turn = Turn::new(tx, &self.identity, &self.opener.crypto, &self.groups, now_ms)
                .remembering(&self.compared);
            let value = job(&turn).map_err(|error| turn.true_cause(error))?;
            Ok::<_, EngineError>((value, self.end(turn)?))
        })?;
        self.committed(done);
        Ok(value)
    }

    /// What every turn does last, before its commit.
    #[inline(never)]
    fn end(&self, turn: Turn<'_>) -> Result<Done, EngineError> {
        media::queue_wanted(&turn).map_err(|error| turn.true_cause(error))?;
        let bound = self.opener.readers.bindings.write(turn.tx)?;
        let ended = turn.end()?;
        let (updates, keys_deleted) = (ended.updates, ended.keys_deleted);
        Ok(Done { bound, updates, keys_deleted, groups: ended.groups })
    }

    /// A turn is on disk.
    #[inline(never)]
    fn committed(&self, done: Done) {
        self.opener.readers.bindings.written(&done.bound);
        self.groups.keep(done.groups);
        if done.keys_deleted {
            self.opener.readers.clear();
            self.store.cut_log();
        }
        // Under the lock, so that updates come in the order of the turns.
        self.observers.tell(&done.updates);
    }

    /// Where the store's keys for a room turned out not to be this device's alone, has the device
    /// join anew; tells whether that is so.
    pub(super) fn distrust_if_changed<T>(
        &self,
        room: &RoomId,
        outcome: &Result<T, EngineError>,
    ) -> Result<bool, EngineError> {
        let Err(error) = outcome else { return Ok(false) };
        if !error.is_change_of_store() {
            return Ok(false);
        }
        tracing::warn!(%room, %error, "the store is not this device's alone");
        self.turn(|turn| {
            Ok(room::edit(turn.tx, room, |room| rejoin::distrust_store(turn, room))?)
        })?;
        Ok(true)
    }

    pub(super) fn read<T, E: From<StoreError>>(
        &self,
        job: impl FnOnce(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.store.read(job)
    }
}

/// Milliseconds since 1970; a clock before that counts as 1970.
pub(super) fn now_ms() -> u64 {
    #[cfg(feature = "test-hooks")]
    if let Some(now_ms) = crate::store::hooks::clock_ms() {
        return now_ms;
    }
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
        .unwrap_or(0)
}
