//! Epochs that this device is not in, but could join: known from the public group state that their
//! commits carry.
//!
//! Two uses. A device without a group (a new one, or one that lost its state) joins the best of them. A
//! device with a group keeps only those that come before its head: commits that it could not follow (their
//! base was let go, was never seen, or the commit did not apply), on a branch that everybody else will go
//! on with. Since an epoch's id is computed from its GroupContext, which the public group state holds,
//! such a branch ranks among one's own epochs by the same rule.
//!
//! What stands here is a claim of whoever sent it. It is verified when it is joined by (`external`), and
//! forgotten when that fails. A commit that did not apply here is most likely one that applies nowhere,
//! whatever its public group state says; it counts only once another user has been seen to go on with it.

use openmls::{
    framing::MlsMessageBodyIn,
    messages::group_info::VerifiableGroupInfo,
    prelude::{OpenMlsSignaturePublicKey, Verifiable as _},
};
use ruma::{EventId, OwnedEventId, RoomId, UserId};
use serde::{Deserialize, Serialize};

use super::{EpochId, Turn, graph::Rank, turn::parse_mls};
use crate::{
    devices,
    error::MlsError,
    protocol::{CommitContent, DeviceName, MediaReference, Payload},
    store::{Collection, StoreError, Tx},
};

/// How many are kept of one room.
const MOST: usize = 4;
/// No group that grows by honest commits gets here; a claim beyond it is made up.
const MOST_EPOCHS: u64 = 1 << 48;

/// An epoch that could be joined.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ForeignEpoch {
    pub(crate) id: EpochId,
    pub(crate) number: u64,
    pub(crate) commit_event: OwnedEventId,
    pub(crate) creator: DeviceName,
    info: Payload,
    /// Nobody but its maker has been seen to go on with it.
    #[serde(default)]
    unconfirmed: bool,
    pub(crate) tree: Option<MediaReference>,
}

const FOREIGN: Collection<ForeignEpoch> = Collection::new("foreign_epoch");

impl ForeignEpoch {
    /// Reads the public group state in a commit's event, and believes no more of it than that the device
    /// which the event names has signed it, where that device's key is known.
    pub(crate) fn read(
        turn: &Turn<'_>,
        room: &RoomId,
        event: &EventId,
        content: &CommitContent,
    ) -> Result<Self, MlsError> {
        let info = parse_info(&content.public_group_state)?;
        let DeviceName(user, device) = &content.sender;
        let key = if content.sender == turn.identity.name() {
            Some(turn.identity.public_key().to_vec())
        } else {
            devices::device(turn.tx, user, device)?.map(|device| device.credential_key)
        };
        if let Some(key) = key {
            let scheme = turn.identity.ciphersuite().signature_algorithm();
            let key = OpenMlsSignaturePublicKey::new(key.into(), scheme)
                .map_err(|error| MlsError::internal("signature_key", error))?;
            info.verify_no_out(turn.crypto, &key).map_err(|_| {
                MlsError::rejected(
                    "bad_signature",
                    "the public group state is not signed by the device that the event names",
                )
            })?;
        }
        if info.group_id().as_slice() != room.as_bytes() {
            return Err(MlsError::rejected("other_group", "the state is another group's"));
        }
        let number = info.epoch().as_u64();
        if number > MOST_EPOCHS {
            return Err(MlsError::rejected("bad_epoch", "the epoch's number is beyond all reason"));
        }
        Ok(Self {
            id: EpochId::of(info.group_context())?,
            number,
            commit_event: event.to_owned(),
            creator: content.sender.clone(),
            info: content.public_group_state.clone(),
            unconfirmed: false,
            tree: content.ratchet_tree.clone(),
        })
    }

    /// The GroupInfo, unverified.
    pub(crate) fn info(&self) -> Result<VerifiableGroupInfo, MlsError> {
        parse_info(&self.info)
    }

