//! The epoch graph of a room: which epochs are known, and how they hang together.
//!
//! Each epoch is an OpenMLS group state in a storage namespace of its own, so a commit on any kept
//! epoch makes a child without disturbing its siblings. An epoch is *full* while it can process
//! commits and send, and *decrypt-only* after its OpenMLS state was dropped; its export (see
//! `history`) stays either way. Which of them to send on is `head`'s business.

use std::cmp::Reverse;

use openmls::{group::MlsGroup, prelude::GroupContext};
use ruma::{EventId, OwnedEventId, RoomId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tls_codec::Serialize as _;

use super::policy::Doubt;
use crate::{
    error::MlsError,
    history::{
        archive,
        restored::{ReadableEpoch, Source},
    },
    protocol::DeviceName,
    store::{Collection, Namespace, StoreError, Tx},
};

/// Names one epoch of one branch: SHA-256 of its GroupContext, which holds the group id, the epoch
/// number, the tree hash and the confirmed transcript hash. Every member can compute it, also one
/// that joined by Welcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct EpochId([u8; 32]);

impl EpochId {
    /// The id of the epoch that a group context describes.
    pub(crate) fn of(context: &GroupContext) -> Result<Self, MlsError> {
        let bytes = context
            .tls_serialize_detached()
            .map_err(|error| MlsError::internal("group_context", error))?;
        Ok(Self::of_context(&bytes))
    }

    /// The same of a GroupContext in its TLS form.
    pub(crate) fn of_context(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// An id that no group has.
    #[cfg(test)]
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// As a storage key.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// For a debug screen.
    pub(crate) fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// How far an epoch has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Status {
    /// Made by this device; the homeserver has not accepted its event yet.
    Staged,
    /// Part of the room.
    Accepted,
}

/// One epoch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EpochRecord {
    pub(crate) id: EpochId,
    pub(crate) number: u64,
    pub(crate) namespace: Namespace,
    pub(crate) creator: DeviceName,
    pub(crate) parent: Option<EpochId>,
    pub(crate) commit_event: Option<OwnedEventId>,
    pub(crate) status: Status,
    /// Whether the OpenMLS state is still there.
    pub(crate) full: bool,
    /// Whether an accepted commit on this epoch is known.
    pub(crate) has_child: bool,
    /// When this device learned of it, in milliseconds since 1970.
    pub(crate) since_ms: u64,
    /// Since when it is neither the head nor a tip, or no longer both, in milliseconds since 1970.
    #[serde(default)]
    pub(crate) superseded_ms: Option<u64>,
    /// Its first member joined by an external commit.
    #[serde(default)]
    pub(crate) external: bool,
    /// The tips that its commit says it supersedes, as far as they are known. For pictures only: a
    /// commit can claim what it likes.
    #[serde(default)]
    pub(crate) resolves: Vec<EpochId>,
    /// The commit of another epoch says that it supersedes this one.
    #[serde(default)]
    pub(crate) resolved: bool,
    /// What in its commit does not fit the Matrix room.
    #[serde(default)]
    pub(crate) doubts: Vec<Doubt>,
    /// The room's history visibility lets those read it who come later, from its beginning on.
    #[serde(default)]
    pub(crate) shared: bool,
    /// How many other members have not been seen on an epoch that comes before this one.
    #[serde(default)]
    pub(crate) behind: u32,
    /// Since when there are none, in milliseconds since 1970.
    #[serde(default)]
    pub(crate) left_ms: Option<u64>,
    /// How many devices are in it.
    #[serde(default)]
    pub(crate) members: u32,
}

impl EpochRecord {
    /// Describes the epoch a group has just reached.
    pub(crate) fn of(
        group: &MlsGroup,
        namespace: Namespace,
        creator: DeviceName,
        parent: Option<EpochId>,
        status: Status,
        now_ms: u64,
    ) -> Result<Self, MlsError> {
        Ok(Self {
            id: EpochId::of(group.public_group().group_context())?,
            number: group.epoch().as_u64(),
            namespace,
            creator,
            parent,
            commit_event: None,
            status,
            full: true,
            has_child: false,
            since_ms: now_ms,
            superseded_ms: None,
            external: false,
            resolves: Vec::new(),
            resolved: false,
            doubts: Vec::new(),
            shared: false,
            behind: 0,
            left_ms: None,
            members: u32::try_from(group.members().count()).unwrap_or(u32::MAX),
        })
    }

    /// The epoch as far as reading goes.
    pub(crate) fn readable(self) -> ReadableEpoch {
        ReadableEpoch {
            id: self.id,
            number: self.number,
            creator: self.creator,
            commit_event: self.commit_event,
            began_ms: self.since_ms,
            shared: self.shared,
            source: Source::Own,
        }
    }

    /// Where this epoch stands among others as the one to send on.
    pub(crate) fn rank(&self) -> Rank {
        Rank::of(self.number, self.id, self.commit_event.as_deref())
    }
}

/// The order of epochs by which the head is chosen; the smallest comes first: the highest number, and
/// between equals the smallest id. It depends on nothing but the epoch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Rank(Reverse<u64>, [u8; 32]);

impl Rank {
    /// The rank of an epoch, whether or not this device has it.
    pub(crate) fn of(number: u64, id: EpochId, _event: Option<&EventId>) -> Self {
        #[cfg(feature = "test-hooks")]
        if let (true, Some(event)) = (crate::store::hooks::ranks_by_event(), _event) {
            return Self(Reverse(number), Sha256::digest(event.as_bytes()).into());
        }
        Self(Reverse(number), id.0)
    }
}

const EPOCHS: Collection<EpochRecord> = Collection::new("epoch");
const BY_EVENT: Collection<EpochId> = Collection::new("epoch_by_event");
/// The best epoch on which each device has been seen, by credential.
pub(super) const SEEN: Collection<Rank> = Collection::new("seen_device");
const BY_NAME: Collection<Vec<EpochId>> = Collection::new("epoch_by_name");

fn name_key(number: u64, creator: &DeviceName) -> Vec<u8> {
    // The length of the user id keeps two names from running together.
    let user = creator.0.as_bytes();
    [&number.to_be_bytes()[..], &(user.len() as u64).to_be_bytes(), user, creator.1.as_bytes()]
        .concat()
}

/// Stores an epoch, new or changed.
pub(crate) fn put(tx: &Tx<'_>, room: &RoomId, epoch: &EpochRecord) -> Result<(), StoreError> {
    EPOCHS.put(tx, room.as_bytes(), epoch.id.as_bytes(), epoch)?;
    if let Some(event) = &epoch.commit_event {
        BY_EVENT.put(tx, room.as_bytes(), event.as_bytes(), &epoch.id)?;
    }
    let name = name_key(epoch.number, &epoch.creator);
    let mut named = BY_NAME.get(tx, room.as_bytes(), &name)?.unwrap_or_default();
    if !named.contains(&epoch.id) {
        named.push(epoch.id);
        BY_NAME.put(tx, room.as_bytes(), &name, &named)?;
    }
    Ok(())
}

/// The epoch with this id.
pub(crate) fn get(tx: &Tx<'_>, room: &RoomId, id: EpochId) -> Result<EpochRecord, StoreError> {
    EPOCHS
        .get(tx, room.as_bytes(), id.as_bytes())?
        .ok_or_else(|| StoreError::Damaged("an epoch that another row names is missing".into()))
}

/// The epoch with this id, if it is known.
pub(crate) fn find(
    tx: &Tx<'_>,
    room: &RoomId,
    id: EpochId,
) -> Result<Option<EpochRecord>, StoreError> {
    EPOCHS.get(tx, room.as_bytes(), id.as_bytes())
}

/// All epochs of a room, in the order in which they were learned of.
pub(crate) fn all(tx: &Tx<'_>, room: &RoomId) -> Result<Vec<EpochRecord>, StoreError> {
    EPOCHS.list(tx, room.as_bytes())
}

/// The epoch that the commit in this event made.
pub(crate) fn by_event(
    tx: &Tx<'_>,
    room: &RoomId,
    event: &EventId,
) -> Result<Option<EpochRecord>, StoreError> {
    match BY_EVENT.get(tx, room.as_bytes(), event.as_bytes())? {
        Some(id) => find(tx, room, id),
        None => Ok(None),
    }
}

/// The accepted epochs that fit what an event says of its epoch: by the commit's event id if that
/// is known, and else by number and creator, which a fork can give to several.
pub(crate) fn named(
    tx: &Tx<'_>,
    room: &RoomId,
    commit_event: &str,
    number: u64,
    creator: &DeviceName,
) -> Result<Vec<EpochRecord>, StoreError> {
    if let Ok(event) = <&EventId>::try_from(commit_event)
        && let Some(epoch) = by_event(tx, room, event)?
    {
        return Ok(if epoch.number == number { vec![epoch] } else { Vec::new() });
    }
    let ids = BY_NAME.get(tx, room.as_bytes(), &name_key(number, creator))?.unwrap_or_default();
    let mut epochs = Vec::new();
    for id in ids {
        if let Some(epoch) = find(tx, room, id)?
            && epoch.status == Status::Accepted
        {
            epochs.push(epoch);
        }
    }
    Ok(epochs)
}

/// The number of the first epoch this device was in.
pub(crate) fn first_number(tx: &Tx<'_>, room: &RoomId) -> Result<Option<u64>, StoreError> {
    Ok(all(tx, room)?
        .iter()
        .filter(|epoch| epoch.status == Status::Accepted)
        .map(|epoch| epoch.number)
        .min())
}

/// Forgets an epoch altogether: its record, its OpenMLS state and its export.
pub(crate) fn remove(tx: &Tx<'_>, room: &RoomId, epoch: &EpochRecord) -> Result<(), StoreError> {
    tx.delete_namespace(epoch.namespace)?;
    archive::remove(tx, room, epoch.id)?;
    EPOCHS.delete(tx, room.as_bytes(), epoch.id.as_bytes())?;
    if let Some(event) = &epoch.commit_event {
        BY_EVENT.delete(tx, room.as_bytes(), event.as_bytes())?;
    }
    let name = name_key(epoch.number, &epoch.creator);
    let mut named = BY_NAME.get(tx, room.as_bytes(), &name)?.unwrap_or_default();
    named.retain(|id| *id != epoch.id);
    if named.is_empty() {
        BY_NAME.delete(tx, room.as_bytes(), &name)?;
    } else {
        BY_NAME.put(tx, room.as_bytes(), &name, &named)?;
    }
    Ok(())
}

/// Drops an epoch's OpenMLS state: it can still decrypt, and do nothing else.
pub(crate) fn make_decrypt_only(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: &mut EpochRecord,
) -> Result<(), StoreError> {
    if epoch.full {
        tx.delete_namespace(epoch.namespace)?;
        epoch.full = false;
        put(tx, room, epoch)?;
    }
    Ok(())
}
