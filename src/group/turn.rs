//! What one transaction has at hand: the store, this device, the clock, and the updates to tell.

use std::cell::{Cell, RefCell};

use crate::identity::Crypto;
use openmls::{
    framing::{MlsMessageBodyIn, MlsMessageIn},
    group::{
        MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY, MlsGroup, MlsGroupCreateConfig, MlsGroupJoinConfig,
    },
    prelude::{GroupId, SenderRatchetConfiguration, tls_codec::Deserialize as _},
};
use openmls_traits::OpenMlsProvider;
use ruma::{OwnedRoomId, RoomId};

use super::{EpochRecord, retention::Retention};
use crate::{
    error::MlsError,
    history::{self, archive},
    identity::{Identity, Provider},
    protocol::MediaReference,
    store::{MlsStorage, Namespace, Tx},
    updates::Update,
};

/// How many earlier messages of one sender can still come.
const OUT_OF_ORDER: u32 = 128;
/// How many messages of one sender can be missing.
const FAR_AHEAD: u32 = 1_000;

/// One transaction's worth of work.
pub(crate) struct Turn<'a> {
    pub(crate) tx: &'a Tx<'a>,
    pub(crate) identity: &'a Identity,
    pub(crate) crypto: &'a Crypto,
    pub(crate) now_ms: u64,
    updates: RefCell<Vec<Update>>,
    /// What has to be fetched from the media repository. Kept when the part that asked is undone.
    wanted: RefCell<Vec<(OwnedRoomId, MediaReference)>>,
    /// Keys of past epochs were deleted.
    keys_deleted: Cell<bool>,
}

impl<'a> Turn<'a> {
    /// Starts a turn inside an open transaction.
    pub(crate) fn new(
        tx: &'a Tx<'a>,
        identity: &'a Identity,
        crypto: &'a Crypto,
        now_ms: u64,
    ) -> Self {
        Self {
            tx,
            identity,
            crypto,
            now_ms,
            updates: RefCell::default(),
            wanted: RefCell::default(),
            keys_deleted: Cell::default(),
        }
    }

    /// Tells an update, once the transaction is committed.
    pub(crate) fn tell(&self, update: Update) {
        self.updates.borrow_mut().push(update);
    }

    /// Has a value fetched from the media repository.
    pub(crate) fn want(&self, room: &RoomId, reference: &MediaReference) {
        self.wanted.borrow_mut().push((room.to_owned(), reference.clone()));
    }

    /// What has to be fetched.
    pub(crate) fn take_wanted(&self) -> Vec<(OwnedRoomId, MediaReference)> {
        self.wanted.take()
    }

    /// Keys of past epochs were deleted: they must not linger in memory or in the store's log either.
    pub(crate) fn note_deleted_keys(&self) {
        self.keys_deleted.set(true);
    }

    /// Does a part of the work that is undone as a whole if it fails, its updates included.
    pub(crate) fn part<T>(
        &self,
        work: impl FnOnce() -> Result<T, MlsError>,
    ) -> Result<T, MlsError> {
        let told = self.updates.borrow().len();
        // What was remembered before and did no harm says nothing about this part.
        drop(self.tx.take_failure());
        self.tx.savepoint(work).map_err(|error| {
            self.updates.borrow_mut().truncate(told);
            self.true_cause(error)
        })
    }

    /// OpenMLS wraps a failure of the store in errors of its own, or drops it: what really went
    /// wrong is what the store remembers.
    pub(crate) fn true_cause(&self, error: MlsError) -> MlsError {
        self.tx.take_failure().map(MlsError::from).unwrap_or(error)
    }

    /// The updates told so far, and whether keys of past epochs were deleted.
    pub(crate) fn into_updates(self) -> (Vec<Update>, bool) {
        (self.updates.into_inner(), self.keys_deleted.get())
    }

    /// A provider that works in one namespace.
    pub(crate) fn provider(&self, namespace: Namespace) -> Provider<'a> {
        Provider::new(self.crypto, MlsStorage::new(self.tx, namespace))
    }

    /// A provider that reads through to the parent and writes into the child.
    pub(crate) fn child_provider(&self, parent: Namespace, child: Namespace) -> Provider<'a> {
        Provider::new(self.crypto, MlsStorage::child(self.tx, parent, child))
    }

    /// Keeps what it takes to read the epoch that a group has just entered, or, where its messages are read
    /// once, who is in it: must be called before any of its ratchets moves.
    pub(crate) fn keep_export(
        &self,
        room: &RoomId,
        epoch: &EpochRecord,
        group: &MlsGroup,
        provider: &Provider<'_>,
        history: Retention,
    ) -> Result<(), MlsError> {
        if history == Retention::ReadOnce {
            archive::keep(self.tx, room, epoch.id, None, group.members())?;
            return Ok(());
        }
        let secrets = provider
            .storage()
            .message_secrets_cbor(group.group_id())?
            .ok_or_else(|| MlsError::internal("message_secrets", "OpenMLS wrote none"))?;
        let keys = history::capture(&secrets)?;
        archive::keep(self.tx, room, epoch.id, Some(keys), group.members())?;
        Ok(())
    }
}

/// The MLS group of a room has the room's id for its own.
pub(crate) fn group_id(room: &RoomId) -> GroupId {
    GroupId::from_slice(room.as_bytes())
}

/// How this library's groups are made. Old epochs are kept as exports of our own, so OpenMLS keeps
/// none; commits are sent as PrivateMessage, and PublicMessage is read too, as external commits
/// are always public (RFC 9420, section 12.4.3.2).
pub(crate) fn create_config(identity: &Identity) -> MlsGroupCreateConfig {
    MlsGroupCreateConfig::builder()
        .ciphersuite(identity.ciphersuite())
        .wire_format_policy(MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY)
        .use_ratchet_tree_extension(true)
        .sender_ratchet_configuration(ratchet_config())
        .max_past_epochs(0)
        .capabilities(identity.capabilities())
        .build()
}

/// The same for groups that this device joins.
pub(crate) fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY)
        .use_ratchet_tree_extension(true)
        .sender_ratchet_configuration(ratchet_config())
        .max_past_epochs(0)
        .build()
}

/// How far messages that are read once can come out of order: a timeline is filled in from the end.
fn ratchet_config() -> SenderRatchetConfiguration {
    SenderRatchetConfiguration::new(OUT_OF_ORDER, FAR_AHEAD)
}

/// Loads the group that lives in a provider's namespace.
pub(crate) fn load_group(provider: &Provider<'_>, room: &RoomId) -> Result<MlsGroup, MlsError> {
    MlsGroup::load(provider.storage(), &group_id(room))?
        .ok_or_else(|| MlsError::damaged("the state of an epoch is missing"))
}

/// Parses one MLSMessage and nothing behind it. (`DeserializeBytes` would do the same, but asserts in
/// debug builds that input does not end early.)
pub(crate) fn parse_mls(bytes: &[u8]) -> Result<MlsMessageBodyIn, MlsError> {
    MlsMessageIn::tls_deserialize_exact(bytes).map(MlsMessageIn::extract).map_err(|error| {
        MlsError::rejected("malformed_mls", format!("not an MLS message: {error}"))
    })
}
