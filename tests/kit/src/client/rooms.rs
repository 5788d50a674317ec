//! Rooms: making them, who is in them, and sending and reading messages.

use std::sync::atomic::{AtomicU64, Ordering};

use matrix_mls::{DecryptedMessage, MlsError, RoomSettings};
use serde_json::{Value, json};

use super::Client;
use crate::{KitError, http::segment, peer::ALGORITHM, schema};

/// How often a message is prepared anew because the room changed between preparing and sending.
const PREPARE_ATTEMPTS: usize = 5;

/// An encrypted message of a room's history.
#[derive(Debug, Clone)]
pub struct ReadEvent {
    /// The event.
    pub event_id: String,
    /// What was inside, or why it could not be read.
    pub message: Result<DecryptedMessage, MlsError>,
}

impl ReadEvent {
    /// The `body` of the message inside, where it was read and has one.
    pub fn text(&self) -> Option<String> {
        let content: Value = serde_json::from_str(&self.message.as_ref().ok()?.content).ok()?;
        Some(content.get("body")?.as_str()?.to_owned())
    }
}

impl Client {
    /// Creates a room that says at birth that it is encrypted with MLS, and invites others.
    pub async fn create_room(&self, invite: &[&Client]) -> Result<String, KitError> {
        let user_ids: Vec<&str> = invite.iter().map(|client| client.user_id()).collect();
        let request = json!({
            "preset": "private_chat", "invite": user_ids,
            "creation_content": { "encryption": { "algorithm": ALGORITHM } },
        });
        self.create_room_from(request).await
    }

    /// Creates a room from any `createRoom` request.
    pub async fn create_room_from(&self, request: Value) -> Result<String, KitError> {
        let path = "/_matrix/client/v3/createRoom";
        let answer = self.http.post(path, request).await?;
        self.text_field(path, &answer, "room_id")
    }

    /// Creates an encrypted room with these others in it, and its MLS group with the engine.
    pub async fn create_group(
        &self,
        others: &[&Client],
        settings: RoomSettings,
    ) -> Result<String, KitError> {
        let room_id = self.create_room(others).await?;
        for other in others {
            other.join(&room_id).await?;
        }
        self.settle().await?;
        self.enable(&room_id, settings).await?;
        Ok(room_id)
    }

    /// Upgrades a room to another version; gives the id of the room that replaces it.
    pub async fn upgrade_room(&self, room_id: &str, version: &str) -> Result<String, KitError> {
        let path = format!("/_matrix/client/v3/rooms/{}/upgrade", segment(room_id));
        let answer = self.http.post(&path, json!({ "new_version": version })).await?;
        self.text_field(&path, &answer, "replacement_room")
    }

    /// Invites a user.
    pub async fn invite(&self, room_id: &str, user_id: &str) -> Result<(), KitError> {
        self.act(room_id, "invite", json!({ "user_id": user_id })).await
    }

    /// Joins a room.
    pub async fn join(&self, room_id: &str) -> Result<(), KitError> {
        self.act(room_id, "join", json!({})).await
    }

    /// Leaves a room.
    pub async fn leave(&self, room_id: &str) -> Result<(), KitError> {
        self.act(room_id, "leave", json!({})).await
    }

    /// Removes a user.
    pub async fn kick(&self, room_id: &str, user_id: &str) -> Result<(), KitError> {
        self.act(room_id, "kick", json!({ "user_id": user_id })).await
    }

    async fn act(&self, room_id: &str, action: &str, body: Value) -> Result<(), KitError> {
        let path = format!("/_matrix/client/v3/rooms/{}/{action}", segment(room_id));
        self.http.post(&path, body).await.map(drop)
    }

    /// Sends a text message as an app does: prepare, encrypt, send. Returns the event id.
    pub async fn send_text(&self, room_id: &str, text: &str) -> Result<String, KitError> {
        let content = json!({ "msgtype": "m.text", "body": text });
        self.send(room_id, "m.room.message", content).await
    }

