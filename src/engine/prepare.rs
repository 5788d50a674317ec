//! Making a room ready to be sent to, one step a call.
//!
//! In this order: it is made sure that the homeserver has no other keys for this device; what is
//! staged is waited for; a device that was away catches up; the homeserver is asked who is in the
//! room, where that is in doubt; it is found out whether the room was started anew, where its state
//! says so; a group that this device makes is founded; a device that cannot go on rejoins, and one
//! that is told of a better branch goes on with its own where it cannot get there; the head is
//! chosen anew; the head's members are made those of the room.

use std::sync::atomic::Ordering;

use ruma::RoomId;

use super::{
    catching_up,
    consequences::{in_room, settle},
    core::Engine,
    error::EngineError,
    own_keys, upgrades,
};
use crate::{
    commits::{self, Founders, FoundingStep, NextStep},
    epochs::head,
    exported::OutgoingRequest,
    failure::EndsTurn,
    incoming::{catch_up, members, restart},
    messages::{SendError, refuse_replaced},
    rejoin::{self, Occasion},
    requests::{self, REQUESTS},
    room::{self, RejoinReason, Room},
    turn::Turn,
};

/// The shortest wait that is asked for when there is nothing to send, so that no app spins.
const SHORTEST_WAIT_MS: u64 = 50;
/// How many steps of a founding one call does. Each but the last was for members who have changed
/// meanwhile.
const MOST_FOUNDINGS: usize = 4;

/// What has to be sent before a room is ready.
pub(crate) enum Readiness {
    Ready,
    Waiting { requests: Vec<OutgoingRequest>, retry_after_ms: Option<u64> },
}

impl Engine {
    /// Does the next step towards a room that can be sent to. Where the store turns out to have
    /// been changed by somebody else, the next step is to join anew.
    pub(crate) fn prepare(&self, room: &RoomId) -> Result<Readiness, EngineError> {
        let prepared = self.prepare_once(room);
        let changed = self.distrust_if_changed(room, &prepared)?;
        let prepared = if changed { self.prepare_once(room) } else { prepared };
        match &prepared {
            Ok(Readiness::Ready) => self.expect_message(room),
            Ok(Readiness::Waiting { requests, .. }) => self.unmarked.handed_out(requests),
            Err(_) => {}
        }
        prepared
    }

    fn prepare_once(&self, room: &RoomId) -> Result<Readiness, EngineError> {
        for _ in 0..MOST_FOUNDINGS {
            let mut founders = None;
            let readiness = self.prepare_in_turn(room, &mut founders)?;
            let Some(founders) = founders else { return Ok(readiness) };
            self.found(room, founders)?;
        }
        let retry_after_ms = Some(SHORTEST_WAIT_MS);
        Ok(Readiness::Waiting { requests: Vec::new(), retry_after_ms })
    }

    fn prepare_in_turn(
        &self,
        room: &RoomId,
        founders: &mut Option<Founders>,
    ) -> Result<Readiness, EngineError> {
        self.repeatable_turn(|turn| {
            self.prepared_ms.store(turn.now_ms, Ordering::Relaxed);
            // The group is where its last commit has led it.
            catching_up::go_on_in(turn, &self.opener.readers, room)?;
            let ids = match in_room(turn, room, |room| next_step(turn, room, founders))? {
                NextStep::Ready => return Ok(Readiness::Ready),
                NextStep::Waiting(ids) => ids,
            };
            let mut due = Vec::new();
            let mut retry_at: Option<u64> = None;
            for id in ids {
                let Some(queued) = REQUESTS.get(turn.tx, id)? else { continue };
                let due_ms = requests::due_when_asked(&queued, turn.now_ms);
                if due_ms <= turn.now_ms {
                    due.push((id, queued));
                } else {
                    retry_at = Some(retry_at.map_or(due_ms, |at| at.min(due_ms)));
                }
            }
            let retry_after_ms = if due.is_empty() {
                let retry_at = retry_at.or(blocked_until(turn, &room::load(turn.tx, room)?));
                let wait = retry_at.map_or(0, |at| at.saturating_sub(turn.now_ms));
                Some(wait.max(SHORTEST_WAIT_MS))
            } else {
                None
            };
            Ok(Readiness::Waiting { requests: requests::hand_out(turn.tx, due)?, retry_after_ms })
        })
    }
}

