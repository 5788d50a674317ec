//! Epochs that this device is not in and could join: known from the public group state that their
//! commits carry.
//!
//! They have two uses. A device without a group (a new one, or one that lost its state) joins the
//! best of them. A device with a group keeps those that come before its head: commits that it could
//! not follow, on a branch that everybody else will go on with. Their base was let go or was never
//! seen, or the commit did not apply. An epoch's id is computed from its GroupContext, which the
//! public group state holds, so such a branch ranks among a device's own epochs by the same rule.
//!
//! A joinable epoch is a claim of whoever sent it. The claim is verified when the epoch is joined
//! (`rejoin::external`), and forgotten when that fails. A commit that did not apply here most
//! likely applies nowhere, whatever its public group state says; its epoch counts only once another
//! user has been seen to go on with it.

use std::{cmp::Reverse, collections::BTreeSet};

use openmls::{
    framing::{MlsMessageBodyIn, ProtocolMessage},
    messages::group_info::VerifiableGroupInfo,
    prelude::{OpenMlsSignaturePublicKey, Verifiable as _},
};
use ruma::{EventId, OwnedEventId, RoomId, UserId};
use serde::{Deserialize, Serialize};

use super::{
    lineage::{self, Link},
    numbers::Reach,
    outsiders,
};
use crate::{
    devices,
    failure::Failure,
    mls::parse_message,
    protocol::{
        CommitContent, DeviceName, EpochId, GroupName, GroupRank, MediaReference, Payload, Rank,
        TreeDifference,
    },
    rejection::{InputError, Rejection},
    room::Room,
    store::{Collection, StoreError, Tx},
    turn::Turn,
};

/// How many are kept of one room.
const MOST: usize = 4;

/// An epoch that could be joined.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct JoinableEpoch {
    pub(crate) id: EpochId,
    pub(crate) number: u64,
    pub(crate) commit_event: OwnedEventId,
    pub(crate) creator: DeviceName,
    /// The event of its base's commit; nothing for an announcement, and in rows of earlier
    /// versions.
    #[serde(default)]
    base: Option<String>,
    info: Payload,
    /// Nobody but its maker has been seen to go on with it.
    #[serde(default)]
    unconfirmed: bool,
    /// The group that it is of.
    #[serde(default)]
    pub(crate) group: GroupName,
    #[serde(default)]
    group_rank: GroupRank,
    pub(crate) tree: Option<MediaReference>,
    #[serde(default)]
    pub(crate) tree_difference: Option<TreeDifference>,
}

/// The name is that of rows written by earlier versions.
const JOINABLE: Collection<JoinableEpoch> = Collection::new("foreign_epoch");

/// What speaks against the claims that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dispute {
    /// Nothing.
    None,
    /// One user has made all that leads to them.
    OneWord,
    /// They do not go back to one place, as far as this device has seen.
    Contradiction,
}

impl JoinableEpoch {
    /// Reads the public group state in a commit's event, and believes no more of it than that the
    /// device which the event names has signed it, where that device's key is known.
    pub(crate) fn read(
        turn: &Turn<'_>,
        room: &RoomId,
        event: &EventId,
        content: &CommitContent,
    ) -> Result<Self, InputError> {
        let info = parse_info(&content.public_group_state)?;
        let key = if content.sender == turn.identity.name() {
            Some(turn.identity.public_key().to_vec())
        } else {
            devices::known_key(turn.tx, &content.sender)?
        };
        if let Some(key) = key
            && !is_signed(turn, &info, key)?
        {
            return Err(Rejection::BadSignature.into());
        }
        let group = GroupName::of(room, info.group_id().as_slice())
            .ok_or(Rejection::OtherGroup("the state is another group's"))?;
        let number = info.epoch().as_u64();
        if !continues_commit(content, group, number)? {
            return Err(Rejection::EpochNumber.into());
        }
        Ok(Self {
            base: (!content.is_announcement()).then(|| content.commit_event.clone()),
            id: EpochId::of(info.group_context())?,
            number,
            commit_event: event.to_owned(),
            creator: content.sender.clone(),
            info: content.public_group_state.clone(),
            unconfirmed: false,
            group,
            group_rank: GroupRank::default(),
            tree: content.ratchet_tree.clone(),
            tree_difference: content.tree_difference.clone(),
        })
    }

    /// Whether this key has signed the public group state.
    pub(crate) fn is_signed_with(&self, turn: &Turn<'_>, key: Vec<u8>) -> Result<bool, InputError> {
        is_signed(turn, &self.info()?, key)
    }

    /// The same epoch, which does not count until somebody confirms it.
    pub(crate) fn unconfirmed(self) -> Self {
        Self { unconfirmed: true, ..self }
    }

