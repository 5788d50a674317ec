//! Changes of real inputs: of any value in JSON, and of the bytes that a text of JSON holds as
//! base64.

use base64::{
    Engine as _, alphabet,
    engine::{
        DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD_NO_PAD,
    },
};
use serde_json::{Value, json};

use super::choices::Choices;

/// Reads base64 with and without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// The fields whose values are MLS messages.
const MESSAGES: [&str; 2] = ["/content/ciphertext", "/content/public_group_state"];

/// Up to three changes of a value. Some take the place of a part with the same part of another
/// value.
pub fn some(value: &mut Value, choices: &mut Choices<'_>, others: &[Value]) {
    for _ in 0..choices.below(4) {
        one(value, choices, others);
    }
}

/// One change of a value.
pub fn one(value: &mut Value, choices: &mut Choices<'_>, others: &[Value]) {
    let kind = choices.below(8);
    if kind < 3
        && let Some(path) = choices.one_of(&MESSAGES)
        && let Some(Value::String(text)) = value.pointer_mut(path)
    {
        let other = choices.one_of(others).and_then(|other| other.pointer(path)?.as_str());
        change_text(text, choices, other.unwrap_or_default());
        return;
    }
    let mut paths = Vec::new();
    collect(value, &mut String::new(), &mut paths);
    let Some(path) = choices.one_of(&paths) else { return };
    let other = choices.one_of(others).and_then(|other| other.pointer(path));
    if kind == 3 {
        remove(value, path);
        return;
    }
    let Some(part) = value.pointer_mut(path) else { return };
    match (kind, part) {
        (4, part) => *part = other.cloned().unwrap_or_default(),
        (5, part) => *part = unlikely(choices),
        (6, Value::Array(array)) => {
            let again = choices.one_of(array).cloned();
            array.extend(again);
        }
        (6, Value::Object(object)) => {
            let value = object.values().nth(choices.below(object.len())).cloned();
            object.insert(name(choices), value.unwrap_or_default());
        }
        (_, Value::String(text)) => {
            change_text(text, choices, other.and_then(Value::as_str).unwrap_or_default());
        }
        (_, Value::Number(number)) => {
            let by = i64::from(choices.byte()) - 128;
            *number = number.as_i64().unwrap_or_default().wrapping_add(by).into();
        }
        (_, part) => *part = unlikely(choices),
    }
}

/// The path of every value in JSON, as pointers.
fn collect(value: &Value, path: &mut String, paths: &mut Vec<String>) {
    let length = path.len();
    let fields: Vec<(String, &Value)> = match value {
        Value::Object(object) => object.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(array) => {
            array.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect()
        }
        _ => Vec::new(),
    };
    for (name, value) in fields {
        path.push('/');
        path.push_str(&name.replace('~', "~0").replace('/', "~1"));
        paths.push(path.clone());
        collect(value, path, paths);
        path.truncate(length);
    }
}

fn remove(value: &mut Value, path: &str) {
    let Some((parent, field)) = path.rsplit_once('/') else { return };
    match value.pointer_mut(parent) {
        Some(Value::Object(object)) => {
            object.remove(&field.replace("~1", "/").replace("~0", "~"));
        }
        Some(Value::Array(array)) => {
            if let Ok(at) = field.parse::<usize>()
                && at < array.len()
            {
                array.remove(at);
            }
        }
        _ => {}
    }
}

/// A value that nobody expects in this place.
fn unlikely(choices: &mut Choices<'_>) -> Value {
    match choices.below(12) {
        0 => Value::Null,
        1 => json!(-1),
        2 => json!(u64::MAX),
        3 => json!(i64::MAX),
        4 => json!(1.5),
        5 => json!(""),
        6 => json!("x".repeat(1 << choices.below(17))),
        7 => json!([]),
        8 => json!({}),
        9 => (0..100).fold(json!(1), |inner, _| json!([inner])),
        10 => json!({ "url": "mxc://example.org/abc", "size": 70_000, "sha256": "A".repeat(43) }),
        _ => json!(name(choices)),
    }
}

/// A short text, which may be an id of any kind.
fn name(choices: &mut Choices<'_>) -> String {
    let sigil = ["", "@", "!", "$", "#"][choices.below(5)];
    let length = choices.below(20);
    let text = String::from_utf8_lossy(choices.bytes(length));
    format!("{sigil}{text}{}", [":example.org", "", ":"][choices.below(3)])
}

/// Changes the bytes that a text has as base64, or else its own.
fn change_text(text: &mut String, choices: &mut Choices<'_>, other: &str) {
    match BASE64.decode(&*text) {
        Ok(mut inner) if text.len() > 16 && choices.below(8) > 0 => {
            bytes(&mut inner, choices, &BASE64.decode(other).unwrap_or_default());
            *text = STANDARD_NO_PAD.encode(inner);
        }
        _ => {
            let mut own = std::mem::take(text).into_bytes();
            bytes(&mut own, choices, other.as_bytes());
            *text = String::from_utf8_lossy(&own).into_owned();
        }
    }
}

/// One change of bytes.
pub fn bytes(bytes: &mut Vec<u8>, choices: &mut Choices<'_>, other: &[u8]) {
    let at = choices.below(bytes.len());
    let count = 1 + choices.below(16);
    let end = (at + count).min(bytes.len());
    match choices.below(8) {
        0 => {
            let bit = 1 << choices.below(8);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= bit;
            }
        }
        1 => bytes.truncate(at),
        2 => drop(bytes.splice(at..at, choices.bytes(count).iter().copied())),
        3 => {
            let edge = [0, 1, 1 << 30, (1 << 48) - 1, 1 << 62, 1 << 63, u64::MAX - 1, u64::MAX];
            let edge: u64 = edge[choices.below(8)];
            write(bytes, at, &edge.to_be_bytes());
        }
        4 => drop(bytes.drain(at..end)),
        5 => {
            let again = bytes[at..end].to_vec();
            drop(bytes.splice(at..at, again));
        }
        6 => {
            let new = choices.bytes(count);
            write(bytes, at, new);
        }
        _ => {
            let from = other.get(at.min(other.len())..end.min(other.len())).unwrap_or_default();
            write(bytes, at, from);
        }
    }
}

/// Writes over what is there.
fn write(bytes: &mut [u8], at: usize, new: &[u8]) {
    for (old, new) in bytes.iter_mut().skip(at).zip(new) {
        *old = *new;
    }
}
