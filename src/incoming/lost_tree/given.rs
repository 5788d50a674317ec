//! Giving a ratchet tree to a device that cannot fetch it.

use std::collections::BTreeMap;

use ruma::{
    OwnedRoomId, UserId,
    api::client::{media::create_content, to_device::send_event_to_device},
    events::ToDeviceEventType,
    serde::Raw,
    to_device::DeviceIdOrAllDevices,
};
use serde::{Deserialize, Serialize};
use tls_codec::Serialize as _;

use super::content::{MOST_GIVING, TreeOffer, TreeRequest, check_sender, order};
use crate::{
    devices,
    epochs::{EpochRecord, Status, graph},
    failure::Failure,
    incoming::error::EventError,
    messages::SendError,
    mls::load_group,
    protocol::{DeviceName, MediaReference, credential, identifiers, write_content},
    requests::{self, BACKUP_SCOPE, GivenTree, Purpose},
    room::{self, membership},
    store::{Collection, StoreError},
    turn::Turn,
};

/// How long a request waits for what is to be known of who asks, and how long it counts, in
/// milliseconds.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// How many requests of all rooms are remembered.
const MOST_REMEMBERED: usize = 32;
/// How many of them may be of one user.
const MOST_OF_A_USER: usize = 4;
/// How many trees of one room are given in a day.
const MOST_GIVEN: usize = 4;

/// A request that waits or was answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Asked {
    request: TreeRequest,
    /// When it came or was answered, in milliseconds since 1970.
    since_ms: u64,
    is_answered: bool,
    /// This device has given the tree; else it is none of those that give.
    is_given: bool,
}

const ASKED: Collection<Asked> = Collection::new("asked_for_tree");

fn key(request: &TreeRequest) -> Vec<u8> {
    [request.room_id.as_bytes(), &credential::encode(&request.sender)].concat()
}

/// Takes in a request. It is answered with the next requests of this device.
pub(crate) fn asked(
    turn: &Turn<'_>,
    sender: &UserId,
    request: TreeRequest,
) -> Result<(), EventError> {
    check_sender(&request.sender, sender)?;
    if !membership::is_joined(turn.tx, &request.room_id, sender)? {
        return Ok(());
    }
    let key = key(&request);
    let all = ASKED.list(turn.tx, b"")?;
    let others: Vec<_> = all.iter().filter(|other| self::key(&other.request) != key).collect();
    let of_user = others.iter().filter(|other| other.request.sender.user_id == sender).count();
    let is_answered = all.len() > others.len()
        && all.iter().any(|other| self::key(&other.request) == key && other.is_answered);
    if others.len() >= MOST_REMEMBERED || of_user >= MOST_OF_A_USER || is_answered {
        return Ok(());
    }
    let asked = Asked { request, since_ms: turn.now_ms, is_answered: false, is_given: false };
    Ok(ASKED.put(turn.tx, b"", &key, &asked)?)
}

/// Answers what was asked.
pub(crate) fn answer(turn: &Turn<'_>) -> Result<(), Failure> {
    let all = ASKED.list(turn.tx, b"")?;
    let (old, all): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|asked| turn.has_passed(asked.since_ms, DAY_MS));
    for asked in old {
        ASKED.delete(turn.tx, b"", &key(&asked.request))?;
    }
    for asked in all.iter().filter(|asked| !asked.is_answered) {
        let TreeRequest { room_id, sender, .. } = &asked.request;
        let given = all.iter().filter(|other| other.is_given);
        if given.filter(|other| other.request.room_id == *room_id).count() >= MOST_GIVEN
            || !may_have(turn, room_id, sender)?
        {
            // It may look different when the device's list is known.
            continue;
        }
        let Some(epoch) = epoch_of(turn, &asked.request)? else { continue };
        // Whoever is out of the room does not know who is in it.
        if !room::load(turn.tx, room_id)?.kept.contains(&epoch.id) {
            continue;
        }
        let is_given = give(turn, &epoch, &asked.request)?;
        let since_ms = turn.now_ms;
        let asked = Asked { since_ms, is_answered: true, is_given, ..asked.clone() };
        ASKED.put(turn.tx, b"", &key(&asked.request), &asked)?;
        if is_given {
            // The others are looked at again next time.
            break;
        }
    }
    Ok(())
}

