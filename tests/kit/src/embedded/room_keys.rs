//! Server-side key backup: versions, and sessions in them. What is in a session is never looked at
//! but for what decides which of two of one id is kept.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use serde_json::{Map, Value, json};

use super::{
    Shared,
    answer::{Answer, Body, Sender, required},
    error::Refusal,
    state::World,
};

/// A session: its room and id, and what is in it.
type Session = ((String, String), Value);

/// A version of a user's backup.
pub(super) struct Backup {
    version: u64,
    algorithm: String,
    auth_data: Value,
    etag: u64,
    /// Sessions by room and session id.
    sessions: BTreeMap<(String, String), Value>,
}

impl Backup {
    fn count(&self) -> Value {
        json!({ "etag": self.etag.to_string(), "count": self.sessions.len() })
    }

    fn info(&self) -> Value {
        let mut info = self.count();
        info["version"] = self.version.to_string().into();
        info["algorithm"] = self.algorithm.clone().into();
        info["auth_data"] = self.auth_data.clone();
        info
    }
}

fn backups<'w>(world: &'w mut World, sender: &Sender) -> Result<&'w mut Vec<Backup>, Refusal> {
    let user = world.users.get_mut(&sender.user_id).ok_or_else(Refusal::unknown_token)?;
    Ok(&mut user.backups)
}

fn unknown() -> Refusal {
    Refusal::not_found("Unknown backup version")
}

fn find<'w>(
    world: &'w mut World,
    sender: &Sender,
    version: &str,
) -> Result<&'w mut Backup, Refusal> {
    let mut backups = backups(world, sender)?.iter_mut();
    backups.find(|backup| backup.version.to_string() == version).ok_or_else(unknown)
}

pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    sender: Sender,
    Body(body): Body,
) -> Answer {
    let algorithm = required(&body, "algorithm")?.to_owned();
    let auth_data = body.get("auth_data").cloned().ok_or_else(|| {
        Refusal::new(StatusCode::BAD_REQUEST, "M_MISSING_PARAM", "Missing parameter auth_data")
    })?;
    shared.change(|world| {
        let user = world.users.get_mut(&sender.user_id).ok_or_else(Refusal::unknown_token)?;
        user.backup_versions += 1;
        let version = user.backup_versions;
        user.backups.push(Backup {
            version,
            algorithm,
            auth_data,
            etag: 0,
            sessions: BTreeMap::new(),
        });
        Ok(Json(json!({ "version": version.to_string() })))
    })
}

pub(super) async fn current(State(shared): State<Arc<Shared>>, sender: Sender) -> Answer {
    let mut world = shared.world();
    let current = backups(&mut world, &sender)?
        .last()
        .ok_or_else(|| Refusal::not_found("No current backup version"))?;
    Ok(Json(current.info()))
}

pub(super) async fn version(
    State(shared): State<Arc<Shared>>,
    sender: Sender,
    Path(version): Path<String>,
) -> Answer {
    Ok(Json(find(&mut shared.world(), &sender, &version)?.info()))
}

pub(super) async fn delete_version(
    State(shared): State<Arc<Shared>>,
    sender: Sender,
    Path(version): Path<String>,
) -> Answer {
    shared.change(|world| {
        let ever = world.users.get(&sender.user_id).map_or(0, |user| user.backup_versions);
        if version.parse().is_ok_and(|version: u64| version == 0 || version > ever) {
            return Err(unknown());
        }
        backups(world, &sender)?.retain(|backup| backup.version.to_string() != version);
        Ok(Json(json!({})))
    })
}

/// The path's room and session, and the query's version.
type Place = (Path<HashMap<String, String>>, Query<HashMap<String, String>>);

fn place(
    (Path(path), Query(query)): Place,
) -> Result<(Option<String>, Option<String>, String), Refusal> {
    let version = query.get("version").cloned().ok_or_else(|| {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            "M_MISSING_PARAM",
            "Missing required string query parameter 'version'",
        )
    })?;
    Ok((path.get("room_id").cloned(), path.get("session_id").cloned(), version))
}

