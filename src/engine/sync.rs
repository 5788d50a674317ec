//! Taking in a sync: to-device events first (a Welcome in it may explain the timeline), then device
//! lists and key counts, then the rooms; all in one turn.

use ruma::{OwnedRoomId, RoomId};

use super::{
    answers,
    core::Engine,
    error::EngineError,
    events,
    to_device::{self, ToDeviceOutcome},
    upkeep,
};
use crate::{
    exported::{RoomChanges, SyncChanges},
    identity,
    incoming::{ReceivedEvent, members},
    messages::Readers,
    rejoin,
    room::woken,
    turn::Turn,
};

/// What a sync turned out to hold.
pub(crate) struct SyncOutcome {
    pub(crate) to_device: Vec<ToDeviceOutcome>,
    pub(crate) rooms: Vec<(OwnedRoomId, Vec<ReceivedEvent>)>,
}

impl Engine {
    /// Takes in what a sync brought.
    pub(crate) fn receive_sync(&self, changes: &SyncChanges) -> Result<SyncOutcome, EngineError> {
        self.turn(|turn| {
            let mut to_device = Vec::with_capacity(changes.to_device.len());
            for json in &changes.to_device {
                to_device.push(to_device::receive(turn, json)?);
            }
            upkeep::note_device_lists(turn, &changes.changed_devices, &changes.left_devices)?;
            identity::note_counts(
                turn.tx,
                turn.identity.ciphersuite(),
                changes.one_time_key_counts.as_ref(),
                changes.unused_fallback_key_types.as_deref(),
            )?;
            let readers = &self.opener.readers;
            let mut rooms: Vec<(OwnedRoomId, Vec<ReceivedEvent>)> = Vec::new();
            for changes in &changes.rooms {
                let Ok(room) = RoomId::parse(&changes.room_id) else {
                    tracing::warn!("a room without a valid id was ignored");
                    continue;
                };
                let events = receive_room(turn, readers, &room, changes)?;
                rooms.push((room, events));
            }
            for room in woken(turn.tx)? {
                let events = events::receive(turn, readers, &room, &[])?;
                if events.is_empty() {
                    continue;
                }
                match rooms.iter_mut().find(|(id, _)| *id == room) {
                    Some((_, all)) => all.extend(events),
                    None => rooms.push((room, events)),
                }
            }
            rejoin::mark_synced(turn)?;
            answers::has_worked(turn)?;
            Ok(SyncOutcome { to_device, rooms })
        })
    }
}

/// Takes in one room's state and timeline; the results are those of the timeline, and of what waited.
fn receive_room(
    turn: &Turn<'_>,
    readers: &Readers,
    room: &RoomId,
    changes: &RoomChanges,
) -> Result<Vec<ReceivedEvent>, EngineError> {
    members::note_state(turn, room, &changes.state)?;
    let both: Vec<_> = changes.state.iter().chain(&changes.timeline).cloned().collect();
    let mut received = events::receive(turn, readers, room, &both)?;
    // Nobody waits for a result of old state.
    received.drain(..changes.state.len().min(received.len()));
    Ok(received)
}
