//! A commit of this device's own, back from the homeserver: as good as the answer to its request.

use sha2::{Digest, Sha256};

use super::event::{CommitEvent, Processed};
use crate::{
    commits::{self, outcome},
    epochs::{JoinableEpoch, graph, head, joinable, missing, numbers::Reach, set_aside},
    incoming::error::EventError,
    protocol::{CommitContent, Payload},
    rejection::Rejection,
    requests,
    room::{RejoinReason, Room},
    turn::{Consequence, Turn},
};

/// Takes in a commit that this device has made.
pub(super) fn receive(
    turn: &Turn<'_>,
    room: &mut Room,
    commit: CommitEvent<'_>,
) -> Result<Processed, EventError> {
    let came_back = match room.standing.staged() {
        // Nothing but its epoch tells one announcement from another.
        Some(id) if commit.content.is_announcement() => {
            let shown = JoinableEpoch::read(turn, &room.id, commit.id, commit.content)?;
            (shown.id == id).then_some(id)
        }
        Some(id) => {
            let staged = commits::commit_hash_of_staged(turn.tx, &room.id, id)?;
            (staged.is_some() && staged == hash_of(commit.content)?).then_some(id)
        }
        None => None,
    };
    if let Some(id) = came_back {
        for request in commits::staged_requests(turn.tx, &room.id, id)?.ids {
            requests::remove(turn.tx, request)?;
        }
        outcome::accepted(turn, room, id, commit.id.to_owned())?;
        return Ok(Processed::Known);
    }
    // This device has signed it, so this device made it. If the epoch is unknown, this device has
    // forgotten the commit, and what else it has sent since.
    let epoch = JoinableEpoch::read(turn, &room.id, commit.id, commit.content)?;
    if let Some(mut known) = graph::find(turn.tx, &room.id, epoch.id)? {
        // What the homeserver shows to all counts, and not what it has answered to this device.
        if known.commit_event.as_deref() != Some(commit.id) {
            known.commit_event = Some(commit.id.to_owned());
            graph::put(turn.tx, &room.id, &known)?;
        }
        return Ok(Processed::Known);
    }
    missing::mark_hopeless(turn, &room.id, commit.id.as_str())?;
    let reach = head::rank(turn.tx, room)?.map(Reach::at);
    let ahead = joinable::note(turn.tx, room, epoch, reach.as_ref())?;
    if room.standing.head().is_none() {
        // What it has sent in the epochs that it set aside, it does not know.
        set_aside::forget(turn, room)?;
    } else if ahead {
        turn.report(Consequence::MustRejoin(RejoinReason::OldCopy));
    }
    Ok(Processed::NotFollowed(Rejection::UnknownOwnCommit.into()))
}

/// Takes in the announcement of a group with which this device starts the room anew; tells whether
/// it is one.
pub(super) fn restart_announced(
    turn: &Turn<'_>,
    room: &mut Room,
    shown: &JoinableEpoch,
) -> Result<bool, EventError> {
    let Some(own) = room.restarts.own.as_ref().filter(|own| own.epoch == shown.id) else {
        return Ok(false);
    };
    let epoch = own.epoch;
    for request in commits::staged_requests(turn.tx, &room.id, epoch)?.ids {
        requests::remove(turn.tx, request)?;
    }
    outcome::accepted(turn, room, epoch, shown.commit_event.clone())?;
    Ok(true)
}

/// SHA-256 of the commit in an event; nothing for an announcement.
fn hash_of(content: &CommitContent) -> Result<Option<[u8; 32]>, Rejection> {
    Ok(match &content.ciphertext {
        _ if content.is_announcement() => None,
        Payload::Media(reference) => reference.hash(),
        Payload::Inline(_) => Some(Sha256::digest(content.ciphertext.bytes()?).into()),
    })
}
