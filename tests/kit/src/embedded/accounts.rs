//! Accounts and devices: registering, logging in and out, and deleting devices.
//!
//! A device's creation and deletion changes its user's device list. Logging in again as a known
//! device keeps the device, its keys and its older access tokens, as Synapse does.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use rand::{Rng, distr::Alphanumeric};
use serde_json::{Map, Value, json};

use super::{
    Shared,
    answer::{Answer, Body, OptionalBody, Sender, optional, required},
    error::Refusal,
    state::{Device, User, World},
};

pub(super) async fn versions() -> Json<Value> {
    let versions: Vec<String> = (1..=12).map(|minor| format!("v1.{minor}")).collect();
    let features = json!({ "org.matrix.simplified_msc3575": true });
    Json(json!({ "versions": versions, "unstable_features": features }))
}

pub(super) async fn login_flows() -> Json<Value> {
    Json(json!({ "flows": [{ "type": "m.login.password" }] }))
}

pub(super) async fn register(
    State(shared): State<Arc<Shared>>,
    OptionalBody(body): OptionalBody,
) -> Answer {
    let finished = body.get("auth").and_then(|auth| auth.get("type"));
    if finished != Some(&json!("m.login.dummy")) {
        return Err(Refusal::with_body(
            StatusCode::UNAUTHORIZED,
            json!({
                "session": random_text(24), "flows": [{ "stages": ["m.login.dummy"] }],
                "params": {},
            }),
        ));
    }
    let username = match optional(&body, "username") {
        Some(name) => name.to_owned(),
        None => random_text(12).to_lowercase(),
    };
    let allowed = |letter: char| {
        letter.is_ascii_lowercase() || letter.is_ascii_digit() || "_-./=+".contains(letter)
    };
    if username.is_empty() || !username.chars().all(allowed) {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "M_INVALID_USERNAME",
            "User ID can only contain characters a-z, 0-9, or '_-./=+'",
        ));
    }
    let password = required(&body, "password")?.to_owned();
    shared.change(|world| {
        let user_id = format!("@{username}:{}", world.server_name);
        if world.users.contains_key(&user_id) {
            return Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "M_USER_IN_USE",
                "User ID already taken.",
            ));
        }
        world.users.insert(user_id.clone(), User::new(&user_id, password));
        if body.get("inhibit_login") == Some(&json!(true)) {
            return Ok(Json(json!({ "user_id": user_id, "home_server": world.server_name })));
        }
        Ok(Json(log_in(world, user_id, &body)))
    })
}

pub(super) async fn login(State(shared): State<Arc<Shared>>, Body(body): Body) -> Answer {
    if required(&body, "type")? != "m.login.password" {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", "Unknown login type"));
    }
    let user = body.get("identifier").and_then(|identifier| identifier.get("user"));
    let user = user.and_then(Value::as_str).or_else(|| optional(&body, "user"));
    let user = user.ok_or_else(|| Refusal::bad_json("Missing identifier.user"))?;
    let password = required(&body, "password")?;
    shared.change(|world| {
        let user_id = match user.starts_with('@') {
            true => user.to_owned(),
            false => format!("@{user}:{}", world.server_name),
        };
        match world.users.get(&user_id) {
            Some(account) if account.password == password => {
                Ok(Json(log_in(world, user_id, &body)))
            }
            _ => Err(Refusal::forbidden("Invalid username or password")),
        }
    })
}

/// Gives the device that `body` names, or a new one, its access token.
fn log_in(world: &mut World, user_id: String, body: &Map<String, Value>) -> Value {
    let device_id = match optional(body, "device_id") {
        Some(id) => id.to_owned(),
        None => random_text(10).to_uppercase(),
    };
    if world.device(&user_id, &device_id).is_none() {
        let display_name = optional(body, "initial_device_display_name").map(str::to_owned);
        if let Some(user) = world.users.get_mut(&user_id) {
            user.devices.insert(device_id.clone(), Device { display_name, ..Device::default() });
        }
        world.device_list_changed(&user_id);
    }
    let access_token = format!("tok_{}", random_text(32));
    world.tokens.insert(access_token.clone(), (user_id.clone(), device_id.clone()));
    json!({
        "user_id": user_id, "access_token": access_token, "device_id": device_id,
        "home_server": world.server_name,
    })
}

pub(super) async fn logout(State(shared): State<Arc<Shared>>, sender: Sender) -> Answer {
    shared.change(|world| world.delete_devices(&sender.user_id, &[sender.device_id]));
    Ok(Json(json!({})))
}

pub(super) async fn logout_all(State(shared): State<Arc<Shared>>, sender: Sender) -> Answer {
    shared.change(|world| {
        let devices = world.users.get(&sender.user_id).map(|user| user.devices.keys().cloned());
        let devices: Vec<String> = devices.into_iter().flatten().collect();
        world.delete_devices(&sender.user_id, &devices);
    });
    Ok(Json(json!({})))
}

pub(super) async fn whoami(sender: Sender) -> Answer {
    Ok(Json(json!({
        "user_id": sender.user_id, "device_id": sender.device_id, "is_guest": false,
    })))
}

pub(super) async fn devices(State(shared): State<Arc<Shared>>, sender: Sender) -> Answer {
    let world = shared.world();
    let user = world.users.get(&sender.user_id).ok_or_else(Refusal::unknown_token)?;
    let devices = user.devices.iter().map(|(device_id, device)| {
        json!({ "device_id": device_id, "display_name": device.display_name })
    });
    Ok(Json(json!({ "devices": devices.collect::<Vec<_>>() })))
}

/// Deletes devices without asking for the password again, unlike a real server.
pub(super) async fn delete_devices(
    State(shared): State<Arc<Shared>>,
    sender: Sender,
    Body(body): Body,
) -> Answer {
    let devices = body.get("devices").and_then(Value::as_array);
    let devices = devices.ok_or_else(|| Refusal::bad_json("devices must be a list"))?;
    let devices: Option<Vec<String>> =
        devices.iter().map(|id| id.as_str().map(str::to_owned)).collect();
    let devices = devices.ok_or_else(|| Refusal::bad_json("a device id must be a string"))?;
    shared.change(|world| world.delete_devices(&sender.user_id, &devices));
    Ok(Json(json!({})))
}

/// Letters and digits that nobody guesses.
pub(super) fn random_text(length: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(length).map(char::from).collect()
}
