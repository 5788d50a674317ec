//! Devices that are listed and whose MLS credential is not known: most have none.
//!
//! A device beside Olm publishes no credential. Others learn of it by a binding in one of its
//! leaves or key packages, so somebody has to ask for a key package once. Most of these devices
//! never heard of MLS, and there may be ten thousand of them in a room. So each is asked for at
//! growing intervals, up to a day, and what is known of all stands in one row for each user. Which
//! of them may be asked for now is the matter of `asking`.

use std::collections::BTreeMap;

use ruma::{OwnedDeviceId, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    protocol::DeviceName,
    store::{Collection, StoreError, Tx},
};

/// How long after the first vain question a device is asked for again, in milliseconds; twice as
/// long after each further one.
const FIRST_MS: u64 = 10 * 60 * 1000;
/// The longest time between two questions, in milliseconds: a day.
const LONGEST_MS: u64 = 24 * 60 * 60 * 1000;

/// What is known of one such device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Silent {
    /// Its Ed25519 key.
    key: ByteBuf,
    pub(super) owner_signed: bool,
    /// How often a question for it was in vain.
    pub(super) asked: u32,
    /// When it may be asked for again, in milliseconds since 1970.
    until_ms: u64,
}

impl Silent {
    /// A device that nobody was asked for yet.
    pub(super) fn new(key: ByteBuf, owner_signed: bool) -> Self {
        Self { key, owner_signed, asked: 0, until_ms: 0 }
    }

    /// Until when it is left alone; nothing if it may be asked for now. A time further ahead than
    /// any rest comes from a clock that has been set back since.
    pub(super) fn rests_until(&self, now_ms: u64) -> Option<u64> {
        let rests = self.until_ms > now_ms && self.until_ms - now_ms <= LONGEST_MS;
        rests.then_some(self.until_ms)
    }
}

/// The silent devices of one user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SilentOfUser {
    pub(super) user_id: OwnedUserId,
    pub(super) devices: BTreeMap<OwnedDeviceId, Silent>,
}

const SILENT: Collection<SilentOfUser> = Collection::new("silent_devices");

/// Writes a user's row again, after a change of the devices. What publishes the same as before is
/// asked for no sooner.
pub(super) fn update(
    tx: &Tx<'_>,
    user: &UserId,
    mut devices: BTreeMap<OwnedDeviceId, Silent>,
) -> Result<(), StoreError> {
    let before = SILENT.get(tx, b"", user.as_bytes())?;
    for (id, device) in &mut devices {
        if let Some(known) = before.as_ref().and_then(|row| row.devices.get(id))
            && known.key == device.key
        {
            (device.asked, device.until_ms) = (known.asked, known.until_ms);
        }
    }
    let row = SilentOfUser { user_id: user.to_owned(), devices };
    match before {
        None if row.devices.is_empty() => Ok(()),
        Some(_) if row.devices.is_empty() => SILENT.delete(tx, b"", user.as_bytes()).map(drop),
        Some(before) if before == row => Ok(()),
        _ => SILENT.put(tx, b"", user.as_bytes(), &row),
    }
}

/// The silent devices of all users.
pub(super) fn all(tx: &Tx<'_>) -> Result<Vec<SilentOfUser>, StoreError> {
    SILENT.list(tx, b"")
}

/// The list of a user has changed: its silent devices may be asked for at once.
pub(super) fn ask_again(tx: &Tx<'_>, user: &UserId) -> Result<(), StoreError> {
    let Some(mut row) = SILENT.get(tx, b"", user.as_bytes())? else { return Ok(()) };
    row.devices.values_mut().for_each(|device| device.until_ms = 0);
    SILENT.put(tx, b"", user.as_bytes(), &row)
}

/// These devices were asked for in vain: they are left alone, for longer each time.
pub(crate) fn asked_in_vain(
    tx: &Tx<'_>,
    names: &[DeviceName],
    now_ms: u64,
) -> Result<(), StoreError> {
    let mut by_user: BTreeMap<&UserId, Vec<&DeviceName>> = BTreeMap::new();
    for name in names {
        by_user.entry(&name.user_id).or_default().push(name);
    }
    for (user, names) in by_user {
        let Some(mut row) = SILENT.get(tx, b"", user.as_bytes())? else { continue };
        for name in names {
            if let Some(device) = row.devices.get_mut(&name.device_id) {
                let rest_ms = FIRST_MS.saturating_mul(1 << device.asked.min(16)).min(LONGEST_MS);
                device.asked = device.asked.saturating_add(1);
                device.until_ms = now_ms.saturating_add(rest_ms);
            }
        }
        SILENT.put(tx, b"", user.as_bytes(), &row)?;
    }
    Ok(())
}
