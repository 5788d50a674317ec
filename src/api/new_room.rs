//! The request for a new room, so that it is encrypted with MLS from its first event on, and every
//! client sees that.

use serde_json::{Map, Value, json};

use super::error::MlsError;
use crate::{identity::SUITE, protocol::identifiers};

/// Makes the body of a `createRoom` request one for a room that is encrypted with MLS from its first
/// event on.
///
/// `request` is the body as the app would send it for any room, a JSON object, with its name,
/// `"invite"` and `"preset"`. What comes back has the encryption beside that: in `"initial_state"`,
/// where other clients see it, and in `"creation_content"`, where nobody can change it. Encryption
/// that `request` names is replaced.
///
/// Send it to `/_matrix/client/v3/createRoom`. Then call `MlsRoom::enable` with the room's id.
///
/// Fails with `InvalidInput` (`"bad_content"`) if `request` is no JSON object, or one of these two
/// members is not what the Matrix specification says.
#[uniffi::export]
pub fn create_room_body(request: String) -> Result<String, MlsError> {
    let bad = |what: &str| MlsError::invalid("bad_content", format!("request: {what}"));
    let mut body: Map<String, Value> =
        serde_json::from_str(&request).map_err(|_| bad("it is no JSON object"))?;
    let encryption = json!({ "algorithm": identifiers::room_algorithm(SUITE) });
    let state = body.entry("initial_state").or_insert_with(|| json!([]));
    let state = state.as_array_mut().ok_or_else(|| bad("initial_state is no array"))?;
    state.retain(|event| event["type"] != "m.room.encryption");
    state.push(json!({ "type": "m.room.encryption", "state_key": "", "content": encryption }));
    let creation = body.entry("creation_content").or_insert_with(|| json!({}));
    let creation = creation.as_object_mut().ok_or_else(|| bad("creation_content is no object"))?;
    creation.insert("encryption".to_owned(), encryption);
    Ok(Value::Object(body).to_string())
}
