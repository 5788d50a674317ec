//! Rooms whose state no sync has shown.
//!
//! An app that kept its sync's position from the time before it had this library is told what
//! changes in a room, and not that the room uses MLS. What strangers send must not say it either
//! (`room::hears`). So where something comes for such a room that would count in an MLS room, the
//! homeserver is asked for the room's encryption, which stands in a state event of its own or in
//! the room's creation, and what came waits for the answer.

use ruma::{RoomId, api::client::state::get_state_event_for_key, events::StateEventType};
use serde::{Deserialize, Serialize};

use super::{error::EventError, state};
use crate::{
    failure::Failure,
    protocol::{AlgorithmOnly, CreateContent},
    rejection::Rejection,
    requests::{self, EncryptionPlace, Purpose},
    room::{self, Room},
    store::Collection,
    turn::Turn,
};

/// After how long a homeserver is asked again that named no algorithm, in milliseconds.
const ASK_AGAIN_MS: u64 = 60 * 60 * 1000;

/// When the homeserver was asked last, in milliseconds since 1970.
#[derive(Serialize, Deserialize)]
struct Asked {
    at_ms: u64,
}

const ASKED: Collection<Asked> = Collection::new("asked_for_encryption");

/// Asks for a room's encryption, where syncs show the room and nothing of its state.
pub(crate) fn ask(turn: &Turn<'_>, room_id: &RoomId) -> Result<(), Failure> {
    if let Some(room) = room::find(turn.tx, room_id)?
        && (is_shown(&room) || room.state.own_user_left)
    {
        return Ok(());
    }
    let asked = ASKED.get(turn.tx, b"", room_id.as_bytes())?;
    if asked.is_some_and(|asked| !turn.has_passed(asked.at_ms, ASK_AGAIN_MS)) {
        return Ok(());
    }
    ASKED.put(turn.tx, b"", room_id.as_bytes(), &Asked { at_ms: turn.now_ms })?;
    request(turn, room_id, EncryptionPlace::Encryption)
}

fn request(turn: &Turn<'_>, room_id: &RoomId, place: EncryptionPlace) -> Result<(), Failure> {
    let event_type = match place {
        EncryptionPlace::Encryption => StateEventType::RoomEncryption,
        EncryptionPlace::Creation => StateEventType::RoomCreate,
    };
    let room_id = room_id.to_owned();
    let request =
        get_state_event_for_key::v3::Request::new(room_id.clone(), event_type, String::new());
    let scope = room_id.clone();
    let purpose = Purpose::FetchEncryption { room_id, place };
    requests::enqueue(turn.tx, scope.as_bytes(), turn.now_ms, purpose, request).map(drop)
}

/// Whether a sync has shown the room's creation, or its encryption.
fn is_shown(room: &Room) -> bool {
    room.state.algorithm.is_some() || room.state.create_event.is_some()
}

/// The homeserver has given the content of a room's state.
pub(crate) fn answered(
    turn: &Turn<'_>,
    room: &mut Room,
    place: EncryptionPlace,
    body: &[u8],
) -> Result<(), EventError> {
    let malformed = |_| Rejection::MalformedAnswer("the answer is no content of a room's state");
    let named = match place {
        EncryptionPlace::Encryption => Some(serde_json::from_slice(body).map_err(malformed)?),
        EncryptionPlace::Creation => {
            serde_json::from_slice::<CreateContent>(body).map_err(malformed)?.encryption
        }
    };
    match named {
        Some(AlgorithmOnly { algorithm }) if !is_shown(room) => {
            state::set_algorithm(turn, room, algorithm)
        }
        _ => Ok(()),
    }
}

/// The homeserver does not have such state of a room, or does not show it.
pub(crate) fn refused(
    turn: &Turn<'_>,
    room_id: &RoomId,
    place: EncryptionPlace,
    status: u16,
) -> Result<(), Failure> {
    match (place, status) {
        (EncryptionPlace::Encryption, 404) => request(turn, room_id, EncryptionPlace::Creation),
        _ => Ok(()),
    }
}
