//! Reading a room: pages of its timeline, single events, state and members, and the form in
//! which an event is shown to a device.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde_json::{Map, Value, json};

use super::{
    Shared,
    answer::{Answer, Sender},
    error::Refusal,
    events::now_ms,
    filter::EventFilter,
    state::{Event, Room, World},
    visibility::Sight,
};

/// The event as a client gets it. In a sync the room id is left out, as it is the key there.
pub(super) fn show(room: &Room, event: &Event, sender: &Sender, in_sync: bool) -> Value {
    let mut unsigned = Map::new();
    unsigned.insert("age".to_owned(), json!(now_ms().saturating_sub(event.origin_server_ts)));
    if let Some((user_id, device_id, txn_id)) = &event.transaction
        && *user_id == sender.user_id
        && *device_id == sender.device_id
    {
        unsigned.insert("transaction_id".to_owned(), json!(txn_id));
    }
    if let Some(replaced) = event.replaces.and_then(|index| room.events.get(index)) {
        unsigned.insert("replaces_state".to_owned(), json!(replaced.event_id));
        unsigned.insert("prev_content".to_owned(), replaced.content.clone());
        unsigned.insert("prev_sender".to_owned(), json!(replaced.sender));
    }
    let mut shown = json!({
        "type": event.event_type, "sender": event.sender, "content": event.content,
        "event_id": event.event_id, "origin_server_ts": event.origin_server_ts,
        "unsigned": unsigned,
    });
    if let Some(state_key) = &event.state_key {
        shown["state_key"] = json!(state_key);
    }
    if !in_sync {
        shown["room_id"] = json!(room.id);
    }
    shown
}

/// The same with the membership that the user had with the event, as timelines and pages have it.
pub(super) fn show_seen(
    room: &Room,
    event: &Event,
    sight: Sight<'_>,
    sender: &Sender,
    in_sync: bool,
) -> Value {
    let mut shown = show(room, event, sender, in_sync);
    shown["unsigned"]["membership"] = json!(sight.membership);
    shown
}

/// A room that this user may read, and up to which position.
fn readable<'a>(
    world: &'a World,
    room_id: &str,
    sender: &Sender,
) -> Result<(&'a Room, u64), Refusal> {
    let room = world.rooms.get(room_id);
    let until = room.and_then(|room| match room.readable_until(&sender.user_id) {
        Some(until) => Some((room, until)),
        None => room.is_world_readable().then_some((room, u64::MAX)),
    });
    until
        .ok_or_else(|| Refusal::forbidden(format!("User {} not in room {room_id}", sender.user_id)))
}

pub(super) async fn event(
    State(shared): State<Arc<Shared>>,
    Path((room_id, event_id)): Path<(String, String)>,
    sender: Sender,
) -> Answer {
    let world = shared.world();
    // Whoever may not see the event is told the same as where it does not exist.
    let not_found = || Refusal::not_found("Event not found.");
    let room = world.rooms.get(&room_id).ok_or_else(not_found)?;
    let peeking = room.membership(&sender.user_id) != Some("join");
    let seen = room.seen_by(&sender.user_id, peeking);
    let mut events = room.events.iter().zip(seen);
    let event = events.find(|(event, sight)| event.event_id == event_id && sight.visible);
    let (event, sight) = event.ok_or_else(not_found)?;
    Ok(Json(show_seen(room, event, sight, &sender, false)))
}

/// A position as pagination and sync tokens write it.
pub(super) fn token(position: u64) -> String {
    format!("s{position}")
}

/// Reads the position out of a token; what follows it concerns sync alone.
pub(super) fn position_of(token: &str) -> Result<u64, Refusal> {
    let digits = token.strip_prefix('s').and_then(|rest| rest.split('_').next());
    let position = digits.and_then(|digits| digits.parse().ok());
    position.ok_or_else(|| Refusal::unknown(format!("Invalid stream token {token}")))
}

