//! Taking in a sync: to-device events first (a Welcome in it may explain the timeline), then device
//! lists and key counts, then the rooms. A to-device event about a room that the sync itself shows
//! for the first time is taken in with that room's state.
//!
//! Most syncs are one turn. A long one is several, so that nobody waits for the lock until all of
//! it is done. What the turns before a failure have brought is told with the next sync.

use std::thread;

use ruma::RoomId;

use super::{
    answers, clock, connections,
    core::Engine,
    error::EngineError,
    events::{Intake, Source},
    outcomes::{RoomOutcomes, SyncOutcome},
    own_keys,
    to_device::{self, Received, ToDeviceOutcome},
    upkeep::{self, BETWEEN_TURNS},
    verification,
};
use crate::{
    epochs::pruning,
    exported::{RoomChanges, SyncChanges},
    identity,
    incoming::{ReceivedEvent, members},
    rejoin,
    room::{self, woken},
    turn::Turn,
    verification::Secrets,
};

/// How far a sync has come.
struct Progress<'a> {
    /// To-device events, device lists and key counts were taken in.
    begun: bool,
    /// The rooms whose events are on their way in with what the sync says of each, those that the
    /// sync woke last.
    intakes: Vec<(Intake<'a>, Option<&'a RoomChanges>)>,
    /// How many of them are done.
    done: usize,
    /// Rooms that something has woken are among them.
    woken: bool,
}

impl Engine {
    /// Takes in what a sync brought.
    pub(crate) fn receive_sync(&self, changes: &SyncChanges) -> Result<SyncOutcome, EngineError> {
        let intakes = changes.rooms.iter().filter_map(intake).collect();
        let mut progress = Progress { begun: false, intakes, done: 0, woken: false };
        let mut outcome =
            SyncOutcome { to_device: Vec::new(), rooms: std::mem::take(&mut self.lock().untold) };
        loop {
            let mut to_device = Vec::new();
            let turned = self.repeatable_turn(|turn| {
                self.go_on_with_sync(turn, changes, &mut progress, &mut to_device)
            });
            let is_done = match turned {
                Ok(is_done) => is_done,
                Err(error) => {
                    // What is on disk already may be shown once only.
                    self.keep_untold(outcome.rooms);
                    return Err(error);
                }
            };
            outcome.to_device.append(&mut to_device);
            for (intake, _) in &mut progress.intakes {
                for (at, heard) in intake.take_heard() {
                    if let Some(result) = outcome.to_device.get_mut(at) {
                        *result = heard;
                    }
                }
            }
            collect(&mut outcome.rooms, &mut progress.intakes);
            if is_done {
                return Ok(outcome);
            }
            // Whoever waits for the lock gets it now.
            thread::sleep(BETWEEN_TURNS);
        }
    }

    /// Takes in events of one room.
    pub(crate) fn receive_events(
        &self,
        room: &RoomId,
        events: &[String],
    ) -> Result<Vec<ReceivedEvent>, EngineError> {
        let mut intake =
            Intake::new(room.to_owned(), events.iter().collect(), 0..events.len(), Source::History);
        let mut received = Vec::new();
        loop {
            let turned = self.repeatable_turn(|turn| {
                let is_done = intake.go_on(turn, &self.opener.readers)?;
                if is_done {
                    turn.tx.promise();
                }
                Ok(is_done)
            });
            let is_done = match turned {
                Ok(is_done) => is_done,
                Err(error) => {
                    self.keep_untold(vec![(room.to_owned(), received)]);
                    return Err(error);
                }
            };
            received.append(&mut intake.take_received());
            if is_done {
                return Ok(received);
            }
            thread::sleep(BETWEEN_TURNS);
        }
    }

    /// Keeps results for the next sync.
    fn keep_untold(&self, rooms: RoomOutcomes) {
        let rooms = rooms.into_iter().filter(|(_, received)| !received.is_empty());
        self.lock().untold.extend(rooms);
    }

