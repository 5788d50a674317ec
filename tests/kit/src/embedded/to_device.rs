//! To-device messages: put into each addressed device's inbox, once a transaction id.

use std::sync::Arc;

use axum::extract::{OriginalUri, Path, State};
use serde_json::{Value, json};

use super::{
    Shared,
    answer::{Answer, Body, Sender},
    error::Refusal,
    events::once,
};

/// The largest content of one message, as Synapse has it so that it fits a federation transaction.
const MAX_CONTENT: usize = 65_536;

pub(super) async fn send(
    State(shared): State<Arc<Shared>>,
    OriginalUri(uri): OriginalUri,
    Path((event_type, _)): Path<(String, String)>,
    sender: Sender,
    Body(body): Body,
) -> Answer {
    let messages = body.get("messages").and_then(Value::as_object);
    let messages = messages.ok_or_else(|| Refusal::bad_json("messages must be an object"))?;
    let mut addressed = Vec::new();
    for (user_id, by_device) in messages {
        let by_device =
            by_device.as_object().ok_or_else(|| Refusal::bad_json("messages of a user"))?;
        for (device_id, content) in by_device {
            let length = content.to_string().len();
            if length > MAX_CONTENT {
                return Err(Refusal::too_large(format!(
                    "To-device message for {user_id}:{device_id} is too large to send \
                     ({length} > {MAX_CONTENT})"
                )));
            }
            let event = json!({ "type": event_type, "sender": sender.user_id, "content": content });
            addressed.push((user_id, device_id, event));
        }
    }
    shared.change(|world| {
        once(world, &sender, uri.path(), |world| {
            for (user_id, device_id, event) in addressed {
                let devices: Vec<String> = match (device_id.as_str(), world.users.get(user_id)) {
                    (_, None) => continue,
                    ("*", Some(user)) => user.devices.keys().cloned().collect(),
                    (_, Some(_)) => vec![device_id.clone()],
                };
                for device_id in devices {
                    world.deliver(user_id, &device_id, event.clone());
                }
            }
            Ok(json!({}))
        })
    })
}
