//! A room's events, one by one.
//!
//! Every event is a part of its own inside the turn, with what follows from it: what it changed is
//! undone if it fails, and its failure costs none of the others. What came too early waits in the
//! store, what it needs is asked for, and it is tried again once that is there. Many events take
//! several turns, so that none holds the lock for long.

use std::{collections::BTreeSet, ops::Range};

use ruma::{OwnedRoomId, RoomId};

use super::{
    consequences::{in_room, settle_reported},
    early,
    to_device::{self, EarlyEvent, Received, ToDeviceOutcome},
    upgrades,
};
use crate::{
    epochs::{joinable, missing, restarts, trees},
    failure::{EndsTurn, Failure},
    incoming::{
        Awaited, EventError, Outcome, ReceivedEvent, catch_up,
        commit::{self, Processed, event_id},
        fetch, message, restart, state, unshown,
        waiting::{self, CameBy},
    },
    messages::{Readers, late},
    protocol::{AlgorithmOnly, CommitContent, CommitEventOnly, RoomEvent, identifiers, parse},
    rejoin,
    room::{self, Room, Standing},
    turn::{Consequence, Turn},
};

/// Where events come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A sync: what it says of the room's state holds now.
    Sync,
    /// The app, from anywhere in the room's history: what state events say may be over.
    History,
}

/// Events of a room on their way in, over as many turns as it takes.
pub(super) struct Intake<'a> {
    pub(super) room: OwnedRoomId,
    events: Vec<&'a String>,
    /// How many were taken.
    taken: usize,
    /// The results of these are told.
    told: Range<usize>,
    source: Source,
    is_of_sync: bool,
    kept: bool,
    /// The waiting events that are being tried, last first.
    tried: Option<Vec<i64>>,
    /// What the turn that is under way has brought.
    received: Vec<ReceivedEvent>,
    /// To-device events of the sync that wait for the room's state, with their places in the sync.
    early: Vec<(usize, EarlyEvent, &'a str)>,
    /// Whether earlier syncs have left some.
    earlier: Option<bool>,
    /// What became of them.
    heard: Vec<(usize, ToDeviceOutcome)>,
}

impl<'a> Intake<'a> {
    /// Events in the order given; the results of some are told.
    pub(super) fn new(
        room: OwnedRoomId,
        events: Vec<&'a String>,
        told: Range<usize>,
        source: Source,
    ) -> Self {
        Self {
            room,
            events,
            taken: 0,
            told,
            source,
            is_of_sync: true,
            kept: false,
            tried: None,
            received: Vec::new(),
            early: Vec::new(),
            earlier: None,
            heard: Vec::new(),
        }
    }

    /// No events: only what waits in a room that something else has woken.
    pub(super) fn woken(room: OwnedRoomId) -> Self {
        Self { is_of_sync: false, ..Self::new(room, Vec::new(), 0..0, Source::Sync) }
    }

    /// Whether the app expects to find the room in the results.
    pub(super) fn is_of_sync(&self) -> bool {
        self.is_of_sync
    }

    /// A to-device event of the sync is about this room, which does not count yet.
    pub(super) fn wait_with(&mut self, at: usize, early: EarlyEvent, json: &'a str) {
        self.early.push((at, early, json));
    }

    /// What became of to-device events, with their places in the sync.
    pub(super) fn take_heard(&mut self) -> Vec<(usize, ToDeviceOutcome)> {
        std::mem::take(&mut self.heard)
    }

    /// What the turn that is under way has brought.
    pub(super) fn received(&self) -> &[ReceivedEvent] {
        &self.received
    }

    /// When an event was sent, by a homeserver's word, in milliseconds since 1970.
    pub(super) fn sent_ms(&self, event_id: &str) -> Option<u64> {
        let named = self.events.iter().filter(|json| json.contains(event_id));
        let events = named.filter_map(|json| parse::<RoomEvent>(json, "the event").ok());
        let mut this =
            events.filter(|event| event.event_id.as_deref().is_some_and(|id| id == event_id));
        this.next()?.origin_server_ts
    }

    /// What the last turn has brought.
    pub(super) fn take_received(&mut self) -> Vec<ReceivedEvent> {
        std::mem::take(&mut self.received)
    }

