//! Adds that other members have undone: how often, and until when the device is not added again.
//!
//! Two honest devices can disagree on who belongs in a group, as when their homeservers told them
//! different device lists. One adds a device and the other removes it, and both are right by what
//! they know. Removal wins: whoever sees the add undone leaves the device out, and adds it again
//! only after a delay that grows with each time. A change of the device's list, or of its user's
//! membership, ends the delay early, as the other side may know better by now. That counts a few
//! times only, or a list that changes all the time would keep the two at it.
//!
//! So six adds of one device are undone within a day, and one a day after that. A device keeps a
//! record of itself as well: by it, it knows how long to wait before it joins by itself again.

use ruma::{OwnedUserId, RoomId, UserId};
use serde::{Deserialize, Serialize};

use crate::{
    devices::Device,
    protocol::{DeviceName, credential},
    store::{Collection, StoreError, Tx},
};

/// The delay after the first time, in milliseconds. Each is four times the one before.
const FIRST_MS: u64 = 10 * 60 * 1000;
/// The longest delay, in milliseconds.
pub(crate) const LONGEST_MS: u64 = 24 * 60 * 60 * 1000;
/// How often it must have been undone until a change no longer ends the delay.
const MOST_LIFTED: u32 = 4;
/// How long after its delay a record is forgotten, in milliseconds.
const REMEMBERED_MS: u64 = 7 * LONGEST_MS;

/// What is remembered of a device whose add was undone.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Undone {
    #[serde(deserialize_with = "crate::protocol::device_in_row")]
    device: DeviceName,
    times: u32,
    /// Until when the device is not added again, in milliseconds since 1970.
    until_ms: u64,
    /// When it was last undone, in milliseconds since 1970.
    last_ms: u64,
}

const UNDONE: Collection<Undone> = Collection::new("undone_add");

impl Undone {
    /// Until when the device is left out, if that is not over. A time further ahead than any delay
    /// comes from a clock that has been set back since.
    fn held_until(&self, now_ms: u64) -> Option<u64> {
        is_ahead(self.until_ms, now_ms).then_some(self.until_ms)
    }

    /// Whether it is so long ago that the next time is as good as the first. A time in the future
    /// is that of a clock that was set back, and as good as now.
    fn is_forgotten(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.last_ms.max(self.until_ms)) >= REMEMBERED_MS
    }
}

/// Whether a time is still to come, and no further ahead than any delay.
pub(crate) fn is_ahead(at_ms: u64, now_ms: u64) -> bool {
    at_ms > now_ms && at_ms - now_ms <= LONGEST_MS
}

/// How long a device is left out after its add was undone so often.
fn delay_ms(times: u32) -> u64 {
    match times {
        0 => 0,
        _ => FIRST_MS.saturating_mul(4u64.saturating_pow(times - 1)).min(LONGEST_MS),
    }
}

/// How a removal counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    /// It undoes an add.
    Undoes,
    /// The device had been in the group for long, so the removal may be a mistake of the moment:
    /// the first one is no reason to wait.
    First,
}

/// Notes that another member removed a device that belongs in the group; gives the time until which
/// it is left out, in milliseconds since 1970, if there is one.
pub(crate) fn note(
    tx: &Tx<'_>,
    room: &RoomId,
    device: &DeviceName,
    now_ms: u64,
    weight: Weight,
) -> Result<Option<u64>, StoreError> {
    let key = credential::encode(device);
    let known = UNDONE.get(tx, room.as_bytes(), &key)?;
    let times = match (known.filter(|known| !known.is_forgotten(now_ms)), weight) {
        (Some(known), _) => known.times.saturating_add(1),
        (None, Weight::Undoes) => 1,
        (None, Weight::First) => 0,
    };
    let until_ms = now_ms.saturating_add(delay_ms(times));
    let undone = Undone { device: device.clone(), times, until_ms, last_ms: now_ms };
    UNDONE.put(tx, room.as_bytes(), &key, &undone)?;
    Ok(undone.held_until(now_ms))
}

/// Until when a device is left out, in milliseconds since 1970, if it is.
pub(crate) fn held_until(
    tx: &Tx<'_>,
    room: &RoomId,
    device: &DeviceName,
    now_ms: u64,
) -> Result<Option<u64>, StoreError> {
    let known = UNDONE.get(tx, room.as_bytes(), &credential::encode(device))?;
    Ok(known.and_then(|known| known.held_until(now_ms)))
}

/// Takes from the devices to add those that are left out for now; gives the time at which the first
/// of them may be added again, in milliseconds since 1970.
pub(crate) fn hold_back(
    tx: &Tx<'_>,
    room: &RoomId,
    add: &mut Vec<Device>,
    now_ms: u64,
) -> Result<Option<u64>, StoreError> {
    let mut first: Option<u64> = None;
    for undone in UNDONE.list(tx, room.as_bytes())? {
        if undone.is_forgotten(now_ms) {
            forget(tx, room, &undone.device)?;
            continue;
        }
        let Some(until_ms) = undone.held_until(now_ms) else { continue };
        let before = add.len();
        add.retain(|device| device.name != undone.device);
        if add.len() < before {
            first = Some(first.map_or(until_ms, |first| first.min(until_ms)));
        }
    }
    Ok(first)
}

