//! To-device events: Welcomes, and offers of history and requests for it.
//!
//! Anybody can send them, about any room. Those about a room that counts (`room::hears`) are taken
//! in, each as a part of its own. The others are early, or of no use at all; until the room's state
//! shows up they change nothing (`early`).

use ruma::{OwnedDeviceId, OwnedRoomId, OwnedUserId, RoomId};

use super::{
    consequences::{in_room, settle_reported},
    early,
};
use crate::{
    failure::EndsTurn,
    incoming::{
        Awaited, EventError,
        lost_tree::{self, TreeOffer, TreeRequest},
        members, restart,
        welcome::{self, WaitingWelcome},
    },
    protocol::{AlgorithmOnly, ToDeviceEvent, WelcomeContent, identifiers, parse},
    rejection::Rejection,
    rejoin, room,
    secrets::{self, HandoverContent, SecretsError},
    sharing::{self, HistoryOffer, HistoryRequest},
    store::StoreError,
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
    /// Another device of this user has handed the user's secrets over.
    Secrets {
        device_id: OwnedDeviceId,
    },
    Waiting(EventError),
    Failed(EventError),
}

/// What became of a to-device event.
pub(super) enum Received {
    Done(ToDeviceOutcome),
    /// It is about a room that does not count yet, and has changed nothing.
    Early(EarlyEvent),
}

/// An event about a room that does not count yet.
pub(super) struct EarlyEvent {
    pub(super) room_id: OwnedRoomId,
    sender: OwnedUserId,
}

/// Takes in one to-device event.
pub(super) fn receive(turn: &Turn<'_>, json: &str) -> Result<Received, EventError> {
    match turn.atomically(|| take_in(turn, json)) {
        Err(error) if error.ends_turn() => Err(error),
        Err(error) => {
            tracing::info!(%error, "to-device event not read");
            Ok(Received::Done(ToDeviceOutcome::Failed(error)))
        }
        Ok(received) => Ok(received),
    }
}

/// Keeps an event until its room counts.
pub(super) fn keep_early(
    turn: &Turn<'_>,
    event: &EarlyEvent,
    json: &str,
) -> Result<ToDeviceOutcome, StoreError> {
    let EarlyEvent { room_id, sender } = event;
    Ok(if early::keep(turn, room_id, sender, json)? {
        ToDeviceOutcome::Waiting(EventError::Awaits(Awaited::Room))
    } else {
        ToDeviceOutcome::Failed(Rejection::TooManyWait.into())
    })
}

/// Takes in what is kept for a room that counts by now.
pub(super) fn take_early(turn: &Turn<'_>, room: &RoomId) -> Result<(), EventError> {
    for json in early::take(turn, room)? {
        receive(turn, &json)?;
    }
    Ok(())
}

/// Whether to-device events about a room count.
pub(super) fn hears(turn: &Turn<'_>, room: &RoomId) -> Result<bool, StoreError> {
    room::hears(turn.tx, room, &turn.identity.name().user_id)
}

