//! What a single event tells of the members.

use ruma::{EventId, OwnedEventId, OwnedUserId, UserId};

use crate::{
    protocol::{MemberContent, RoomEvent, parse},
    room::Membership,
};

/// What an event says of how a user stands to the room.
pub(super) enum Told {
    /// It is about something else.
    Nothing,
    /// It is about a member, and cannot be read.
    Unreadable,
    Member(OwnedUserId, Option<Membership>),
}

pub(super) fn read(json: &str) -> Told {
    let Ok(event) = parse::<RoomEvent>(json, "the event") else { return Told::Unreadable };
    if event.event_type != "m.room.member" {
        return Told::Nothing;
    }
    // A state key that is no user id names nobody whose devices could be in a group.
    let Some(user) = event.state_key.as_deref().and_then(|key| UserId::parse(key).ok()) else {
        return Told::Nothing;
    };
    match parse::<MemberContent>(event.content.get(), "m.room.member") {
        Ok(content) => Told::Member(user, Membership::of(&content)),
        Err(_) => Told::Unreadable,
    }
}

/// Whether a walk through what has happened shows this event.
pub(super) fn counts(event: &RoomEvent) -> bool {
    matches!(&*event.event_type, "m.room.member" | "m.room.encrypted")
}

/// Whether this is where what is known ends.
pub(super) fn is_known(up_to: Option<&OwnedEventId>, event: Option<&EventId>) -> bool {
    matches!((up_to, event), (Some(known), Some(event)) if **known == *event)
}
