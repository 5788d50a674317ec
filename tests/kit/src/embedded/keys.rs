//! Device keys, one-time keys and fallback keys: stored as they come and handed out, never
//! understood. A key is a string, or an object with `key` and `signatures`.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State, http::StatusCode};
use serde_json::{Map, Value, json};

use super::{
    Shared,
    answer::{Answer, Body, Sender},
    cross_signing,
    error::Refusal,
    state::{Device, FallbackKey, OneTimeKey, World},
};

/// Synapse's limit for a device, by algorithm.
const MAX_ONE_TIME_KEYS: usize = 500;

pub(super) async fn upload(
    State(shared): State<Arc<Shared>>,
    sender: Sender,
    Body(body): Body,
) -> Answer {
    let device_keys = body.get("device_keys");
    if let Some(keys) = device_keys {
        check_device_keys(keys, &sender)?;
    }
    let one_time_keys = keys_by_id(&body, "one_time_keys")?;
    let fallback_keys = keys_by_id(&body, "fallback_keys")?;
    shared.change(|world| {
        let device = world.device_mut(&sender.user_id, &sender.device_id);
        let device = device.ok_or_else(Refusal::unknown_token)?;
        // Synapse stores the parts one after the other, so a refused one-time key leaves new
        // device keys in place.
        let changed = device_keys.is_some_and(|keys| device.keys.as_ref() != Some(keys));
        if changed {
            device.keys = device_keys.cloned();
        }
        let stored = store_one_time_keys(device, one_time_keys);
        if stored.is_ok() {
            store_fallback_keys(device, fallback_keys);
        }
        let counts = one_time_key_counts(device);
        if changed {
            world.device_list_changed(&sender.user_id);
        }
        stored.map(|()| Json(json!({ "one_time_key_counts": counts })))
    })
}

fn check_device_keys(keys: &Value, sender: &Sender) -> Result<(), Refusal> {
    let strings = |value: Option<&Value>| {
        value.and_then(Value::as_object).is_some_and(|map| map.values().all(Value::is_string))
    };
    let signatures = keys.get("signatures").and_then(Value::as_object);
    let well_formed = keys
        .get("algorithms")
        .and_then(Value::as_array)
        .is_some_and(|algorithms| algorithms.iter().all(Value::is_string))
        && strings(keys.get("keys"))
        && signatures.is_some_and(|users| users.values().all(|user| strings(Some(user))));
    if !well_formed {
        return Err(Refusal::bad_json("device_keys is malformed"));
    }
    for (field, own) in [("user_id", &sender.user_id), ("device_id", &sender.device_id)] {
        if keys.get(field).and_then(Value::as_str) != Some(own) {
            return Err(Refusal::bad_json(format!(
                "Provided `{field}` in `device_keys` does not match that of the authenticated user"
            )));
        }
    }
    Ok(())
}

fn keys_by_id(
    body: &Map<String, Value>,
    field: &str,
) -> Result<Vec<(String, String, Value)>, Refusal> {
    let keys = match body.get(field) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(keys)) => keys,
        Some(_) => return Err(Refusal::bad_json(format!("{field} must be a mapping"))),
    };
    keys.iter()
        .map(|(name, key)| {
            let (algorithm, id) = name
                .split_once(':')
                .filter(|(_, id)| !id.contains(':'))
                .ok_or_else(|| Refusal::bad_json(format!("Invalid {field} key {name:?}.")))?;
            let signed = key.get("key").is_some_and(Value::is_string)
                && key.get("signatures").is_some_and(Value::is_object);
            if !key.is_string() && !signed {
                return Err(Refusal::bad_json(format!("{field}: {name} is no key")));
            }
            Ok((algorithm.to_owned(), id.to_owned(), key.clone()))
        })
        .collect()
}

fn store_one_time_keys(
    device: &mut Device,
    keys: Vec<(String, String, Value)>,
) -> Result<(), Refusal> {
    let mut new = Vec::new();
    for (algorithm, id, key) in keys {
        let known = device.one_time_keys.iter().find(|k| k.algorithm == algorithm && k.id == id);
        match known {
            Some(known) if known.key == key => {}
            Some(_) => {
                return Err(Refusal::new(
                    StatusCode::BAD_REQUEST,
                    "M_UNKNOWN",
                    format!("One time key {algorithm}:{id} already exists."),
                ));
            }
            None => new.push(OneTimeKey { algorithm, id, key }),
        }
    }
    let mut counts = one_time_key_counts(device);
    for key in &new {
        let count = counts.entry(key.algorithm.clone()).or_default();
        *count += 1;
        if *count > MAX_ONE_TIME_KEYS {
            return Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "M_TOO_LARGE",
                format!("Uploading more {} one-time keys passes the limit", key.algorithm),
            ));
        }
    }
    device.one_time_keys.extend(new);
    Ok(())
}

