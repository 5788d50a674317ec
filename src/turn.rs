//! What one transaction has at hand: the store, this device, the clock, the updates to tell, and
//! what has to be settled before the transaction ends.
//!
//! A step on a lower floor reports what it has brought about as a [`Consequence`]; it never calls a
//! floor above. `engine::consequences` settles them, in one loop and in one written order.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    time::{Duration, Instant},
};

use ruma::{OwnedEventId, OwnedRoomId, RoomId};

use crate::{
    compared::Compared,
    exported::Update,
    groups::{Groups, LeftGroups, TurnGroups},
    identity::{Crypto, Identity, Provider},
    protocol::{DeviceName, EpochId, MediaReference, Rank},
    room::RejoinReason,
    store::{MlsStorage, Namespace, StoreError, Tx},
};

/// How long a turn goes on with work that can as well be done in the next: whoever waits for the
/// lock waits for this long, and for the step that is being done.
const SPENT_AFTER: Duration = Duration::from_millis(300);

/// What follows from a step, for other parts of the library to take up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Consequence {
    /// An epoch became part of the room.
    EpochEntered { epoch: EpochId, commit_event: Option<OwnedEventId> },
    /// There is another epoch to send on. `is_first`: there was none before.
    HeadChanged { is_first: bool },
    /// The head was chosen anew and is the same as before.
    HeadConfirmed,
    /// None of the kept epochs may be sent on.
    NoFitEpoch,
    /// Epochs can take no commits any more.
    EpochsPruned,
    /// What made an epoch readable was deleted.
    KeysDropped { epoch: EpochId },
    /// The homeserver has accepted a commit of this device, which added these devices.
    CommitAccepted { epoch: EpochId, added: Vec<DeviceName>, is_external: bool },
    /// A commit of this device came to nothing.
    CommitDropped { epoch: EpochId, is_external: bool },
    /// The room goes on in another group from now on.
    Restarted,
    /// This device has entered the group by a Welcome.
    Welcomed,
    /// A commit on a branch that counts has removed this device.
    Removed,
    /// This device has to join the group anew.
    MustRejoin(RejoinReason),
    /// An epoch became known that would be the best to join.
    BetterEpochKnown,
    /// An epoch to join counts from now on, as another user has been seen to go on with it.
    EpochConfirmed,
    /// Somebody was heard in another tree of epochs than before.
    TreeHeard,
    /// A message of this device turned up, in an epoch of this rank, that the device does not
    /// remember.
    OwnMessageForgotten { epoch: Rank },
}

/// One transaction's worth of work.
pub(crate) struct Turn<'a> {
    pub(crate) tx: &'a Tx<'a>,
    pub(crate) identity: &'a Identity,
    pub(crate) crypto: &'a Crypto,
    /// The time of the whole turn, in milliseconds since 1970.
    pub(crate) now_ms: u64,
    began: Instant,
    updates: RefCell<Vec<Update>>,
    consequences: RefCell<VecDeque<Consequence>>,
    /// What has to be fetched from the media repository. It stays when the part that asked for it
    /// is undone.
    wanted: RefCell<Vec<(OwnedRoomId, MediaReference)>>,
    keys_deleted: Cell<bool>,
    /// Groups that need not be read.
    pub(crate) groups: TurnGroups<'a>,
    /// What is remembered of rooms that were compared with their groups, if anything is to be.
    pub(crate) compared: Option<&'a Compared>,
}

/// What a turn leaves to be done once it is on disk.
pub(crate) struct Ended {
    /// What observers are told.
    pub(crate) updates: Vec<Update>,
    /// Whether keys of past epochs were deleted: they must not linger in memory or in the log.
    pub(crate) keys_deleted: bool,
    /// Groups for the next turn.
    pub(crate) groups: LeftGroups,
}

impl<'a> Turn<'a> {
    /// Starts a turn inside an open transaction.
    pub(crate) fn new(
        tx: &'a Tx<'a>,
        identity: &'a Identity,
        crypto: &'a Crypto,
        groups: &'a Groups,
        now_ms: u64,
    ) -> Self {
        Self {
            tx,
            identity,
            crypto,
            now_ms,
            began: Instant::now(),
            updates: RefCell::default(),
            consequences: RefCell::default(),
            wanted: RefCell::default(),
            keys_deleted: Cell::default(),
            groups: groups.for_turn(),
            compared: None,
        }
    }