pub(super) async fn messages(
    State(shared): State<Arc<Shared>>,
    Path(room_id): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    sender: Sender,
) -> Answer {
    let world = shared.world();
    let (room, until) = readable(&world, &room_id, &sender)?;
    let backwards = match query.get("dir").map(String::as_str) {
        Some("b") => true,
        Some("f") | None => false,
        Some(_) => return Err(Refusal::invalid("dir must be b or f")),
    };
    let limit = match query.get("limit") {
        None => 10,
        Some(limit) => limit
            .parse::<usize>()
            .map_err(|_| Refusal::invalid("limit must be a number"))?
            .min(1000),
    };
    let start = match query.get("from") {
        Some(from) => position_of(from)?,
        None if backwards => world.position.min(until),
        None => 0,
    };
    let end = query.get("to").map(|to| position_of(to)).transpose()?;
    let filter = EventFilter::read(query.get("filter"))?;
    let (after, up_to) = match backwards {
        true => (end.unwrap_or(0), start.min(until)),
        false => (start, end.unwrap_or(u64::MAX).min(until)),
    };
    let peeking = room.readable_until(&sender.user_id).is_none();
    let seen = room.seen_by(&sender.user_id, peeking);
    let mut page: Vec<(&Event, Sight<'_>)> = room
        .events
        .iter()
        .zip(seen)
        .filter(|(event, _)| event.position > after && event.position <= up_to)
        .filter(|(event, _)| filter.passes(event))
        .collect();
    if backwards {
        page.reverse();
    }
    // A page is cut before what may not be seen is taken out of it, so it may come shorter than
    // asked for, even empty, and not be the last.
    page.truncate(limit);
    let seen: Vec<_> = page.iter().filter(|(_, sight)| sight.visible).collect();
    let chunk = seen.iter().map(|(event, sight)| show_seen(room, event, *sight, &sender, false));
    let chunk: Vec<Value> = chunk.collect();
    let mut answer = json!({ "chunk": chunk, "start": token(start) });
    if let Some((first, _)) = seen.first()
        && filter.lazy_members
    {
        let senders: BTreeSet<&str> = seen.iter().map(|(event, _)| event.sender.as_str()).collect();
        let members = senders.into_iter().filter_map(|user_id| {
            let until = room.events.get(..room.end_at(first.position))?;
            until.iter().rfind(|event| event.is_membership_of(user_id))
        });
        let members = members.map(|event| show(room, event, &sender, false));
        answer["state"] = members.collect();
    }
    if let Some((last, _)) = page.last() {
        let position = if backwards { last.position - 1 } else { last.position };
        answer["end"] = json!(token(position));
    }
    Ok(Json(answer))
}

pub(super) async fn full_state(
    State(shared): State<Arc<Shared>>,
    Path(room_id): Path<String>,
    sender: Sender,
) -> Answer {
    let world = shared.world();
    let (room, until) = readable(&world, &room_id, &sender)?;
    Ok(Json(Value::from(state_until(room, until, &sender))))
}

fn state_until(room: &Room, until: u64, sender: &Sender) -> Vec<Value> {
    let end = room.events.iter().take_while(|event| event.position <= until).count();
    let state = room.state_before(end);
    state
        .values()
        .filter_map(|index| room.events.get(*index))
        .map(|event| show(room, event, sender, false))
        .collect()
}

pub(super) async fn state_without_key(
    shared: State<Arc<Shared>>,
    Path((room_id, event_type)): Path<(String, String)>,
    query: Query<HashMap<String, String>>,
    sender: Sender,
) -> Answer {
    state(shared, Path((room_id, event_type, String::new())), query, sender).await
}

pub(super) async fn state(
    State(shared): State<Arc<Shared>>,
    Path((room_id, event_type, state_key)): Path<(String, String, String)>,
    Query(query): Query<HashMap<String, String>>,
    sender: Sender,
) -> Answer {
    let world = shared.world();
    let (room, until) = readable(&world, &room_id, &sender)?;
    let end = room.events.iter().take_while(|event| event.position <= until).count();
    let index = room.state_before(end).get(&(event_type.as_str(), state_key.as_str())).copied();
    let event = index.and_then(|index| room.events.get(index));
    let event = event.ok_or_else(|| Refusal::not_found("Event not found."))?;
    Ok(Json(match query.get("format").map(String::as_str) {
        Some("event") => show(room, event, &sender, false),
        _ => event.content.clone(),
    }))
}

pub(super) async fn members(
    State(shared): State<Arc<Shared>>,
    Path(room_id): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    sender: Sender,
) -> Answer {
    let world = shared.world();
    let (room, until) = readable(&world, &room_id, &sender)?;
    let until = match query.get("at") {
        Some(at) => until.min(position_of(at)?),
        None => until,
    };
    let mut members = state_until(room, until, &sender);
    members.retain(|event| {
        let membership = event["content"]["membership"].as_str();
        event["type"] == "m.room.member"
            && query.get("membership").is_none_or(|only| membership == Some(only))
            && query.get("not_membership").is_none_or(|not| membership != Some(not))
    });
    Ok(Json(json!({ "chunk": members })))
}

pub(super) async fn joined_members(
    State(shared): State<Arc<Shared>>,
    Path(room_id): Path<String>,
    sender: Sender,
) -> Answer {
    let world = shared.world();
    let room = super::membership::room_of_member(&world, &room_id, &sender.user_id)?;
    let joined = room.members_with("join").filter_map(|event| {
        let profile = json!({
            "display_name": event.content.get("displayname"),
            "avatar_url": event.content.get("avatar_url"),
        });
        Some((event.state_key.clone()?, profile))
    });
    Ok(Json(json!({ "joined": joined.collect::<Map<_, _>>() })))
}