    /// Sends any event encrypted. Returns the event id.
    pub async fn send(
        &self,
        room_id: &str,
        event_type: &str,
        content: Value,
    ) -> Result<String, KitError> {
        let room = self.room(room_id).await?;
        let content = content.to_string();
        let mut attempt = 1;
        let encrypted = loop {
            self.prepare(room_id).await?;
            match room.encrypt(event_type.to_owned(), content.clone()).await {
                Err(MlsError::NotReady { .. }) if attempt < PREPARE_ATTEMPTS => attempt += 1,
                result => break result.map_err(self.engine(format!("encrypting to {room_id}")))?,
            }
        };
        let encrypted: Value = serde_json::from_str(&encrypted).map_err(|error| {
            self.gave_up("reading what encrypt returned", format!("it is no JSON: {error}"))
        })?;
        schema::event(&encrypted)
            .map_err(|fault| self.gave_up("sending what the specification describes", fault))?;
        self.send_unencrypted(room_id, "m.room.encrypted", encrypted).await
    }

    /// Sends an event as it is. Returns the event id.
    pub async fn send_unencrypted(
        &self,
        room_id: &str,
        event_type: &str,
        content: Value,
    ) -> Result<String, KitError> {
        let path = format!(
            "/_matrix/client/v3/rooms/{}/send/{}/{}",
            segment(room_id),
            segment(event_type),
            next_transaction_id(),
        );
        let answer = self.http.put(&path, content).await?;
        self.text_field(&path, &answer, "event_id")
    }

    /// Every event of the room that this user may see, oldest first.
    pub async fn history(&self, room_id: &str) -> Result<Vec<Value>, KitError> {
        let mut events = Vec::new();
        let mut from: Option<String> = None;
        loop {
            let mut path =
                format!("/_matrix/client/v3/rooms/{}/messages?dir=b&limit=100", segment(room_id));
            if let Some(from) = &from {
                path.push_str(&format!("&from={}", segment(from)));
            }
            let mut answer = self.http.get(&path).await?;
            let end = answer["end"].as_str().map(str::to_owned);
            let chunk = answer["chunk"].as_array_mut().map(std::mem::take).unwrap_or_default();
            let done = chunk.is_empty() || end.is_none() || end == from;
            events.extend(chunk);
            if done {
                events.reverse();
                return Ok(events);
            }
            from = end;
        }
    }

    /// The commits and announcements in the room's history, oldest first.
    pub async fn commits(&self, room_id: &str) -> Result<Vec<Value>, KitError> {
        Ok(self.history(room_id).await?.into_iter().filter(is_commit).collect())
    }

    /// Opens the room as an app does: the machine is shown all its history.
    pub async fn open(&self, room_id: &str) -> Result<(), KitError> {
        let events = self.history(room_id).await?.iter().map(Value::to_string).collect();
        let received = self.room(room_id).await?.receive_events(events).await;
        received.map(drop).map_err(self.engine(format!("showing the history of {room_id}")))
    }

    /// Reads the room's messages from the homeserver's history, oldest first. Commits, which are
    /// encrypted events too, are left out.
    pub async fn read(&self, room_id: &str) -> Result<Vec<ReadEvent>, KitError> {
        let room = self.room(room_id).await?;
        let mut read = Vec::new();
        for event in self.history(room_id).await? {
            let is_commit = event["content"].get("resolves").is_some();
            if event["type"] != "m.room.encrypted" || is_commit {
                continue;
            }
            let event_id = event["event_id"].as_str().unwrap_or_default().to_owned();
            let message = room.decrypt(event.to_string()).await;
            read.push(ReadEvent { event_id, message });
        }
        Ok(read)
    }

    /// The texts of [`Client::read`]; an error where a message cannot be read.
    pub async fn read_texts(&self, room_id: &str) -> Result<Vec<String>, KitError> {
        let mut texts = Vec::new();
        for event in self.read(room_id).await? {
            let text = event.text();
            let what = format!("reading {} in {room_id}", event.event_id);
            event.message.map_err(self.engine(&*what))?;
            texts.push(text.ok_or_else(|| self.gave_up(what, "it has no text"))?);
        }
        Ok(texts)
    }

    pub(super) fn text_field(
        &self,
        path: &str,
        answer: &Value,
        field: &str,
    ) -> Result<String, KitError> {
        answer[field].as_str().map(str::to_owned).ok_or_else(|| KitError::BadAnswer {
            device: self.name(),
            what: path.to_owned(),
            answer: answer.to_string(),
        })
    }
}

/// Whether an event is a commit, or the announcement of a group: they carry the public group state.
pub fn is_commit(event: &Value) -> bool {
    event["content"].get("public_group_state").is_some()
}

/// Unique in this process, and by chance among processes that share an account.
fn next_transaction_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("kit-{:08x}-{}-{number}", rand::random::<u32>(), std::process::id())
}
