//! Whose device lists are tracked, and which of them are out of date.
//!
//! A list is out of date from the moment it is tracked, or the homeserver says that it changed,
//! until the answer to a query that was made after that moment. Each such moment gets a number,
//! from one sequence for all users that never repeats. So an answer to an earlier query does not
//! pass for an answer to a later one, even if a user was untracked and tracked again in between.

use ruma::{OwnedUserId, UserId};
use serde::{Deserialize, Serialize};

use super::changes;
use crate::store::{Collection, StoreError, Tx};

/// A user whose devices are tracked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct TrackedUser {
    pub(super) user_id: OwnedUserId,
    /// The number of the last change of this user's list.
    pub(super) change: u64,
    /// The number of the last change that the newest good answer covers.
    pub(super) known: Option<u64>,
    /// When the user's list is asked for again after a failure, in milliseconds since 1970.
    pub(super) retry_at_ms: u64,
    /// How many failures there were since the last good answer.
    #[serde(default)]
    pub(super) failures: u32,
}

impl TrackedUser {
    pub(super) fn is_outdated(&self) -> bool {
        self.known != Some(self.change)
    }

    /// Does not ask the user's homeserver again for a while. Until then the known devices count, so
    /// that an outage of one server blocks no room.
    pub(super) fn postpone(&mut self, now_ms: u64) {
        let delay_ms = RETRY_MS.saturating_mul(1 << self.failures.min(4)).min(LONGEST_RETRY_MS);
        self.failures = self.failures.saturating_add(1);
        self.retry_at_ms = now_ms.saturating_add(delay_ms);
    }

    fn may_be_asked(&self, now_ms: u64) -> bool {
        // A time further ahead than any delay comes from a clock that has been set back since.
        self.retry_at_ms <= now_ms || self.retry_at_ms > now_ms.saturating_add(LONGEST_RETRY_MS)
    }
}

/// How long a list that was not available is left alone the first time, in milliseconds; twice as
/// long with each further time.
const RETRY_MS: u64 = 60 * 1000;
/// The longest time that such a list is left alone, in milliseconds.
const LONGEST_RETRY_MS: u64 = 10 * 60 * 1000;

const USERS: Collection<TrackedUser> = Collection::new("tracked_user");
/// The users whose lists are out of date, so that finding them reads no other user's row.
const OUTDATED: Collection<OwnedUserId> = Collection::new("outdated_user");
/// The last number of the sequence.
const SEQUENCE: Collection<u64> = Collection::new("device_list_sequence");

fn next_number(tx: &Tx<'_>) -> Result<u64, StoreError> {
    let number = SEQUENCE.get(tx, b"", b"")?.unwrap_or(0).saturating_add(1);
    SEQUENCE.put(tx, b"", b"", &number)?;
    Ok(number)
}

pub(super) fn get(tx: &Tx<'_>, user: &UserId) -> Result<Option<TrackedUser>, StoreError> {
    USERS.get(tx, b"", user.as_bytes())
}

pub(super) fn put(tx: &Tx<'_>, user: &TrackedUser) -> Result<(), StoreError> {
    let key = user.user_id.as_bytes();
    if user.is_outdated() {
        OUTDATED.put(tx, b"", key, &user.user_id)?;
    } else {
        OUTDATED.delete(tx, b"", key)?;
    }
    USERS.put(tx, b"", key, user)
}

/// Tracks the device lists of these users; gives those that were not tracked before.
pub(super) fn track<'a>(
    tx: &Tx<'_>,
    users: impl IntoIterator<Item = &'a UserId>,
) -> Result<Vec<OwnedUserId>, StoreError> {
    let mut new = Vec::new();
    for user in users {
        if get(tx, user)?.is_none() {
            let user_id = user.to_owned();
            let change = next_number(tx)?;
            new.push(user_id.clone());
            put(tx, &TrackedUser { user_id, change, known: None, retry_at_ms: 0, failures: 0 })?;
        }
    }
    Ok(new)
}

/// The users whose device lists are tracked.
pub(super) fn users(tx: &Tx<'_>) -> Result<Vec<OwnedUserId>, StoreError> {
    Ok(USERS.list(tx, b"")?.into_iter().map(|user| user.user_id).collect())
}

/// Stops tracking these users. The records of their devices and earlier keys stay.
pub(crate) fn untrack<'a>(
    tx: &Tx<'_>,
    users: impl IntoIterator<Item = &'a UserId>,
) -> Result<(), StoreError> {
    for user in users {
        USERS.delete(tx, b"", user.as_bytes())?;
        OUTDATED.delete(tx, b"", user.as_bytes())?;
        changes::note(tx, user)?;
    }
    Ok(())
}

/// Takes in `device_lists`. A user in `left` counts as changed too: while no room is shared,
/// changes are not reported, and the user may come back with other devices.
pub(crate) fn note_device_lists(
    tx: &Tx<'_>,
    changed: &[OwnedUserId],
    left: &[OwnedUserId],
) -> Result<(), StoreError> {
    for user in changed.iter().chain(left) {
        if let Some(mut user) = get(tx, user)? {
            user.change = next_number(tx)?;
            user.retry_at_ms = 0;
            user.failures = 0;
            put(tx, &user)?;
        }
    }
    Ok(())
}

/// Marks the lists of these users as out of date, if they are tracked: changes may have gone
/// unreported.
pub(crate) fn mark_outdated<'a>(
    tx: &Tx<'_>,
    users: impl IntoIterator<Item = &'a UserId>,
) -> Result<(), StoreError> {
    for user in users {
        if let Some(mut user) = get(tx, user)? {
            user.change = next_number(tx)?;
            put(tx, &user)?;
        }
    }
    Ok(())
}

/// Marks the lists of all tracked users as out of date: changes may have gone unreported.
pub(crate) fn mark_all_outdated(tx: &Tx<'_>) -> Result<(), StoreError> {
    for mut user in USERS.list(tx, b"")? {
        user.change = next_number(tx)?;
        put(tx, &user)?;
    }
    Ok(())
}

/// Whether the homeserver has told a user's devices since they are tracked.
pub(crate) fn is_list_known(tx: &Tx<'_>, user: &UserId) -> Result<bool, StoreError> {
    Ok(get(tx, user)?.is_some_and(|tracked| tracked.known.is_some()))
}

/// Whether the homeserver has told a user's devices, and nothing says that they have changed since.
pub(crate) fn is_list_current(tx: &Tx<'_>, user: &UserId) -> Result<bool, StoreError> {
    Ok(get(tx, user)?.is_some_and(|tracked| !tracked.is_outdated()))
}

/// The users whose lists are out of date and may be asked for now.
pub(crate) fn outdated(tx: &Tx<'_>, now_ms: u64) -> Result<Vec<OwnedUserId>, StoreError> {
    let mut users = Vec::new();
    for user in OUTDATED.list(tx, b"")? {
        if get(tx, &user)?.is_some_and(|tracked| tracked.may_be_asked(now_ms)) {
            users.push(user);
        }
    }
    Ok(users)
}
