//! What an account notes for itself, of itself or of a room: stored as it comes, and told to all of
//! its devices.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, State},
};
use serde_json::{Map, Value, json};

use super::{
    Shared,
    answer::{Answer, Body, Sender},
    error::Refusal,
    state::World,
};

/// An account's notes, each with the position of its last change.
#[derive(Default)]
pub(super) struct AccountData(BTreeMap<Scope, BTreeMap<String, (u64, Value)>>);

/// The room that a note is of; nothing where it is of the account.
type Scope = Option<String>;

impl AccountData {
    pub fn set(&mut self, position: u64, room_id: Option<&str>, kind: &str, content: Value) {
        let scope = self.0.entry(room_id.map(str::to_owned)).or_default();
        scope.insert(kind.to_owned(), (position, content));
    }

    pub fn get(&self, room_id: Option<&str>, kind: &str) -> Option<&Value> {
        let scope = self.0.get(&room_id.map(str::to_owned))?;
        scope.get(kind).map(|(_, content)| content)
    }

    /// What of the account (or of a room) has changed since a position, in the form of a sync.
    pub fn since(&self, room_id: Option<&str>, position: u64) -> Vec<Value> {
        let scope = self.0.get(&room_id.map(str::to_owned));
        let changed = scope.into_iter().flatten().filter(|(_, (at, _))| *at > position);
        changed.map(|(kind, (_, content))| json!({ "type": kind, "content": content })).collect()
    }

    /// The rooms whose notes have changed since a position.
    pub fn rooms_since(&self, position: u64) -> impl Iterator<Item = &str> {
        let changed =
            self.0.iter().filter(move |(_, scope)| scope.values().any(|(at, _)| *at > position));
        changed.filter_map(|(room_id, _)| room_id.as_deref())
    }
}

impl World {
    /// Changes a note of an account's.
    pub fn set_account_data(
        &mut self,
        user_id: &str,
        room_id: Option<&str>,
        kind: &str,
        content: Value,
    ) {
        let position = self.advance();
        if let Some(user) = self.users.get_mut(user_id) {
            user.account_data.set(position, room_id, kind, content);
        }
    }
}

fn require_self(sender: &Sender, user_id: &str) -> Result<(), Refusal> {
    match sender.user_id == user_id {
        true => Ok(()),
        false => Err(Refusal::forbidden("Cannot get account data for other users.")),
    }
}

fn read(shared: &Shared, sender: &Sender, room_id: Option<&str>, kind: &str) -> Answer {
    let world = shared.world();
    let user = world.users.get(&sender.user_id).ok_or_else(Refusal::unknown_token)?;
    let content = match (room_id, kind) {
        (None, "m.push_rules") => Some(user.push_rules.shown()),
        _ => user.account_data.get(room_id, kind).cloned(),
    };
    content.map(Json).ok_or_else(|| Refusal::not_found("Account data not found"))
}

fn write(
    shared: &Shared,
    sender: &Sender,
    room_id: Option<&str>,
    kind: &str,
    content: Map<String, Value>,
) -> Answer {
    if matches!(kind, "m.push_rules" | "m.fully_read") {
        return Err(Refusal::new(
            axum::http::StatusCode::METHOD_NOT_ALLOWED,
            "M_BAD_JSON",
            format!("Cannot set {kind} through this API."),
        ));
    }
    shared.change(|world| {
        world.set_account_data(&sender.user_id, room_id, kind, Value::from(content));
    });
    Ok(Json(json!({})))
}

pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    Path((user_id, kind)): Path<(String, String)>,
    sender: Sender,
) -> Answer {
    require_self(&sender, &user_id)?;
    read(&shared, &sender, None, &kind)
}

pub(super) async fn put(
    State(shared): State<Arc<Shared>>,
    Path((user_id, kind)): Path<(String, String)>,
    sender: Sender,
    Body(content): Body,
) -> Answer {
    require_self(&sender, &user_id)?;
    write(&shared, &sender, None, &kind, content)
}

pub(super) async fn get_of_room(
    State(shared): State<Arc<Shared>>,
    Path((user_id, room_id, kind)): Path<(String, String, String)>,
    sender: Sender,
) -> Answer {
    require_self(&sender, &user_id)?;
    read(&shared, &sender, Some(&room_id), &kind)
}

pub(super) async fn put_of_room(
    State(shared): State<Arc<Shared>>,
    Path((user_id, room_id, kind)): Path<(String, String, String)>,
    sender: Sender,
    Body(content): Body,
) -> Answer {
    require_self(&sender, &user_id)?;
    write(&shared, &sender, Some(&room_id), &kind, content)
}
