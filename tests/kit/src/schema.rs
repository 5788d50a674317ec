//! What the library sends, against the specification's schemas (`docs/spec/schemas`).
//!
//! Every request of the engine passes through [`check`] on its way, in every test that uses a
//! [`Client`](crate::Client). What it sends must fit, and must have no field that its schema does
//! not name. What has passed is counted, so that a test can tell that it has seen each kind.

use std::{
    collections::BTreeMap,
    sync::{LazyLock, Mutex, PoisonError},
};

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;

/// Where the schemas would be, if they were published.
const BASE: &str = "https://matrix-mls.test/schemas/";

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        /// The schemas' names, and their texts.
        const FILES: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../../docs/spec/schemas/", $name, ".json")))),*];
    };
}

files![
    "backup_upload",
    "backup_version",
    "commit",
    "defs",
    "device_keys",
    "encryption",
    "history_offer",
    "history_request",
    "key_upload",
    "media_reference",
    "message",
    "plaintext",
    "push_rule",
    "restart",
    "sealed",
    "secrets",
    "session",
    "tree_difference",
    "tree_offer",
    "tree_request",
    "welcome",
];

struct Compiled {
    schemas: Schemas,
    by_name: BTreeMap<&'static str, SchemaIndex>,
    named: BTreeMap<&'static str, Vec<String>>,
}

static COMPILED: LazyLock<Result<Compiled, String>> = LazyLock::new(compile);
static SEEN: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

fn compile() -> Result<Compiled, String> {
    let mut compiler = Compiler::new();
    let mut named = BTreeMap::new();
    for (name, text) in FILES {
        let schema: Value =
            serde_json::from_str(text).map_err(|error| format!("{name}.json: {error}"))?;
        let properties = schema.get("properties").and_then(Value::as_object);
        named.insert(*name, properties.into_iter().flat_map(|all| all.keys().cloned()).collect());
        let url = format!("{BASE}{name}.json");
        compiler.add_resource(&url, schema).map_err(|error| format!("{name}.json: {error}"))?;
    }
    let (mut schemas, mut by_name) = (Schemas::new(), BTreeMap::new());
    for (name, _) in FILES {
        let url = format!("{BASE}{name}.json");
        let index = compiler
            .compile(&url, &mut schemas)
            .map_err(|error| format!("{name}.json: {error}"))?;
        by_name.insert(*name, index);
    }
    Ok(Compiled { schemas, by_name, named })
}

/// Whether a value fits a schema, with no field that the schema does not name.
pub fn fits(name: &'static str, value: &Value) -> Result<(), String> {
    let compiled = COMPILED.as_ref().map_err(Clone::clone)?;
    let index = compiled.by_name.get(name).ok_or_else(|| format!("there is no schema {name}"))?;
    compiled
        .schemas
        .validate(value, *index)
        .map_err(|error| format!("{name}.json: {error:#}: {value}"))?;
    let named = compiled.named.get(name).map(Vec::as_slice).unwrap_or_default();
    let unnamed = value.as_object().and_then(|all| all.keys().find(|key| !named.contains(key)));
    if let Some(field) = unnamed {
        return Err(format!("{name}.json does not name the field {field}: {value}"));
    }
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    *seen.entry(name).or_default() += 1;
    Ok(())
}

/// How many values of each schema have passed in this process.
pub fn seen() -> BTreeMap<&'static str, u64> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Checks a request of the engine, if the specification says what it has to hold.
pub fn check(method: &str, path: &str, body: &[u8]) -> Result<(), String> {
    let parts: Vec<&str> = path
        .split('?')
        .next()
        .unwrap_or_default()
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    let rest = parts.get(3..).unwrap_or_default();
    let json = || serde_json::from_slice::<Value>(body).map_err(|error| format!("{path}: {error}"));
    match (method, rest) {
        ("PUT", ["rooms", _, "send", "m.room.encrypted", ..]) => event(&json()?),
        ("PUT", ["rooms", _, "state", "m.room.encryption", ..]) => fits("encryption", &json()?),
        ("PUT", ["pushrules", "global", "override", ..]) => fits("push_rule", &json()?),
        ("PUT", ["rooms", _, "state", kind, ..]) if kind.ends_with("dmls.restart") => {
            fits("restart", &json()?)
        }
        ("PUT", ["sendToDevice", "m.room.encrypted", ..]) => {
            let messages = json()?;
            let users = messages.get("messages").and_then(Value::as_object);
            for content in users.into_iter().flat_map(|users| users.values()) {
                for content in content.as_object().into_iter().flat_map(|all| all.values()) {
                    to_device(content)?;
                }
            }
            Ok(())
        }
        ("POST", ["keys", "upload"]) => {
            let body = json()?;
            fits("key_upload", &body)?;
            body.get("device_keys").map_or(Ok(()), |keys| fits("device_keys", keys))
        }
        ("POST" | "PUT", ["room_keys", "version", ..]) => {
            let body = json()?;
            let is_ours = body["algorithm"].as_str().is_some_and(|name| name.contains("msc4038"));
            if is_ours { fits("backup_version", &body) } else { Ok(()) }
        }
        ("PUT", ["room_keys", "keys", ..]) => fits("backup_upload", &json()?),
        _ => Ok(()),
    }
}

/// Checks the content of an event that the engine has made for a room.
pub fn event(content: &Value) -> Result<(), String> {
    let is_commit = content.get("public_group_state").is_some();
    fits(if is_commit { "commit" } else { "message" }, content)
}

fn to_device(content: &Value) -> Result<(), String> {
    let algorithm = content["algorithm"].as_str().unwrap_or_default();
    if algorithm.ends_with("dmls.secrets") {
        return fits("secrets", content);
    }
    let kind = ["welcome", "history", "history_request", "tree_request", "tree"]
        .into_iter()
        .find(|kind| algorithm.contains(&format!("dmls.{kind}.")));
    match kind {
        Some("welcome") => fits("welcome", content),
        Some("history") => fits("history_offer", content),
        Some("history_request") => fits("history_request", content),
        Some("tree_request") => fits("tree_request", content),
        Some(_) => fits("tree_offer", content),
        None => Err(format!("no schema is for {content}")),
    }
}
