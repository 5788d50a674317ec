//! Taking in a sync: to-device events first (a Welcome in it may explain the timeline), then device
//! lists and key counts, then the rooms; all in one turn.

use ruma::{OwnedRoomId, RoomId};

use super::{Engine, keys};
use crate::{
    error::MlsError,
    group::{
        Turn, heal, media, members,
        share::{self, HistoryOffer},
        timeline,
        timeline::{EventOutcome, parse},
        welcome,
    },
    identity,
    machine::SyncChanges,
    protocol::{AlgorithmOnly, ToDeviceEvent, WelcomeContent, identifiers},
};

/// What a to-device event turned out to be.
pub(crate) enum ToDeviceOutcome {
    Ignored,
    Joined {
        room_id: OwnedRoomId,
        epoch: u64,
    },
    /// It offered history.
    History {
        room_id: OwnedRoomId,
    },
    Waiting(MlsError),
    Failed(MlsError),
}

/// What a sync turned out to hold.
pub(crate) struct SyncOutcome {
    pub(crate) to_device: Vec<ToDeviceOutcome>,
    pub(crate) rooms: Vec<(OwnedRoomId, Vec<EventOutcome>)>,
}

impl Engine {
    /// Takes in what a sync brought.
    pub(crate) fn receive_sync(&self, changes: &SyncChanges) -> Result<SyncOutcome, MlsError> {
        self.turn(|turn| {
            let mut to_device = Vec::with_capacity(changes.to_device.len());
            for json in &changes.to_device {
                to_device.push(receive_to_device(turn, json)?);
            }
            keys::note_device_lists(turn, &changes.changed_devices, &changes.left_devices)?;
            identity::note_counts(
                turn.tx,
                turn.identity.ciphersuite(),
                changes.one_time_key_counts.as_ref(),
                changes.unused_fallback_key_types.as_deref(),
            )?;
            let mut rooms: Vec<(OwnedRoomId, Vec<EventOutcome>)> = Vec::new();
            for room in &changes.rooms {
                let Ok(room_id) = RoomId::parse(&room.room_id) else {
                    tracing::warn!("a room without a valid id was ignored");
                    continue;
                };
                let events = room.state.len();
                let both: Vec<_> = room.state.iter().chain(&room.timeline).cloned().collect();
                members::note_state(turn, &room_id, &room.state)?;
                let mut outcomes = timeline::receive(turn, &self.opener.readers, &room_id, &both)?;
                // Old state has no result of its own: nobody waits for it.
                outcomes.drain(..events.min(outcomes.len()));
                rooms.push((room_id, outcomes));
            }
            for room_id in timeline::stirred(turn)? {
                let outcomes = timeline::receive(turn, &self.opener.readers, &room_id, &[])?;
                if outcomes.is_empty() {
                    continue;
                }
                match rooms.iter_mut().find(|(id, _)| *id == room_id) {
                    Some((_, all)) => all.extend(outcomes),
                    None => rooms.push((room_id, outcomes)),
                }
            }
            heal::synced(turn)?;
            Ok(SyncOutcome { to_device, rooms })
        })
    }
}

fn receive_to_device(turn: &Turn<'_>, json: &str) -> Result<ToDeviceOutcome, MlsError> {
    match turn.part(|| to_device(turn, json)) {
        Err(error) if error.stops_everything() => Err(error),
        Err(error) => {
            tracing::info!(code = error.code(), "to-device event not read");
            Ok(ToDeviceOutcome::Failed(error))
        }
        Ok(outcome) => Ok(outcome),
    }
}

fn to_device(turn: &Turn<'_>, json: &str) -> Result<ToDeviceOutcome, MlsError> {
    let event: ToDeviceEvent = parse(json, "the to-device event")?;
    if event.event_type != "m.room.encrypted" {
        return Ok(ToDeviceOutcome::Ignored);
    }
    match parse::<AlgorithmOnly>(event.content.get(), "the content") {
        Ok(AlgorithmOnly { algorithm }) if identifiers::is_history_algorithm(&algorithm) => {
            let offer: HistoryOffer = parse(event.content.get(), "the offer of history")?;
            return match share::receive(turn, &event.sender, &offer) {
                Ok(()) => Ok(ToDeviceOutcome::History { room_id: offer.room_id.clone() }),
                Err(error @ MlsError::UnknownEpoch { .. }) => Ok(ToDeviceOutcome::Waiting(error)),
                Err(error) => Err(error),
            };
        }
        Ok(AlgorithmOnly { algorithm })
            if identifiers::suite_of_welcome_algorithm(&algorithm).is_some() => {}
        // Olm's, for the app's other engine.
        _ => return Ok(ToDeviceOutcome::Ignored),
    }
    let content: WelcomeContent = parse(event.content.get(), "the Welcome")?;
    match turn.part(|| welcome::join(turn, &event.sender, &content)) {
        Ok(Some(epoch)) => Ok(ToDeviceOutcome::Joined { room_id: content.room_id, epoch }),
        Ok(None) => Ok(ToDeviceOutcome::Ignored),
        Err(error) if error.stops_everything() => Err(error),
        Err(error) if media::is_awaited(&error) => {
            welcome::keep(turn, &event.sender, &content)?;
            Ok(ToDeviceOutcome::Waiting(error))
        }
        Err(error) => {
            welcome::failed(turn, &content, &error)?;
            Ok(ToDeviceOutcome::Failed(error))
        }
    }
}