fn take_in(turn: &Turn<'_>, json: &str) -> Result<Received, EventError> {
    let event: ToDeviceEvent = parse(json, "the to-device event")?;
    if event.event_type != "m.room.encrypted" {
        return Ok(Received::Done(ToDeviceOutcome::Ignored));
    }
    let content = event.content.get();
    let early = |room_id| Ok(Received::Early(EarlyEvent { room_id, sender: event.sender.clone() }));
    let outcome = match parse::<AlgorithmOnly>(content, "the content") {
        Ok(AlgorithmOnly { algorithm }) if identifiers::is_history_algorithm(&algorithm) => {
            let offer: HistoryOffer = parse(content, "the offer of history")?;
            offer.check_form(&event.sender)?;
            if !hears(turn, &offer.room_id)? {
                return early(offer.room_id);
            }
            history(turn, &event, offer)?
        }
        Ok(AlgorithmOnly { algorithm })
            if identifiers::is_history_request_algorithm(&algorithm) =>
        {
            let request: HistoryRequest = parse(content, "the request for history")?;
            // About a room that does not count there is nothing to give.
            if hears(turn, &request.room_id)? {
                sharing::asked(turn, &event.sender, request)?;
            }
            ToDeviceOutcome::Ignored
        }
        Ok(AlgorithmOnly { algorithm }) if identifiers::is_tree_request_algorithm(&algorithm) => {
            let request: TreeRequest = parse(content, "the request for a ratchet tree")?;
            if hears(turn, &request.room_id)? {
                lost_tree::asked(turn, &event.sender, request)?;
            }
            ToDeviceOutcome::Ignored
        }
        Ok(AlgorithmOnly { algorithm }) if identifiers::is_tree_algorithm(&algorithm) => {
            let offer: TreeOffer = parse(content, "the offer of a ratchet tree")?;
            if lost_tree::came(turn, &event.sender, &offer)? {
                in_room(turn, &offer.room_id, |room| {
                    rejoin::tree_came(room);
                    Ok::<_, EventError>(())
                })?;
            }
            ToDeviceOutcome::Ignored
        }
        Ok(AlgorithmOnly { algorithm })
            if identifiers::suite_of_welcome_algorithm(&algorithm).is_some() =>
        {
            let content: WelcomeContent = parse(content, "the Welcome")?;
            if content.sender.user_id != event.sender {
                let reason = "the event names another user as sender";
                return Err(Rejection::SenderMismatch(reason).into());
            }
            if !hears(turn, &content.room_id)? {
                return early(content.room_id);
            }
            welcome(turn, &event, content)?
        }
        Ok(AlgorithmOnly { algorithm }) if algorithm == identifiers::SECRETS_ALGORITHM => {
            let content: HandoverContent = parse(content, "the secrets")?;
            match secrets::receive(turn, &event.sender, content) {
                Ok(Some(device_id)) => ToDeviceOutcome::Secrets { device_id },
                // The verification is not done here yet.
                Ok(None) => ToDeviceOutcome::Ignored,
                Err(SecretsError::Failure(failure)) => return Err(failure.into()),
                Err(error) => {
                    tracing::info!(%error, "secrets of another device are not taken");
                    return Err(Rejection::UnaskedSecrets.into());
                }
            }
        }
        // Olm's, for the app's other engine.
        _ => ToDeviceOutcome::Ignored,
    };
    Ok(Received::Done(outcome))
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
    let waiting = WaitingWelcome { sender: event.sender.clone(), content, since_ms: turn.now_ms };
    match join(turn, &waiting) {
        Ok(Some(epoch)) => Ok(ToDeviceOutcome::Joined { room_id: waiting.content.room_id, epoch }),
        Ok(None) => Ok(ToDeviceOutcome::Ignored),
        Err(error) if error.ends_turn() => Err(error),
        Err(error) if welcome::has_to_wait(&error) => {
            match error {
                EventError::Awaits(Awaited::Sender) => {
                    members::want(turn, &waiting.content.room_id)?;
                }
                EventError::Awaits(Awaited::Restart(group)) => {
                    restart::want(turn, &waiting.content.room_id, group)?;
                }
                _ => {}
            }
            welcome::keep(turn, waiting)?;
            Ok(ToDeviceOutcome::Waiting(error))
        }
        Err(error) => {
            failed(turn, &waiting, &error)?;
            Ok(ToDeviceOutcome::Failed(error))
        }
    }
}

fn join(turn: &Turn<'_>, welcome: &WaitingWelcome) -> Result<Option<u64>, EventError> {
    let WaitingWelcome { sender, content, .. } = welcome;
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

/// Tries the Welcomes of a room that wait, and what came before the room's state.
pub(super) fn retry(turn: &Turn<'_>, room: &RoomId) -> Result<(), EventError> {
    if !hears(turn, room)? {
        return Ok(());
    }
    take_early(turn, room)?;
    retry_welcomes(turn, room)?;
    sharing::retry(turn, room)
}

fn retry_welcomes(turn: &Turn<'_>, room: &RoomId) -> Result<(), EventError> {
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