/// Forgets all that happened in a room: its group was started anew.
pub(crate) fn forget_all(tx: &Tx<'_>, room: &RoomId) -> Result<(), StoreError> {
    UNDONE.delete_scope(tx, room.as_bytes()).map(drop)
}

/// Something has changed for this user's devices in a room: they may be added again at once, unless
/// that has happened often already.
pub(crate) fn lift(tx: &Tx<'_>, room: &RoomId, user: &UserId) -> Result<(), StoreError> {
    for mut undone in UNDONE.list(tx, room.as_bytes())? {
        let user_id: &OwnedUserId = &undone.device.user_id;
        if user_id == user && undone.until_ms > 0 && undone.times <= MOST_LIFTED {
            undone.until_ms = 0;
            let key = credential::encode(&undone.device);
            UNDONE.put(tx, room.as_bytes(), &key, &undone)?;
        }
    }
    Ok(())
}

fn forget(tx: &Tx<'_>, room: &RoomId, device: &DeviceName) -> Result<(), StoreError> {
    UNDONE.delete(tx, room.as_bytes(), &credential::encode(device)).map(drop)
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use ruma::{owned_user_id, room_id};

    use super::*;
    use crate::store::{Store, StoreKeyMaterial};

    const DAY_MS: u64 = 24 * 60 * 60 * 1000;

    fn device() -> DeviceName {
        DeviceName::new(owned_user_id!("@x:b"), "X".into())
    }

    fn add() -> Vec<Device> {
        vec![Device { name: device(), credential_key: vec![1] }]
    }

    /// Adds the device whenever that is allowed, and has it undone a moment later; gives how often
    /// within this time. Whether something has changed for the device meanwhile is up to `changes`.
    fn undone_within(time_ms: u64, changes: bool, weight: Weight) -> Result<u32, Box<dyn Error>> {
        let directory = tempfile::tempdir()?;
        let store = Store::open(directory.path(), StoreKeyMaterial::None)?;
        let room = room_id!("!room:b");
        Ok(store.write(|tx| {
            let (began_ms, mut times) = (DAY_MS, 0);
            let mut now_ms = began_ms;
            while now_ms < began_ms + time_ms {
                let mut devices = add();
                let held = hold_back(tx, room, &mut devices, now_ms)?;
                assert_eq!(held.is_some(), devices.is_empty());
                if !devices.is_empty() {
                    note(tx, room, &device(), now_ms, weight)?;
                    times += 1;
                }
                if changes {
                    lift(tx, room, &device().user_id)?;
                }
                now_ms += 60 * 1000;
            }
            Ok::<_, StoreError>(times)
        })?)
    }

    #[test]
    fn six_adds_are_undone_within_a_day_and_one_a_day_after() -> Result<(), Box<dyn Error>> {
        for changes in [false, true] {
            for (weight, first) in [(Weight::Undoes, 5), (Weight::First, 6)] {
                assert_eq!(undone_within(DAY_MS, changes, weight)?, first, "{changes} {weight:?}");
                let ten_days = undone_within(10 * DAY_MS, changes, weight)?;
                assert!((first + 8..=first + 9).contains(&ten_days), "{ten_days}");
            }
        }
        Ok(())
    }

    #[test]
    fn a_record_ends_with_time_and_no_clock_makes_it_last() -> Result<(), Box<dyn Error>> {
        let directory = tempfile::tempdir()?;
        let store = Store::open(directory.path(), StoreKeyMaterial::None)?;
        let room = room_id!("!room:b");
        store.write(|tx| {
            let now_ms = 100 * DAY_MS;
            let mut until = 0;
            for _ in 0..9 {
                let noted = note(tx, room, &device(), now_ms, Weight::Undoes)?;
                until = noted.unwrap_or_default();
            }
            assert_eq!(until, now_ms + LONGEST_MS);
            assert_eq!(held_until(tx, room, &device(), now_ms)?, Some(until));
            // Set back, the clock is further from that time than any delay is long.
            assert_eq!(held_until(tx, room, &device(), now_ms - 1)?, None);
            assert_eq!(held_until(tx, room, &device(), until)?, None);
            // A clock at the end of time, and one at its beginning.
            assert_eq!(note(tx, room, &device(), u64::MAX, Weight::Undoes)?, None);
            note(tx, room, &device(), 0, Weight::Undoes)?;
            let mut devices = add();
            hold_back(tx, room, &mut devices, u64::MAX)?;
            assert_eq!(devices.len(), 1);
            assert_eq!(UNDONE.count(tx, room.as_bytes())?, 0, "what is over leaves nothing behind");
            Ok::<_, StoreError>(())
        })?;
        Ok(())
    }
}
