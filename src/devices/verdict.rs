//! What is known of who a device is, as far as an app can show it.
//!
//! All of it stands in the device's row, which is read anyway. A device that the homeserver lists
//! no longer is judged by what was known of it last, so that a log-out turns no old message red.

use super::{
    pins,
    record::{DeviceRecord, find},
    user_identity::{Standing, user_identity},
    verify::DeviceFault,
};
use crate::{
    protocol::DeviceName,
    store::{StoreError, Tx},
};

/// What is known of who a device with a credential key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its owner has signed it, and this device's user has verified the owner.
    Verified,
    /// Its owner has signed it. Nobody has verified the owner.
    OwnerNotVerified,
    /// Its owner has signed it with another identity than the one that was verified.
    OwnerChanged,
    /// Its owner has not signed it.
    NotSignedByOwner,
    /// The homeserver does not list it with this key.
    Unknown,
    /// Another key was seen first.
    Conflicting,
}

/// What is known of who a device with this key is. The first key that was seen counts, also where
/// the homeserver lists the device no longer.
pub(crate) fn verdict(tx: &Tx<'_>, name: &DeviceName, key: &[u8]) -> Result<Verdict, StoreError> {
    match find(tx, &name.user_id, &name.device_id)? {
        Some(record) => {
            if let Some(known) = &record.credential_key {
                return Ok(if known == key { of(&record) } else { Verdict::Conflicting });
            }
            of_unlisted(tx, name, key)
        }
        None => of_unlisted(tx, name, key),
    }
}

/// The same for a device with whatever key was seen first, also where it is listed no longer.
pub(crate) fn verdict_by_first_key(tx: &Tx<'_>, name: &DeviceName) -> Result<Verdict, StoreError> {
    match pins::get(tx, name)? {
        Some(pin) => verdict(tx, name, &pin.key),
        // A store of an earlier version has the key in the row alone.
        None => Ok(find(tx, &name.user_id, &name.device_id)?.as_ref().map_or(Verdict::Unknown, of)),
    }
}

/// What is known of who a device is that the homeserver lists now, with its first key.
pub(super) fn of(record: &DeviceRecord) -> Verdict {
    match record.rejection {
        // The keys of a device that its owner has not signed are good in themselves.
        None | Some(DeviceFault::NotCrossSigned) => of_owner(record.owner_signed, record.owner),
        Some(_) => Verdict::Unknown,
    }
}

fn of_owner(is_signed: bool, owner: Standing) -> Verdict {
    match (is_signed, owner) {
        (false, _) => Verdict::NotSignedByOwner,
        (true, Standing::NotVerified) => Verdict::OwnerNotVerified,
        (true, Standing::Verified) => Verdict::Verified,
        (true, Standing::Changed) => Verdict::OwnerChanged,
    }
}

fn of_unlisted(tx: &Tx<'_>, name: &DeviceName, key: &[u8]) -> Result<Verdict, StoreError> {
    let Some(pin) = pins::get(tx, name)? else { return Ok(Verdict::Unknown) };
    if *pin.key != *key {
        return Ok(Verdict::Conflicting);
    }
    let Some(signed_by) = pin.signed_by else { return Ok(Verdict::Unknown) };
    let identity = user_identity(tx, &name.user_id)?;
    let identity = identity.filter(|identity| identity.master == signed_by);
    Ok(identity.map_or(Verdict::NotSignedByOwner, |identity| of_owner(true, identity.standing)))
}
