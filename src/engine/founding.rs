//! Founding a room's group with all its members at once, in turns with the long part between them.
//!
//! The group is made outside of the turn's lock, so messages of other rooms are sealed and opened
//! meanwhile. One group is made at a time: what is in memory for it grows with the room. A
//! suspended engine ends the work, and it begins anew with the next call (`commits::founding`).

use std::sync::PoisonError;

use ruma::{OwnedRoomId, RoomId};

use super::{consequences::in_room, core::Engine, error::EngineError, prepare::founding_step};
use crate::{
    commits::{self, Founders},
    failure::EndsTurn,
    messages::SendError,
    room,
    store::StoreError,
    turn::Turn,
};

impl Engine {
    /// Makes the group of a room from what was collected for it. Where that cannot be done, the
    /// room begins with a group of one, and its members come by commits.
    pub(super) fn found(&self, room: &RoomId, founders: Founders) -> Result<(), EngineError> {
        // Nothing is behind this lock but the work itself.
        let _one_at_a_time = self.founding.lock().unwrap_or_else(PoisonError::into_inner);
        // Another call may have made the group while this one has waited.
        if !self.read(|tx| room::load(tx, room))?.standing.is_gathering() {
            return Ok(());
        }
        let stop = || self.is_suspended();
        let made = match founders.found(&self.opener.crypto, &self.identity, &stop) {
            Ok(None) => return Err(StoreError::Suspended.into()),
            Ok(Some(new)) => self.repeatable_turn(|turn| {
                let stage = |room: &mut room::Room| commits::stage_founding(turn, room, new);
                Ok(turn.atomically(|| in_room(turn, room, stage))?)
            }),
            Err(error) => Err(error.into()),
        };
        match made {
            Err(error) if !error.ends_turn() => {
                tracing::warn!(%room, %error, "a group cannot be founded in one step");
                self.repeatable_turn(|turn| {
                    let alone = |room: &mut room::Room| commits::found_alone(turn, room);
                    Ok(in_room(turn, room, alone).map(drop)?)
                })
            }
            made => made,
        }
    }
}

/// Does the next step of every founding, whether or not something is to be sent: others wait for
/// the group. Gives the groups that can be made.
pub(super) fn found_rooms(turn: &Turn<'_>) -> Result<Vec<(OwnedRoomId, Founders)>, EngineError> {
    let mut ready = Vec::new();
    for room_id in commits::founding_rooms(turn)? {
        let mut founders = None;
        let stepped = turn.atomically(|| {
            in_room(turn, &room_id, |room| founding_step(turn, room, &mut founders).map(drop))
        });
        match stepped {
            Ok(()) => ready.extend(founders.map(|founders| (room_id, founders))),
            Err(error) if SendError::ends_turn(&error) => return Err(error.into()),
            Err(error) => tracing::info!(room = %room_id, %error, "the founding waits"),
        }
    }
    Ok(ready)
}