    /// Where it stands among all epochs.
    pub(crate) fn rank(&self) -> Rank {
        Rank::of(self.number, self.id, Some(&self.commit_event))
    }
}

fn parse_info(payload: &Payload) -> Result<VerifiableGroupInfo, MlsError> {
    match parse_mls(&payload.bytes()?)? {
        MlsMessageBodyIn::GroupInfo(info) => Ok(info),
        _ => Err(MlsError::rejected("no_group_info", "the public group state is no GroupInfo")),
    }
}

/// The foreign epochs of a room, best first.
fn list(tx: &Tx<'_>, room: &RoomId) -> Result<Vec<ForeignEpoch>, StoreError> {
    let mut epochs = FOREIGN.list(tx, room.as_bytes())?;
    epochs.sort_by_key(ForeignEpoch::rank);
    Ok(epochs)
}

/// The best of them, if it comes before the head.
pub(crate) fn best(
    turn: &Turn<'_>,
    room: &RoomId,
    head: Option<&Rank>,
) -> Result<Option<ForeignEpoch>, MlsError> {
    let best = list(turn.tx, room)?.into_iter().find(|epoch| !epoch.unconfirmed);
    Ok(best.filter(|best| head.is_none_or(|head| best.rank() < *head)))
}

impl ForeignEpoch {
    /// It does not count until somebody confirms it.
    pub(crate) fn unconfirmed(self) -> Self {
        Self { unconfirmed: true, ..self }
    }
}

/// The maker of the unconfirmed epoch that a commit's event leads to.
pub(crate) fn unconfirmed_maker(
    turn: &Turn<'_>,
    room: &RoomId,
    commit_event: &str,
) -> Result<Option<DeviceName>, MlsError> {
    Ok(list(turn.tx, room)?
        .into_iter()
        .find(|epoch| epoch.unconfirmed && epoch.commit_event == commit_event)
        .map(|epoch| epoch.creator))
}

/// A user was seen to go on with a commit; tells whether that makes it count now.
pub(crate) fn confirm(
    turn: &Turn<'_>,
    room: &RoomId,
    commit_event: &str,
    user: &UserId,
) -> Result<bool, MlsError> {
    for mut epoch in list(turn.tx, room)? {
        if epoch.unconfirmed && epoch.commit_event == commit_event && epoch.creator.0 != user {
            epoch.unconfirmed = false;
            FOREIGN.put(turn.tx, room.as_bytes(), epoch.id.as_bytes(), &epoch)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Keeps one, if it comes before the head and is among the best; tells whether it does the former.
pub(crate) fn note(
    turn: &Turn<'_>,
    room: &RoomId,
    epoch: ForeignEpoch,
    head: Option<&Rank>,
) -> Result<bool, MlsError> {
    if head.is_some_and(|head| *head <= epoch.rank()) {
        return Ok(false);
    }
    let known = FOREIGN.get(turn.tx, room.as_bytes(), epoch.id.as_bytes())?;
    if known.is_none_or(|known| known.unconfirmed) {
        FOREIGN.put(turn.tx, room.as_bytes(), epoch.id.as_bytes(), &epoch)?;
    }
    for surplus in list(turn.tx, room)?.into_iter().skip(MOST) {
        FOREIGN.delete(turn.tx, room.as_bytes(), surplus.id.as_bytes())?;
    }
    Ok(true)
}

/// Forgets one that could not be joined by, or need not.
pub(crate) fn forget(turn: &Turn<'_>, room: &RoomId, id: EpochId) -> Result<(), MlsError> {
    Ok(FOREIGN.delete(turn.tx, room.as_bytes(), id.as_bytes()).map(drop)?)
}

/// Forgets those that no longer come before the head.
pub(crate) fn forget_behind(turn: &Turn<'_>, room: &RoomId, head: &Rank) -> Result<(), MlsError> {
    for epoch in list(turn.tx, room)? {
        if *head <= epoch.rank() {
            forget(turn, room, epoch.id)?;
        }
    }
    Ok(())
}
