//! The records of other people's devices.

use ruma::{DeviceId, OwnedDeviceId, UserId};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{
    changes, pins,
    silent::{self, Silent},
    tracking,
    user_identity::Standing,
    verify::DeviceFault,
};
use crate::{
    protocol::DeviceName,
    store::{Collection, StoreError, Tx},
};

/// The longest device id that is accepted, in bytes. Ids end up in every leaf of a group.
pub(super) const LONGEST_DEVICE_ID: usize = 255;

/// A device that may take part in groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) name: DeviceName,
    /// The public key of its MLS credential.
    pub(crate) credential_key: Vec<u8>,
}

/// The row of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeviceRecord {
    #[serde(rename = "id", deserialize_with = "crate::protocol::device_in_row")]
    pub(super) name: DeviceName,
    /// The device's pinned credential key (`pins`). It stays when the device is rejected later.
    pub(super) credential_key: Option<Vec<u8>>,
    /// Why the device may not take part now.
    pub(super) rejection: Option<DeviceFault>,
    /// Whether its owner has signed what it publishes (`cross_signing`).
    #[serde(default)]
    pub(super) owner_signed: bool,
    /// How the owner's identity stands (`verification`).
    #[serde(default, skip_serializing_if = "Standing::is_not_verified")]
    pub(super) owner: Standing,
    /// The device's Ed25519 key, where a binding by it has to vouch for the credential: what the
    /// device publishes holds together, and holds no credential.
    #[serde(default)]
    pub(super) binding_key: Option<ByteBuf>,
}

impl DeviceRecord {
    /// Whether it is not known yet if the device has an MLS credential: no binding was seen.
    pub(super) fn is_silent(&self) -> bool {
        self.binding_key.is_some() && self.rejection == Some(DeviceFault::NoCredential)
    }
}

pub(super) const DEVICES: Collection<DeviceRecord> = Collection::new("device");

/// A user's devices that may take part, in one row. A room is compared with this row before each
/// message, and opening a row for each device would be most of the cost (docs/decisions/010). A
/// user whose devices were last reported to an earlier version has no such row.
const ELIGIBLE: Collection<Vec<(OwnedDeviceId, ByteBuf)>> = Collection::new("eligible_devices");

/// Why an answer of the homeserver cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DevicesError {
    /// The body does not follow the specification.
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
        name: DeviceName::new(user.to_owned(), device_id),
        credential_key: key.into_vec(),
    };
    Ok(devices.into_iter().map(device).collect())
}

/// Writes the row of the user's eligible devices again, after a change of them.
pub(super) fn update_eligible(tx: &Tx<'_>, user: &UserId) -> Result<(), StoreError> {
    let all = DEVICES.list(tx, user.as_bytes())?;
    let silent = all.iter().filter(|record| record.is_silent()).filter_map(|record| {
        let silent = Silent::new(record.binding_key.clone()?, record.owner_signed);
        Some((record.name.device_id.clone(), silent))
    });
    silent::update(tx, user, silent.collect())?;
    let devices = all.into_iter().filter_map(eligible);
    let devices =
        devices.map(|device| (device.name.device_id, ByteBuf::from(device.credential_key)));
    ELIGIBLE.put(tx, user.as_bytes(), b"", &devices.collect())?;
    changes::note(tx, user)
}

/// One device, if it may take part in groups.
pub(crate) fn device(tx: &Tx<'_>, name: &DeviceName) -> Result<Option<Device>, StoreError> {
    Ok(find(tx, &name.user_id, &name.device_id)?.and_then(eligible))
}

/// The record of a device.
pub(super) fn find(
    tx: &Tx<'_>,
    user: &UserId,
    device: &DeviceId,
) -> Result<Option<DeviceRecord>, StoreError> {
    DEVICES.get(tx, user.as_bytes(), device.as_bytes())
}

pub(super) fn eligible(record: DeviceRecord) -> Option<Device> {
    if record.rejection.is_some() {
        return None;
    }
    Some(Device { name: record.name, credential_key: record.credential_key? })
}

