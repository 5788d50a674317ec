//! Sending: what comes before a message, sealing, and the one event that carries it.

use http::Method;
use matrix_mls::SendPlan;
use matrix_sdk::ruma::{EventId, OwnedEventId, RoomId, TransactionId};
use serde_json::{Value, json};

use crate::{
    Error, Mls,
    driver::{Pause, is_not_ready},
    http::{Request, segment},
};

/// How often a room is prepared anew because it changed between preparing and sealing.
const PREPARE_ATTEMPTS: usize = 5;
/// How often a message is sent that got no answer.
const SEND_ATTEMPTS: usize = 8;
/// How long a wait for the machine takes at the most before it is asked again.
const ASK_AGAIN_MS: u64 = 1_000;

impl Mls {
    /// Sends an event to an MLS room: makes the room ready, seals the event, and sends it. Gives
    /// the id of the encrypted event.
    ///
    /// `content` is a JSON object. Its `m.relates_to` stays readable for the homeserver, so
    /// replies, threads and edits aggregate as they do in other rooms. [`run`](Self::run) has to
    /// run beside it. Without a network it waits; dropping it sends nothing more, but what was
    /// handed to the network may arrive.
    pub async fn send(
        &self,
        room_id: &RoomId,
        event_type: &str,
        content: Value,
    ) -> Result<OwnedEventId, Error> {
        self.send_with_transaction_id(room_id, event_type, content, &TransactionId::new()).await
    }

    /// The same with the transaction id of a local echo: the event comes back in syncs with it as
    /// `unsigned.transaction_id`.
    ///
    /// Use another id for each event. A call that ended with `NoAnswer` may have sent the event:
    /// with the same id it is not sent twice.
    pub async fn send_with_transaction_id(
        &self,
        room_id: &RoomId,
        event_type: &str,
        content: Value,
        transaction_id: &TransactionId,
    ) -> Result<OwnedEventId, Error> {
        let room = self.room(room_id)?;
        let content = content.to_string();
        let mut attempts = 1;
        let sealed = loop {
            self.prepare(room_id).await?;
            match room.encrypt(event_type.to_owned(), content.clone()).await {
                // Somebody has come or gone in between.
                Err(error) if is_not_ready(&error) && attempts < PREPARE_ATTEMPTS => attempts += 1,
                sealed => break sealed?,
            }
        };
        let sealed = serde_json::from_str(&sealed).map_err(|error| Error::BadAnswer {
            what: "sealing".to_owned(),
            reason: error.to_string(),
        })?;
        self.put_event(room_id, "m.room.encrypted", &sealed, transaction_id).await
    }

    /// Sends a text message.
    pub async fn send_text(&self, room_id: &RoomId, text: &str) -> Result<OwnedEventId, Error> {
        let content = json!({ "msgtype": "m.text", "body": text });
        self.send(room_id, "m.room.message", content).await
    }

    /// Answers an event with a text.
    pub async fn reply(
        &self,
        room_id: &RoomId,
        event_id: &EventId,
        text: &str,
    ) -> Result<OwnedEventId, Error> {
        let content = json!({
            "msgtype": "m.text", "body": text,
            "m.relates_to": { "m.in_reply_to": { "event_id": event_id } },
        });
        self.send(room_id, "m.room.message", content).await
    }

    /// Replaces the text of one's own message.
    pub async fn edit(
        &self,
        room_id: &RoomId,
        event_id: &EventId,
        text: &str,
    ) -> Result<OwnedEventId, Error> {
        let content = json!({
            "msgtype": "m.text", "body": format!("* {text}"),
            "m.new_content": { "msgtype": "m.text", "body": text },
            "m.relates_to": { "rel_type": "m.replace", "event_id": event_id },
        });
        self.send(room_id, "m.room.message", content).await
    }

    /// Reacts to an event with an emoji. Reactions are not encrypted, in MLS rooms as in others:
    /// the SDK's timeline aggregates them, and the homeserver sees them.
    pub async fn react(
        &self,
        room_id: &RoomId,
        event_id: &EventId,
        key: &str,
    ) -> Result<OwnedEventId, Error> {
        let content = json!({
            "m.relates_to": { "rel_type": "m.annotation", "event_id": event_id, "key": key },
        });
        self.put_event(room_id, "m.reaction", &content, &TransactionId::new()).await
    }

    /// Does what has to come before a message: afterwards the devices in the group are those that
    /// belong in the room. [`send`](Self::send) does it by itself.
    ///
    /// It waits for a sync where the last one is old or has failed: who is in the room may be
    /// others than when the app was closed.
    pub async fn prepare(&self, room_id: &RoomId) -> Result<(), Error> {
        let room = self.room(room_id)?;
        self.inner.wait_until_fresh().await?;
        let mut pause = Pause::default();
        loop {
            let sent = {
                let _sending = self.inner.sending.lock().await;
                match room.prepare_to_send().await? {
                    SendPlan::Ready => return Ok(()),
                    SendPlan::Waiting { requests, retry_after_ms } if requests.is_empty() => {
                        Ok(retry_after_ms)
                    }
                    SendPlan::Waiting { requests, .. } => {
                        match self.inner.send_all(&requests).await {
                            Ok(true) => continue,
                            Ok(false) => Ok(Some(ASK_AGAIN_MS)),
                            Err(error) => Err(error),
                        }
                    }
                }
            };
            match sent {
                // A moment at the least, so that it does not spin.
                Ok(wait) => {
                    let wait = wait.unwrap_or_default().clamp(10, ASK_AGAIN_MS);
                    self.inner.machine.wait_for_change(wait).await;
                }
                Err(error) if error.is_transient() => pause.after(&error, &self.inner.wake).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends an event as it is, the same to the byte until there is an answer.
    async fn put_event(
        &self,
        room_id: &RoomId,
        event_type: &str,
        content: &Value,
        transaction_id: &TransactionId,
    ) -> Result<OwnedEventId, Error> {
        let path = format!(
            "/_matrix/client/v3/rooms/{}/send/{}/{}",
            segment(room_id.as_str()),
            segment(event_type),
            segment(transaction_id.as_str()),
        );
        let mut pause = Pause::default();
        let mut attempts = 1;
        let answer = loop {
            let request = Request::json(Method::PUT, path.clone(), content);
            match request.send_json(&self.inner.client).await {
                Err(error) if error.is_transient() && attempts < SEND_ATTEMPTS => {
                    attempts += 1;
                    pause.after(&error, &self.inner.wake).await;
                }
                answer => break answer?,
            }
        };
        let event_id = answer["event_id"].as_str().unwrap_or_default();
        EventId::parse(event_id).map_err(|error| Error::BadAnswer {
            what: format!("PUT {path}"),
            reason: format!("no event id: {error}"),
        })
    }
}
