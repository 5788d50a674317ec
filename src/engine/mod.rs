//! The machine's inside: one store, one device, and the order in which work is done.
//!
//! Everything that changes state runs as a *turn*: under one lock, in one SQLite transaction. After
//! the commit its updates go to the observer; before it nothing leaves this module, so an app never
//! sees what is not on disk. Sealing shares the lock; opening messages does not, and runs beside a
//! turn on a connection of its own. All of it blocks: the exported layer calls it off the async
//! executor's threads, and a caller that goes away does not stop a turn half-way.

mod answers;
mod history;
mod keys;
mod opener;
mod sync;

use opener::Opener;
pub(crate) use opener::Reader;
pub(crate) use sync::ToDeviceOutcome;

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use ruma::{OwnedDeviceId, OwnedRoomId, OwnedUserId, RoomId};
use serde_json::value::RawValue;

use crate::{
    backup,
    error::MlsError,
    group::{
        EpochRecord, RoomRecord, Status, Turn, create, graph, heal, leave, media, members,
        message::{Message, READ_ONCE, Sealer},
        plan::{self, Step},
        read_once,
        retention::{self, Retention},
        rooms, timeline,
        timeline::EventOutcome,
    },
    history::{archive, replay::MessageName},
    identity::{Identity, Publishing},
    protocol::{DeviceName, credential},
    requests::{self, OutgoingRequest, REQUESTS},
    store::{Store, StoreKeyMaterial, Tx},
    updates::{Observers, Subscription, Update, UpdateObserver},
};

/// How many requests are handed out at once.
const MAX_HANDED_OUT: usize = 50;

/// The shortest wait that is asked for when there is nothing to send, so that no app spins.
const SHORTEST_WAIT_MS: u64 = 50;

/// How many bindings of messages to events wait for a turn before one is made for them.
const MOST_UNWRITTEN: usize = 64;

/// One device's engine.
pub(crate) struct Engine {
    store: Store,
    identity: Identity,
    work: Mutex<Work>,
    opener: Opener,
    observers: Arc<Observers>,
}

/// What only the holder of the lock may touch.
#[derive(Default)]
struct Work {
    /// Sealers by room, each with the turn it was last found current in.
    sealers: HashMap<OwnedRoomId, (u64, Sealer)>,
    /// Counts turns: a sealer is checked again after each.
    turns: u64,
}

/// What a turn leaves to be done once it is on disk.
struct Done {
    /// The bindings that were written.
    bound: Vec<MessageName>,
    updates: Vec<Update>,
    /// Whether keys of past epochs were deleted.
    keys_deleted: bool,
}

/// What has to be sent before a room is ready.
pub(crate) enum Readiness {
    Ready,
    Waiting { requests: Vec<OutgoingRequest>, retry_after_ms: Option<u64> },
}

impl Engine {
    /// Opens a device's store, making it where there is none.
    pub(crate) fn open(
        user_id: OwnedUserId,
        device_id: OwnedDeviceId,
        publishing: Publishing,
        directory: &Path,
        key: StoreKeyMaterial<'_>,
    ) -> Result<Self, MlsError> {
        let store = Store::open(directory, key)?;
        let opener = Opener::default();
        let identity = store.write(|tx| {
            Identity::load_or_create(tx, &opener.crypto, &user_id, &device_id, publishing)
                .map_err(MlsError::from)
        })?;
        let engine =
            Self { store, identity, work: Mutex::default(), opener, observers: Arc::default() };
        engine.check_copy()?;
        Ok(engine)
    }

