//! The first key of each device, for good.
//!
//! A pin is the credential key that a device had when its published keys first held together. It
//! outlives the device: one that is left out of an answer, or whose user is followed no longer,
//! comes back with that key or not at all. An app that has lost its store logs in as a new device
//! (`identity::own_keys`), so no honest device has two keys.
//!
//! A homeserver can invent devices without end, so there is an end to pins. None ever goes, as the
//! homeserver could then push out the one that it wants to replace. Past the bound new devices of
//! that user are refused instead.

use ruma::UserId;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    protocol::DeviceName,
    store::{Collection, StoreError, Tx},
};

/// How many devices of one user are remembered. A user who logs in anew every day gets there in 27
/// years, and the pins then take 2 MB.
const MOST_PINS: u64 = 10_000;
/// How many are remembered if the owner has signed those beyond: no homeserver can invent these.
const MOST_SIGNED_PINS: u64 = 20_000;

/// The first key of a device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Pin {
    pub(super) key: ByteBuf,
    /// The master key whose owner had signed the device when it was listed last, if it was signed
    /// then, and is listed no longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) signed_by: Option<ByteBuf>,
}

const PINS: Collection<Pin> = Collection::new("device_pin");

/// The pin of a device.
pub(super) fn get(tx: &Tx<'_>, device: &DeviceName) -> Result<Option<Pin>, StoreError> {
    PINS.get(tx, device.user_id.as_bytes(), device.device_id.as_bytes())
}

/// Pins a key.
pub(super) fn put(tx: &Tx<'_>, device: &DeviceName, key: &[u8]) -> Result<(), StoreError> {
    write(tx, device, &Pin { key: ByteBuf::from(key), signed_by: None })
}

/// The homeserver lists a device no longer. What is remembered beside its key is the master key of
/// the owner who had signed it.
pub(super) fn is_gone(
    tx: &Tx<'_>,
    device: &DeviceName,
    in_row: Option<&[u8]>,
    signed_by: Option<ByteBuf>,
) -> Result<(), StoreError> {
    let key = match get(tx, device)? {
        Some(pin) => pin.key,
        None => match in_row {
            Some(key) => ByteBuf::from(key),
            None => return Ok(()),
        },
    };
    write(tx, device, &Pin { key, signed_by })
}

fn write(tx: &Tx<'_>, device: &DeviceName, pin: &Pin) -> Result<(), StoreError> {
    PINS.put(tx, device.user_id.as_bytes(), device.device_id.as_bytes(), pin)
}

/// The pin of a device whose row, of an earlier version, may be all that remembers its key.
pub(super) fn get_or_adopt(
    tx: &Tx<'_>,
    device: &DeviceName,
    in_row: Option<&[u8]>,
) -> Result<Option<Vec<u8>>, StoreError> {
    let pinned = get(tx, device)?.map(|pin| pin.key.into_vec());
    if let (None, Some(key)) = (&pinned, in_row) {
        put(tx, device, key)?;
        return Ok(Some(key.to_vec()));
    }
    Ok(pinned)
}

/// How many pins one user has.
#[derive(Debug)]
pub(super) struct Count(u64);

impl Count {
    pub(super) fn of(tx: &Tx<'_>, user: &UserId) -> Result<Self, StoreError> {
        Ok(Self(PINS.count(tx, user.as_bytes())?))
    }

    /// Pins the key of a device that has none; tells whether there was room for it.
    pub(super) fn pin(
        &mut self,
        tx: &Tx<'_>,
        device: &DeviceName,
        key: &[u8],
        owner_signed: bool,
    ) -> Result<bool, StoreError> {
        if self.0 >= if owner_signed { MOST_SIGNED_PINS } else { MOST_PINS } {
            return Ok(false);
        }
        self.0 += 1;
        put(tx, device, key)?;
        Ok(true)
    }
}

/// What a store of an earlier version has: no pin.
#[cfg(test)]
pub(super) fn forget_all(tx: &Tx<'_>, user: &UserId) -> Result<u64, StoreError> {
    PINS.delete_scope(tx, user.as_bytes())
}

/// Pins of so many devices that never were.
#[cfg(test)]
pub(super) fn invent(tx: &Tx<'_>, user: &UserId, number: u64) -> Result<(), StoreError> {
    for number in 0..number {
        put(tx, &DeviceName::new(user.to_owned(), format!("OLD{number}").into()), &[0; 32])?;
    }
    Ok(())
}
