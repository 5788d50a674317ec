//! What follows from a step, settled in one loop.
//!
//! Steps on the floors below report what they have brought about (`turn::Consequence`) and call
//! nothing above them. Here each consequence is taken up, oldest first; what it brings about in
//! turn comes last. So the order is the order of the reports, and the table below is all that
//! follows from anything:
//!
//! | consequence | what follows |
//! |---|---|
//! | an epoch was entered | its commit is missing no more; this device's keys are as old as before; it belongs into the backup; what was missed is told; waiting events are tried |
//! | the head has changed | a commit that nobody has seen is dropped; an app that has exported secrets is told; a rejoin ends, or becomes due |
//! | the head is the same | a rejoin because of doubt ends |
//! | somebody was heard in another tree of epochs | the head is chosen anew |
//! | no kept epoch is fit | the device rejoins |
//! | epochs were pruned | what a read-once room kept of them is deleted |
//! | keys were dropped | the epoch goes from the backup |
//! | the homeserver accepted a commit | those added are offered history; an external join ends the rejoin, and history is asked for |
//! | a commit was dropped | an external join waits longer |
//! | the room was started anew | a restart of this device's own is over; the device rejoins, if it is not in the new group |
//! | a Welcome let the device in | a rejoin ends |
//! | a commit removed the device | it waits to be added again, or leaves with its user |
//! | the rest | what `rejoin` says |

use ruma::RoomId;

use crate::{
    backup,
    commits::{self, outcome},
    epochs::{head, missing, retention},
    exporter,
    failure::Failure,
    rejoin,
    room::{self, RejoinReason, Room, wake},
    sharing,
    store::StoreError,
    turn::{Consequence, Turn},
};

/// Does something in a room and settles what follows: the room is loaded once and saved once.
pub(super) fn in_room<T, E>(
    turn: &Turn<'_>,
    room: &RoomId,
    work: impl FnOnce(&mut Room) -> Result<T, E>,
) -> Result<T, E>
where
    E: From<StoreError> + From<Failure>,
{
    room::edit(turn.tx, room, |room| {
        let value = work(room)?;
        settle(turn, room)?;
        Ok(value)
    })
}

/// Settles what a step that had no room at hand has brought about.
pub(super) fn settle_reported(turn: &Turn<'_>, room: &RoomId) -> Result<(), Failure> {
    if turn.has_consequences() { in_room(turn, room, |_| Ok(())) } else { Ok(()) }
}

/// Settles all that was reported, and what that brings about.
pub(super) fn settle(turn: &Turn<'_>, room: &mut Room) -> Result<(), Failure> {
    while let Some(consequence) = turn.next_consequence() {
        settle_one(turn, room, consequence)?;
    }
    Ok(())
}

fn settle_one(turn: &Turn<'_>, room: &mut Room, consequence: Consequence) -> Result<(), Failure> {
    match consequence {
        Consequence::EpochEntered { epoch, commit_event } => {
            if let Some(event) = commit_event {
                missing::mark_found(turn, &room.id, event.as_str())?;
            }
            commits::entered(turn, room, epoch)?;
            backup::note_epoch(turn, &room.id, epoch)?;
            rejoin::tell_missed(turn, room, epoch)?;
            wake(turn.tx, &room.id)?;
        }
        Consequence::HeadChanged { is_first } => {
            outcome::drop_unsent(turn, room)?;
            exporter::tell_changed(turn, room)?;
            if is_first {
                rejoin::joined(turn, room)?;
            } else {
                rejoin::head_changed(turn, room)?;
            }
        }
        Consequence::HeadConfirmed => rejoin::stop(turn, room, RejoinReason::Doubtful)?,
        Consequence::NoFitEpoch => rejoin::require(turn, room, RejoinReason::Doubtful)?,
        Consequence::EpochsPruned => retention::delete_old(turn, room)?,
        Consequence::KeysDropped { epoch } => backup::forget_epoch(turn, &room.id, epoch)?,
        Consequence::CommitAccepted { epoch, added, is_external } => {
            sharing::offer(turn, room, epoch, &added)?;
            if is_external {
                sharing::want(turn, &room.id, epoch)?;
                rejoin::joined_externally(turn, room, epoch)?;
            }
        }
        Consequence::CommitDropped { epoch, is_external } => {
            if is_external {
                rejoin::put_off(turn, room, epoch);
            }
        }
        Consequence::Restarted => {
            commits::restart::overtaken(turn, room)?;
            rejoin::started_anew(turn, room)?;
        }
        Consequence::Welcomed => rejoin::joined(turn, room)?,
        Consequence::Removed => rejoin::removed(turn, room)?,
        Consequence::MustRejoin(reason) => rejoin::require(turn, room, reason)?,
        Consequence::BetterEpochKnown => rejoin::better_epoch_known(turn, room),
        Consequence::TreeHeard => head::choose(turn, room)?,
        Consequence::EpochConfirmed => rejoin::head_changed(turn, room)?,
        Consequence::OwnMessageForgotten { epoch } => {
            rejoin::forgotten_message(turn, room, &epoch)?;
        }
    }
    Ok(())
}
