//! Asking for a ratchet tree that cannot be fetched.

use std::collections::BTreeMap;

use ruma::{
    EventId, OwnedEventId, OwnedRoomId, RoomId, UserId,
    api::client::to_device::send_event_to_device, events::ToDeviceEventType, serde::Raw,
    to_device::DeviceIdOrAllDevices,
};
use serde::{Deserialize, Serialize};

use super::content::{MOST_ASKED, TreeOffer, TreeRequest, check_sender, order};
use crate::{
    commits, devices,
    incoming::error::EventError,
    messages::SendError,
    protocol::{DeviceName, MediaReference, identifiers, write_content},
    requests::{self, BACKUP_SCOPE, Purpose},
    room::{self, membership},
    store::{Collection, StoreError},
    turn::Turn,
};

/// How long the first has time to answer, in milliseconds; the next has twice as long.
const PATIENCE_MS: u64 = 60 * 1000;

/// A tree that this device wants.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Wanted {
    room_id: OwnedRoomId,
    commit_event: OwnedEventId,
    maker: DeviceName,
    asked: Vec<DeviceName>,
    /// When the next is asked, in milliseconds since 1970.
    next_ms: u64,
    /// Where it is, by the word of one who was asked.
    offered: Option<MediaReference>,
}

/// One a room.
const WANTED: Collection<Wanted> = Collection::new("wanted_tree");

/// The tree of this commit cannot be had.
pub(crate) fn want(
    turn: &Turn<'_>,
    room: &RoomId,
    (commit, maker): (&EventId, &DeviceName),
) -> Result<(), StoreError> {
    let known = WANTED.get(turn.tx, b"", room.as_bytes())?;
    let wanted = match known.filter(|known| known.commit_event == commit) {
        // What was offered is not what it should be, or is lost as well.
        Some(known) => Wanted { offered: None, ..known },
        None => Wanted {
            room_id: room.to_owned(),
            commit_event: commit.to_owned(),
            maker: maker.clone(),
            asked: Vec::new(),
            next_ms: turn.now_ms,
            offered: None,
        },
    };
    WANTED.put(turn.tx, b"", room.as_bytes(), &wanted)
}

/// Where the tree of a commit is, if one who was asked has said so.
pub(crate) fn offered(
    turn: &Turn<'_>,
    room: &RoomId,
    commit: &EventId,
) -> Result<Option<MediaReference>, StoreError> {
    let wanted = WANTED.get(turn.tx, b"", room.as_bytes())?;
    Ok(wanted.filter(|wanted| wanted.commit_event == commit).and_then(|wanted| wanted.offered))
}

/// What was offered is not the tree of this commit: the next device is asked. Tells whether
/// anything was offered.
pub(crate) fn refuse(turn: &Turn<'_>, room: &RoomId, commit: &EventId) -> Result<bool, StoreError> {
    let wanted = WANTED.get(turn.tx, b"", room.as_bytes())?;
    let is_offered = |wanted: &Wanted| wanted.commit_event == commit && wanted.offered.is_some();
    let Some(wanted) = wanted.filter(is_offered) else { return Ok(false) };
    let wanted = Wanted { offered: None, next_ms: turn.now_ms, ..wanted };
    WANTED.put(turn.tx, b"", room.as_bytes(), &wanted)?;
    Ok(true)
}

/// Takes in an offer; tells whether it is one that this device waits for.
pub(crate) fn came(
    turn: &Turn<'_>,
    sender: &UserId,
    offer: &TreeOffer,
) -> Result<bool, EventError> {
    check_sender(&offer.sender, sender)?;
    let Some(mut wanted) = WANTED.get(turn.tx, b"", offer.room_id.as_bytes())? else {
        return Ok(false);
    };
    if wanted.commit_event != offer.commit_event
        || wanted.offered.is_some()
        || !wanted.asked.contains(&offer.sender)
        || !commits::is_media_url(&offer.ratchet_tree.url)
    {
        return Ok(false);
    }
    wanted.offered = Some(offer.ratchet_tree.clone());
    WANTED.put(turn.tx, b"", offer.room_id.as_bytes(), &wanted)?;
    Ok(true)
}

/// Asks whoever is next, in each room.
pub(crate) fn ask(turn: &Turn<'_>) -> Result<(), SendError> {
    for mut wanted in WANTED.list(turn.tx, b"")? {
        let room = room::load(turn.tx, &wanted.room_id)?;
        if room.standing.rejoin().is_none() {
            WANTED.delete(turn.tx, b"", room.id.as_bytes())?;
            continue;
        }
        let longest_ms = PATIENCE_MS << MOST_ASKED;
        if wanted.offered.is_some()
            || wanted.asked.len() >= MOST_ASKED
            || turn.is_ahead(wanted.next_ms, longest_ms)
        {
            continue;
        }
        let Some(device) = next(turn, &wanted)? else { continue };
        send(turn, &wanted, device.clone())?;
        wanted.next_ms = turn.now_ms.saturating_add(PATIENCE_MS << wanted.asked.len());
        wanted.asked.push(device);
        WANTED.put(turn.tx, b"", room.id.as_bytes(), &wanted)?;
    }
    Ok(())
}

/// The device to ask now.
fn next(turn: &Turn<'_>, wanted: &Wanted) -> Result<Option<DeviceName>, StoreError> {
    let room = room::load(turn.tx, &wanted.room_id)?;
    let own = turn.identity.name();
    let mut first: Option<([u8; 32], DeviceName)> = None;
    for user in membership::users_of_group(turn.tx, &room)? {
        if !membership::is_joined(turn.tx, &room.id, &user)? {
            continue;
        }
        for device in devices::eligible_devices(turn.tx, &user)? {
            let place = order(&wanted.commit_event, &wanted.maker, &device.name);
            if device.name != own
                && !wanted.asked.contains(&device.name)
                && first.as_ref().is_none_or(|(other, _)| place < *other)
            {
                first = Some((place, device.name));
            }
        }
    }
    Ok(first.map(|(_, device)| device))
}

fn send(turn: &Turn<'_>, wanted: &Wanted, to: DeviceName) -> Result<(), SendError> {
    let request = TreeRequest {
        algorithm: identifiers::tree_request_algorithm(turn.identity.ciphersuite()),
        room_id: wanted.room_id.clone(),
        sender: turn.identity.name(),
        commit_event: wanted.commit_event.clone(),
    };
    let content = Raw::from_json(write_content(&request, "the request for a ratchet tree")?);
    let device = DeviceIdOrAllDevices::DeviceId(to.device_id);
    let messages = BTreeMap::from([(to.user_id, BTreeMap::from([(device, content)]))]);
    let request = send_event_to_device::v3::Request::new_raw(
        ToDeviceEventType::RoomEncrypted,
        requests::transaction_id(),
        messages,
    );
    let purpose = Purpose::TellTree { room_id: wanted.room_id.clone() };
    requests::enqueue(turn.tx, BACKUP_SCOPE, turn.now_ms, purpose, request)?;
    Ok(())
}
