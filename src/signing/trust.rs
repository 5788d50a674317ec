//! What follows when something else is known of people's devices.

use ruma::OwnedUserId;

use crate::{exported::Update, room::membership, store::StoreError, turn::Turn};

/// Something else is known of these users' devices than before. What is sent to them is looked at
/// again.
pub(crate) fn tell_trust_changed(
    turn: &Turn<'_>,
    users: impl IntoIterator<Item = OwnedUserId>,
) -> Result<(), StoreError> {
    let users: Vec<_> = users.into_iter().collect();
    if users.is_empty() {
        return Ok(());
    }
    membership::unsettle_rooms_of(turn.tx, users.iter().map(|user| &**user))?;
    let user_ids = users.iter().map(ToString::to_string).collect();
    turn.tell(Update::TrustChanged { user_ids });
    Ok(())
}
