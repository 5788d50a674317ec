//! Upgrading a room: another room in its place, and the tombstone that names it, as Synapse does
//! it.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use serde_json::{Map, Value, json};

use super::{
    Shared,
    answer::{Answer, Body, Sender, required},
    events::{NewEvent, post},
    membership::room_of_member,
    room_creation::Order,
};

/// The state that the new room gets from the old one, beside its creation and its members.
const COPIED: [&str; 6] = [
    "m.room.encryption",
    "m.room.history_visibility",
    "m.room.join_rules",
    "m.room.guest_access",
    "m.room.name",
    "m.room.topic",
];

pub(super) async fn upgrade(
    State(shared): State<Arc<Shared>>,
    Path(room_id): Path<String>,
    sender: Sender,
    Body(body): Body,
) -> Answer {
    let version = required(&body, "new_version")?;
    shared.change(|world| {
        let old = room_of_member(world, &room_id, &sender.user_id)?;
        let copied = COPIED.iter().filter_map(|kind| {
            let content = old.state_content(kind, "")?;
            Some(json!({ "type": kind, "state_key": "", "content": content }))
        });
        let request = json!({
            "room_version": version, "initial_state": copied.collect::<Vec<_>>(),
            "creation_content": { "predecessor": { "room_id": room_id } },
        });
        let request = request.as_object().cloned().unwrap_or_default();
        let new = Order::read(&request)?.execute(world, &sender.user_id)?;
        let content = json!({ "body": "This room has been replaced", "replacement_room": new });
        let tombstone = NewEvent {
            sender: &sender.user_id,
            event_type: "m.room.tombstone",
            state_key: Some(""),
            content: object(content),
            transaction: None,
        };
        if let Err(refusal) = post(world, &room_id, tombstone) {
            world.rooms.remove(&new);
            return Err(refusal);
        }
        Ok(Json(json!({ "replacement_room": new })))
    })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}