pub(super) async fn put(
    State(shared): State<Arc<Shared>>,
    sender: Sender,
    path: Path<HashMap<String, String>>,
    query: Query<HashMap<String, String>>,
    Body(body): Body,
) -> Answer {
    let (room, session, version) = place((path, query))?;
    let sessions = match (room, session) {
        (Some(room), Some(session)) => vec![((room, session), Value::from(body))],
        (Some(room), None) => sessions_of(&room, &body)?,
        _ => {
            let rooms = body.get("rooms").and_then(Value::as_object);
            let rooms = rooms.ok_or_else(|| {
                Refusal::new(StatusCode::BAD_REQUEST, "M_BAD_JSON", "rooms must be an object")
            })?;
            let mut sessions = Vec::new();
            for (room, keys) in rooms {
                let keys =
                    keys.as_object().ok_or_else(|| Refusal::bad_json("a room has no keys"))?;
                sessions.extend(sessions_of(room, keys)?);
            }
            sessions
        }
    };
    shared.change(|world| {
        let backups = backups(world, &sender)?;
        let known = backups.iter().any(|backup| backup.version.to_string() == version);
        if !known {
            return Err(Refusal::not_found(format!("Version '{version}' not found")));
        }
        let current = backups.last_mut().ok_or_else(unknown)?;
        if current.version.to_string() != version {
            return Err(Refusal::with_body(
                StatusCode::FORBIDDEN,
                json!({
                    "errcode": "M_WRONG_ROOM_KEYS_VERSION", "error": "Wrong room_keys version",
                    // As Synapse has it: the one that was asked for.
                    "current_version": version,
                }),
            ));
        }
        let mut changed = false;
        for (place, session) in sessions {
            if current.sessions.get(&place).is_none_or(|old| is_better(&session, old)) {
                current.sessions.insert(place, session);
                changed = true;
            }
        }
        current.etag += u64::from(changed);
        Ok(Json(current.count()))
    })
}

fn sessions_of(room: &str, keys: &Map<String, Value>) -> Result<Vec<Session>, Refusal> {
    let sessions = keys.get("sessions").and_then(Value::as_object);
    let sessions = sessions.ok_or_else(|| Refusal::bad_json("sessions must be an object"))?;
    let place = |(id, session): (&String, &Value)| ((room.to_owned(), id.clone()), session.clone());
    Ok(sessions.iter().map(place).collect())
}

/// Whether a session replaces another of its id.
fn is_better(new: &Value, old: &Value) -> bool {
    let number = |session: &Value, field: &str| session[field].as_u64().unwrap_or_default();
    (new["is_verified"] == true && old["is_verified"] != true)
        || number(new, "first_message_index") < number(old, "first_message_index")
        || number(new, "forwarded_count") < number(old, "forwarded_count")
}

pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    sender: Sender,
    path: Path<HashMap<String, String>>,
    query: Query<HashMap<String, String>>,
) -> Answer {
    let (room, session, version) = place((path, query))?;
    let mut world = shared.world();
    let sessions = &find(&mut world, &sender, &version)?.sessions;
    let of_room = |room: &String| -> Map<String, Value> {
        let sessions = sessions.iter().filter(|((of, _), _)| of == room);
        sessions.map(|((_, id), session)| (id.clone(), session.clone())).collect()
    };
    Ok(Json(match (room, session) {
        (Some(room), Some(session)) => sessions
            .get(&(room, session))
            .cloned()
            .ok_or_else(|| Refusal::not_found("No room_keys found"))?,
        (Some(room), None) => json!({ "sessions": of_room(&room) }),
        _ => {
            let rooms = sessions.keys().map(|(room, _)| room);
            let rooms: Map<String, Value> =
                rooms.map(|room| (room.clone(), json!({ "sessions": of_room(room) }))).collect();
            json!({ "rooms": rooms })
        }
    }))
}

pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    sender: Sender,
    path: Path<HashMap<String, String>>,
    query: Query<HashMap<String, String>>,
) -> Answer {
    let (room, session, version) = place((path, query))?;
    shared.change(|world| {
        let backup = find(world, &sender, &version)?;
        backup.sessions.retain(|(of_room, id), _| {
            room.as_ref().is_some_and(|room| room != of_room)
                || session.as_ref().is_some_and(|session| session != id)
        });
        backup.etag += 1;
        Ok(Json(backup.count()))
    })
}