    /// The GroupInfo, unverified.
    pub(crate) fn info(&self) -> Result<VerifiableGroupInfo, InputError> {
        parse_info(&self.info)
    }

    /// Where it stands among all epochs.
    pub(crate) fn rank(&self) -> Rank {
        Rank::of(self.group_rank, self.number, self.id, Some(&self.commit_event))
    }
}

fn is_signed(
    turn: &Turn<'_>,
    info: &VerifiableGroupInfo,
    key: Vec<u8>,
) -> Result<bool, InputError> {
    let scheme = turn.identity.ciphersuite().signature_algorithm();
    let key = OpenMlsSignaturePublicKey::new(key.into(), scheme)
        .map_err(|error| Failure::defect("signature_key", error))?;
    Ok(info.verify_no_out(turn.crypto, &key).is_ok())
}

/// Whether a number is the one after the epoch in which the commit beside it was sealed, which
/// stands in the clear there. A group begins with its founder alone and the number 0, or with all
/// who are to be in it and the number 1. One with which a room is started anew begins with 0.
fn continues_commit(
    content: &CommitContent,
    group: GroupName,
    number: u64,
) -> Result<bool, InputError> {
    if content.is_announcement() {
        return Ok(number == 0 || (number == 1 && group == GroupName::First));
    }
    let Payload::Inline(_) = &content.ciphertext else { return Ok(number > 0) };
    let before = match parse_message(&content.ciphertext.bytes()?)? {
        MlsMessageBodyIn::PrivateMessage(message) => ProtocolMessage::from(message).epoch(),
        MlsMessageBodyIn::PublicMessage(message) => ProtocolMessage::from(message).epoch(),
        _ => return Err(Rejection::NotACommit.into()),
    };
    Ok(before.as_u64().checked_add(1) == Some(number))
}

fn parse_info(payload: &Payload) -> Result<VerifiableGroupInfo, InputError> {
    match parse_message(&payload.bytes()?)? {
        MlsMessageBodyIn::GroupInfo(info) => Ok(info),
        _ => Err(Rejection::NoGroupInfo.into()),
    }
}

/// The joinable epochs of a room, first by rank first.
fn list(tx: &Tx<'_>, room: &RoomId) -> Result<Vec<JoinableEpoch>, StoreError> {
    let mut epochs = JOINABLE.list(tx, room.as_bytes())?;
    epochs.sort_by_key(JoinableEpoch::rank);
    Ok(epochs)
}

/// The first of them that counts, if it comes before what this device has reached.
pub(crate) fn best(
    tx: &Tx<'_>,
    room: &RoomId,
    reach: Option<&Reach>,
) -> Result<Option<JoinableEpoch>, StoreError> {
    let best = list(tx, room)?.into_iter().find(|epoch| !epoch.unconfirmed);
    Ok(best.filter(|best| reach.is_none_or(|reach| reach.is_behind(&best.rank()))))
}

/// The claims that count, for a device that knows no more of the room than these: the one of which
/// most is accounted for first.
pub(crate) fn by_lineage(tx: &Tx<'_>, room: &Room) -> Result<Vec<JoinableEpoch>, StoreError> {
    let mut epochs = Vec::new();
    for epoch in list(tx, &room.id)?.into_iter().filter(|epoch| !epoch.unconfirmed) {
        let lineage = lineage::of(tx, &room.id, &epoch.commit_event)?;
        let by_outsider = outsiders::is_claimant(tx, room, &epoch.creator)?;
        let doubts = (by_outsider, Reverse(lineage.is_anchored), Reverse(lineage.length));
        epochs.push(((doubts, epoch.rank()), epoch));
    }
    epochs.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(epochs.into_iter().map(|(_, epoch)| epoch).collect())
}

/// What speaks against the first of these claims. Nothing does if all go back to one place, and
/// that is the group's announcement, or two users have made what leads there. Where all were made
/// by devices that have no place in the room, they contradict the room.
pub(crate) fn dispute(tx: &Tx<'_>, room: &Room) -> Result<Dispute, StoreError> {
    let mut beginnings = BTreeSet::new();
    let mut is_vouched_for = true;
    let claims = by_lineage(tx, room)?;
    if let Some(first) = claims.first()
        && outsiders::is_claimant(tx, room, &first.creator)?
    {
        return Ok(Dispute::Contradiction);
    }
    for epoch in claims {
        let lineage = lineage::of(tx, &room.id, &epoch.commit_event)?;
        is_vouched_for &= lineage.is_anchored || lineage.makers > 1;
        beginnings.insert(lineage.begins_after);
    }
    Ok(match beginnings.len() {
        0 | 1 if is_vouched_for => Dispute::None,
        0 | 1 => Dispute::OneWord,
        _ => Dispute::Contradiction,
    })
}