/// Whether a device could be in the room's group: then it may join, and needs the tree.
fn may_have(turn: &Turn<'_>, room: &OwnedRoomId, device: &DeviceName) -> Result<bool, StoreError> {
    if !membership::is_joined(turn.tx, room, &device.user_id)? {
        return Ok(false);
    }
    // Nothing may have been sent to the room since the device came, so nobody has looked.
    devices::track(turn.tx, [&*device.user_id])?;
    let eligible = devices::eligible_devices(turn.tx, &device.user_id)?;
    Ok(eligible.iter().any(|other| other.name == *device))
}

/// The epoch that a request names, if this device has its tree.
fn epoch_of(turn: &Turn<'_>, request: &TreeRequest) -> Result<Option<EpochRecord>, StoreError> {
    let epoch = graph::by_event(turn.tx, &request.room_id, &request.commit_event)?;
    Ok(epoch.filter(|epoch| epoch.status == Status::Accepted && epoch.full))
}

/// Uploads the tree of an epoch, if this device is one of those members that give; tells whether it
/// is.
fn give(turn: &Turn<'_>, epoch: &EpochRecord, request: &TreeRequest) -> Result<bool, Failure> {
    let provider = turn.provider(epoch.namespace);
    let group = load_group(&provider, &request.room_id, epoch.group)?;
    let own = order(&request.commit_event, &epoch.creator, &turn.identity.name());
    let mut before = 0;
    for member in group.members() {
        let device = credential::parse(member.credential.serialized_content());
        let device = device.map_err(|error| Failure::defect("credential", error))?;
        before += usize::from(order(&request.commit_event, &epoch.creator, &device) < own);
    }
    if before >= MOST_GIVING {
        return Ok(false);
    }
    let tree = group
        .export_ratchet_tree()
        .tls_serialize_detached()
        .map_err(|error| Failure::defect("ratchet_tree", error))?;
    let given = GivenTree {
        room_id: request.room_id.clone(),
        commit_event: request.commit_event.clone(),
        device: request.sender.clone(),
        reference: MediaReference::to(&tree),
    };
    let mut upload = create_content::v3::Request::new(tree);
    upload.content_type = Some("application/octet-stream".to_owned());
    requests::enqueue(turn.tx, BACKUP_SCOPE, turn.now_ms, Purpose::GiveTree(given), upload)?;
    Ok(true)
}

/// The tree is in the media repository: whoever asked is told.
pub(crate) fn uploaded(turn: &Turn<'_>, given: &GivenTree, url: &str) -> Result<(), SendError> {
    let offer = TreeOffer {
        algorithm: identifiers::tree_algorithm(turn.identity.ciphersuite()),
        room_id: given.room_id.clone(),
        sender: turn.identity.name(),
        commit_event: given.commit_event.clone(),
        ratchet_tree: MediaReference { url: url.to_owned(), ..given.reference.clone() },
    };
    let content = Raw::from_json(write_content(&offer, "the offer of a ratchet tree")?);
    let device = DeviceIdOrAllDevices::DeviceId(given.device.device_id.clone());
    let to = given.device.user_id.clone();
    let messages = BTreeMap::from([(to, BTreeMap::from([(device, content)]))]);
    let request = send_event_to_device::v3::Request::new_raw(
        ToDeviceEventType::RoomEncrypted,
        requests::transaction_id(),
        messages,
    );
    let purpose = Purpose::TellTree { room_id: given.room_id.clone() };
    requests::enqueue(turn.tx, BACKUP_SCOPE, turn.now_ms, purpose, request)?;
    Ok(())
}
