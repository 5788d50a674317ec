//! Who is in the Matrix room, where a sync leaves that in doubt.
//!
//! The state that a sync gives beside its timeline is that of the timeline's beginning. Where the room's
//! history has branches, as after two homeservers did not hear each other, that is the state of one branch:
//! it can have somebody in the room who was removed on the other. So where it changes what is known, the
//! homeserver is asked who is in the room now, before anything is encrypted. What a timeline says is a
//! change, and needs no such question.

use std::collections::BTreeMap;

use ruma::{
    OwnedUserId, RoomId, UserId, api::client::membership::get_member_events,
    events::room::member::MembershipState,
};
use serde::{Deserialize, Serialize};

use super::{
    Turn,
    rooms::{self, Membership},
    timeline,
};
use crate::{
    error::MlsError,
    protocol::{MemberContent, MessagesPage, RoomEvent},
    requests::{self, Purpose, REQUESTS},
    store::Collection,
};

/// It is not known who is in a room.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Doubt {
    /// The timeline has changed it since the homeserver was asked: the answer may be older.
    changed: bool,
}

const DOUBTS: Collection<Doubt> = Collection::new("doubtful_members");

/// Looks at the state that a sync gives beside a timeline, before it is taken in.
pub(crate) fn note_state(
    turn: &Turn<'_>,
    room_id: &RoomId,
    state: &[String],
) -> Result<(), MlsError> {
    for json in state {
        let event = timeline::parse::<RoomEvent>(json, "the event");
        let Some((user, membership)) = event.ok().as_ref().and_then(read) else { continue };
        if rooms::membership(turn.tx, room_id, &user)? != membership {
            return Ok(DOUBTS.put(turn.tx, b"", room_id.as_bytes(), &Doubt { changed: true })?);
        }
    }
    Ok(())
}

/// A member has come or gone.
pub(crate) fn changed(turn: &Turn<'_>, room_id: &RoomId) -> Result<(), MlsError> {
    if DOUBTS.get(turn.tx, b"", room_id.as_bytes())?.is_some() {
        DOUBTS.put(turn.tx, b"", room_id.as_bytes(), &Doubt { changed: true })?;
    }
    Ok(())
}

/// The requests that have to be answered before it is known who is in the room.
pub(crate) fn ask(turn: &Turn<'_>, room_id: &RoomId) -> Result<Vec<i64>, MlsError> {
    if DOUBTS.get(turn.tx, b"", room_id.as_bytes())?.is_none() {
        return Ok(Vec::new());
    }
    for (id, queued) in REQUESTS.in_scope(turn.tx, room_id.as_bytes())? {
        if matches!(queued.purpose, Purpose::FetchMembers { .. }) {
            return Ok(vec![id]);
        }
    }
    DOUBTS.put(turn.tx, b"", room_id.as_bytes(), &Doubt { changed: false })?;
    let mut request = get_member_events::v3::Request::new(room_id.to_owned());
    request.not_membership = Some(MembershipState::Leave);
    let purpose = Purpose::FetchMembers { room_id: room_id.to_owned() };
    Ok(vec![requests::enqueue(turn.tx, room_id.as_bytes(), turn.now_ms, purpose, request)?])
}

/// The homeserver has said who is in the room.
pub(crate) fn fetched(turn: &Turn<'_>, room_id: &RoomId, body: &[u8]) -> Result<(), MlsError> {
    let answer: MessagesPage = serde_json::from_slice(body)
        .map_err(|_| MlsError::rejected("malformed_answer", "the answer is no list of members"))?;
    let doubt = DOUBTS.get(turn.tx, b"", room_id.as_bytes())?;
    if doubt.is_none_or(|doubt| doubt.changed) {
        // Settled meanwhile, or asked again by the next look at the room.
        return Ok(());
    }
    let mut members = BTreeMap::new();
    for json in &answer.chunk {
        let event = timeline::parse::<RoomEvent>(json.get(), "the event");
        if let Some((user, Some(membership))) = event.ok().as_ref().and_then(read) {
            members.insert(user, membership);
        }
    }
    rooms::replace_members(turn.tx, room_id, &members)?;
    settled(turn, room_id)
}

/// It is known who is in the room, or will not be told.
pub(crate) fn settled(turn: &Turn<'_>, room_id: &RoomId) -> Result<(), MlsError> {
    Ok(DOUBTS.delete(turn.tx, b"", room_id.as_bytes()).map(drop)?)
}

/// What an event says a user is to the room, if it is about that.
fn read(event: &RoomEvent) -> Option<(OwnedUserId, Option<Membership>)> {
    let user = UserId::parse(event.state_key.as_deref()?).ok()?;
    let content = timeline::parse::<MemberContent>(event.content.get(), "m.room.member").ok()?;
    (event.event_type == "m.room.member").then(|| (user, Membership::of(&content)))
}