/// Forgets what was noted of where claims come from.
pub(crate) fn forget_lineage(tx: &Tx<'_>, room: &RoomId) -> Result<(), StoreError> {
    lineage::forget(tx, room)
}

/// The maker of the unconfirmed epoch that a commit's event leads to.
pub(crate) fn unconfirmed_maker(
    tx: &Tx<'_>,
    room: &RoomId,
    commit_event: &str,
) -> Result<Option<DeviceName>, StoreError> {
    Ok(list(tx, room)?
        .into_iter()
        .find(|epoch| epoch.unconfirmed && epoch.commit_event == commit_event)
        .map(|epoch| epoch.creator))
}

/// A user was seen to go on with a commit; tells whether that makes its epoch count now.
pub(crate) fn confirm(
    tx: &Tx<'_>,
    room: &RoomId,
    commit_event: &str,
    user: &UserId,
) -> Result<bool, StoreError> {
    for mut epoch in list(tx, room)? {
        let is_another = epoch.creator.user_id != user;
        if epoch.unconfirmed && epoch.commit_event == commit_event && is_another {
            epoch.unconfirmed = false;
            JOINABLE.put(tx, room.as_bytes(), epoch.id.as_bytes(), &epoch)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Keeps one, if it is of the group in which the room goes on, comes before what this device has
/// reached, and is among the best; tells whether it comes before that.
pub(crate) fn note(
    tx: &Tx<'_>,
    room: &Room,
    mut epoch: JoinableEpoch,
    reach: Option<&Reach>,
) -> Result<bool, InputError> {
    let is_of_group = epoch.group == room.group();
    epoch.group_rank = room.rank_of(epoch.group);
    let room = &room.id;
    let link = Link {
        base: epoch.base.clone(),
        number: epoch.number,
        maker: epoch.creator.user_id.clone(),
    };
    lineage::note(tx, room, &epoch.commit_event, &link)?;
    if !is_of_group || reach.is_some_and(|reach| !reach.is_behind(&epoch.rank())) {
        return Ok(false);
    }
    // One of each maker: nobody can fill the list.
    for other in list(tx, room)?
        .into_iter()
        .filter(|other| other.creator.user_id == epoch.creator.user_id && other.id != epoch.id)
    {
        if other.rank() < epoch.rank() {
            return Ok(true);
        }
        forget(tx, room, other.id)?;
    }
    let known = JOINABLE.get(tx, room.as_bytes(), epoch.id.as_bytes())?;
    if known.is_none_or(|known| known.unconfirmed) {
        JOINABLE.put(tx, room.as_bytes(), epoch.id.as_bytes(), &epoch)?;
    }
    for surplus in list(tx, room)?.into_iter().skip(MOST) {
        forget(tx, room, surplus.id)?;
    }
    Ok(true)
}

/// How many epochs of a room this device could join.
pub(crate) fn count(tx: &Tx<'_>, room: &RoomId) -> Result<u64, StoreError> {
    JOINABLE.count(tx, room.as_bytes())
}

/// Forgets one that could not be joined, or need not be.
pub(crate) fn forget(tx: &Tx<'_>, room: &RoomId, id: EpochId) -> Result<(), StoreError> {
    JOINABLE.delete(tx, room.as_bytes(), id.as_bytes()).map(drop)
}

/// Forgets all: the room has been started anew.
pub(super) fn forget_all(tx: &Tx<'_>, room: &RoomId) -> Result<(), StoreError> {
    JOINABLE.delete_scope(tx, room.as_bytes())?;
    lineage::forget(tx, room)
}

/// Forgets those of devices that have no place in the room: a device that has a group has nothing
/// to look for there.
pub(crate) fn forget_of_outsiders(tx: &Tx<'_>, room: &Room) -> Result<(), StoreError> {
    for epoch in list(tx, &room.id)? {
        if outsiders::is_one_for_sure(tx, room, &epoch.creator)? {
            forget(tx, &room.id, epoch.id)?;
        }
    }
    Ok(())
}

/// Forgets those of a higher number than this. They were noted while this device was in no group,
/// and whoever joined one could let none of the others in.
pub(crate) fn forget_above(tx: &Tx<'_>, room: &RoomId, number: u64) -> Result<(), StoreError> {
    for epoch in list(tx, room)?.into_iter().filter(|epoch| epoch.number > number) {
        forget(tx, room, epoch.id)?;
    }
    Ok(())
}

/// Forgets those that do not come before what this device has reached.
pub(crate) fn forget_behind(tx: &Tx<'_>, room: &RoomId, reach: &Reach) -> Result<(), StoreError> {
    for epoch in list(tx, room)? {
        if !reach.is_behind(&epoch.rank()) {
            forget(tx, room, epoch.id)?;
        }
    }
    Ok(())
}