    /// The same with what is remembered of rooms.
    pub(crate) fn remembering(self, compared: &'a Compared) -> Self {
        Self { compared: Some(compared), ..self }
    }

    /// Whether the turn has taken so long that what is left is for the next one.
    pub(crate) fn is_spent(&self) -> bool {
        #[cfg(feature = "test-hooks")]
        if let Some(ms) = crate::store::hooks::turn_ms() {
            return self.began.elapsed() >= Duration::from_millis(ms);
        }
        self.began.elapsed() >= SPENT_AFTER
    }

    /// Whether a stored time is still to come that was never further ahead than `most_ms`. A time
    /// that is further ahead comes from a clock that has been set back since, and counts as past:
    /// nothing waits for years.
    pub(crate) fn is_ahead(&self, until_ms: u64, most_ms: u64) -> bool {
        until_ms > self.now_ms && until_ms - self.now_ms <= most_ms
    }

    /// Whether so long has passed since a stored time. A time that is further ahead than that comes
    /// from a clock that has been set back since, and counts as long past.
    pub(crate) fn has_passed(&self, since_ms: u64, delay_ms: u64) -> bool {
        self.now_ms.abs_diff(since_ms) >= delay_ms
    }

    /// Tells an update, once the transaction is committed.
    pub(crate) fn tell(&self, update: Update) {
        self.updates.borrow_mut().push(update);
    }

    /// Reports what follows from a step.
    pub(crate) fn report(&self, consequence: Consequence) {
        self.consequences.borrow_mut().push_back(consequence);
    }

    /// The next consequence to settle, oldest first.
    pub(crate) fn next_consequence(&self) -> Option<Consequence> {
        self.consequences.borrow_mut().pop_front()
    }

    /// Whether something is still to be settled.
    pub(crate) fn has_consequences(&self) -> bool {
        !self.consequences.borrow().is_empty()
    }

    /// Has a value fetched from the media repository.
    pub(crate) fn want(&self, room: &RoomId, reference: &MediaReference) {
        self.wanted.borrow_mut().push((room.to_owned(), reference.clone()));
    }

    /// Takes the list of what has to be fetched.
    pub(crate) fn take_wanted(&self) -> Vec<(OwnedRoomId, MediaReference)> {
        self.wanted.take()
    }

    /// Notes that keys of past epochs were deleted.
    pub(crate) fn note_deleted_keys(&self) {
        self.keys_deleted.set(true);
    }

    /// Does a part of the work so that a failure undoes all of it, its updates and consequences
    /// included. OpenMLS wraps a failure of the store in errors of its own, or drops it; the error
    /// that comes out is the one that the store remembers.
    pub(crate) fn atomically<T, E: From<StoreError>>(
        &self,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let updates = self.updates.borrow().len();
        let consequences = self.consequences.borrow().len();
        // What was remembered before and did no harm says nothing about this part.
        drop(self.tx.take_failure());
        self.tx.savepoint(work).map_err(|error| {
            self.updates.borrow_mut().truncate(updates);
            self.consequences.borrow_mut().truncate(consequences);
            self.groups.forget();
            self.true_cause(error)
        })
    }

    /// What really went wrong: the failure that the store remembers, or else this error.
    pub(crate) fn true_cause<E: From<StoreError>>(&self, error: E) -> E {
        self.tx.take_failure().map_or(error, E::from)
    }

    /// Ends the turn, before its commit.
    pub(crate) fn end(self) -> Result<Ended, StoreError> {
        Ok(Ended {
            updates: self.updates.into_inner(),
            keys_deleted: self.keys_deleted.get(),
            groups: self.groups.end(self.tx)?,
        })
    }

    /// A provider that works in one namespace.
    pub(crate) fn provider(&self, namespace: Namespace) -> Provider<'a> {
        Provider::new(self.crypto, MlsStorage::new(self.tx, namespace))
    }

    /// A provider that reads through to the parent and writes into the child.
    pub(crate) fn child_provider(&self, parent: Namespace, child: Namespace) -> Provider<'a> {
        Provider::new(self.crypto, MlsStorage::child(self.tx, parent, child))
    }
}
