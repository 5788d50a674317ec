//! Verifications, as far as they need the whole engine: calls of the app, events of a sync, and
//! sealing what goes into a room that uses MLS.

use ruma::{OwnedDeviceId, OwnedRoomId, RoomId, UserId};
use serde_json::value::RawValue;

use super::{core::Engine, error::EngineError, events::Intake, prepare::Readiness};
use crate::{
    exported::RoomChanges,
    failure::{EndsTurn, Failure},
    history::restored::Source,
    homeserver_time,
    incoming::Outcome,
    protocol::{RoomEvent, parse},
    room, secrets,
    turn::Turn,
    verification::{self, Act, Flow, Parcel, RoomEventIn, Secrets, VerificationError},
};

/// What every event of a verification has in its type or content.
const MARK: &str = "m.key.verification.";

impl Engine {
    /// Asks a user for a verification, on their devices or in a room; the verification's id.
    pub(crate) fn request_verification(
        &self,
        user: &UserId,
        device: Option<OwnedDeviceId>,
        room: Option<OwnedRoomId>,
    ) -> Result<String, EngineError> {
        self.turn(|turn| {
            Ok(verification::request(turn, &self.secrets, user, device.clone(), room.clone())?)
        })
    }

    /// Does what the user has decided about a verification.
    pub(crate) fn act_on_verification(&self, id: &str, act: Act) -> Result<(), EngineError> {
        self.turn(|turn| Ok(verification::act(turn, &self.secrets, id, act)?))
    }

    /// Hands this user's secrets to the device of a verification that is done.
    pub(crate) fn offer_secrets(&self, id: &str) -> Result<(), EngineError> {
        self.turn(|turn| {
            verification::expire(turn, &self.secrets)?;
            Ok(secrets::offer(turn, id)?)
        })
    }

    /// Sends and takes no secrets by a verification any more.
    pub(crate) fn withdraw_secrets(&self, id: &str) -> Result<bool, EngineError> {
        self.turn(|turn| {
            turn.note_deleted_keys();
            Ok(secrets::withdraw(turn, id)?)
        })
    }

    /// A verification.
    pub(crate) fn verification(&self, id: &str) -> Result<Flow, EngineError> {
        let flow = self.turn(|turn| {
            verification::expire(turn, &self.secrets)?;
            Ok(verification::find(turn.tx, id)?)
        })?;
        flow.ok_or_else(|| VerificationError::Unknown.into())
    }

    /// The verifications that go on.
    pub(crate) fn verifications(&self) -> Result<Vec<Flow>, EngineError> {
        self.turn(|turn| {
            verification::expire(turn, &self.secrets)?;
            Ok(verification::open(turn.tx)?)
        })
    }

    /// Seals what verifications have to say in rooms that use MLS and are ready to be sent to. The
    /// others are made ready, which takes requests and answers, so this is called again.
    pub(super) fn seal_verifications(&self) -> Result<(), EngineError> {
        for (id, room, Parcel { event_type, content, .. }) in self.read(verification::to_seal)? {
            let sealed = RawValue::from_string(content)
                .map_err(|error| Failure::defect("verification", error).into())
                .and_then(|content| match self.prepare(&room)? {
                    Readiness::Waiting { .. } => Ok(None),
                    Readiness::Ready => self.encrypt(&room, &event_type, &content).map(Some),
                });
            match sealed {
                Ok(None) => {}
                Ok(Some(content)) => self.turn(|turn| {
                    Ok(verification::sealed(turn, &self.secrets, &id, &room, &content)?)
                })?,
                Err(error) if error.ends_turn() => return Err(error),
                Err(error) => {
                    tracing::info!(%room, %error, "an event of a verification is not sealed");
                    self.turn(|turn| {
                        Ok(verification::refused(turn, &self.secrets, &id, &error.to_string())?)
                    })?;
                }
            }
        }
        Ok(())
    }
}

/// Takes in an event that was sent to this device; tells whether it is one of a verification.
pub(super) fn receive_to_device(
    turn: &Turn<'_>,
    secrets: &Secrets,
    json: &str,
) -> Result<bool, EngineError> {
    if !json.contains(MARK) {
        return Ok(false);
    }
    let homeserver_ms = homeserver_time::now_ms(turn)?;
    alone(turn, true, || verification::receive_to_device(turn, secrets, homeserver_ms, json))
}

/// Takes in one event as a part of its own: one that fails, fails alone.
fn alone<T>(
    turn: &Turn<'_>,
    otherwise: T,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, EngineError> {
    match turn.atomically(work) {
        Err(error) if error.ends_turn() => Err(error.into()),
        Err(error) => {
            tracing::warn!(%error, "an event of a verification is not taken in");
            Ok(otherwise)
        }
        Ok(value) => Ok(value),
    }
}

/// Takes in what was sealed among the messages that this turn has opened.
pub(super) fn receive_sealed(
    turn: &Turn<'_>,
    secrets: &Secrets,
    intake: &Intake<'_>,
) -> Result<(), EngineError> {
    for received in intake.received() {
        let Outcome::Message(message) = &received.outcome else { continue };
        let is_of_verification =
            message.event_type.starts_with(MARK) || message.content.contains(MARK);
        // What a backup or another member has given may be made up.
        if !is_of_verification || !matches!(message.source, Source::Own) {
            continue;
        }
        let Some(event_id) = &message.event_id else { continue };
        let event = RoomEventIn {
            room: &intake.room,
            event_id,
            sender: &message.sender.user_id,
            device: Some(&message.sender.device_id),
            event_type: &message.event_type,
            content: &message.content,
            sent_ms: intake.sent_ms(event_id.as_str()),
        };
        receive_in_room(turn, secrets, &event)?;
    }
    Ok(())
}

/// Takes in what stands in clear in a room's timeline.
pub(super) fn receive_plain(
    turn: &Turn<'_>,
    secrets: &Secrets,
    room_id: &RoomId,
    changes: &RoomChanges,
) -> Result<(), EngineError> {
    let mut events = changes.timeline.iter().filter(|json| json.contains(MARK)).peekable();
    // What a room with MLS says in clear, nobody of its members has said.
    if events.peek().is_none() || room::find(turn.tx, room_id)?.is_some_and(|room| room.uses_mls())
    {
        return Ok(());
    }
    for json in events {
        let Ok(event) = parse::<RoomEvent>(json, "the event") else { continue };
        let (None, Some(event_id)) = (&event.state_key, &event.event_id) else { continue };
        let event = RoomEventIn {
            room: room_id,
            event_id,
            sender: &event.sender,
            device: None,
            event_type: &event.event_type,
            content: event.content.get(),
            sent_ms: event.origin_server_ts,
        };
        receive_in_room(turn, secrets, &event)?;
    }
    Ok(())
}

fn receive_in_room(
    turn: &Turn<'_>,
    secrets: &Secrets,
    event: &RoomEventIn<'_>,
) -> Result<(), EngineError> {
    let homeserver_ms = homeserver_time::now_ms(turn)?;
    alone(turn, (), || verification::receive_in_room(turn, secrets, homeserver_ms, event))
}
