//! Who is in a room, and the rules by which that and power levels change.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use serde_json::{Map, Value, json};

use super::{
    Shared,
    answer::{Answer, Body, OptionalBody, Sender, required},
    error::Refusal,
    events::{NewEvent, append},
    state::{Room, World},
};

pub(super) async fn joined_rooms(State(shared): State<Arc<Shared>>, sender: Sender) -> Answer {
    let world = shared.world();
    let rooms = world.rooms.values();
    let joined = rooms.filter(|room| room.membership(&sender.user_id) == Some("join"));
    let ids: Vec<&str> = joined.map(|room| room.id.as_str()).collect();
    Ok(Json(json!({ "joined_rooms": ids })))
}

pub(super) async fn join(
    State(shared): State<Arc<Shared>>,
    Path(room_id): Path<String>,
    sender: Sender,
    OptionalBody(body): OptionalBody,
) -> Answer {
    set(&shared, &room_id, &sender.user_id, &sender.user_id, "join", &body)?;
    Ok(Json(json!({ "room_id": room_id })))
}

pub(super) async fn leave(
    State(shared): State<Arc<Shared>>,
    Path(room_id): Path<String>,
    sender: Sender,
    OptionalBody(body): OptionalBody,
) -> Answer {
    set(&shared, &room_id, &sender.user_id, &sender.user_id, "leave", &body)?;
    Ok(Json(json!({})))
}

pub(super) async fn invite(
    State(shared): State<Arc<Shared>>,
    Path(room_id): Path<String>,
    sender: Sender,
    Body(body): Body,
) -> Answer {
    let target = required(&body, "user_id")?;
    set(&shared, &room_id, &sender.user_id, target, "invite", &body)?;
    Ok(Json(json!({})))
}

pub(super) async fn kick(
    State(shared): State<Arc<Shared>>,
    Path(room_id): Path<String>,
    sender: Sender,
    Body(body): Body,
) -> Answer {
    let target = required(&body, "user_id")?;
    {
        let world = shared.world();
        let room = world.rooms.get(&room_id).ok_or_else(|| Refusal::not_found("Unknown room"))?;
        if !matches!(room.membership(target), Some("join" | "invite" | "knock")) {
            return Err(Refusal::forbidden("The target user is not in the room"));
        }
    }
    set(&shared, &room_id, &sender.user_id, target, "leave", &body)?;
    Ok(Json(json!({})))
}

pub(super) async fn ban(
    State(shared): State<Arc<Shared>>,
    Path(room_id): Path<String>,
    sender: Sender,
    Body(body): Body,
) -> Answer {
    let target = required(&body, "user_id")?;
    set(&shared, &room_id, &sender.user_id, target, "ban", &body)?;
    Ok(Json(json!({})))
}

pub(super) async fn unban(
    State(shared): State<Arc<Shared>>,
    Path(room_id): Path<String>,
    sender: Sender,
    Body(body): Body,
) -> Answer {
    let target = required(&body, "user_id")?;
    {
        let world = shared.world();
        let membership = world.rooms.get(&room_id).and_then(|room| room.membership(target));
        if membership.is_some_and(|membership| membership != "ban") {
            return Err(Refusal::forbidden("Cannot unban user who was not banned"));
        }
    }
    set(&shared, &room_id, &sender.user_id, target, "leave", &body)?;
    Ok(Json(json!({})))
}

fn set(
    shared: &Shared,
    room_id: &str,
    sender: &str,
    target: &str,
    membership: &str,
    body: &Map<String, Value>,
) -> Result<(), Refusal> {
    let mut content = Map::new();
    content.insert("membership".to_owned(), json!(membership));
    if let Some(reason) = body.get("reason") {
        content.insert("reason".to_owned(), reason.clone());
    }
    shared.change(|world| limited_change(world, room_id, sender, target, content).map(drop))
}

/// Changes a membership on request, if that does not come too early.
pub(super) fn limited_change(
    world: &mut World,
    room_id: &str,
    sender: &str,
    target: &str,
    content: Map<String, Value>,
) -> Result<String, Refusal> {
    let wanted = required(&content, "membership")?;
    let is_change = world
        .rooms
        .get(room_id)
        .is_none_or(|room| !(wanted == "join" && room.membership(target) == Some("join")));
    if is_change {
        world.limit_membership(room_id, sender, target, wanted)?;
    }
    change(world, room_id, sender, target, content)
}