    /// Takes in events in their order, then those that waited and no longer have to; tells whether
    /// that is done, or the turn has taken long enough.
    pub(super) fn go_on(&mut self, turn: &Turn<'_>, readers: &Readers) -> Result<bool, EventError> {
        while let Some(json) = self.events.get(self.taken) {
            if turn.is_spent() {
                return Ok(false);
            }
            let event = receive_one(turn, readers, &self.room, json, self.source)?;
            if let Outcome::Waiting(_) = &event.outcome {
                let id = event.event_id.as_deref();
                waiting::keep(turn, &self.room, id, json, CameBy::App)?;
                self.kept = true;
            }
            let is_state = matches!(event.outcome, Outcome::State);
            if self.told.contains(&self.taken) {
                self.received.push(event);
            }
            self.taken += 1;
            // What the timeline shows is read with the group that a Welcome leads to.
            if self.taken == self.told.start || (self.taken > self.told.start && is_state) {
                self.hear_early(turn)?;
            }
        }
        if self.tried.is_none() {
            if self.kept {
                waiting::bound(turn, &self.room)?;
            }
            leave_with_the_room(turn, &self.room)?;
            self.hear_early(turn)?;
            if self.is_of_sync
                && (self.kept || self.earlier == Some(true) || !self.early.is_empty())
            {
                unshown::ask(turn, &self.room)?;
            }
            for (at, event, json) in std::mem::take(&mut self.early) {
                self.heard.push((at, to_device::keep_early(turn, &event, json)?));
            }
            look_for_restart(turn, &self.room)?;
            upgrades::look(turn, &self.room)?;
            to_device::retry(turn, &self.room)?;
            if self.is_of_sync {
                join_where_left_out(turn, &self.room)?;
            }
        }
        if !self.retry_waiting(turn, readers)? {
            return Ok(false);
        }
        restart::ask(turn, &self.room)?;
        ask_for_missing(turn, &self.room)?;
        Ok(true)
    }

    /// Takes in the to-device events that came before the room's state, once the room counts.
    fn hear_early(&mut self, turn: &Turn<'_>) -> Result<(), EventError> {
        let earlier = match self.earlier {
            Some(earlier) => earlier,
            None => early::is_any(turn, &self.room)?,
        };
        self.earlier = Some(earlier);
        if (!earlier && self.early.is_empty()) || !to_device::hears(turn, &self.room)? {
            return Ok(());
        }
        to_device::take_early(turn, &self.room)?;
        self.earlier = Some(false);
        for (at, event, json) in std::mem::take(&mut self.early) {
            let outcome = match to_device::receive(turn, json)? {
                Received::Done(outcome) => outcome,
                Received::Early(_) => to_device::keep_early(turn, &event, json)?,
            };
            self.heard.push((at, outcome));
        }
        Ok(())
    }

    /// Tries what waits, as long as that brings new epochs; tells whether that is done.
    fn retry_waiting(&mut self, turn: &Turn<'_>, readers: &Readers) -> Result<bool, EventError> {
        // While the room catches up, what waits is ahead of it.
        if catch_up::is_under_way(turn.tx, &self.room)? {
            return Ok(true);
        }
        loop {
            let mut ids = match self.tried.take() {
                Some(ids) => ids,
                None if room::take_woken(turn.tx, &self.room)? => {
                    let events = waiting::list_in_order(turn, &self.room)?;
                    events.into_iter().rev().map(|(id, _)| id).collect()
                }
                None => return Ok(true),
            };
            while let Some(id) = ids.pop() {
                // It may have been taken between two turns.
                let Some(event) = waiting::get(turn, id)? else { continue };
                let result = receive_one(turn, readers, &self.room, &event.json, Source::History)?;
                if !matches!(result.outcome, Outcome::Waiting(_)) {
                    waiting::remove(turn, &self.room, id, &event)?;
                    if event.came_by() == CameBy::App {
                        self.received.push(result);
                    }
                }
                if turn.is_spent() {
                    self.tried = Some(ids);
                    return Ok(false);
                }
            }
        }
    }
}

