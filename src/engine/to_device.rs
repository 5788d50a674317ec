//! To-device events: Welcomes, and offers of history.

use ruma::{OwnedRoomId, RoomId};

use super::consequences::{in_room, settle_reported};
use crate::{
    failure::EndsTurn,
    incoming::{
        Awaited, EventError, members,
        welcome::{self, WaitingWelcome},
    },
    protocol::{AlgorithmOnly, ToDeviceEvent, WelcomeContent, identifiers, parse},
    room,
    sharing::{self, HistoryOffer},
    turn::Turn,
};

/// What a to-device event turned out to be.
pub(crate) enum ToDeviceOutcome {
    Ignored,
    /// A Welcome let this device into the room's group.
    Joined {
        room_id: OwnedRoomId,
        epoch: u64,
    },
    /// A member gave this device what was said before.
    History {
        room_id: OwnedRoomId,
    },
    Waiting(EventError),
    Failed(EventError),
}

/// Takes in one to-device event.
pub(super) fn receive(turn: &Turn<'_>, json: &str) -> Result<ToDeviceOutcome, EventError> {
    match turn.atomically(|| take_in(turn, json)) {
        Err(error) if error.ends_turn() => Err(error),
        Err(error) => {
            tracing::info!(%error, "to-device event not read");
            Ok(ToDeviceOutcome::Failed(error))
        }
        Ok(outcome) => Ok(outcome),
    }
}

fn take_in(turn: &Turn<'_>, json: &str) -> Result<ToDeviceOutcome, EventError> {
    let event: ToDeviceEvent = parse(json, "the to-device event")?;
    if event.event_type != "m.room.encrypted" {
        return Ok(ToDeviceOutcome::Ignored);
    }
    let content = event.content.get();
    match parse::<AlgorithmOnly>(content, "the content") {
        Ok(AlgorithmOnly { algorithm }) if identifiers::is_history_algorithm(&algorithm) => {
            history(turn, &event, parse(content, "the offer of history")?)
        }
        Ok(AlgorithmOnly { algorithm })
            if identifiers::suite_of_welcome_algorithm(&algorithm).is_some() =>
        {
            welcome(turn, &event, parse(content, "the Welcome")?)
        }
        // Olm's, for the app's other engine.
        _ => Ok(ToDeviceOutcome::Ignored),
    }
}

fn history(
    turn: &Turn<'_>,
    event: &ToDeviceEvent,
    offer: HistoryOffer,
) -> Result<ToDeviceOutcome, EventError> {
    match sharing::receive(turn, &event.sender, &offer) {
        Ok(()) => Ok(ToDeviceOutcome::History { room_id: offer.room_id }),
        Err(error @ EventError::Awaits(_)) => {
            if error == EventError::Awaits(Awaited::Sender) {
                members::want(turn, &offer.room_id)?;
            }
            Ok(ToDeviceOutcome::Waiting(error))
        }
        Err(error) => Err(error),
    }
}

fn welcome(
    turn: &Turn<'_>,
    event: &ToDeviceEvent,
    content: WelcomeContent,
) -> Result<ToDeviceOutcome, EventError> {
    let waiting = WaitingWelcome { sender: event.sender.clone(), content };
    match join(turn, &waiting) {
        Ok(Some(epoch)) => Ok(ToDeviceOutcome::Joined { room_id: waiting.content.room_id, epoch }),
        Ok(None) => Ok(ToDeviceOutcome::Ignored),
        Err(error) if error.ends_turn() => Err(error),
        Err(error) if welcome::has_to_wait(&error) => {
            welcome::keep(turn, &event.sender, &waiting.content)?;
            Ok(ToDeviceOutcome::Waiting(error))
        }
        Err(error) => {
            failed(turn, &waiting, &error)?;
            Ok(ToDeviceOutcome::Failed(error))
        }
    }
}

fn join(turn: &Turn<'_>, welcome: &WaitingWelcome) -> Result<Option<u64>, EventError> {
    let WaitingWelcome { sender, content } = welcome;
    turn.atomically(|| {
        in_room(turn, &content.room_id, |room| welcome::join(turn, room, sender, content))
    })
}

fn failed(turn: &Turn<'_>, welcome: &WaitingWelcome, error: &EventError) -> Result<(), EventError> {
    let room_id = &welcome.content.room_id;
    if let Some(room) = room::find(turn.tx, room_id)? {
        welcome::failed(turn, &room, error)?;
    }
    Ok(settle_reported(turn, room_id)?)
}

/// Tries the Welcomes of a room that wait.
pub(super) fn retry_welcomes(turn: &Turn<'_>, room: &RoomId) -> Result<(), EventError> {
    for waiting in welcome::waiting(turn, room)? {
        match join(turn, &waiting) {
            Err(error) if error.ends_turn() => return Err(error),
            Err(error) if welcome::has_to_wait(&error) => continue,
            Err(error) => failed(turn, &waiting, &error)?,
            Ok(_) => {}
        }
        welcome::remove(turn, &waiting.content)?;
    }
    Ok(())
}
