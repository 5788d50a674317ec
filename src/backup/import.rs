//! The one door by which epochs from elsewhere come in: from the backup, a file, or a member.
//!
//! They are kept beside this device's own epochs (`history::restored`). Where the room's messages
//! are read once nothing comes in: it would make readable again what was to be read once.

use ruma::RoomId;

use crate::{
    room::{self, Retention, wake},
    sessions::{Kept, Session, SessionError},
    turn::Turn,
};

/// Keeps a session of a room. Messages that waited for it are tried again.
pub(crate) fn keep_session(
    turn: &Turn<'_>,
    room: &RoomId,
    session: Session,
) -> Result<Kept, SessionError> {
    if room::load(turn.tx, room)?.settings.history == Retention::ReadOnce {
        return Err(SessionError::ReadOnce);
    }
    let kept = session.keep(turn.tx, room)?;
    if matches!(kept, Kept::NewEpoch(_)) {
        wake(turn.tx, room)?;
    }
    Ok(kept)
}
