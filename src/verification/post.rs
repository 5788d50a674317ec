//! How the events of a verification get to the other side: as requests of the queue, one after the
//! other, so that none overtakes an earlier one.

use std::collections::BTreeMap;

use ruma::{
    OwnedDeviceId, RoomId, UserId,
    api::client::{message::send_message_event, to_device::send_event_to_device},
    events::{MessageLikeEventType, ToDeviceEventType},
    serde::Raw,
    to_device::DeviceIdOrAllDevices,
};
use serde_json::{json, value::RawValue};

use super::{
    content::Kind,
    flow::{Flow, Parcel, Place, To},
};
use crate::{
    devices,
    failure::Failure,
    requests::{self, Purpose, REQUESTS},
    room,
    store::{StoreError, Tx},
    turn::Turn,
};

/// The type of the event by which somebody asks in a room.
pub(super) const ROOM_MESSAGE: &str = "m.room.message";

/// The scope of these requests.
const SCOPE: &[u8] = b"verification";
/// With how many of these requests waiting no more cancellations of unknown transactions are sent.
const MOST_WAITING: usize = 32;

/// Queues the next event of the outbox, unless one is on its way.
pub(super) fn send_next(turn: &Turn<'_>, flow: &mut Flow) -> Result<(), Failure> {
    if flow.is_sending {
        return Ok(());
    }
    let Some(parcel) = flow.outbox.first() else { return Ok(()) };
    let purpose = Purpose::Verification { verification: flow.id.clone() };
    match &flow.place {
        Place::Devices { .. } => queue_to_devices(turn, &flow.user_id, parcel, purpose)?,
        // What refers to the request waits until the homeserver has named it.
        Place::Room { request: None, .. } if !is_request(parcel) => return Ok(()),
        // The engine seals it.
        Place::Room { room_id, .. } if uses_mls(turn.tx, room_id)? => return Ok(()),
        Place::Room { room_id, .. } => {
            queue_to_room(turn, room_id, &parcel.event_type, &parcel.content, purpose)?;
        }
    }
    flow.is_sending = true;
    Ok(())
}

pub(super) fn is_request(parcel: &Parcel) -> bool {
    parcel.event_type == ROOM_MESSAGE
}

pub(super) fn uses_mls(tx: &Tx<'_>, room: &RoomId) -> Result<bool, StoreError> {
    Ok(room::find(tx, room)?.is_some_and(|room| room.uses_mls()))
}

pub(super) fn queue_to_room(
    turn: &Turn<'_>,
    room: &RoomId,
    event_type: &str,
    content: &str,
    purpose: Purpose,
) -> Result<(), Failure> {
    let content = RawValue::from_string(content.to_owned())
        .map_err(|error| Failure::defect("verification", error))?;
    let request = send_message_event::v3::Request::new_raw(
        room.to_owned(),
        requests::transaction_id(),
        MessageLikeEventType::from(event_type),
        Raw::from_json(content),
    );
    requests::enqueue(turn.tx, SCOPE, turn.now_ms, purpose, request)?;
    Ok(())
}

fn queue_to_devices(
    turn: &Turn<'_>,
    user: &UserId,
    parcel: &Parcel,
    purpose: Purpose,
) -> Result<(), Failure> {
    let content = RawValue::from_string(parcel.content.clone())
        .map_err(|error| Failure::defect("verification", error))?;
    let content = || Raw::from_json(content.clone());
    let devices: BTreeMap<_, _> = match &parcel.to {
        To::All => [(DeviceIdOrAllDevices::AllDevices, content())].into(),
        To::Devices(devices) => devices
            .iter()
            .map(|device| (DeviceIdOrAllDevices::DeviceId(device.clone()), content()))
            .collect(),
    };
    let request = send_event_to_device::v3::Request::new_raw(
        ToDeviceEventType::from(parcel.event_type.as_str()),
        requests::transaction_id(),
        [(user.to_owned(), devices)].into(),
    );
    requests::enqueue(turn.tx, SCOPE, turn.now_ms, purpose, request)?;
    Ok(())
}

/// Asks the homeserver for the other user's keys, and for this user's own.
pub(super) fn ask_for_keys(turn: &Turn<'_>, flow: &Flow) -> Result<(), Failure> {
    let own = turn.identity.name().user_id;
    // What is signed of an own device is the object that the homeserver lists of it.
    devices::track(turn.tx, [&*own])?;
    let (query, request) = devices::published_request(turn.tx, [&*flow.user_id, &*own])?;
    let purpose = Purpose::VerificationKeys { verification: flow.id.clone(), query };
    requests::enqueue(turn.tx, SCOPE, turn.now_ms, purpose, request)?;
    Ok(())
}

/// Tells a user's devices that this one knows nothing of a transaction, unless much waits to be
/// sent.
pub(super) fn cancel_unknown(
    turn: &Turn<'_>,
    user: &UserId,
    device: Option<OwnedDeviceId>,
    transaction: &str,
    (code, reason): (&str, &str),
) -> Result<(), Failure> {
    if REQUESTS.in_scope(turn.tx, SCOPE)?.len() >= MOST_WAITING {
        return Ok(());
    }
    let content = json!({ "transaction_id": transaction, "code": code, "reason": reason });
    let parcel = Parcel {
        event_type: Kind::Cancel.event_type().to_owned(),
        content: content.to_string(),
        to: device.map_or(To::All, |device| To::Devices(vec![device])),
    };
    let purpose = Purpose::Verification { verification: String::new() };
    queue_to_devices(turn, user, &parcel, purpose)
}
