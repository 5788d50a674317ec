//! What a sync says of how well the members are known.

use std::collections::BTreeSet;

use ruma::{OwnedEventId, OwnedUserId, RoomId};

use super::told::{Told, counts, read};
use crate::{
    exported::RoomChanges,
    failure::Failure,
    protocol::{RoomEvent, parse},
    room::{self, Doubt, Room, member_list, membership},
    store::StoreError,
    turn::Turn,
};

/// Looks at the state that a sync gives from before a timeline, before it is taken in.
pub(crate) fn note_state(
    turn: &Turn<'_>,
    room: &RoomId,
    changes: &RoomChanges,
) -> Result<(), StoreError> {
    for json in &changes.state {
        let Told::Member(user, membership) = read(json) else { continue };
        if membership::get(turn.tx, room, &user)? != membership {
            // A gap explains what is new before it.
            let doubt = if changes.limited { Doubt::Gap } else { Doubt::List };
            return raise(turn, room, doubt);
        }
    }
    Ok(())
}

/// A member has come or gone.
pub(crate) fn note_change(
    turn: &Turn<'_>,
    room: &RoomId,
    user: &OwnedUserId,
) -> Result<(), StoreError> {
    let mut list = member_list::load(turn.tx, room)?;
    if list.question.is_none() {
        return Ok(());
    }
    list.note_change(user);
    member_list::save(turn.tx, room, &list)
}

/// Looks at what a sync has brought of a room, when it is taken in.
pub(crate) fn note_sync(
    turn: &Turn<'_>,
    room: &mut Room,
    changes: &RoomChanges,
) -> Result<(), Failure> {
    if !room.uses_mls() {
        return Ok(());
    }
    let timeline = Timeline::of(&changes.timeline);
    let before = member_list::load(turn.tx, &room.id)?;
    let mut list = before.clone();
    let own = turn.identity.name().user_id;
    if !changes.limited
        && timeline.has_creation
        && membership::is_joined(turn.tx, &room.id, &own)?
        && !list.was_seen()
    {
        // All that has ever happened in the room.
        let joined = membership::count_joined(turn.tx, &room.id)?;
        list.seen_from_the_beginning(joined, turn.now_ms);
    }
    let begins_where_known = list.up_to().is_some_and(|known| timeline.events.contains(&**known));
    if changes.limited && !begins_where_known {
        list.doubt(Doubt::Gap);
    }
    list.note_events(timeline.last.as_ref(), turn.now_ms);
    let told_members = timeline.has_members || !changes.state_after.is_empty();
    if let Some(count) = changes.joined_count
        && (told_members || list.joined_count() != Some(count))
    {
        list.note_count(count, membership::count_joined(turn.tx, &room.id)?);
    }
    if list != before {
        member_list::save(turn.tx, &room.id, &list)?;
    }
    if before.is_good() && !list.is_good() {
        room.standing.unsettle();
    }
    Ok(())
}

/// What of a timeline matters here.
#[derive(Default)]
struct Timeline {
    /// The events that a walk through the room's members finds, too.
    events: BTreeSet<OwnedEventId>,
    last: Option<OwnedEventId>,
    has_creation: bool,
    has_members: bool,
}

impl Timeline {
    fn of(events: &[String]) -> Self {
        let mut timeline = Self::default();
        for json in events {
            let Ok(event) = parse::<RoomEvent>(json, "the event") else { continue };
            timeline.has_creation |= event.event_type == "m.room.create";
            timeline.has_members |= event.event_type == "m.room.member";
            if !counts(&event) {
                continue;
            }
            if let Some(id) = &event.event_id {
                timeline.last = Some(id.clone());
                timeline.events.insert(id.clone());
            }
        }
        timeline
    }
}

/// Puts the members of all rooms in doubt: something may have happened that no sync has told.
pub(crate) fn doubt_all(turn: &Turn<'_>) -> Result<(), StoreError> {
    for room in room::all(turn.tx)?.iter().filter(|room| room.uses_mls()) {
        raise(turn, &room.id, Doubt::Gap)?;
    }
    Ok(())
}

/// Puts the members of the rooms in doubt that a sync names members of: the sync may be an old one.
pub(crate) fn doubt_told(turn: &Turn<'_>, rooms: &[RoomChanges]) -> Result<(), StoreError> {
    for changes in rooms {
        let Ok(room) = RoomId::parse(&changes.room_id) else { continue };
        let RoomChanges { state, timeline, state_after, .. } = changes;
        let mut events = state.iter().chain(timeline).chain(state_after);
        if events.any(|json| !matches!(read(json), Told::Nothing)) {
            raise(turn, &room, Doubt::List)?;
        }
    }
    Ok(())
}

fn raise(turn: &Turn<'_>, room: &RoomId, doubt: Doubt) -> Result<(), StoreError> {
    room::edit(turn.tx, room, |room| doubt_list(turn, room, doubt))
}

/// Puts the members of a room in doubt. Where the full list has never been seen there is nothing to
/// doubt yet.
pub(crate) fn doubt_list(turn: &Turn<'_>, room: &mut Room, doubt: Doubt) -> Result<(), StoreError> {
    if !member_list::was_seen(turn.tx, &room.id)? {
        return Ok(());
    }
    let before = member_list::load(turn.tx, &room.id)?;
    let mut list = before.clone();
    list.doubt(doubt);
    room.standing.unsettle();
    if list == before { Ok(()) } else { member_list::save(turn.tx, &room.id, &list) }
}
