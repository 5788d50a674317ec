//! Whose device lists we follow, and which of them are out of date.
//!
//! A list is out of date from the moment it is followed or the homeserver says that it changed,
//! until the answer to a query that was made after that moment. Each change gets a number, so that
//! an answer to a query from before the change does not pass for one from after it.

use ruma::{OwnedUserId, UserId};
use serde::{Deserialize, Serialize};

use crate::store::{Collection, StoreError, Tx};

/// A user whose devices matter.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct TrackedUser {
    pub(super) user_id: OwnedUserId,
    /// Counts the changes of this user's list.
    pub(super) changes: u64,
    /// The number of changes that the last good answer knew of.
    pub(super) known: Option<u64>,
    /// Until when the user's homeserver is left alone, in milliseconds since 1970.
    pub(super) retry_at_ms: u64,
}

impl TrackedUser {
    fn is_outdated(&self) -> bool {
        self.known != Some(self.changes)
    }
}

const USERS: Collection<TrackedUser> = Collection::new("tracked_user");
/// The users of which something has to be asked; so that finding them needs no look at the rest.
const OUTDATED: Collection<OwnedUserId> = Collection::new("outdated_user");

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

/// Follows the device lists of these users.
pub(crate) fn track<'a>(
    tx: &Tx<'_>,
    users: impl IntoIterator<Item = &'a UserId>,
) -> Result<(), StoreError> {
    for user in users {
        if get(tx, user)?.is_none() {
            let user_id = user.to_owned();
            put(tx, &TrackedUser { user_id, changes: 0, known: None, retry_at_ms: 0 })?;
        }
    }
    Ok(())
}

/// Stops following them. What is known of their devices stays, as do the keys they once had.
pub(crate) fn untrack<'a>(
    tx: &Tx<'_>,
    users: impl IntoIterator<Item = &'a UserId>,
) -> Result<(), StoreError> {
    for user in users {
        USERS.delete(tx, b"", user.as_bytes())?;
        OUTDATED.delete(tx, b"", user.as_bytes())?;
    }
    Ok(())
}

/// Takes in `device_lists`. A user who left may be met again with other devices, and while away
/// changes are not told, so both count as a change.
pub(crate) fn note_device_lists(
    tx: &Tx<'_>,
    changed: &[OwnedUserId],
    left: &[OwnedUserId],
) -> Result<(), StoreError> {
    for user in changed.iter().chain(left) {
        if let Some(mut user) = get(tx, user)? {
            user.changes = user.changes.saturating_add(1);
            user.retry_at_ms = 0;
            put(tx, &user)?;
        }
    }
    Ok(())
}

/// The users whose lists are out of date and may be asked for now.
pub(crate) fn outdated(tx: &Tx<'_>, now_ms: u64) -> Result<Vec<OwnedUserId>, StoreError> {
    let mut users = Vec::new();
    for user in OUTDATED.list(tx, b"")? {
        if get(tx, &user)?.is_some_and(|tracked| tracked.retry_at_ms <= now_ms) {
            users.push(user);
        }
    }
    Ok(users)
}
