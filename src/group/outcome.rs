//! What the homeserver's answer to a commit of ours means: it becomes the room's epoch, or it
//! never was.

use std::collections::BTreeMap;

use ruma::{
    OwnedEventId, RoomId,
    api::client::{state::send_state_event, to_device::send_event_to_device},
    events::{AnyToDeviceEventContent, StateEventType, ToDeviceEventType},
    serde::Raw,
    to_device::DeviceIdOrAllDevices,
};

use super::{
    EpochId, EpochRecord, Status, Turn,
    commit::{STAGED, StagedCommit, to_content, welcome_content},
    graph, rooms, timeline,
};
use crate::{
    error::MlsError,
    protocol::DeviceName,
    requests::{self, Purpose, REQUESTS},
    updates::Update,
};

/// The most that one `/sendToDevice` request carries, in bytes of Welcomes.
const WELCOME_BATCH: usize = 500_000;

/// The homeserver has accepted the event of a staged epoch.
pub(crate) fn accepted(
    turn: &Turn<'_>,
    room_id: &RoomId,
    id: EpochId,
    event: OwnedEventId,
) -> Result<(), MlsError> {
    let Some(mut epoch) = graph::find(turn.tx, room_id, id)? else {
        // Dropped meanwhile, because another commit came first and this one was not known to be out.
        return Ok(());
    };
    if epoch.status == Status::Accepted {
        return Ok(());
    }
    let staged = STAGED
        .get(turn.tx, room_id.as_bytes(), id.as_bytes())?
        .ok_or_else(|| MlsError::damaged("a staged epoch has lost what belongs to its commit"))?;
    STAGED.delete(turn.tx, room_id.as_bytes(), id.as_bytes())?;
    epoch.commit_event = Some(event.clone());
    queue_welcomes(turn, room_id, event, &staged)?;

    let mut room = rooms::get(turn.tx, room_id)?;
    room.staged = None;
    room.rotate = false;
    rooms::put(turn.tx, &room)?;
    enter(turn, room_id, epoch, &staged.added, &staged.removed)
}

/// Makes an epoch part of the room, and the head if it comes first.
pub(crate) fn enter(
    turn: &Turn<'_>,
    room_id: &RoomId,
    mut epoch: EpochRecord,
    added: &[DeviceName],
    removed: &[DeviceName],
) -> Result<(), MlsError> {
    epoch.status = Status::Accepted;
    epoch.since_ms = turn.now_ms;
    graph::put(turn.tx, room_id, &epoch)?;
    if let Some(parent) = epoch.parent
        && let Some(mut parent) = graph::find(turn.tx, room_id, parent)?
    {
        parent.has_child = true;
        graph::put(turn.tx, room_id, &parent)?;
    }

    let mut room = rooms::get(turn.tx, room_id)?;
    let is_head = match room.head {
        Some(head) => epoch.precedes(&graph::get(turn.tx, room_id, head)?),
        None => true,
    };
    let first = room.head.is_none();
    if is_head {
        room.head = Some(epoch.id);
        room.settled = None;
    }
    room.gone = false;
    room.refusals = 0;
    room.blocked_until_ms = None;
    rooms::put(turn.tx, &room)?;
    graph::prune(turn.tx, room_id, room.head.unwrap_or(epoch.id))?;

    let update = if first {
        Update::Joined { room_id: room_id.to_string(), epoch: epoch.number }
    } else {
        Update::EpochChanged {
            room_id: room_id.to_string(),
            epoch: epoch.number,
            added: added.iter().map(ToString::to_string).collect(),
            removed: removed.iter().map(ToString::to_string).collect(),
        }
    };
    turn.tell(update);
    timeline::stir(turn, room_id)
}

/// The homeserver has refused the event of a staged epoch, or it lost a race before it was sent.
/// The plan is made again from what is true then.
pub(crate) fn dropped(turn: &Turn<'_>, room_id: &RoomId, id: EpochId) -> Result<(), MlsError> {
    STAGED.delete(turn.tx, room_id.as_bytes(), id.as_bytes())?;
    if let Some(epoch) = graph::find(turn.tx, room_id, id)?
        && epoch.status == Status::Staged
    {
        graph::remove(turn.tx, room_id, &epoch)?;
    }
    let mut room = rooms::get(turn.tx, room_id)?;
    if room.staged == Some(id) {
        room.staged = None;
        room.settled = None;
        rooms::put(turn.tx, &room)?;
    }
    timeline::stir(turn, room_id)
}

/// The queued request of a room's staged epoch, and whether the app has seen it.
pub(crate) fn staged_request(
    turn: &Turn<'_>,
    room_id: &RoomId,
    id: EpochId,
) -> Result<Option<(i64, bool)>, MlsError> {
    for (request, queued) in REQUESTS.in_scope(turn.tx, room_id.as_bytes())? {
        if matches!(&queued.purpose, Purpose::Commit { epoch, .. } if *epoch == id) {
            return Ok(Some((request, queued.handed_out)));
        }
    }
    Ok(None)
}

/// Queues the state event that says the room is encrypted with MLS.
pub(crate) fn queue_room_encryption(
    turn: &Turn<'_>,
    room_id: &RoomId,
    algorithm: &str,
) -> Result<(), MlsError> {
    let content = to_content(&serde_json::json!({ "algorithm": algorithm }), "m.room.encryption")?;
    let request = send_state_event::v3::Request::new_raw(
        room_id.to_owned(),
        StateEventType::RoomEncryption,
        String::new(),
        Raw::from_json(content),
    );
    let purpose = Purpose::EnableEncryption { room_id: room_id.to_owned() };
    requests::enqueue(turn.tx, room_id.as_bytes(), turn.now_ms, purpose, request)?;
    Ok(())
}

fn queue_welcomes(
    turn: &Turn<'_>,
    room_id: &RoomId,
    event: OwnedEventId,
    staged: &StagedCommit,
) -> Result<(), MlsError> {
    if staged.added.is_empty() {
        return Ok(());
    }
    let content = to_content(&welcome_content(turn, room_id, event, staged), "the Welcome")?;
    let per_request = (WELCOME_BATCH / content.get().len()).max(1);
    for batch in staged.added.chunks(per_request) {
        let mut messages: BTreeMap<_, BTreeMap<_, Raw<AnyToDeviceEventContent>>> = BTreeMap::new();
        for DeviceName(user, device) in batch {
            messages.entry(user.clone()).or_default().insert(
                DeviceIdOrAllDevices::DeviceId(device.clone()),
                Raw::from_json(content.clone()),
            );
        }
        let request = send_event_to_device::v3::Request::new_raw(
            ToDeviceEventType::RoomEncrypted,
            requests::transaction_id(),
            messages,
        );
        let purpose = Purpose::Welcome { room_id: room_id.to_owned() };
        requests::enqueue(turn.tx, room_id.as_bytes(), turn.now_ms, purpose, request)?;
    }
    Ok(())
}
