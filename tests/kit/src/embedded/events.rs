//! Sending events into a room: transaction ids, access by power level, and the size limit.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Json,
    extract::{OriginalUri, Path, State},
};
use serde_json::{Map, Value, json};

use super::{
    Shared,
    accounts::random_text,
    answer::{Answer, Body, Sender},
    error::Refusal,
    membership,
    state::{Event, Room, World},
};

/// The largest event, as it would be sent to another homeserver.
const MAX_EVENT: usize = 65_536;
/// The power that redacts events of others, where the room does not say.
const POWER_TO_REDACT: i64 = 50;
/// Integers beyond these are no canonical JSON.
const MAX_INTEGER: i64 = (1 << 53) - 1;

pub(super) async fn send(
    State(shared): State<Arc<Shared>>,
    OriginalUri(uri): OriginalUri,
    Path((room_id, event_type, txn_id)): Path<(String, String, String)>,
    sender: Sender,
    Body(content): Body,
) -> Answer {
    shared.change(|world| {
        once(world, &sender, uri.path(), |world| {
            world.limit_event(&sender.user_id)?;
            let new = NewEvent {
                sender: &sender.user_id,
                event_type: &event_type,
                state_key: None,
                content,
                transaction: Some((sender.user_id.clone(), sender.device_id.clone(), txn_id)),
            };
            Ok(json!({ "event_id": post(world, &room_id, new)? }))
        })
    })
}

/// Takes the content from an event of the timeline. State is redacted by no test, and keeps its
/// own.
pub(super) async fn redact(
    State(shared): State<Arc<Shared>>,
    OriginalUri(uri): OriginalUri,
    Path((room_id, event_id, txn_id)): Path<(String, String, String)>,
    sender: Sender,
    Body(mut content): Body,
) -> Answer {
    shared.change(|world| {
        once(world, &sender, uri.path(), |world| {
            world.limit_event(&sender.user_id)?;
            let room = membership::room_of_member(world, &room_id, &sender.user_id)?;
            let power = room.power_of(&sender.user_id);
            let event = room.events.iter().find(|event| event.event_id == event_id);
            let event = event.ok_or_else(|| Refusal::not_found("Unknown event"))?;
            if event.sender != sender.user_id && power < POWER_TO_REDACT {
                return Err(Refusal::forbidden("You don't have permission to redact events"));
            }
            if event.state_key.is_some() {
                return Err(Refusal::forbidden("State is not redacted here"));
            }
            content.insert("redacts".to_owned(), json!(event_id));
            let new = NewEvent {
                sender: &sender.user_id,
                event_type: "m.room.redaction",
                state_key: None,
                content,
                transaction: Some((sender.user_id.clone(), sender.device_id.clone(), txn_id)),
            };
            let redaction = post(world, &room_id, new)?;
            let room = world.rooms.get_mut(&room_id);
            let mut events = room.into_iter().flat_map(|room| &mut room.events);
            if let Some(event) = events.find(|event| event.event_id == event_id) {
                event.content = json!({});
            }
            Ok(json!({ "event_id": redaction }))
        })
    })
}

pub(super) async fn send_state_without_key(
    state: State<Arc<Shared>>,
    Path((room_id, event_type)): Path<(String, String)>,
    sender: Sender,
    body: Body,
) -> Answer {
    send_state(state, Path((room_id, event_type, String::new())), sender, body).await
}

pub(super) async fn send_state(
    State(shared): State<Arc<Shared>>,
    Path((room_id, event_type, state_key)): Path<(String, String, String)>,
    sender: Sender,
    Body(content): Body,
) -> Answer {
    shared.change(|world| {
        let event_id = match event_type.as_str() {
            "m.room.member" => {
                membership::limited_change(world, &room_id, &sender.user_id, &state_key, content)?
            }
            _ => {
                let room = membership::room_of_member(world, &room_id, &sender.user_id)?;
                let current = room.state_event(&event_type, &state_key);
                let unchanged = current.filter(|event| {
                    event.sender == sender.user_id && event.content == Value::from(content.clone())
                });
                match unchanged {
                    // The same state again is no new event.
                    Some(event) => event.event_id.clone(),
                    None => {
                        world.limit_event(&sender.user_id)?;
                        let new = NewEvent {
                            sender: &sender.user_id,
                            event_type: &event_type,
                            state_key: Some(&state_key),
                            content,
                            transaction: None,
                        };
                        post(world, &room_id, new)?
                    }
                }
            }
        };
        Ok(Json(json!({ "event_id": event_id })))
    })
}

