//! To-device events: how the machine gets those that the SDK's Olm machine needs as well, and loses
//! none. The crate's documentation has the argument.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use http::Method;
use matrix_mls::{FollowedRooms, MlsError, SyncChanges, SyncStart, ToDeviceResult};
use matrix_sdk::{
    deserialized_responses::EncryptionInfo,
    event_handler::EventHandlerDropGuard,
    ruma::{events::AnyToDeviceEvent, serde::Raw},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Error, connection::ENDPOINT, http::Request, mls::Inner};

/// The connection that only looks, as the homeserver knows it.
const LOOK: &str = "matrix-mls-look";
/// What the SDK hands on, as the machine knows it.
const FROM_SDK: &str = "matrix-sdk to-device";
/// How many events a look asks for. Homeservers give no more at once.
const MOST: u32 = 100;
/// The pauses between attempts to write an event down.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Has the client call the machine for each to-device event of its syncs, until the guard is
/// dropped.
pub(crate) fn follow(inner: &Arc<Inner>) -> EventHandlerDropGuard {
    let machine = Arc::downgrade(inner);
    let handler = move |event: Raw<AnyToDeviceEvent>, encryption: Option<EncryptionInfo>| {
        let inner = machine.clone();
        async move {
            // What came through Olm is not for the machine.
            if encryption.is_none() && is_wanted(event.json().get()) {
                keep(inner, event.json().get().to_owned()).await;
            }
        }
    };
    let handle = inner.client.add_event_handler(handler);
    inner.client.event_handler_drop_guard(handle)
}

/// Whether the machine may want an event: all but what belongs to Olm for sure.
fn is_wanted(event: &str) -> bool {
    #[derive(Deserialize)]
    struct Event {
        #[serde(rename = "type")]
        event_type: String,
        content: Option<Content>,
    }
    #[derive(Deserialize)]
    struct Content {
        algorithm: Option<String>,
    }
    // One that cannot be read is the machine's to refuse.
    serde_json::from_str::<Event>(event).map_or(true, |event| {
        let algorithm = event.content.and_then(|content| content.algorithm);
        event.event_type != "m.room.encrypted"
            || algorithm.is_none_or(|algorithm| !algorithm.starts_with("m.olm."))
    })
}

/// Comes back when the machine has the event on its disk. The SDK asks for no more until then.
async fn keep(inner: Weak<Inner>, event: String) {
    let mut pause = FIRST_PAUSE;
    loop {
        let Some(inner) = inner.upgrade() else { return };
        match inner.take_to_device(FROM_SDK, vec![event.clone()]).await {
            Ok(()) => return,
            Err(Error::Mls(MlsError::Closed { .. })) => {
                tracing::error!("a to-device event came after the machine was closed");
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "a to-device event waits until the machine can write it down");
                let machine = inner.machine.clone();
                drop(inner);
                let longest_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                machine.wait_for_change(longest_ms).await;
                // A change may be another's, so it does not spin.
                tokio::time::sleep(FIRST_PAUSE).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

impl Inner {
    /// Takes the to-device events that the homeserver still has, and acknowledges none.
    pub(crate) async fn look_at_to_device(&self) -> Result<(), Error> {
        let body = json!({
            "conn_id": LOOK,
            "extensions": { "to_device": { "enabled": true, "limit": MOST } },
        });
        let path = format!("{ENDPOINT}?timeout=0");
        let response = Request::json(Method::POST, path, &body).send_json(&self.client).await?;
        let events = response["extensions"]["to_device"]["events"].as_array();
        let events: Vec<String> = events.into_iter().flatten().map(Value::to_string).collect();
        let wanted = events.into_iter().filter(|event| is_wanted(event)).collect();
        self.take_to_device(LOOK, wanted).await
    }

    async fn take_to_device(&self, connection: &str, events: Vec<String>) -> Result<(), Error> {
        if events.is_empty() {
            return Ok(());
        }
        let changes = SyncChanges {
            connection: connection.to_owned(),
            // It tells of neither rooms nor device lists, so nothing is missed by beginning anew.
            start: SyncStart::Anew,
            next_batch: String::new(),
            to_device: events,
            device_lists: None,
            one_time_key_counts: None,
            unused_fallback_key_types: None,
            followed_rooms: FollowedRooms::Only { room_ids: Vec::new() },
            rooms: Vec::new(),
        };
        let summary = self.machine.receive_sync(changes).await?;
        for result in &summary.to_device {
            if let ToDeviceResult::Failed { error } = result {
                tracing::info!(%error, "a to-device event could not be used");
            }
        }
        self.timeline.tell(&summary.rooms, &Default::default());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_olm_is_left_out() {
        let event = |kind: &str, content: Value| {
            json!({ "type": kind, "sender": "@a:b", "content": content }).to_string()
        };
        let olm = json!({ "algorithm": "m.olm.v1.curve25519-aes-sha2", "ciphertext": {} });
        let welcome = json!({ "algorithm": "org.matrix.msc2883.v1.dmls.welcome.1" });
        assert!(!is_wanted(&event("m.room.encrypted", olm)));
        assert!(is_wanted(&event("m.room.encrypted", welcome)));
        assert!(is_wanted(&event("m.room.encrypted", json!({}))));
        assert!(is_wanted(&event("org.example.other", json!({}))));
        assert!(is_wanted("[]"), "what is no event is the machine's to refuse");
    }
}