/// Whether nothing at all is known of a device: neither it nor its user's list was ever told.
pub(crate) fn is_unheard_of(tx: &Tx<'_>, name: &DeviceName) -> Result<bool, StoreError> {
    Ok(find(tx, &name.user_id, &name.device_id)?.is_none()
        && !tracking::is_list_known(tx, &name.user_id)?)
}

/// Whether a user has a device that may take part in groups, or may have one: the list was never
/// told.
pub(crate) fn may_have_devices(tx: &Tx<'_>, user: &UserId) -> Result<bool, StoreError> {
    Ok(!tracking::is_list_known(tx, user)? || !eligible_devices(tx, user)?.is_empty())
}

/// Whether a device with this key is listed, and its owner has signed it.
pub(crate) fn is_owner_signed(
    tx: &Tx<'_>,
    name: &DeviceName,
    key: &[u8],
) -> Result<bool, StoreError> {
    let record = find(tx, &name.user_id, &name.device_id)?;
    Ok(record.is_some_and(|record| {
        record.owner_signed
            && record.rejection != Some(DeviceFault::NoCredential)
            && record.credential_key.as_deref() == Some(key)
    }))
}

/// The Ed25519 key that has to have bound each leaf and key package of a device; nothing where the
/// device publishes its credential.
pub(crate) fn binding_key(tx: &Tx<'_>, name: &DeviceName) -> Result<Option<Vec<u8>>, StoreError> {
    let record = find(tx, &name.user_id, &name.device_id)?;
    Ok(record.and_then(|record| record.binding_key).map(ByteBuf::into_vec))
}

/// Whether a device is listed, and no credential of it is known yet.
pub(crate) fn is_silent(tx: &Tx<'_>, name: &DeviceName) -> Result<bool, StoreError> {
    Ok(find(tx, &name.user_id, &name.device_id)?.is_some_and(|record| record.is_silent()))
}

/// Its user has a new identity, which has signed this very device not yet.
pub(crate) fn note_unsigned(tx: &Tx<'_>, own: &DeviceName) -> Result<(), StoreError> {
    let Some(record) = find(tx, &own.user_id, &own.device_id)? else { return Ok(()) };
    let record = DeviceRecord { owner_signed: false, ..record };
    DEVICES.put(tx, own.user_id.as_bytes(), own.device_id.as_bytes(), &record)
}

/// A user's identity stands otherwise than before. If it is another one, no answer has said yet
/// which devices it has signed.
pub(super) fn note_owner(
    tx: &Tx<'_>,
    user: &UserId,
    owner: Standing,
    is_another: bool,
) -> Result<(), StoreError> {
    for record in DEVICES.list(tx, user.as_bytes())? {
        let owner_signed = record.owner_signed && !is_another;
        if (record.owner_signed, record.owner) != (owner_signed, owner) {
            let record = DeviceRecord { owner_signed, owner, ..record };
            DEVICES.put(tx, user.as_bytes(), record.name.device_id.as_bytes(), &record)?;
        }
    }
    Ok(())
}

/// Whether what the homeserver hands out for a device holds together.
pub(crate) fn is_consistent(tx: &Tx<'_>, name: &DeviceName) -> Result<bool, StoreError> {
    let record = find(tx, &name.user_id, &name.device_id)?;
    Ok(record
        .is_some_and(|record| matches!(record.rejection, None | Some(DeviceFault::NotCrossSigned))))
}

/// The key that a device publishes, whether or not it may take part in groups.
pub(crate) fn known_key(tx: &Tx<'_>, name: &DeviceName) -> Result<Option<Vec<u8>>, StoreError> {
    let record = find(tx, &name.user_id, &name.device_id)?;
    Ok(record.and_then(|record| record.credential_key))
}

/// Pins the key of this very device, whatever the homeserver has said of it.
pub(super) fn pin_own(tx: &Tx<'_>, name: &DeviceName, key: &[u8]) -> Result<(), StoreError> {
    if pins::get(tx, name)?.is_some_and(|pin| *pin.key == *key) {
        return Ok(());
    }
    pins::put(tx, name, key)?;
    if DEVICES.delete(tx, name.user_id.as_bytes(), name.device_id.as_bytes())? {
        update_eligible(tx, &name.user_id)?;
    }
    Ok(())
}