/// Goes on with the commits that wait in woken rooms, when what they need has come otherwise than
/// by sync. Messages, and the results of events that the app has fed, are left for the next sync.
pub(super) fn go_on(turn: &Turn<'_>, readers: &Readers) -> Result<(), EventError> {
    for room in room::woken(turn.tx)? {
        if catch_up::is_under_way(turn.tx, &room)? {
            // What waits is tried when what it is based on is here.
            continue;
        }
        waiting::bound(turn, &room)?;
        to_device::retry(turn, &room)?;
        // The room stays woken, so what is left is tried by the next turn that looks.
        retry_commits(turn, readers, &room)?;
        ask_for_missing(turn, &room)?;
    }
    Ok(())
}

/// Tries the commits that wait in a room, as long as that moves the group on; tells whether there
/// is more to try, as the turn has taken long enough.
pub(super) fn retry_commits(
    turn: &Turn<'_>,
    readers: &Readers,
    room: &RoomId,
) -> Result<bool, EventError> {
    // One that moves may let others move, the longest chain being all of them: each of them once.
    let mut entered = BTreeSet::new();
    loop {
        let mut moved = false;
        for (id, event) in waiting::list_in_order(turn, room)? {
            if !is_commit_json(&event.json) {
                continue;
            }
            let outcome = receive_one(turn, readers, room, &event.json, Source::History)?.outcome;
            if matches!(outcome, Outcome::Waiting(_)) {
                continue;
            }
            moved |= matches!(outcome, Outcome::Commit { .. }) && entered.insert(id);
            if event.came_by() == CameBy::Request {
                waiting::remove(turn, room, id, &event)?;
            }
            if moved && turn.is_spent() {
                return Ok(true);
            }
        }
        if !moved {
            return Ok(false);
        }
    }
}

fn is_commit_json(json: &str) -> bool {
    parse::<RoomEvent>(json, "the event").is_ok_and(|event| event.is_commit())
}

/// Asks for the commits that waiting events need.
pub(super) fn ask_for_missing(turn: &Turn<'_>, room: &RoomId) -> Result<(), Failure> {
    let waiting = waiting::list(turn, room)?;
    if waiting.is_empty() {
        return Ok(());
    }
    room::edit(turn.tx, room, |room| fetch::ask_for_missing(turn, room, &waiting))
}

/// Looks at what the room's state says of another group, and asks for the state where something
/// waits for it.
fn look_for_restart(turn: &Turn<'_>, room: &RoomId) -> Result<(), Failure> {
    if restarts::is_any(turn.tx, room)? {
        in_room(turn, room, |room| restart::look(turn, room))?;
    }
    Ok(())
}

/// Whoever is out of the Matrix room is out of its group. This is looked at when all events are in:
/// somebody who comes back finds the old leave in the timeline, behind the Welcome that let them in
/// again.
fn leave_with_the_room(turn: &Turn<'_>, room: &RoomId) -> Result<(), Failure> {
    in_room(turn, room, |room| match room.standing {
        Standing::Gone => Ok(()),
        _ if !room.state.own_user_left => Ok(()),
        // Where it was in no group, it must not join one either.
        _ => rejoin::user_left(turn, room),
    })
}

/// Whoever is in the Matrix room and not in its group gets in by itself, once it is seen that there
/// is a group.
fn join_where_left_out(turn: &Turn<'_>, room_id: &RoomId) -> Result<(), Failure> {
    let Some(room) = room::find(turn.tx, room_id)? else { return Ok(()) };
    if room.standing != Standing::NoGroup {
        return Ok(());
    }
    let is_seen = room.others_group
        || joinable::best(turn.tx, room_id, None)?.is_some()
        || waiting::is_any(turn, room_id)?;
    if !is_seen {
        return Ok(());
    }
    in_room(turn, room_id, |room| Ok(rejoin::left_out(turn, room)?))
}

/// Takes in one event, with what follows from it, as a part of its own.
pub(super) fn receive_one(
    turn: &Turn<'_>,
    readers: &Readers,
    room: &RoomId,
    json: &str,
    source: Source,
) -> Result<ReceivedEvent, EventError> {
    #[cfg(feature = "test-hooks")]
    crate::store::hooks::try_event();
    let event: RoomEvent = match parse(json, "the event") {
        Ok(event) => event,
        Err(error) => {
            return Ok(ReceivedEvent { event_id: None, outcome: Outcome::Failed(error.into()) });
        }
    };
    let event_id = event.event_id.as_ref().map(ToString::to_string);
    let outcome = match turn.atomically(|| take_in(turn, readers, room, &event, source)) {
        Ok(outcome) => outcome,
        // The event is not to blame: the whole turn fails, and the app feeds it again.
        Err(error) if error.ends_turn() => return Err(error),
        Err(error) if error.can_wait() => wait(turn, room, &event, error)?,
        Err(error) => Outcome::Failed(error),
    };
    if let (Outcome::Failed(error), Some(id)) = (&outcome, &event_id)
        && event.is_commit()
    {
        if error.is_before_joining() {
            missing::mark_before_joining(turn, room, id)?;
        } else {
            missing::mark_hopeless(turn, room, id)?;
        }
    }
    if let Outcome::Failed(error) | Outcome::Waiting(error) = &outcome {
        tracing::info!(room = %room, event = event_id.as_deref(), %error, "event not read");
    }
    Ok(ReceivedEvent { event_id, outcome })
}

