//! Other people's devices: whose lists we follow, what `/keys/query` said of them, and how far a
//! credential is trusted.
//!
//! A device may take part in groups when what it publishes holds together (see `verify`). One that
//! does not is kept with the reason and reported, and never offered. The first credential key seen
//! for a device is the one that counts: a later answer with another is a conflict, not an update.
//!
//! This module writes no requests and hears no answers itself: it makes ruma's request values and
//! takes bodies.

mod claim;
mod query;
#[cfg(test)]
mod tests;
mod tracking;
mod verify;

use ruma::{DeviceId as RumaDeviceId, OwnedDeviceId, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

pub(crate) use self::{
    claim::{claim_request, parse_claim_response},
    query::{KeyQuery, handle_query_response, query_request},
    tracking::{doubt, note_device_lists, outdated, track, untrack},
    verify::Rejection,
};
use crate::store::{Collection, StoreError, Tx};

/// A device's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct DeviceId {
    pub(crate) user_id: OwnedUserId,
    pub(crate) device_id: OwnedDeviceId,
}

/// A device that may take part in groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) user_id: OwnedUserId,
    pub(crate) device_id: OwnedDeviceId,
    /// The public key of its MLS credential.
    pub(crate) credential_key: Vec<u8>,
}

/// How far a device's credential key is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The device's published keys are not known.
    Unknown,
    /// They are signed and name this key.
    Signed,
    /// They name another key.
    Conflicting,
}

/// What is kept of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct DeviceRecord {
    id: DeviceId,
    /// The first credential key that held together; it stays when the device is rejected later.
    credential_key: Option<Vec<u8>>,
    /// Why the device may not take part now.
    rejection: Option<Rejection>,
}

const DEVICES: Collection<DeviceRecord> = Collection::new("device");

/// A user's devices that may take part, in one row: that is what a room is compared with before messages, and
/// opening a row for each device is most of that (docs/decisions/010). Users whose devices were last told of
/// by an earlier version have none.
const ELIGIBLE: Collection<Vec<(OwnedDeviceId, ByteBuf)>> = Collection::new("eligible_devices");

/// An answer of the homeserver that cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DevicesError {
    /// The body is not what the specification says.
    #[error("the answer about device keys cannot be read")]
    MalformedAnswer,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The devices of a user that may take part in groups.
pub(crate) fn eligible_devices(tx: &Tx<'_>, user: &UserId) -> Result<Vec<Device>, StoreError> {
    let Some(devices) = ELIGIBLE.get(tx, user.as_bytes(), b"")? else {
        return Ok(DEVICES.list(tx, user.as_bytes())?.into_iter().filter_map(eligible).collect());
    };
    let device = |(device_id, key): (_, ByteBuf)| Device {
        user_id: user.to_owned(),
        device_id,
        credential_key: key.into_vec(),
    };
    Ok(devices.into_iter().map(device).collect())
}

/// The user's devices have changed.
fn note_eligible(tx: &Tx<'_>, user: &UserId) -> Result<(), StoreError> {
    let devices = DEVICES.list(tx, user.as_bytes())?.into_iter().filter_map(eligible);
    let devices = devices.map(|device| (device.device_id, ByteBuf::from(device.credential_key)));
    ELIGIBLE.put(tx, user.as_bytes(), b"", &devices.collect())
}

/// One device, if it may take part in groups.
pub(crate) fn device(
    tx: &Tx<'_>,
    user: &UserId,
    device: &RumaDeviceId,
) -> Result<Option<Device>, StoreError> {
    Ok(DEVICES.get(tx, user.as_bytes(), device.as_bytes())?.and_then(eligible))
}

fn eligible(record: DeviceRecord) -> Option<Device> {
    if record.rejection.is_some() {
        return None;
    }
    Some(Device {
        user_id: record.id.user_id,
        device_id: record.id.device_id,
        credential_key: record.credential_key?,
    })
}

/// How far this key is trusted as that of this device's credential.
pub(crate) fn trust(
    tx: &Tx<'_>,
    user: &UserId,
    device: &RumaDeviceId,
    key: &[u8],
) -> Result<Trust, StoreError> {
    let Some(record) = DEVICES.get(tx, user.as_bytes(), device.as_bytes())? else {
        return Ok(Trust::Unknown);
    };
    Ok(match (record.credential_key, record.rejection) {
        (Some(known), _) if known != key => Trust::Conflicting,
        (Some(_), None) => Trust::Signed,
        _ => Trust::Unknown,
    })
}
