//! Who is in the Matrix room, where a sync leaves that in doubt.
//!
//! The state that a sync gives beside its timeline is that of the timeline's beginning. Where the
//! room's history has branches, as after two homeservers did not hear each other, that is the state of
//! one branch: it can have somebody in the room who was removed on the other. So where it changes what
//! is known, the homeserver is asked who is in the room now, before anything is encrypted. What a
//! timeline says is a change, and needs no such question.

use std::collections::BTreeMap;

use ruma::{
    OwnedUserId, RoomId, UserId, api::client::membership::get_member_events,
    events::room::member::MembershipState,
};
use serde::{Deserialize, Serialize};

use crate::{
    failure::Failure,
    protocol::{MemberContent, MessagesPage, RoomEvent, parse},
    rejection::{InputError, Rejection},
    requests::{self, Purpose, REQUESTS},
    room::{Membership, Room, membership},
    store::{Collection, StoreError},
    turn::Turn,
};

/// It is not known who is in a room.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct MembershipDoubt {
    /// The timeline has changed it since the homeserver was asked: the answer may be older.
    changed: bool,
}

const DOUBTS: Collection<MembershipDoubt> = Collection::new("doubtful_members");

/// Looks at the state that a sync gives beside a timeline, before it is taken in.
pub(crate) fn note_state(
    turn: &Turn<'_>,
    room: &RoomId,
    state: &[String],
) -> Result<(), StoreError> {
    for json in state {
        let event = parse::<RoomEvent>(json, "the event");
        let Some((user, membership)) = event.ok().as_ref().and_then(read) else { continue };
        if membership::get(turn.tx, room, &user)? != membership {
            let doubt = MembershipDoubt { changed: true };
            return DOUBTS.put(turn.tx, b"", room.as_bytes(), &doubt);
        }
    }
    Ok(())
}

/// A member has come or gone.
pub(super) fn changed(turn: &Turn<'_>, room: &RoomId) -> Result<(), StoreError> {
    if DOUBTS.get(turn.tx, b"", room.as_bytes())?.is_some() {
        DOUBTS.put(turn.tx, b"", room.as_bytes(), &MembershipDoubt { changed: true })?;
    }
    Ok(())
}

/// The requests that have to be answered before it is known who is in the room.
pub(crate) fn ask(turn: &Turn<'_>, room: &RoomId) -> Result<Vec<i64>, Failure> {
    if DOUBTS.get(turn.tx, b"", room.as_bytes())?.is_none() {
        return Ok(Vec::new());
    }
    for (id, queued) in REQUESTS.in_scope(turn.tx, room.as_bytes())? {
        if matches!(queued.purpose, Purpose::FetchMembers { .. }) {
            return Ok(vec![id]);
        }
    }
    DOUBTS.put(turn.tx, b"", room.as_bytes(), &MembershipDoubt { changed: false })?;
    let mut request = get_member_events::v3::Request::new(room.to_owned());
    request.not_membership = Some(MembershipState::Leave);
    let purpose = Purpose::FetchMembers { room_id: room.to_owned() };
    Ok(vec![requests::enqueue(turn.tx, room.as_bytes(), turn.now_ms, purpose, request)?])
}

/// The homeserver has said who is in the room.
pub(crate) fn fetched(turn: &Turn<'_>, room: &mut Room, body: &[u8]) -> Result<(), InputError> {
    let answer: MessagesPage = serde_json::from_slice(body)
        .map_err(|_| Rejection::MalformedAnswer("the answer is no list of members"))?;
    let doubt = DOUBTS.get(turn.tx, b"", room.id.as_bytes())?;
    if doubt.is_none_or(|doubt| doubt.changed) {
        // Settled meanwhile, or asked again by the next look at the room.
        return Ok(());
    }
    let mut members = BTreeMap::new();
    for json in &answer.chunk {
        let event = parse::<RoomEvent>(json.get(), "the event");
        if let Some((user, Some(membership))) = event.ok().as_ref().and_then(read) {
            members.insert(user, membership);
        }
    }
    membership::replace_all(turn.tx, room, &members)?;
    Ok(settled(turn, &room.id)?)
}

/// It is known who is in the room, or will not be told.
pub(crate) fn settled(turn: &Turn<'_>, room: &RoomId) -> Result<(), StoreError> {
    DOUBTS.delete(turn.tx, b"", room.as_bytes()).map(drop)
}

/// What an event says of how a user stands to the room, if it is about that.
fn read(event: &RoomEvent) -> Option<(OwnedUserId, Option<Membership>)> {
    let user = UserId::parse(event.state_key.as_deref()?).ok()?;
    let content = parse::<MemberContent>(event.content.get(), "m.room.member").ok()?;
    (event.event_type == "m.room.member").then(|| (user, Membership::of(&content)))
}
