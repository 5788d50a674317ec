//! The epoch graph of a room: which epochs are known, how they hang together, which one to send on.
//!
//! Each epoch is an OpenMLS group state in a storage namespace of its own, so a commit on any kept
//! epoch makes a child without disturbing its siblings. An epoch is *full* while it can process
//! commits and send, and *decrypt-only* after its OpenMLS state was dropped; its export (see
//! `history`) stays either way. The head is a pure function of the set of known epochs, never of
//! the order in which they arrived: the highest epoch number, and between equals the smallest id.

use openmls::{group::MlsGroup, prelude::GroupContext};
use ruma::{EventId, OwnedEventId, RoomId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tls_codec::Serialize as _;

use crate::{
    error::MlsError,
    history::archive,
    protocol::DeviceName,
    store::{Collection, Namespace, StoreError, Tx},
};

/// How many ancestors of the head keep their full state. They cost forward secrecy (whoever takes
/// the device can process commits on them), and buy that a late commit on one is not lost.
pub(crate) const KEPT_ANCESTORS: usize = 2;

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
        Ok(Self(Sha256::digest(bytes).into()))
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
        })
    }

    /// Whether this epoch comes before the other as the one to send on.
    pub(crate) fn precedes(&self, other: &Self) -> bool {
        (std::cmp::Reverse(self.number), self.id) < (std::cmp::Reverse(other.number), other.id)
    }
}

const EPOCHS: Collection<EpochRecord> = Collection::new("epoch");
const BY_EVENT: Collection<EpochId> = Collection::new("epoch_by_event");
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

/// Drops the full state of what lies more than [`KEPT_ANCESTORS`] behind the head.
pub(crate) fn prune(tx: &Tx<'_>, room: &RoomId, head: EpochId) -> Result<(), StoreError> {
    let mut next = get(tx, room, head)?.parent;
    let mut distance = 0;
    while let Some(id) = next {
        // A joiner does not know the ancestors of its first epoch.
        let Some(mut epoch) = find(tx, room, id)? else { break };
        distance += 1;
        if distance > KEPT_ANCESTORS {
            if !epoch.full {
                break;
            }
            make_decrypt_only(tx, room, &mut epoch)?;
        }
        next = epoch.parent;
    }
    Ok(())
}
