//! Cross-signing keys, and the signatures that are made with them: stored and handed out as Synapse
//! does, whose rules are about names. No signature is verified.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State, http::StatusCode};
use serde_json::{Map, Value, json};

use super::{
    Shared,
    accounts::random_text,
    answer::{Answer, Body, Sender},
    error::Refusal,
    state::{User, World},
};

/// The name of each cross-signing key when uploaded, and of all users' when queried.
const KINDS: [(&str, &str); 3] = [
    ("master_key", "master_keys"),
    ("self_signing_key", "self_signing_keys"),
    ("user_signing_key", "user_signing_keys"),
];

/// Users' keys by kind, as `/keys/query` answers.
pub(super) type KeysOfUsers = BTreeMap<&'static str, Map<String, Value>>;

pub(super) fn no_keys() -> KeysOfUsers {
    KINDS.iter().map(|(_, plural)| (*plural, Map::new())).collect()
}

/// Adds the keys of a user as another may see them.
pub(super) fn add_keys(world: &World, asker: &str, user_id: &str, all: &mut KeysOfUsers) {
    let Some(user) = world.users.get(user_id) else { return };
    for (singular, plural) in KINDS {
        if singular == "user_signing_key" && user_id != asker {
            continue;
        }
        let (Some(key), Some(keys)) = (user.cross_signing.get(singular), all.get_mut(plural))
        else {
            continue;
        };
        let mut key = key.clone();
        if singular == "master_key"
            && let Some(asker_keys) = world.users.get(asker)
            && let Some(signed) = asker_keys.signed_others.get(user_id)
        {
            add_signatures(&mut key, asker, signed);
        }
        keys.insert(user_id.to_owned(), key);
    }
}

/// Adds a user's signatures to an object.
pub(super) fn add_signatures(object: &mut Value, user_id: &str, added: &Map<String, Value>) {
    if added.is_empty() {
        return;
    }
    let signatures = &mut object["signatures"][user_id];
    for (id, signature) in added {
        signatures[id] = signature.clone();
    }
}

/// What a client has to do before its keys replace others: as Synapse asks for it.
fn challenge(world: &mut World, error: Option<(&str, &str)>) -> Refusal {
    let session = random_text(24);
    world.auth_sessions.insert(session.clone());
    let mut body = json!({
        "session": session, "flows": [{ "stages": ["m.login.password"] }], "params": {},
    });
    if let Some((code, sentence)) = error {
        body["errcode"] = json!(code);
        body["error"] = json!(sentence);
        body["completed"] = json!([]);
    }
    Refusal::with_body(StatusCode::UNAUTHORIZED, body)
}

/// Whether the client may replace its user's keys: by the password, in a session of this server's.
fn prove(world: &mut World, user_id: &str, auth: Option<&Value>) -> Result<(), Refusal> {
    let Some(auth) = auth else { return Err(challenge(world, None)) };
    let session = auth["session"].as_str().unwrap_or_default();
    if !world.auth_sessions.contains(session) {
        let sentence = format!("Unknown session ID: {session}");
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", sentence));
    }
    let named = auth["identifier"]["user"].as_str().unwrap_or_default();
    let is_user = named == user_id
        || user_id.strip_prefix('@').is_some_and(|id| id.split(':').next() == Some(named));
    let password = world.users.get(user_id).map(|user| json!(user.password));
    if auth["type"] != "m.login.password"
        || !is_user
        || Some(&auth["password"]) != password.as_ref()
    {
        return Err(challenge(world, Some(("M_FORBIDDEN", "Invalid username or password"))));
    }
    Ok(())
}

/// Stores cross-signing keys as they come. The first time, and where they are the same as before,
/// nothing is asked for; to replace keys the user has to give the password.
pub(super) async fn upload_keys(
    State(shared): State<Arc<Shared>>,
    sender: Sender,
    Body(body): Body,
) -> Answer {
    shared.change(|world| {
        let user = world.users.get(&sender.user_id).ok_or_else(Refusal::unknown_token)?;
        let is_other = |(kind, _): &(&str, &str)| {
            body.get(*kind).is_some_and(|key| user.cross_signing.get(*kind) != Some(key))
        };
        if !KINDS.iter().any(is_other) {
            return Ok(Json(json!({})));
        }
        if !user.cross_signing.is_empty() {
            prove(world, &sender.user_id, body.get("auth"))?;
        }
        let user = world.users.get_mut(&sender.user_id).ok_or_else(Refusal::unknown_token)?;
        for (singular, _) in KINDS {
            if let Some(key) = body.get(singular) {
                user.cross_signing.insert(singular.to_owned(), key.clone());
            }
        }
        world.device_list_changed(&sender.user_id);
        Ok(Json(json!({})))
    })
}