/// An event that cannot be read yet waits, unless what it needs will never come.
fn wait(
    turn: &Turn<'_>,
    room: &RoomId,
    event: &RoomEvent,
    error: EventError,
) -> Result<Outcome, EventError> {
    let base: Option<CommitEventOnly> = parse(event.content.get(), "the content").ok();
    let hopeless = match base {
        Some(base) if error.awaits_commit() => {
            // Whoever sends on an epoch goes on with the commit that leads there.
            if joinable::confirm(turn.tx, room, &base.commit_event, &event.sender)? {
                turn.report(Consequence::EpochConfirmed);
                settle_reported(turn, room)?;
            }
            missing::is_hopeless(turn, room, &base.commit_event)?
        }
        _ => false,
    };
    Ok(if hopeless { Outcome::Failed(error.lost()) } else { Outcome::Waiting(error) })
}

/// Takes in one event, with what follows from it.
fn take_in(
    turn: &Turn<'_>,
    readers: &Readers,
    room: &RoomId,
    event: &RoomEvent,
    source: Source,
) -> Result<Outcome, EventError> {
    if event.event_type == "m.room.encrypted" && event.state_key.is_none() {
        return take_in_encrypted(turn, readers, room, event, source);
    }
    if state::is_followed(event) {
        return in_room(turn, room, |room| match source {
            Source::Sync => state::receive(turn, room, event),
            Source::History => state::receive_past(turn, room, event),
        });
    }
    Ok(Outcome::Ignored)
}

fn take_in_encrypted(
    turn: &Turn<'_>,
    readers: &Readers,
    room: &RoomId,
    event: &RoomEvent,
    source: Source,
) -> Result<Outcome, EventError> {
    match parse::<AlgorithmOnly>(event.content.get(), "the content") {
        Ok(AlgorithmOnly { algorithm }) if identifiers::is_room_algorithm(&algorithm) => {}
        // Redacted, or encrypted with something else.
        _ => return Ok(Outcome::Ignored),
    }
    if !room::find(turn.tx, room)?.is_some_and(|room| room.uses_mls()) {
        // Only the room's state says what the room uses.
        return Err(EventError::Awaits(Awaited::Room));
    }
    if event.is_commit() {
        return in_room(turn, room, |room| take_in_commit(turn, room, event, source));
    }
    // A message changes no room, so none is loaded for it.
    let message = message::receive(turn, readers, room, event, source == Source::Sync)?;
    settle_reported(turn, room)?;
    // What is remembered of a refused message stays, so it is refused for good.
    Ok(match late::refuse(turn.tx, room, &message) {
        Ok(()) => Outcome::Message(message),
        Err(error) => Outcome::Failed(error.into()),
    })
}

fn take_in_commit(
    turn: &Turn<'_>,
    room: &mut Room,
    event: &RoomEvent,
    source: Source,
) -> Result<Outcome, EventError> {
    let content: CommitContent = parse(event.content.get(), "the commit")?;
    let id = event_id(event.event_id.as_ref())?;
    let said_ms = trees::said_ms(turn, event.origin_server_ts, source == Source::Sync)?;
    Ok(match commit::receive(turn, room, id, &event.sender, &content, said_ms)? {
        Processed::Entered { number, added, removed } => {
            Outcome::Commit { epoch: number, added, removed }
        }
        Processed::Known => Outcome::Duplicate,
        Processed::Announced => Outcome::State,
        Processed::NotFollowed(error) => Outcome::Failed(error),
        Processed::TooEarly(error) => Outcome::Waiting(error),
    })
}
