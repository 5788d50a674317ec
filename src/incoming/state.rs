//! The state of a Matrix room that this library follows: its creation, its encryption, its history
//! visibility, its members, who may do what, with which group it was started anew, and which room
//! replaces it.

use ruma::{OwnedRoomId, OwnedUserId, UserId};

use super::{error::EventError, members, outcome::Outcome, restart};
use crate::{
    epochs::{graph, head, set_aside},
    exported::Update,
    protocol::{
        AlgorithmOnly, CreateContent, MemberContent, PowerLevels, RoomEvent, TombstoneContent,
        VisibilityContent, identifiers, parse,
    },
    rejection::Rejection,
    room::{Creation, Doubt, Membership, Room, membership, wake},
    turn::Turn,
};

/// Whether an event is state that this library follows.
pub(crate) fn is_followed(event: &RoomEvent) -> bool {
    matches!(
        (&*event.event_type, event.state_key.as_deref()),
        ("m.room.member", Some(_))
            | (
                "m.room.create"
                    | "m.room.encryption"
                    | "m.room.history_visibility"
                    | "m.room.power_levels"
                    | "m.room.tombstone",
                Some("")
            )
    ) || restart::is_one(event)
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
            room.state.create_event = event.event_id.clone();
            room.state.power.is_creator = content.creators_have_all_power() && {
                let own = turn.identity.name().user_id;
                let others = content.additional_creators.as_array();
                event.sender == own
                    || others.is_some_and(|users| users.iter().any(|user| user == own.as_str()))
            };
            let creation = || Creation {
                sender: event.sender.clone(),
                predecessor: content.predecessor().filter(|old| *old != room.id),
            };
            if room.upgrade.creation.is_none() {
                room.upgrade.creation = Some(creation());
            }
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
        "m.room.power_levels" => {
            let levels: PowerLevels = parse(content, "m.room.power_levels")?;
            let own = levels.of(&turn.identity.name().user_id);
            room.state.power.levels = Some((own, levels.needed_for("m.room.encryption")));
        }
        "m.room.tombstone" => {
            let content: TombstoneContent = parse(content, "m.room.tombstone")?;
            replaced(turn, room, content.replacement());
        }
        "m.room.member" => {
            member(turn, room, event)?;
        }
        _ if restart::is_one(event) => restart::receive(turn, room, event, true)?,
        _ => return Ok(Outcome::Ignored),
    }
    Ok(Outcome::State)
}

/// Takes in a state event of a kind that is followed, from somewhere in the room's history. Who was
/// in the room then, and who could read its history, says nothing of now.
pub(crate) fn receive_past(
    turn: &Turn<'_>,
    room: &mut Room,
    event: &RoomEvent,
) -> Result<Outcome, EventError> {
    match &*event.event_type {
        "m.room.member" => read_member(event).map(|_| Outcome::State),
        "m.room.history_visibility" | "m.room.power_levels" | "m.room.tombstone" => {
            Ok(Outcome::State)
        }
        _ if restart::is_one(event) => {
            restart::receive(turn, room, event, false)?;
            Ok(Outcome::State)
        }
        _ => receive(turn, room, event),
    }
}

fn read_member(event: &RoomEvent) -> Result<(OwnedUserId, Option<Membership>), EventError> {
    let user = UserId::parse(event.state_key.as_deref().unwrap_or_default())
        .map_err(|_| Rejection::BadStateKey)?;
    let content: MemberContent = parse(event.content.get(), "m.room.member")?;
    Ok((user, Membership::of(&content)))
}

/// A user has come, gone, or changed.
fn member(turn: &Turn<'_>, room: &mut Room, event: &RoomEvent) -> Result<(), EventError> {
    let (user, membership) = read_member(event)?;
    if membership::set(turn.tx, room, &user, membership)? && membership.is_some() {
        head::choose_if_doubtful(turn, room)?;
    }
    members::note_change(turn, &room.id, &user)?;
    if user == turn.identity.name().user_id && membership == Some(Membership::Joined) {
        members::own_user_joined(turn, &room.id)?;
    }
    if user == turn.identity.name().user_id {
        let had_left = std::mem::replace(&mut room.state.own_user_left, membership.is_none());
        // An app that left the group before any sync showed its user's leave may see no leave.
        let has_left_group = room.standing.is_gone() && membership == Some(Membership::Joined);
        if membership.is_some() && (had_left || has_left_group) {
            room.standing.come_back();
            wake(turn.tx, &room.id)?;
            // What happened meanwhile was not told.
            members::doubt_list(turn, room, Doubt::List)?;
        }
    }
    Ok(())
}

/// The room's state says which room replaces it. A room does not replace itself.
fn replaced(turn: &Turn<'_>, room: &mut Room, replacement: Option<OwnedRoomId>) {
    let replacement = replacement.filter(|other| *other != room.id);
    if replacement == room.upgrade.replacement {
        return;
    }
    if let Some(replacement) = replacement.as_ref().filter(|_| room.uses_mls()) {
        let (room_id, replacement_room_id) = (room.id.to_string(), replacement.to_string());
        turn.tell(Update::RoomReplaced { room_id, replacement_room_id });
    }
    room.upgrade.replacement = replacement;
}

/// The room says that it uses this algorithm. A room that uses MLS does so for ever: a homeserver
/// cannot talk it out of it.
pub(super) fn set_algorithm(
    turn: &Turn<'_>,
    room: &mut Room,
    algorithm: String,
) -> Result<(), EventError> {
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
        // What came before the state counts now.
        wake(turn.tx, &room.id)?;
    }
    Ok(())
}

/// The room's history visibility is this from now on. An epoch that was open to those who come
/// later and is not from here on, or the other way round, holds both kinds of messages: it is
/// shared no more, and where history is shared a new epoch begins.
fn set_visibility(turn: &Turn<'_>, room: &mut Room, visibility: String) -> Result<(), EventError> {
    let was_open = room.history_is_open();
    let were_in = room.invited_are_in_group();
    room.state.history_visibility = Some(visibility);
    if room.invited_are_in_group() != were_in {
        room.standing.unsettle();
    }
    if room.history_is_open() == was_open {
        return Ok(());
    }
    for mut epoch in graph::kept(turn.tx, room)?.into_iter().chain(set_aside::all(turn, room)?) {
        if epoch.shared {
            epoch.shared = false;
            graph::put(turn.tx, &room.id, &epoch)?;
        }
    }
    room.renewal.wanted |= room.settings.share_history && room.standing.head().is_some();
    Ok(())
}