fn next_step(
    turn: &Turn<'_>,
    room: &mut Room,
    founders: &mut Option<Founders>,
) -> Result<NextStep, SendError> {
    if let Some(first) = own_keys::before_sending(turn)? {
        return Ok(first);
    }
    refuse_replaced(room)?;
    if room.standing.staged().is_some() || room.restarts.own.is_some() {
        return Ok(NextStep::Waiting(requests::ids_of_room(turn.tx, &room.id)?));
    }
    if room.standing.is_gone() || !room.uses_mls() {
        return Err(room.outside().into());
    }
    if let Some(awaited) = what_is_in_doubt(turn, room)? {
        return Ok(awaited);
    }
    if let Some(step) = founding_step(turn, room, founders)? {
        return Ok(step);
    }
    rejoin::started_anew(turn, room)?;
    if room.standing.head().is_none() && room.standing.rejoin().is_none() {
        rejoin::require(turn, room, RejoinReason::NoGroup)?;
    }
    if room.standing.rejoin().is_some() {
        let step = rejoin::step(turn, room, Occasion::Asked);
        let step = upgrades::found_where_none_is(turn, room, step);
        if !rejoin::can_go_on_without(turn, room, &step) {
            return step;
        }
    }
    // What was doubtful, or not, may look different by now.
    head::choose(turn, room)?;
    settle(turn, room)?;
    commits::next_step(turn, room)
}

/// What has to be answered before it is known who is in the room, and how its group stands.
fn what_is_in_doubt(turn: &Turn<'_>, room: &mut Room) -> Result<Option<NextStep>, SendError> {
    if catch_up::holds_up(turn, &room.id)? {
        return Ok(Some(NextStep::Waiting(catch_up::ask_in(turn, &room.id)?)));
    }
    let doubtful = members::ask(turn, &room.id)?;
    if !doubtful.is_empty() {
        return Ok(Some(NextStep::Waiting(doubtful)));
    }
    let undecided = restart::look(turn, room)?;
    Ok((!undecided.is_empty()).then_some(NextStep::Waiting(undecided)))
}

/// Does the next step of the room's founding, if one is under way.
pub(super) fn founding_step(
    turn: &Turn<'_>,
    room: &mut Room,
    founders: &mut Option<Founders>,
) -> Result<Option<NextStep>, SendError> {
    if !room.standing.is_gathering() {
        return Ok(None);
    }
    if let Some(awaited) = what_is_in_doubt(turn, room)? {
        return Ok(Some(awaited));
    }
    Ok(match commits::found_next(turn, room)? {
        FoundingStep::Waiting(ids) => Some(NextStep::Waiting(ids)),
        FoundingStep::Ready(ready) => {
            *founders = Some(*ready);
            Some(NextStep::Waiting(Vec::new()))
        }
        FoundingStep::GivenUp => {
            rejoin::left_out(turn, room)?;
            None
        }
    })
}

/// When the next commit or rejoin may be made, if that is not now.
fn blocked_until(turn: &Turn<'_>, room: &Room) -> Option<u64> {
    commits::blocked_until(turn, room).max(rejoin::waits_until(turn, room))
}

/// Does the next step of every rejoin that does not wait for something to be sent.
pub(super) fn rejoin_rooms(turn: &Turn<'_>, occasion: Occasion) -> Result<(), EngineError> {
    for room_id in rejoin::rooms_to_see_to(turn)? {
        let may_step = rejoin::may_step_unasked(turn, &room::load(turn.tx, &room_id)?)?;
        if !may_step || catch_up::holds_up(turn, &room_id)? {
            continue;
        }
        let stepped = turn.atomically(|| {
            in_room(turn, &room_id, |room| {
                let step = rejoin::step(turn, room, occasion);
                upgrades::found_where_none_is(turn, room, step)
            })
        });
        match stepped {
            Ok(_) => {}
            Err(error) if error.ends_turn() => return Err(error.into()),
            Err(error) => in_room(turn, &room_id, |room| {
                rejoin::rest(turn, room, &error);
                Ok::<_, SendError>(())
            })?,
        }
    }
    Ok(())
}