    /// A copy of the store may be older than what this device has sent since: then its keys were used.
    fn check_copy(&self) -> Result<(), MlsError> {
        let Some(mark) = self.store.file_mark() else { return Ok(()) };
        #[cfg(feature = "test-hooks")]
        let trusted = crate::store::hooks::trusts_copies();
        #[cfg(not(feature = "test-hooks"))]
        let trusted = false;
        self.turn(|turn| {
            if turn.tx.is_copy(mark)? && !trusted {
                tracing::warn!("the store's file is a copy");
                heal::distrust_store(turn)?;
            }
            Ok(turn.tx.adopt_file(mark)?)
        })
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Seals the store's key anew.
    pub(crate) fn change_key(&self, key: StoreKeyMaterial<'_>) -> Result<(), MlsError> {
        let _work = self.lock();
        Ok(self.store.change_key(key)?)
    }

    /// Tells an observer of updates from now on.
    pub(crate) fn subscribe(
        &self,
        observer: Arc<dyn UpdateObserver>,
    ) -> Result<Subscription, MlsError> {
        self.observers.add(observer)
    }

    fn lock(&self) -> MutexGuard<'_, Work> {
        // Sealers only ever hold more reserved generations than they use, and the rest is on disk:
        // a panic elsewhere leaves nothing here that is wrong.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one turn: all of it happens, or none. Only the call of the job is compiled for each of them
    /// (docs/decisions/005).
    fn turn<T>(&self, job: impl FnOnce(&Turn<'_>) -> Result<T, MlsError>) -> Result<T, MlsError> {
        let mut work = self.lock();
        let now_ms = now_ms();
        let (value, done) = self.store.write(|tx| {
            let turn = Turn::new(tx, &self.identity, &self.opener.crypto, now_ms);
            let value = job(&turn).map_err(|error| turn.true_cause(error))?;
            Ok::<_, MlsError>((value, self.end(turn)?))
        })?;
        self.committed(&mut work, done);
        Ok(value)
    }

    /// What every turn does last, before its commit.
    #[inline(never)]
    fn end(&self, turn: Turn<'_>) -> Result<Done, MlsError> {
        media::queue_wanted(&turn).map_err(|error| turn.true_cause(error))?;
        let bound = self.opener.readers.bindings.write(turn.tx)?;
        let (updates, keys_deleted) = turn.into_updates();
        Ok(Done { bound, updates, keys_deleted })
    }

    /// A turn is on disk.
    #[inline(never)]
    fn committed(&self, work: &mut Work, done: Done) {
        self.opener.readers.bindings.written(&done.bound);
        if done.keys_deleted {
            self.opener.readers.clear();
            self.store.cut_log();
        }
        work.turns += 1;
        // Under the lock, so that updates come in the order of the turns.
        self.observers.tell(&done.updates);
    }

    fn read<T>(&self, job: impl FnOnce(&Tx<'_>) -> Result<T, MlsError>) -> Result<T, MlsError> {
        self.store.read(job)
    }

    /// The requests to send now.
    pub(crate) fn outgoing_requests(&self) -> Result<Vec<OutgoingRequest>, MlsError> {
        self.go_on_restoring()?;
        self.turn(|turn| {
            keys::plan(turn)?;
            retention::see_to_rooms(turn)?;
            backup::plan(turn)?;
            heal::see_to_rooms(turn)?;
            let due = REQUESTS.due(turn.tx, turn.now_ms, MAX_HANDED_OUT)?;
            Ok(requests::hand_out(turn.tx, due)?)
        })
    }

    /// Makes a room's group.
    pub(crate) fn enable(&self, room: &RoomId, settings: rooms::Settings) -> Result<(), MlsError> {
        self.turn(|turn| create::create(turn, room, settings))
    }

    /// Says who the joined users of a room are.
    pub(crate) fn set_members(
        &self,
        room: &RoomId,
        users: &std::collections::BTreeSet<OwnedUserId>,
    ) -> Result<(), MlsError> {
        self.turn(|turn| {
            members::settled(turn, room)?;
            Ok(rooms::set_members(turn.tx, room, users)?)
        })
    }

    /// Does the next step towards a room that can be sent to.
    pub(crate) fn prepare(&self, room: &RoomId) -> Result<Readiness, MlsError> {
        self.turn(|turn| {
            let ids = match plan::next_step(turn, room)? {
                Step::Ready => return Ok(Readiness::Ready),
                Step::Waiting(ids) => ids,
            };
            let mut due = Vec::new();
            let mut retry_at: Option<u64> = None;
            for id in ids {
                let Some(queued) = REQUESTS.get(turn.tx, id)? else { continue };
                if queued.due_ms <= turn.now_ms {
                    due.push((id, queued));
                } else {
                    retry_at = Some(retry_at.map_or(queued.due_ms, |at| at.min(queued.due_ms)));
                }
            }
            let retry_after_ms = if due.is_empty() {
                let retry_at = retry_at.or(plan::blocked_until(turn, room)?);
                let wait = retry_at.map_or(0, |at| at.saturating_sub(turn.now_ms));
                Some(wait.max(SHORTEST_WAIT_MS))
            } else {
                None
            };
            Ok(Readiness::Waiting { requests: requests::hand_out(turn.tx, due)?, retry_after_ms })
        })
    }

    /// Asks for fresh keys with the next commit.
    pub(crate) fn rotate(&self, room: &RoomId) -> Result<(), MlsError> {
        self.turn(|turn| {
            let mut record = rooms::get(turn.tx, room)?;
            if record.head.is_none() {
                return Err(MlsError::not_in_group(room));
            }
            record.rotate = true;
            Ok(rooms::put(turn.tx, &record)?)
        })
    }

    /// Joins a room's group by an external commit.
    pub(crate) fn join_externally(&self, room: &RoomId) -> Result<(), MlsError> {
        self.turn(|turn| {
            let record = rooms::get(turn.tx, room)?;
            if !record.uses_mls() || record.own_user_left {
                return Err(MlsError::not_in_group(room));
            }
            heal::ask(turn, room)
        })
    }

    /// Replaces a room's settings.
    pub(crate) fn set_settings(
        &self,
        room: &RoomId,
        settings: rooms::Settings,
    ) -> Result<(), MlsError> {
        self.turn(|turn| {
            let mut record = rooms::get(turn.tx, room)?;
            let once = |history| history == Retention::ReadOnce;
            // How an epoch's messages are read is decided when it begins.
            record.rotate |=
                record.head.is_some() && once(settings.history) != once(record.settings.history);
            record.settings = settings;
            record.settled = None;
            rooms::put(turn.tx, &record)?;
            retention::see_to(turn, &record)
        })
    }

    /// Leaves a room's group.
    pub(crate) fn leave(&self, room: &RoomId) -> Result<(), MlsError> {
        self.turn(|turn| {
            let record = rooms::get(turn.tx, room)?;
            let joins = record.staged.is_some() || record.healing.is_some();
            if record.head.is_none() && !joins {
                return Err(MlsError::not_in_group(room));
            }
            leave::give_up_membership(turn, room)
        })
    }

    /// Seals a message for a room that is ready.
    pub(crate) fn encrypt(
        &self,
        room: &RoomId,
        event_type: &str,
        content: &RawValue,
    ) -> Result<String, MlsError> {
        let mut work = self.lock();
        let turns = work.turns;
        let current = match work.sealers.get(room) {
            Some((checked, _)) if *checked == turns => true,
            Some((_, sealer)) => self.read(|tx| sealer.is_current(tx, room))?,
            None => false,
        };
        if !current {
            work.sealers.remove(room);
            let Some(sealer) = self.read(|tx| Sealer::load(tx, room))? else {
                drop(work);
                return self.turn(|turn| read_once::seal(turn, room, event_type, content));
            };
            work.sealers.insert(room.to_owned(), (turns, sealer));
        }
        let Some((checked, sealer)) = work.sealers.get_mut(room) else {
            return Err(MlsError::internal("sealer", "a sealer was just put there"));
        };
        *checked = turns;
        sealer.seal(&self.store, &self.opener.crypto, &self.identity, room, event_type, content)
    }

    /// Opens one message event. Where messages are read once, that is a turn.
    pub(crate) fn decrypt(&self, room: &RoomId, event: &str) -> Result<Message, MlsError> {
        let message = match self.read(|tx| self.opener.decrypt(tx, room, event)) {
            Err(error) if error.code() == READ_ONCE => {
                return self.turn(|turn| {
                    let (event, content) = opener::parse(event)?;
                    read_once::open(turn, room, &event, &content)
                });
            }
            message => message?,
        };
        if self.opener.readers.bindings.waiting() >= MOST_UNWRITTEN && self.work.try_lock().is_ok()
        {
            // A turn that is under way writes them, too.
            self.turn(|_| Ok(()))?;
        }
        Ok(message)
    }

    /// Takes in events of one room.
    pub(crate) fn receive_events(
        &self,
        room: &RoomId,
        events: &[String],
    ) -> Result<Vec<EventOutcome>, MlsError> {
        self.turn(|turn| timeline::receive(turn, &self.opener.readers, room, events))
    }

    /// The devices in a room's group.
    pub(crate) fn members(
        &self,
        room: &RoomId,
    ) -> Result<Vec<(DeviceName, crate::devices::Trust)>, MlsError> {
        self.read(|tx| {
            let head = rooms::get(tx, room)?.head.ok_or_else(|| MlsError::not_in_group(room))?;
            let mut members = Vec::new();
            for (_, leaf) in archive::leaves(tx, room, head)? {
                let device = credential::parse(leaf.credential()?.serialized_content())?;
                let trust = crate::devices::trust(tx, &device.0, &device.1, leaf.signature_key())?;
                members.push((device, trust));
            }
            Ok(members)
        })
    }

    /// The accepted epochs of a room, and which is the head.
    pub(crate) fn epochs(&self, room: &RoomId) -> Result<(RoomRecord, Vec<EpochRecord>), MlsError> {
        self.read(|tx| {
            let mut epochs = graph::all(tx, room)?;
            epochs.retain(|epoch| epoch.status == Status::Accepted);
            Ok((rooms::get(tx, room)?, epochs))
        })
    }

    /// What is known of a room, if anything.
    pub(crate) fn room(&self, room: &RoomId) -> Result<Option<RoomRecord>, MlsError> {
        self.read(|tx| Ok(rooms::find(tx, room)?))
    }

    /// The rooms that use MLS.
    pub(crate) fn rooms(&self) -> Result<Vec<OwnedRoomId>, MlsError> {
        self.read(|tx| {
            let rooms = rooms::all(tx)?;
            Ok(rooms.into_iter().filter(RoomRecord::uses_mls).map(|room| room.room_id).collect())
        })
    }
}

/// Milliseconds since 1970; a clock before that counts as 1970.
fn now_ms() -> u64 {
    #[cfg(feature = "test-hooks")]
    if let Some(now_ms) = crate::store::hooks::clock_ms() {
        return now_ms;
    }
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
        .unwrap_or(0)
}