/// Answers a repeated request as the first was answered. Refusals are not remembered.
pub(super) fn once(
    world: &mut World,
    sender: &Sender,
    path: &str,
    work: impl FnOnce(&mut World) -> Result<Value, Refusal>,
) -> Answer {
    let key = (sender.user_id.clone(), sender.device_id.clone(), path.to_owned());
    if let Some(answer) = world.answers.get(&key) {
        return Ok(Json(answer.clone()));
    }
    let answer = work(world)?;
    world.answers.insert(key, answer.clone());
    Ok(Json(answer))
}

/// An event before the server has given it an id.
pub(super) struct NewEvent<'a> {
    pub sender: &'a str,
    pub event_type: &'a str,
    pub state_key: Option<&'a str>,
    pub content: Map<String, Value>,
    pub transaction: Option<(String, String, String)>,
}

/// Checks that a joined user may send this, and appends it. Returns the event id.
pub(super) fn post(world: &mut World, room_id: &str, new: NewEvent<'_>) -> Result<String, Refusal> {
    let room = membership::room_of_member(world, room_id, new.sender)?;
    let needed = room.power_to_send(new.event_type, new.state_key.is_some());
    if room.power_of(new.sender) < needed {
        return Err(Refusal::forbidden(format!(
            "You don't have permission to post that to the room. user_level ({}) < send_level ({needed})",
            room.power_of(new.sender)
        )));
    }
    if new.state_key.is_some_and(|key| key.starts_with('@') && key != new.sender) {
        return Err(Refusal::forbidden("You are not allowed to set others state"));
    }
    append(world, room_id, new)
}

/// Appends an event that is allowed, if it is canonical JSON and not too large.
pub(super) fn append(
    world: &mut World,
    room_id: &str,
    new: NewEvent<'_>,
) -> Result<String, Refusal> {
    let content = Value::from(new.content);
    require_canonical(&content)?;
    let server_name = world.server_name.clone();
    let position = world.advance();
    let room = world.rooms.get_mut(room_id);
    let room = room.ok_or_else(|| Refusal::not_found("Unknown room"))?;
    let state_key = new.state_key.map(str::to_owned);
    let replaces = state_key
        .as_ref()
        .and_then(|key| room.state.get(&(new.event_type.to_owned(), key.clone())).copied());
    let event = Event {
        position,
        event_id: format!("${}", random_text(43)),
        event_type: new.event_type.to_owned(),
        sender: new.sender.to_owned(),
        state_key,
        content,
        origin_server_ts: now_ms(),
        replaces,
        transaction: new.transaction,
    };
    let ids_too_long = [Some(new.event_type), new.state_key].into_iter().flatten();
    if ids_too_long.into_iter().any(|id| id.len() > 255)
        || federated_size(room, &event, &server_name) > MAX_EVENT
    {
        return Err(Refusal::too_large("event too large"));
    }
    Ok(room.append(event))
}

pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// The length of the event as another homeserver would get it: with hashes, references to
/// earlier events and a signature, in canonical JSON.
fn federated_size(room: &Room, event: &Event, server_name: &str) -> usize {
    let id = format!("${}", "x".repeat(43));
    let sender_is_member = room.membership(&event.sender).is_some();
    let auth_events = match room.events.len() {
        0 => 0,
        _ => 1 + usize::from(sender_is_member),
    };
    let mut federated = json!({
        "auth_events": vec![id.clone(); auth_events],
        "prev_events": [id],
        "content": event.content,
        "depth": room.events.len(),
        "hashes": { "sha256": "x".repeat(43) },
        "signatures": { server_name: { "ed25519:a_test": "x".repeat(86) } },
        "origin_server_ts": event.origin_server_ts,
        "room_id": room.id,
        "sender": event.sender,
        "type": event.event_type,
        "unsigned": { "age_ts": event.origin_server_ts },
    });
    if let Some(state_key) = &event.state_key {
        federated["state_key"] = json!(state_key);
    }
    federated.to_string().len()
}

fn require_canonical(value: &Value) -> Result<(), Refusal> {
    match value {
        Value::Number(number) => match number.as_i64() {
            Some(integer) if (-MAX_INTEGER..=MAX_INTEGER).contains(&integer) => Ok(()),
            _ => Err(Refusal::bad_json("JSON numbers must be integers of 53 bits")),
        },
        Value::Array(items) => items.iter().try_for_each(require_canonical),
        Value::Object(fields) => fields.values().try_for_each(require_canonical),
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
    }
}
