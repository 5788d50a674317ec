//! What belongs to a staged epoch besides its state, until the homeserver has answered.

use ruma::RoomId;
use serde::{Deserialize, Serialize};

use crate::{
    failure::Failure,
    mls::Removed,
    protocol::{CommitContent, DeviceName, EpochId},
    ratchet_trees,
    requests::{CommitPart, Purpose, REQUESTS},
    store::{Collection, StoreError, Tx},
};

/// A commit of this device's own that waits for the homeserver.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct StagedCommit {
    /// SHA-256 of the commit as sent, to know it when it comes back; nothing for an announcement.
    pub(super) commit_hash: Option<[u8; 32]>,
    /// The Welcome for the added devices.
    #[serde(with = "serde_bytes")]
    pub(super) welcome: Vec<u8>,
    pub(super) added: Vec<DeviceName>,
    /// The references of the added devices' key packages, in the same order.
    #[serde(default)]
    pub(super) references: Vec<serde_bytes::ByteBuf>,
    pub(super) removed: Vec<DeviceName>,
    /// Those of them whose leaves are impostors'.
    #[serde(default)]
    pub(super) removed_impostors: Vec<DeviceName>,
    /// The event to send; once it is queued, the parts of it that the Welcomes name as well.
    #[serde(default)]
    pub(super) content: Option<CommitContent>,
    /// Which of the event's parts still have no URL.
    #[serde(default)]
    pub(super) missing: Vec<CommitPart>,
    /// The ratchet tree that later commits can name, once it is published.
    #[serde(default)]
    pub(super) tree: Option<ratchet_trees::Base>,
    /// It renews this device's keys because the app asked for that.
    #[serde(default)]
    pub(super) rotates: bool,
    /// It renews this device's keys, for whatever reason.
    #[serde(default)]
    pub(super) renews: bool,
}

impl StagedCommit {
    /// Whom the commit removes.
    pub(super) fn removed(&self) -> Removed {
        Removed { devices: self.removed.clone(), impostors: self.removed_impostors.clone() }
    }
}

const STAGED: Collection<StagedCommit> = Collection::new("staged_commit");

pub(super) fn find(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: EpochId,
) -> Result<Option<StagedCommit>, StoreError> {
    STAGED.get(tx, room.as_bytes(), epoch.as_bytes())
}

pub(super) fn get(tx: &Tx<'_>, room: &RoomId, epoch: EpochId) -> Result<StagedCommit, Failure> {
    find(tx, room, epoch)?
        .ok_or_else(|| Failure::damaged("a staged epoch has lost what belongs to its commit"))
}

pub(super) fn put(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: EpochId,
    staged: &StagedCommit,
) -> Result<(), StoreError> {
    STAGED.put(tx, room.as_bytes(), epoch.as_bytes(), staged)
}

pub(super) fn delete(tx: &Tx<'_>, room: &RoomId, epoch: EpochId) -> Result<(), StoreError> {
    STAGED.delete(tx, room.as_bytes(), epoch.as_bytes()).map(drop)
}

/// SHA-256 of a staged epoch's commit; nothing for an announcement.
pub(crate) fn commit_hash_of_staged(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: EpochId,
) -> Result<Option<[u8; 32]>, Failure> {
    Ok(get(tx, room, epoch)?.commit_hash)
}

/// The queued requests of a staged epoch.
pub(crate) struct StagedRequests {
    /// Their ids, uploads included.
    pub(crate) ids: Vec<i64>,
    /// Whether the app has seen the event: then it may have reached the homeserver.
    pub(crate) is_out: bool,
}

/// The queued requests of a staged epoch.
pub(crate) fn staged_requests(
    tx: &Tx<'_>,
    room: &RoomId,
    id: EpochId,
) -> Result<StagedRequests, StoreError> {
    let mut requests = StagedRequests { ids: Vec::new(), is_out: false };
    for (request, queued) in REQUESTS.in_scope(tx, room.as_bytes())? {
        match &queued.purpose {
            Purpose::Commit { epoch, .. } if *epoch == id => {
                requests.ids.push(request);
                requests.is_out |= queued.handed_out;
            }
            Purpose::Upload { epoch, .. } if *epoch == id => requests.ids.push(request),
            _ => {}
        }
    }
    Ok(requests)
}