fn store_fallback_keys(device: &mut Device, keys: Vec<(String, String, Value)>) {
    for (algorithm, id, key) in keys {
        // The same key again stays as used as it was.
        let same = device.fallback_keys.get(&algorithm).is_some_and(|known| known.key == key);
        if !same {
            device.fallback_keys.insert(algorithm, FallbackKey { id, key, used: false });
        }
    }
}

/// The device's unclaimed one-time keys by algorithm; Synapse always names `signed_curve25519`.
pub(super) fn one_time_key_counts(device: &Device) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::from([("signed_curve25519".to_owned(), 0)]);
    for key in &device.one_time_keys {
        *counts.entry(key.algorithm.clone()).or_default() += 1;
    }
    counts
}

/// The algorithms of the device's fallback keys that nobody has claimed.
pub(super) fn unused_fallback_keys(device: &Device) -> Vec<&String> {
    let unused = device.fallback_keys.iter().filter(|(_, key)| !key.used);
    unused.map(|(algorithm, _)| algorithm).collect()
}

pub(super) async fn query(
    State(shared): State<Arc<Shared>>,
    sender: Sender,
    Body(body): Body,
) -> Answer {
    let wanted = body.get("device_keys").and_then(Value::as_object);
    let wanted = wanted.ok_or_else(|| Refusal::bad_json("device_keys must be an object"))?;
    let world = shared.world();
    let mut device_keys = Map::new();
    let mut failures = Map::new();
    let mut cross_signing = cross_signing::no_keys();
    for (user_id, only) in wanted {
        let server = user_id.split_once(':').map(|(_, server)| server).unwrap_or_default();
        if server != world.server_name {
            failures.insert(server.to_owned(), json!({ "status": 503, "message": "unreachable" }));
            continue;
        }
        device_keys.insert(user_id.clone(), query_user(&world, user_id, only));
        cross_signing::add_keys(&world, &sender.user_id, user_id, &mut cross_signing);
    }
    let mut answer = json!({ "device_keys": device_keys, "failures": failures });
    for (plural, keys) in cross_signing {
        answer[plural] = Value::from(keys);
    }
    Ok(Json(answer))
}

fn query_user(world: &World, user_id: &str, only: &Value) -> Value {
    let only: Vec<&str> = only.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let devices = world.users.get(user_id).map(|user| &user.devices);
    let listed = devices.into_iter().flatten().filter_map(|(device_id, device)| {
        let mut keys = device.keys.clone()?;
        let unsigned = match &device.display_name {
            Some(name) => json!({ "device_display_name": name }),
            None => json!({}),
        };
        keys.as_object_mut()?.insert("unsigned".to_owned(), unsigned);
        cross_signing::add_signatures(&mut keys, user_id, &device.cross_signatures);
        (only.is_empty() || only.contains(&device_id.as_str())).then(|| (device_id.clone(), keys))
    });
    Value::from(listed.collect::<Map<_, _>>())
}

pub(super) async fn claim(
    State(shared): State<Arc<Shared>>,
    _: Sender,
    Body(body): Body,
) -> Answer {
    let wanted = body.get("one_time_keys").and_then(Value::as_object);
    let wanted = wanted.ok_or_else(|| Refusal::bad_json("one_time_keys must be an object"))?;
    shared.change(|world| {
        let mut claimed = Map::new();
        let mut failures = Map::new();
        for (user_id, devices) in wanted {
            let server = user_id.split_once(':').map(|(_, server)| server).unwrap_or_default();
            if server != world.server_name {
                let failure = json!({ "status": 503, "message": "unreachable" });
                failures.insert(server.to_owned(), failure);
                continue;
            }
            let mut of_user = Map::new();
            for (device_id, algorithm) in devices.as_object().into_iter().flatten() {
                let Some(algorithm) = algorithm.as_str() else {
                    return Err(Refusal::bad_json("an algorithm must be a string"));
                };
                let device = world.device_mut(user_id, device_id);
                if let Some((id, key)) = device.and_then(|device| take_key(device, algorithm)) {
                    let name = format!("{algorithm}:{id}");
                    of_user.insert(device_id.clone(), json!({ name: key }));
                }
            }
            if !of_user.is_empty() {
                claimed.insert(user_id.clone(), Value::from(of_user));
            }
        }
        Ok(Json(json!({ "one_time_keys": claimed, "failures": failures })))
    })
}

/// The oldest one-time key, or else the fallback key, which is then used.
fn take_key(device: &mut Device, algorithm: &str) -> Option<(String, Value)> {
    if let Some(index) = device.one_time_keys.iter().position(|key| key.algorithm == algorithm) {
        let key = device.one_time_keys.remove(index);
        return Some((key.id, key.key));
    }
    let fallback = device.fallback_keys.get_mut(algorithm)?;
    fallback.used = true;
    Some((fallback.id.clone(), fallback.key.clone()))
}
