//! The state of a Matrix room that this library follows: its creation, its encryption, its history
//! visibility, its members.

use ruma::UserId;
use serde_json::value::RawValue;

use super::{error::EventError, members, outcome::Outcome};
use crate::{
    epochs::{graph, head},
    protocol::{
        AlgorithmOnly, CreateContent, MemberContent, RoomEvent, VisibilityContent, identifiers,
        parse,
    },
    rejection::Rejection,
    room::{Membership, Room, membership},
    turn::Turn,
};

/// Whether an event is state that this library follows.
pub(crate) fn is_followed(event: &RoomEvent) -> bool {
    matches!(
        (&*event.event_type, event.state_key.as_deref()),
        ("m.room.member", Some(_))
            | ("m.room.create" | "m.room.encryption" | "m.room.history_visibility", Some(""))
    )
}

/// Takes in a state event of a kind that is followed.
pub(crate) fn receive(
    turn: &Turn<'_>,
    room: &mut Room,
    event: &RoomEvent,
) -> Result<Outcome, EventError> {
    let content = event.content.get();
    match &*event.event_type {
        "m.room.create" => {
            let content: CreateContent = parse(content, "m.room.create")?;
            if room.state.create_event.is_some() && room.state.create_event == event.event_id {
                // Only a sync that begins anew shows it again, and none of those says whose devices
                // changed.
                membership::doubt_devices(turn.tx, room)?;
            }
            room.state.create_event = event.event_id.clone();
            if let Some(AlgorithmOnly { algorithm }) = content.encryption {
                set_algorithm(turn, room, algorithm)?;
            }
        }
        "m.room.encryption" => {
            let AlgorithmOnly { algorithm } = parse(content, "m.room.encryption")?;
            set_algorithm(turn, room, algorithm)?;
        }
        "m.room.history_visibility" => {
            let content: VisibilityContent = parse(content, "m.room.history_visibility")?;
            set_visibility(turn, room, content.history_visibility)?;
        }
        "m.room.member" => {
            member(turn, room, event.state_key.as_deref().unwrap_or_default(), &event.content)?;
        }
        _ => return Ok(Outcome::Ignored),
    }
    Ok(Outcome::State)
}

/// A user has come, gone, or changed.
fn member(
    turn: &Turn<'_>,
    room: &mut Room,
    user: &str,
    content: &RawValue,
) -> Result<(), EventError> {
    let user = UserId::parse(user).map_err(|_| Rejection::BadStateKey)?;
    let content: MemberContent = parse(content.get(), "m.room.member")?;
    let membership = Membership::of(&content);
    if membership::set(turn.tx, room, &user, membership)? && membership.is_some() {
        head::choose_if_doubtful(turn, room)?;
    }
    members::changed(turn, &room.id)?;
    let left = membership.is_none();
    if user == turn.identity.name().user_id && room.state.own_user_left != left {
        room.state.own_user_left = left;
        if !left {
            room.standing.come_back();
        }
    }
    Ok(())
}

/// The room says that it uses this algorithm. A room that uses MLS does so for ever: a homeserver
/// cannot talk it out of it.
fn set_algorithm(turn: &Turn<'_>, room: &mut Room, algorithm: String) -> Result<(), EventError> {
    if room.uses_mls() {
        if room.state.algorithm.as_ref() != Some(&algorithm) {
            tracing::warn!(room = %room.id, %algorithm, "change of algorithm ignored");
        }
        return Ok(());
    }
    let follow = identifiers::is_room_algorithm(&algorithm);
    room.state.algorithm = Some(algorithm);
    if follow {
        membership::track_devices(turn.tx, &room.id)?;
    }
    Ok(())
}

/// The room's history visibility is this from now on. An epoch that was open to those who come later
/// and is not from here on, or the other way round, holds both kinds of messages: it is shared no
/// more, and where history is shared a new epoch begins.
fn set_visibility(turn: &Turn<'_>, room: &mut Room, visibility: String) -> Result<(), EventError> {
    let was_open = room.history_is_open();
    room.state.history_visibility = Some(visibility);
    if room.history_is_open() == was_open {
        return Ok(());
    }
    for mut epoch in head::kept(turn.tx, room)? {
        if epoch.shared {
            epoch.shared = false;
            graph::put(turn.tx, &room.id, &epoch)?;
        }
    }
    room.renewal.wanted |= room.settings.share_history && room.standing.head().is_some();
    Ok(())
}