    /// One turn of a sync; tells whether it was the last.
    fn go_on_with_sync<'a>(
        &self,
        turn: &Turn<'_>,
        changes: &'a SyncChanges,
        progress: &mut Progress<'a>,
        to_device: &mut Vec<ToDeviceOutcome>,
    ) -> Result<bool, EngineError> {
        if !progress.begun {
            begin(turn, &self.secrets, changes, progress, to_device)?;
            progress.begun = true;
        }
        loop {
            while let Some((intake, changes)) = progress.intakes.get_mut(progress.done) {
                let is_done = intake.go_on(turn, &self.opener.readers)?;
                verification::receive_sealed(turn, &self.secrets, intake)?;
                if !is_done {
                    return Ok(false);
                }
                if let Some(changes) = changes {
                    let room = &intake.room;
                    verification::receive_plain(turn, &self.secrets, room, changes)?;
                    room::edit(turn.tx, room, |room| members::note_sync(turn, room, changes))?;
                }
                progress.done += 1;
            }
            if progress.woken {
                connections::end(turn, changes)?;
                rejoin::mark_synced(turn)?;
                answers::has_worked(turn)?;
                // The app goes on from here, and is not given this sync again.
                turn.tx.promise();
                return Ok(true);
            }
            progress.woken = true;
            let woken = woken(turn.tx)?.into_iter();
            progress.intakes.extend(woken.map(|room| (Intake::woken(room), None)));
        }
    }
}

/// What comes before the rooms' events.
fn begin<'a>(
    turn: &Turn<'_>,
    secrets: &Secrets,
    changes: &'a SyncChanges,
    progress: &mut Progress<'a>,
    to_device: &mut Vec<ToDeviceOutcome>,
) -> Result<(), EngineError> {
    pruning::note_sync(turn)?;
    for json in &changes.to_device {
        if verification::receive_to_device(turn, secrets, json)? {
            to_device.push(ToDeviceOutcome::Ignored);
            continue;
        }
        let early = match to_device::receive(turn, json)? {
            Received::Done(outcome) => {
                to_device.push(outcome);
                continue;
            }
            Received::Early(early) => early,
        };
        let mut intakes = progress.intakes.iter_mut().map(|(intake, _)| intake);
        match intakes.find(|intake| intake.room == early.room_id) {
            // The rest of the sync may explain it.
            Some(intake) => {
                intake.wait_with(to_device.len(), early, json);
                to_device.push(ToDeviceOutcome::Ignored);
            }
            None => to_device.push(to_device::keep_early(turn, &early, json)?),
        }
    }
    connections::begin(turn, changes)?;
    if let Some(lists) = &changes.device_lists {
        upkeep::note_device_lists(turn, &lists.changed, &lists.left)?;
    }
    own_keys::note_counts(turn, changes)?;
    identity::note_counts(
        turn.tx,
        turn.identity.ciphersuite(),
        changes.one_time_key_counts.as_ref(),
        changes.unused_fallback_key_types.as_deref(),
    )?;
    clock::compare(turn, &changes.rooms)?;
    for changes in &changes.rooms {
        if let Ok(room) = RoomId::parse(&changes.room_id) {
            members::note_state(turn, &room, changes)?;
        }
    }
    Ok(())
}

/// A room's state and timeline. Nobody waits for the results of state beside the timeline.
fn intake(changes: &RoomChanges) -> Option<(Intake<'_>, Option<&RoomChanges>)> {
    let Ok(room) = RoomId::parse(&changes.room_id) else {
        tracing::warn!("a room without a valid id was ignored");
        return None;
    };
    let RoomChanges { state, timeline, state_after, .. } = changes;
    let events = state.iter().chain(timeline).chain(state_after).collect();
    let told = state.len()..state.len() + timeline.len();
    Some((Intake::new(room, events, told, Source::Sync), Some(changes)))
}

/// Adds what a turn has brought to what the ones before it did.
fn collect(rooms: &mut RoomOutcomes, intakes: &mut [(Intake<'_>, Option<&RoomChanges>)]) {
    for (intake, _) in intakes {
        let mut received = intake.take_received();
        match rooms.iter_mut().find(|(id, _)| *id == intake.room) {
            Some((_, all)) => all.append(&mut received),
            None if intake.is_of_sync() || !received.is_empty() => {
                rooms.push((intake.room.clone(), received));
            }
            None => {}
        }
    }
}
