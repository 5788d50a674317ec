//! The key packages of devices that are to be added to a room's group: claimed, kept until a commit
//! uses them, checked again then.

use openmls::prelude::KeyPackage;
use ruma::RoomId;
use serde::{Deserialize, Serialize};

use crate::{
    devices::{self, Device, DevicesError},
    exported::Update,
    failure::{EndsTurn, Failure},
    identity,
    protocol::{DeviceName, credential},
    requests::{self, Purpose, REQUESTS},
    store::{Collection, StoreError},
    turn::Turn,
};

/// How long a device without a usable key package is left alone, in milliseconds.
pub(super) const RETRY_UNREACHABLE_MS: u64 = 10 * 60 * 1000;

/// A key package that was claimed for a room and not yet used.
#[derive(Clone, Serialize, Deserialize)]
struct ClaimedKeyPackage {
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
}

const CLAIMED: Collection<ClaimedKeyPackage> = Collection::new("claimed_key_package");
/// Until when a device is left alone, in milliseconds since 1970.
const UNREACHABLE: Collection<u64> = Collection::new("unreachable_device");

/// The devices for which a key package has yet to be claimed.
pub(super) fn still_to_claim(
    turn: &Turn<'_>,
    room: &RoomId,
    add: &[Device],
) -> Result<Vec<DeviceName>, StoreError> {
    let mut missing = Vec::new();
    for device in add {
        let key = credential::encode(&device.name);
        let retry_ms = UNREACHABLE.get(turn.tx, room.as_bytes(), &key)?.unwrap_or(0);
        let is_claimed = CLAIMED.get(turn.tx, room.as_bytes(), &key)?.is_some();
        if !is_claimed && retry_ms <= turn.now_ms {
            missing.push(device.name.clone());
        }
    }
    Ok(missing)
}

/// Queues `/keys/claim` for these devices; one request a room at a time.
pub(super) fn claim(
    turn: &Turn<'_>,
    room: &RoomId,
    devices: Vec<DeviceName>,
) -> Result<i64, Failure> {
    for (id, queued) in REQUESTS.in_scope(turn.tx, room.as_bytes())? {
        if matches!(&queued.purpose, Purpose::ClaimKeys { .. }) {
            return Ok(id);
        }
    }
    let request = devices::claim_request(&devices, turn.identity.ciphersuite());
    let purpose = Purpose::ClaimKeys { room_id: room.to_owned(), devices };
    requests::enqueue(turn.tx, room.as_bytes(), turn.now_ms, purpose, request)
}

/// Keeps what `/keys/claim` answered. A device that got nothing usable is left alone for a while.
pub(crate) fn claimed(
    turn: &Turn<'_>,
    room: &RoomId,
    asked: &[DeviceName],
    body: &[u8],
) -> Result<(), DevicesError> {
    let mut answers = devices::parse_claim_response(body, turn.identity.ciphersuite())?;
    for name in asked {
        let key = credential::encode(name);
        let device = match devices::device(turn.tx, name) {
            // A damaged row costs that device alone.
            Err(error) if !error.ends_turn() => None,
            device => device?,
        };
        let bytes = match (answers.remove(name), device) {
            (Some(bytes), Some(device)) if checked(turn, &device, &bytes).is_some() => Some(bytes),
            _ => None,
        };
        match bytes {
            Some(bytes) => {
                UNREACHABLE.delete(turn.tx, room.as_bytes(), &key)?;
                CLAIMED.put(turn.tx, room.as_bytes(), &key, &ClaimedKeyPackage { bytes })?;
            }
            None => {
                // The device may be gone by now.
                devices::mark_outdated(turn.tx, [&*name.user_id])?;
                leave_alone(turn, room, name)?;
            }
        }
    }
    Ok(())
}

/// `/keys/claim` was refused for good: the devices it asked for are left alone for a while.
pub(crate) fn claim_refused(
    turn: &Turn<'_>,
    room: &RoomId,
    asked: &[DeviceName],
) -> Result<(), StoreError> {
    asked.iter().try_for_each(|name| leave_alone(turn, room, name))
}

/// Forgets the devices that were about to be added.
pub(crate) fn forget_candidates(turn: &Turn<'_>, room: &RoomId) -> Result<(), StoreError> {
    CLAIMED.delete_scope(turn.tx, room.as_bytes())?;
    UNREACHABLE.delete_scope(turn.tx, room.as_bytes())?;
    Ok(())
}

fn leave_alone(turn: &Turn<'_>, room: &RoomId, name: &DeviceName) -> Result<(), StoreError> {
    let retry_ms = turn.now_ms.saturating_add(RETRY_UNREACHABLE_MS);
    UNREACHABLE.put(turn.tx, room.as_bytes(), &credential::encode(name), &retry_ms)?;
    turn.tell(Update::DeviceUnreachable {
        room_id: room.to_string(),
        user_id: name.user_id.to_string(),
        device_id: name.device_id.to_string(),
    });
    Ok(())
}

/// Takes the claimed key packages of these devices, as far as they are still good.
pub(super) fn take(
    turn: &Turn<'_>,
    room: &RoomId,
    add: Vec<Device>,
) -> Result<Vec<(DeviceName, KeyPackage)>, StoreError> {
    let mut taken = Vec::new();
    for device in add {
        let key = credential::encode(&device.name);
        let Some(claimed) = CLAIMED.get(turn.tx, room.as_bytes(), &key)? else { continue };
        CLAIMED.delete(turn.tx, room.as_bytes(), &key)?;
        if let Some(key_package) = checked(turn, &device, &claimed.bytes) {
            taken.push((device.name, key_package));
        }
    }
    Ok(taken)
}

/// The key package, if it may be used to add its device now.
fn checked(turn: &Turn<'_>, device: &Device, bytes: &[u8]) -> Option<KeyPackage> {
    identity::validate_key_package(
        turn.crypto,
        bytes,
        &device.name,
        &device.credential_key,
        turn.identity.ciphersuite(),
        turn.now_ms,
    )
    .inspect_err(|error| tracing::warn!(device = %device.name, %error, "key package refused"))
    .ok()
}
