//! What is looked at when a store is opened: whether it is an older copy of itself, and what a
//! store of an earlier version has where it does not belong.
//!
//! A copy of the store may be older than what this device has sent since: then its keys were used,
//! and nothing is sealed with them. The device joins its rooms' groups anew.

use super::error::EngineError;
use crate::{
    devices,
    epochs::set_imports_apart,
    exported::MemberPolicy,
    identity, rejoin,
    rollback::Rollback,
    room::{self, membership},
    store::{FileMark, StoreError},
    turn::Turn,
};

/// Looks at a store that was just opened.
pub(super) fn check_store(
    turn: &Turn<'_>,
    mark: Option<&FileMark>,
    rollback: &Rollback,
    policy: MemberPolicy,
) -> Result<(), EngineError> {
    identity::forget_other_keys(turn.tx)?;
    let (own, key) = (turn.identity.name(), turn.identity.public_key());
    if devices::set_policy(turn.tx, policy, &own, key)? {
        // A store of an earlier version knows of no identities, or of no bindings.
        membership::doubt_device_lists(turn.tx)?;
    }
    for room in set_imports_apart(turn.tx, turn.identity)? {
        tracing::warn!(%room, "an import had taken the place of an own epoch's keys");
        room::edit(turn.tx, &room, |room| rejoin::distrust_store(turn, room))?;
    }
    if is_copy(turn, mark)? && !trusts_copies() {
        tracing::warn!("the store's file is a copy");
        distrust_all(turn)?;
    }
    check_count(turn, rollback)?;
    if let Some(mark) = mark {
        turn.tx.adopt_file(mark)?;
    }
    Ok(())
}

/// Looks at the count that the app keeps.
pub(super) fn check_count(turn: &Turn<'_>, rollback: &Rollback) -> Result<(), EngineError> {
    if rollback.is_behind(turn.tx)? {
        tracing::warn!("the store is older than the app's count");
        distrust_all(turn)?;
    }
    Ok(())
}

/// Whether the file is another than the one that was opened last. In a store of an earlier version
/// what tells it stands in clear, and is sealed now.
fn is_copy(turn: &Turn<'_>, mark: Option<&FileMark>) -> Result<bool, StoreError> {
    if identity::has_sealed_marks(turn.tx)? {
        return mark.map_or(Ok(false), |mark| turn.tx.is_copy(mark));
    }
    turn.tx.seal_generations()?;
    identity::note_sealed_marks(turn.tx)?;
    mark.map_or(Ok(false), |mark| turn.tx.was_copy(mark))
}

fn distrust_all(turn: &Turn<'_>) -> Result<(), StoreError> {
    for room in room::all(turn.tx)? {
        room::edit(turn.tx, &room.id, |room| rejoin::distrust_store(turn, room))?;
    }
    Ok(())
}

fn trusts_copies() -> bool {
    #[cfg(feature = "test-hooks")]
    return crate::store::hooks::trusts_copies();
    #[cfg(not(feature = "test-hooks"))]
    return false;
}