/// Stores signatures of the sender's devices and master key, and of others' master keys. What does
/// not fit is named in the answer.
pub(super) async fn upload_signatures(
    State(shared): State<Arc<Shared>>,
    sender: Sender,
    Body(body): Body,
) -> Answer {
    shared.change(|world| {
        let own = &sender.user_id;
        let mut failures = Map::new();
        for (user_id, objects) in &body {
            for (target, object) in objects.as_object().into_iter().flatten() {
                let stored = if user_id == own {
                    let user = world.users.get_mut(own).ok_or_else(Refusal::unknown_token)?;
                    sign_own(user, own, target, object)
                } else {
                    sign_other(world, own, user_id, target, object)
                };
                if let Err(reason) = stored {
                    let failure =
                        json!({ "status": 400, "errcode": "M_UNKNOWN", "message": reason });
                    let of_user = failures.entry(user_id.clone()).or_insert_with(|| json!({}));
                    of_user[target] = failure;
                }
            }
        }
        world.device_list_changed(own);
        Ok(Json(json!({ "failures": failures })))
    })
}

/// The sender's signatures on an object, with the ids of the keys that made them.
fn signatures_of(object: &Value, user_id: &str) -> Map<String, Value> {
    object["signatures"][user_id].as_object().cloned().unwrap_or_default()
}

/// Whether two objects differ in what is signed.
fn differ(one: &Value, other: &Value) -> bool {
    let bare = |object: &Value| {
        let mut object = object.as_object().cloned().unwrap_or_default();
        object.remove("signatures");
        object.remove("unsigned");
        object
    };
    bare(one) != bare(other)
}

/// The id and the text of the one key in a cross-signing key.
fn only_key(object: &Value) -> Option<(&str, &str)> {
    let (id, key) = object["keys"].as_object()?.iter().next()?;
    Some((id, key.as_str()?))
}

fn sign_own(
    user: &mut User,
    user_id: &str,
    target: &str,
    object: &Value,
) -> Result<(), &'static str> {
    let self_signing = user.cross_signing.get("self_signing_key").and_then(only_key);
    let self_signing = self_signing.map(|(id, _)| id.to_owned());
    if let Some(master) = user.cross_signing.get_mut("master_key")
        && only_key(master).is_some_and(|(_, key)| key == target)
    {
        if differ(master, object) {
            return Err("Key does not match");
        }
        add_signatures(master, user_id, &signatures_of(object, user_id));
        return Ok(());
    }
    let self_signing = self_signing.ok_or("No self-signing key")?;
    let device = user.devices.get_mut(target).ok_or("Unknown device")?;
    let keys = device.keys.as_ref().ok_or("Unknown device")?;
    if device.cross_signatures.contains_key(&self_signing) {
        // Synapse takes it for the same one.
        return Ok(());
    }
    if differ(keys, object) {
        return Err("Key does not match");
    }
    let signature = signatures_of(object, user_id).remove(&self_signing);
    device.cross_signatures.insert(self_signing, signature.ok_or("Invalid signature")?);
    Ok(())
}

fn sign_other(
    world: &mut World,
    own: &str,
    user_id: &str,
    target: &str,
    object: &Value,
) -> Result<(), &'static str> {
    let other = world.users.get(user_id).ok_or("Unknown user")?;
    let master = other.cross_signing.get("master_key").ok_or("Unknown key")?;
    if only_key(master).is_none_or(|(_, key)| key != target) || differ(master, object) {
        return Err("Key does not match");
    }
    let signatures = signatures_of(object, own);
    let signer = world.users.get_mut(own).ok_or("Unknown user")?;
    signer.signed_others.entry(user_id.to_owned()).or_default().extend(signatures);
    world.user_signed(own, user_id);
    Ok(())
}
