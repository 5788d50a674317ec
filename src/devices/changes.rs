//! Whose devices that may take part are others than before, for whoever remembers them.
//!
//! Every change of a user's eligible devices goes through `record::update_eligible`, which notes it
//! here. So does whatever makes a user one whose list is not followed any more.

use ruma::{OwnedUserId, UserId};

use crate::store::{ChangeMark, Changes, StoreError, Tx};

/// So many are kept as change between two messages of this device, whatever rooms they are in.
const CHANGED: Changes<OwnedUserId> = Changes::new("changed_devices", 256);

/// Notes that a user's devices have changed.
pub(super) fn note(tx: &Tx<'_>, user: &UserId) -> Result<(), StoreError> {
    CHANGED.note(tx, b"", user.to_owned())
}

/// The moment of now in these changes.
pub(crate) fn mark_changes(tx: &Tx<'_>) -> Result<ChangeMark, StoreError> {
    CHANGED.mark(tx, b"")
}

/// Whose devices have changed since; nothing where that cannot be told.
pub(crate) fn changed_since(
    tx: &Tx<'_>,
    mark: &ChangeMark,
) -> Result<Option<Vec<OwnedUserId>>, StoreError> {
    CHANGED.since(tx, b"", mark)
}
