//! Creating a room: the events it begins with, by preset.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State, http::StatusCode};
use serde_json::{Map, Value, json};

use super::{
    Shared,
    accounts::random_text,
    answer::{Answer, OptionalBody, Sender, optional},
    error::Refusal,
    events::{NewEvent, append},
    membership,
    state::{Room, World},
};

/// What Synapse 1.163 makes unless asked for another.
const DEFAULT_ROOM_VERSION: &str = "12";

pub(super) async fn create_room(
    State(shared): State<Arc<Shared>>,
    sender: Sender,
    OptionalBody(body): OptionalBody,
) -> Answer {
    let order = Order::read(&body)?;
    shared.change(|world| {
        for user_id in &order.invite {
            if !user_id.starts_with('@') || !user_id.contains(':') {
                return Err(Refusal::invalid(format!("Invalid user_id: {user_id}")));
            }
        }
        world.limit_room_creation(&sender.user_id)?;
        let room_id = order.execute(world, &sender.user_id)?;
        Ok(Json(json!({ "room_id": room_id })))
    })
}

/// A `createRoom` request.
pub(super) struct Order {
    version: String,
    preset: String,
    creation_content: Map<String, Value>,
    power_levels: Map<String, Value>,
    initial_state: Vec<(String, String, Map<String, Value>)>,
    name: Option<String>,
    topic: Option<String>,
    invite: Vec<String>,
    is_direct: bool,
}

impl Order {
    pub(super) fn read(body: &Map<String, Value>) -> Result<Self, Refusal> {
        let object = |name: &str| match body.get(name) {
            None => Ok(Map::new()),
            Some(Value::Object(object)) => Ok(object.clone()),
            Some(_) => Err(Refusal::bad_json(format!("{name} must be an object"))),
        };
        let list = |name: &str| match body.get(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => Ok(list.clone()),
            Some(_) => Err(Refusal::bad_json(format!("{name} must be a list"))),
        };
        let version = optional(body, "room_version").unwrap_or(DEFAULT_ROOM_VERSION);
        if !version.parse::<u8>().is_ok_and(|number| (6..=12).contains(&number)) {
            return Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "M_UNSUPPORTED_ROOM_VERSION",
                "Your homeserver does not support this room version",
            ));
        }
        let public = optional(body, "visibility") == Some("public");
        let default_preset = if public { "public_chat" } else { "private_chat" };
        let initial_state = list("initial_state")?
            .into_iter()
            .map(|event| {
                let event_type = event.get("type").and_then(Value::as_str)?;
                let state_key = event.get("state_key").and_then(Value::as_str).unwrap_or_default();
                let content = event.get("content").and_then(Value::as_object)?;
                Some((event_type.to_owned(), state_key.to_owned(), content.clone()))
            })
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Refusal::bad_json("initial_state events need a type and a content"))?;
        let invite = list("invite")?
            .iter()
            .map(|id| id.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Refusal::bad_json("invite must be a list of user ids"))?;
        Ok(Self {
            version: version.to_owned(),
            preset: optional(body, "preset").unwrap_or(default_preset).to_owned(),
            creation_content: object("creation_content")?,
            power_levels: object("power_level_content_override")?,
            initial_state,
            name: optional(body, "name").map(str::to_owned),
            topic: optional(body, "topic").map(str::to_owned),
            invite,
            is_direct: body.get("is_direct") == Some(&json!(true)),
        })
    }

    pub(super) fn execute(&self, world: &mut World, creator: &str) -> Result<String, Refusal> {
        let supreme = self.version.parse().is_ok_and(|number: u8| number >= 12);
        let trusted = self.preset == "trusted_private_chat";
        let id = match supreme {
            true => format!("!{}", random_text(43)),
            false => format!("!{}:{}", random_text(18), world.server_name),
        };
        world.rooms.insert(id.clone(), Room::new(&id, supreme));
        let made = self.fill(world, &id, creator, supreme, trusted);
        if made.is_err() {
            world.rooms.remove(&id);
        }
        made.map(|()| id)
    }

    fn fill(
        &self,
        world: &mut World,
        id: &str,
        creator: &str,
        supreme: bool,
        trusted: bool,
    ) -> Result<(), Refusal> {
        let mut post = |event_type: &str, state_key: &str, content: Map<String, Value>| {
            let new = NewEvent {
                sender: creator,
                event_type,
                state_key: Some(state_key),
                content,
                transaction: None,
            };
            append(world, id, new).map(drop)
        };
        let mut create = self.creation_content.clone();
        create.insert("room_version".to_owned(), json!(self.version));
        if self.version.parse().is_ok_and(|number: u8| number < 11) {
            create.insert("creator".to_owned(), json!(creator));
        }
        if supreme && trusted && !self.invite.is_empty() {
            create.insert("additional_creators".to_owned(), json!(self.invite));
        }
        post("m.room.create", "", create)?;
        let name = creator.trim_start_matches('@').split(':').next().unwrap_or_default();
        post(
            "m.room.member",
            creator,
            fields(json!({ "membership": "join", "displayname": name })),
        )?;

        let mut users = BTreeMap::new();
        if !supreme {
            users.insert(creator.to_owned(), 100);
            if trusted {
                users.extend(self.invite.iter().map(|id| (id.clone(), 100)));
            }
        }
        let mut levels = fields(json!({
            "users": users, "users_default": 0,
            "events": {
                "m.room.name": 50, "m.room.power_levels": 100, "m.room.history_visibility": 100,
                "m.room.canonical_alias": 50, "m.room.avatar": 50,
                "m.room.tombstone": if supreme { 150 } else { 100 },
                "m.room.server_acl": 100, "m.room.encryption": 100,
            },
            "events_default": 0, "state_default": 50, "ban": 50, "kick": 50, "redact": 50,
            "invite": if self.preset == "public_chat" { 50 } else { 0 }, "historical": 100,
        }));
        let public = self.preset == "public_chat";
        if public && let Some(Value::Object(events)) = levels.get_mut("events") {
            events.insert("m.call.invite".to_owned(), json!(50));
        }
        levels.extend(self.power_levels.clone());
        let guests = json!({ "guest_access": "can_join" });
        let preset_state = [
            ("m.room.power_levels", Value::from(levels)),
            ("m.room.join_rules", json!({ "join_rule": if public { "public" } else { "invite" } })),
            ("m.room.history_visibility", json!({ "history_visibility": "shared" })),
            ("m.room.guest_access", guests),
        ];
        // Guests may not come into a public room, which is as without the event.
        let preset_state =
            preset_state.into_iter().filter(|(kind, _)| !public || *kind != "m.room.guest_access");
        for (event_type, content) in preset_state {
            let overridden = self.initial_state.iter().any(|(initial, key, _)| {
                initial == event_type && key.is_empty() && event_type != "m.room.power_levels"
            });
            if !overridden {
                post(event_type, "", fields(content))?;
            }
        }
        for (event_type, state_key, content) in &self.initial_state {
            post(event_type, state_key, content.clone())?;
        }
        if let Some(name) = &self.name {
            post("m.room.name", "", fields(json!({ "name": name })))?;
        }
        if let Some(topic) = &self.topic {
            let rich = json!({ "m.text": [{ "body": topic }] });
            post("m.room.topic", "", fields(json!({ "topic": topic, "m.topic": rich })))?;
        }
        for user_id in &self.invite {
            let mut content = fields(json!({ "membership": "invite" }));
            if self.is_direct {
                content.insert("is_direct".to_owned(), json!(true));
            }
            membership::change(world, id, creator, user_id, content)?;
        }
        Ok(())
    }
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}
