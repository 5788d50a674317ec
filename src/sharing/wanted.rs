//! Asking for history: a device that came in by itself was added by nobody, so nobody offers it
//! any.
//!
//! It asks one member after the other, until history comes. Which members, and in which order, the
//! hash of each device's name with the commit decides, so that no device is asked by everybody. All
//! devices of a room should have the same settings, so a device asks only where it would give.

use std::collections::BTreeMap;

use ruma::{
    EventId, OwnedEventId, OwnedRoomId, RoomId, api::client::to_device::send_event_to_device,
    events::ToDeviceEventType, serde::Raw, to_device::DeviceIdOrAllDevices,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::asked::HistoryRequest;
use crate::{
    epochs::graph,
    failure::Failure,
    history::archive,
    messages::SendError,
    protocol::{DeviceName, EpochId, credential, identifiers, write_content},
    requests::{self, BACKUP_SCOPE, Purpose},
    room::{self, Retention, membership},
    store::{Collection, StoreError},
    turn::Turn,
};

/// How many members are asked.
const MOST_ASKED: usize = 6;
/// How long the first has time to answer, in milliseconds; the next has twice as long.
const PATIENCE_MS: u64 = 10 * 60 * 1000;

/// History that this device wants.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Wanted {
    room_id: OwnedRoomId,
    /// The epoch that began when this device came in.
    epoch: EpochId,
    commit_event: OwnedEventId,
    /// How many members were asked.
    asked: usize,
    /// When the next is asked, in milliseconds since 1970.
    next_ms: u64,
}

const WANTED: Collection<Wanted> = Collection::new("wanted_history");

/// This device has come in by itself.
pub(crate) fn want(turn: &Turn<'_>, room: &RoomId, epoch: EpochId) -> Result<(), StoreError> {
    let known = graph::find(turn.tx, room, epoch)?;
    let Some(commit_event) = known.and_then(|known| known.commit_event) else { return Ok(()) };
    let (room_id, next_ms) = (room.to_owned(), turn.now_ms);
    let wanted = Wanted { room_id, epoch, commit_event, asked: 0, next_ms };
    WANTED.put(turn.tx, b"", room.as_bytes(), &wanted)
}

/// History has come.
pub(super) fn came(turn: &Turn<'_>, room: &RoomId) -> Result<(), StoreError> {
    WANTED.delete(turn.tx, b"", room.as_bytes())?;
    Ok(())
}

/// Asks whoever is next, in each room.
pub(crate) fn ask(turn: &Turn<'_>) -> Result<(), SendError> {
    for mut wanted in WANTED.list(turn.tx, b"")? {
        let longest_ms = PATIENCE_MS << MOST_ASKED;
        if turn.is_ahead(wanted.next_ms, longest_ms) {
            continue;
        }
        let Some(member) = next_member(turn, &wanted)? else {
            came(turn, &wanted.room_id)?;
            continue;
        };
        send(turn, &wanted, member)?;
        wanted.next_ms = turn.now_ms.saturating_add(PATIENCE_MS << wanted.asked);
        wanted.asked += 1;
        WANTED.put(turn.tx, b"", wanted.room_id.as_bytes(), &wanted)?;
    }
    Ok(())
}

/// The member to ask now; nobody, where there is nothing to be had or all were asked.
fn next_member(turn: &Turn<'_>, wanted: &Wanted) -> Result<Option<DeviceName>, Failure> {
    let room = room::load(turn.tx, &wanted.room_id)?;
    let settings = &room.settings;
    let is_of_use = settings.share_history && settings.history != Retention::ReadOnce;
    let epoch = graph::find(turn.tx, &room.id, wanted.epoch)?.filter(|epoch| epoch.full);
    if !is_of_use || !room.history_is_open() || epoch.is_none() || wanted.asked >= MOST_ASKED {
        return Ok(None);
    }
    let own = turn.identity.name();
    let mut ranked = Vec::new();
    for (_, leaf) in archive::leaves(turn.tx, &room.id, wanted.epoch)? {
        let name = leaf.credential()?.serialized_content().to_vec();
        let device = credential::parse(&name).map_err(Failure::from)?;
        if device != own && membership::is_joined(turn.tx, &room.id, &device.user_id)? {
            ranked.push((rank(&wanted.commit_event, &name), device));
        }
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    Ok(ranked.into_iter().nth(wanted.asked).map(|(_, device)| device))
}

/// The place of a member, by its credential's identity, among those who are asked for the history
/// before a commit: the smallest comes first.
pub(super) fn rank(commit_event: &EventId, identity: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(commit_event.as_bytes()).chain_update(identity).finalize().into()
}

fn send(turn: &Turn<'_>, wanted: &Wanted, member: DeviceName) -> Result<(), SendError> {
    let request = HistoryRequest {
        algorithm: identifiers::history_request_algorithm(turn.identity.ciphersuite()),
        room_id: wanted.room_id.clone(),
        sender: turn.identity.name(),
        commit_event: wanted.commit_event.clone(),
    };
    let content = Raw::from_json(write_content(&request, "the request for history")?);
    let device = DeviceIdOrAllDevices::DeviceId(member.device_id);
    let messages = BTreeMap::from([(member.user_id, BTreeMap::from([(device, content)]))]);
    let request = send_event_to_device::v3::Request::new_raw(
        ToDeviceEventType::RoomEncrypted,
        requests::transaction_id(),
        messages,
    );
    let purpose = Purpose::TellHistory { room_id: wanted.room_id.clone() };
    requests::enqueue(turn.tx, BACKUP_SCOPE, turn.now_ms, purpose, request)?;
    Ok(())
}
