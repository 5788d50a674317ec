//! Commits that this device cannot follow: each still names an epoch that could be joined.

use super::event::{CommitEvent, Confirmation, Processed};
use crate::{
    epochs::{JoinableEpoch, head, joinable, missing, numbers, outsiders},
    failure::EndsTurn,
    incoming::error::EventError,
    room::{RejoinReason, Room},
    turn::{Consequence, Turn},
};

/// Says of a commit that cannot be followed what that means for the room.
pub(super) fn not_followed(
    turn: &Turn<'_>,
    room: &Room,
    commit: CommitEvent<'_>,
    reason: &str,
    confirmation: Confirmation,
) -> Result<Processed, EventError> {
    missing::mark_hopeless(turn, &room.id, commit.id.as_str())?;
    let what = match (note_joinable(turn, room, commit, confirmation)?, confirmation) {
        (true, Confirmation::NotNeeded) => "it comes before the room's head: this device joins it",
        (true, Confirmation::Needed) => "if others go on with it, this device joins it",
        (false, _) => "the room goes on without it",
    };
    Ok(Processed::NotFollowed(EventError::NotFollowed(format!("{reason}; {what}"))))
}

/// Notes the epoch of a commit that is not followed; tells whether it comes before the head. Then
/// everybody who could follow goes on there, and this device has to join it.
pub(super) fn note_joinable(
    turn: &Turn<'_>,
    room: &Room,
    commit: CommitEvent<'_>,
    confirmation: Confirmation,
) -> Result<bool, EventError> {
    // A device that goes on has nothing to look for where one went on that has no place in the
    // room.
    if room.standing.head().is_some()
        && outsiders::is_one_for_sure(turn.tx, room, &commit.content.sender)?
    {
        return Ok(false);
    }
    let epoch = match JoinableEpoch::read(turn, &room.id, commit.id, commit.content) {
        Ok(epoch) if confirmation == Confirmation::Needed => epoch.unconfirmed(),
        Ok(epoch) => epoch,
        Err(error) if error.ends_turn() => return Err(error.into()),
        Err(error) => {
            tracing::info!(room = %room.id, %error, "no public group state to join by");
            return Ok(false);
        }
    };
    let reach = head::reach(turn, room)?;
    let noted = numbers::check_claim(turn.tx, room, epoch.number)
        .and_then(|()| joinable::note(turn.tx, room, epoch, reach.as_ref()));
    let ahead = match noted {
        Ok(ahead) => ahead,
        Err(error) if error.ends_turn() => return Err(error.into()),
        Err(error) => {
            tracing::info!(room = %room.id, %error, "a public group state that is made up");
            return Ok(false);
        }
    };
    if ahead && confirmation == Confirmation::NotNeeded {
        if room.standing.head().is_some() {
            turn.report(Consequence::MustRejoin(RejoinReason::Outrun));
        }
        turn.report(Consequence::BetterEpochKnown);
    }
    Ok(ahead)
}
