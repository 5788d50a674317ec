//! What the room's state says of a group with which the room was started anew.
//!
//! The state names an announcement. Where this device has not seen that, it is asked for by its
//! event id (`epochs::restarts` decides what counts). What comes of a group that the state does not
//! name waits. A gap in what syncs show can hide the state: so where something waits for it, the
//! homeserver is asked for the state once an hour.

use ruma::{
    EventId, RoomId,
    api::client::{
        room::get_room_event,
        state::get_state_event_for_key::v3::{Request as GetState, StateEventFormat},
    },
};
use serde::{Deserialize, Serialize};

use super::{error::EventError, walk};
use crate::{
    epochs::{JoinableEpoch, missing, restarts},
    failure::Failure,
    protocol::{CommitContent, GroupName, RestartContent, RoomEvent, identifiers, parse},
    requests::{self, Purpose, REQUESTS},
    room::{self, Room, wake},
    store::{Collection, StoreError},
    turn::Turn,
};

/// After how long a homeserver is asked again for the state, in milliseconds.
const ASK_AGAIN_MS: u64 = 60 * 60 * 1000;

/// Something waits for a group that the state does not name.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Wanted {
    /// The highest number of such a group.
    number: u64,
    /// When the homeserver was asked last, in milliseconds since 1970.
    asked_ms: Option<u64>,
}

const WANTED: Collection<Wanted> = Collection::new("wanted_restart");

/// Whether an event is the state that says it.
pub(crate) fn is_one(event: &RoomEvent) -> bool {
    event.state_key.as_deref() == Some("") && identifiers::is_restart(&event.event_type)
}

/// Takes in the state that says it: now, or at some time in the past.
pub(super) fn receive(
    turn: &Turn<'_>,
    room: &mut Room,
    event: &RoomEvent,
    is_news: bool,
) -> Result<(), EventError> {
    let content: RestartContent = parse(event.content.get(), "the restart")?;
    restarts::claim(turn.tx, room, &event.sender, &content, is_news)?;
    look(turn, room)?;
    Ok(())
}

/// An announcement of a later group has come.
pub(super) fn announced(
    turn: &Turn<'_>,
    room: &mut Room,
    shown: &JoinableEpoch,
) -> Result<(), EventError> {
    if restarts::announced(turn.tx, &room.id, shown)? {
        look(turn, room)?;
    } else {
        // What is based on it waits for the state, and asks for nothing.
        missing::mark_before_joining(turn, &room.id, shown.commit_event.as_str())?;
    }
    Ok(())
}

/// A commit has come of a group that does not count yet. Where it shows that a member has gone on
/// there, and the group counts with that, the room is woken, and the commit is tried again.
pub(super) fn vouched_for(
    turn: &Turn<'_>,
    room: &mut Room,
    event: &EventId,
    content: &CommitContent,
) -> Result<(), EventError> {
    if restarts::is_any(turn.tx, &room.id)? {
        let commit = JoinableEpoch::read(turn, &room.id, event, content)?;
        if restarts::vouch(turn, room, &commit)? {
            look(turn, room)?;
        }
    }
    Ok(())
}

/// Looks at what the state has said, and asks for the announcements that are missing. Gives the
/// requests whose answers decide.
pub(crate) fn look(turn: &Turn<'_>, room: &mut Room) -> Result<Vec<i64>, Failure> {
    if !restarts::is_any(turn.tx, &room.id)? {
        return Ok(Vec::new());
    }
    let mut requests = Vec::new();
    let mut unknown = restarts::settle(turn, room)?;
    if unknown.is_empty() {
        return Ok(requests);
    }
    for (id, queued) in REQUESTS.in_scope(turn.tx, room.id.as_bytes())? {
        if let Purpose::FetchEvent { event_id, .. } = &queued.purpose
            && unknown.contains(event_id)
        {
            unknown.retain(|event| event != event_id);
            requests.push(id);
        }
    }
    for event_id in unknown {
        if walk::is_looking_for(turn, &room.id, &event_id)?
            || missing::is_refused(turn, &room.id, &event_id)?
            || missing::is_hopeless(turn, &room.id, event_id.as_str())?
        {
            continue;
        }
        // Whatever the answer holds, it is not asked for again at once.
        missing::put_off(turn, &room.id, &event_id)?;
        let request = get_room_event::v3::Request::new(room.id.clone(), event_id.clone());
        let purpose = Purpose::FetchEvent { room_id: room.id.clone(), event_id };
        let scope = room.id.as_bytes();
        requests.push(requests::enqueue(turn.tx, scope, turn.now_ms, purpose, request)?);
    }
    Ok(requests)
}

/// Something of a group that the state does not name waits.
pub(crate) fn want(turn: &Turn<'_>, room: &RoomId, group: GroupName) -> Result<(), StoreError> {
    let (known, number) = (WANTED.get(turn.tx, room.as_bytes(), b"")?, group.number());
    if known.is_some_and(|known| known.number >= number) {
        return Ok(());
    }
    let asked_ms = known.and_then(|known| known.asked_ms);
    WANTED.put(turn.tx, room.as_bytes(), b"", &Wanted { number, asked_ms })?;
    wake(turn.tx, room)
}

/// Asks for the state where something waits for it, and nothing that is known explains it.
pub(crate) fn ask(turn: &Turn<'_>, room_id: &RoomId) -> Result<(), Failure> {
    let scope = room_id.as_bytes();
    let Some(wanted) = WANTED.get(turn.tx, scope, b"")? else { return Ok(()) };
    let room = room::load(turn.tx, room_id)?;
    if wanted.number <= room.group().number() {
        WANTED.delete(turn.tx, scope, b"")?;
        return Ok(());
    }
    let is_asked = wanted.asked_ms.is_some_and(|at| !turn.has_passed(at, ASK_AGAIN_MS));
    if is_asked || restarts::is_any(turn.tx, &room.id)? {
        return Ok(());
    }
    WANTED.put(turn.tx, scope, b"", &Wanted { asked_ms: Some(turn.now_ms), ..wanted })?;
    let [event_type, _] = identifiers::RESTART_TYPES;
    let mut request = GetState::new(room.id.clone(), event_type.into(), String::new());
    // The content alone does not say who has sent it.
    request.format = StateEventFormat::Event;
    let purpose = Purpose::FetchRestart { room_id: room.id.clone() };
    requests::enqueue(turn.tx, scope, turn.now_ms, purpose, request).map(drop)
}

/// The homeserver has given the state.
pub(crate) fn answered(turn: &Turn<'_>, room: &mut Room, body: &[u8]) -> Result<(), EventError> {
    let json = std::str::from_utf8(body).unwrap_or_default();
    match parse::<RoomEvent>(json, "the state event") {
        Ok(event) if is_one(&event) => receive(turn, room, &event, true),
        // An older homeserver gives the content alone.
        _ => Ok(()),
    }
}