/// Changes a membership if the rules allow it. Returns the id of the event that says so.
pub(super) fn change(
    world: &mut World,
    room_id: &str,
    sender: &str,
    target: &str,
    mut content: Map<String, Value>,
) -> Result<String, Refusal> {
    let wanted = required(&content, "membership")?.to_owned();
    let room = world.rooms.get(room_id).ok_or_else(|| Refusal::not_found("Unknown room"))?;
    let name = target.trim_start_matches('@').split(':').next().unwrap_or_default().to_owned();
    if matches!(wanted.as_str(), "join" | "invite") {
        content.entry("displayname").or_insert_with(|| json!(name));
    }
    // The same by the same is no new event.
    if let Some(current) = room.state_event("m.room.member", target)
        && current.sender == sender
        && current.content == Value::from(content.clone())
    {
        return Ok(current.event_id.clone());
    }
    let current = room.membership(target);
    let sender_is_joined = room.membership(sender) == Some("join");
    let power = room.power_of(sender);
    let over_target = power > room.power_of(target);
    let allowed = match wanted.as_str() {
        "join" if sender != target => Err("Cannot force another user to join."),
        "join" => match current {
            Some("join" | "invite") => Ok(()),
            Some("ban") => Err("You are banned from this room"),
            _ => match room.state_content("m.room.join_rules", "") {
                Some(rules) if rules.get("join_rule") == Some(&json!("public")) => Ok(()),
                _ => Err("You are not invited to this room."),
            },
        },
        "invite" if !sender_is_joined => Err("You are not in the room."),
        "invite" => match current {
            Some("join") => Err("The user is already in the room."),
            Some("ban") => Err("The user is banned from the room"),
            _ if power < room.power_level("invite", 0) => {
                Err("You don't have permission to invite")
            }
            _ => Ok(()),
        },
        "leave" if sender == target => match current {
            Some("join" | "invite" | "knock") => Ok(()),
            _ => Err("User not in room"),
        },
        "leave" if !sender_is_joined => Err("You are not in the room."),
        "leave" => match current {
            Some("ban") if power < room.power_level("ban", 50) => {
                Err("You don't have permission to unban")
            }
            _ if power >= room.power_level("kick", 50) && over_target => Ok(()),
            _ => Err("You cannot kick that user."),
        },
        "ban" if !sender_is_joined => Err("You are not in the room."),
        "ban" if power >= room.power_level("ban", 50) && over_target => Ok(()),
        "ban" => Err("You don't have permission to ban"),
        _ => return Err(Refusal::invalid("Unknown membership")),
    };
    allowed.map_err(Refusal::forbidden)?;
    let new = NewEvent {
        sender,
        event_type: "m.room.member",
        state_key: Some(target),
        content,
        transaction: None,
    };
    append(world, room_id, new)
}

/// The room, if this user is joined to it.
pub(super) fn room_of_member<'a>(
    world: &'a World,
    room_id: &str,
    user_id: &str,
) -> Result<&'a Room, Refusal> {
    match world.rooms.get(room_id) {
        Some(room) if room.membership(user_id) == Some("join") => Ok(room),
        _ => Err(Refusal::forbidden(format!("User {user_id} not in room {room_id}"))),
    }
}

impl Room {
    fn is_creator(&self, user_id: &str) -> bool {
        let create = self.state_event("m.room.create", "");
        create.is_some_and(|event| {
            let also = event.content.get("additional_creators").and_then(Value::as_array);
            event.sender == user_id
                || also.is_some_and(|creators| creators.iter().any(|id| id == user_id))
        })
    }

    /// A user's power level; without a power level event the creator has 100.
    pub fn power_of(&self, user_id: &str) -> i64 {
        if self.creators_are_supreme && self.is_creator(user_id) {
            return i64::MAX;
        }
        match self.state_content("m.room.power_levels", "") {
            Some(levels) => {
                let own = levels.get("users").and_then(|users| users.get(user_id));
                let level = own.or_else(|| levels.get("users_default"));
                level.and_then(Value::as_i64).unwrap_or(0)
            }
            None => i64::from(self.is_creator(user_id)) * 100,
        }
    }

    pub fn power_level(&self, name: &str, default: i64) -> i64 {
        let levels = self.state_content("m.room.power_levels", "");
        levels.and_then(|levels| levels.get(name)).and_then(Value::as_i64).unwrap_or(default)
    }

    pub fn power_to_send(&self, event_type: &str, is_state: bool) -> i64 {
        let levels = self.state_content("m.room.power_levels", "");
        let own = levels.and_then(|levels| levels.get("events")?.get(event_type)?.as_i64());
        own.unwrap_or_else(|| match is_state {
            true => self.power_level("state_default", if levels.is_some() { 50 } else { 0 }),
            false => self.power_level("events_default", 0),
        })
    }
}
