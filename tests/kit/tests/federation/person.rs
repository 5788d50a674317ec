//! A user of one of the servers: a client with an engine, and syncs of its own that the engine does
//! not see.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use matrix_mls_kit::{Answer, Client, Homeserver, KitError, Result};
use serde_json::{Value, json};

/// How long anything may take to cross between the servers.
const PATIENCE: Duration = Duration::from_secs(20);
const V3: &str = "/_matrix/client/v3";

pub struct Person {
    pub client: Client,
    since: Option<String>,
    /// The ids of all events that syncs have brought.
    events: BTreeSet<String>,
    /// The to-device messages that syncs have brought and nobody has asked for yet.
    notes: Vec<u64>,
}

impl Person {
    pub async fn register(server: &Homeserver, name: &str) -> Result<Self, KitError> {
        let client = Client::register(server, name, "PHONE").await?;
        client.settle().await?;
        Ok(Self { client, since: None, events: BTreeSet::new(), notes: Vec::new() })
    }

    pub fn id(&self) -> &str {
        self.client.user_id()
    }

    /// `localhost:PORT`.
    pub fn server(&self) -> &str {
        self.id().split_once(':').unwrap_or_default().1
    }

    pub async fn get(&self, path: &str) -> Result<Answer, KitError> {
        self.client.http().try_json("GET", &format!("{V3}{path}"), Value::Null).await
    }

    /// The devices of a user, as `/keys/query` answers.
    pub async fn query(&self, of: &str) -> Result<Value, KitError> {
        let body = json!({ "device_keys": { of: [] } });
        self.client.http().post(&format!("{V3}/keys/query"), body).await
    }

    pub async fn claim(&self, of: &str, algorithm: &str) -> Result<Value, KitError> {
        let body = json!({ "one_time_keys": { of: { "PHONE": algorithm } } });
        self.client.http().post(&format!("{V3}/keys/claim"), body).await
    }

    /// Sends an event. Returns its id.
    pub async fn say(&self, room_id: &str, text: &str) -> Result<String, KitError> {
        self.client.send_unencrypted(room_id, "org.example.talk", json!({ "text": text })).await
    }

    /// The status of fetching an event by its id.
    pub async fn fetch(&self, room_id: &str, event_id: &str) -> Result<u16, KitError> {
        Ok(self.get(&format!("/rooms/{room_id}/event/{event_id}")).await?.status)
    }

    /// Sends a message to the other's device.
    pub async fn pass(&self, to: &Person, number: u64) -> Result<(), KitError> {
        let path = format!("{V3}/sendToDevice/org.example.note/{}", rand::random::<u64>());
        let body = json!({ "messages": { to.id(): { "PHONE": { "number": number } } } });
        self.client.http().put(&path, body).await.map(drop)
    }

    /// Syncs once and keeps what it brings.
    async fn listen(&mut self) -> Result<(), KitError> {
        let since = self.since.as_ref().map(|since| format!("&since={since}")).unwrap_or_default();
        let filter = format!("%7B%22nonce%22%3A{}%7D", rand::random::<u32>());
        let path = format!("{V3}/sync?timeout=100&filter={filter}{since}");
        let sync = self.client.http().get(&path).await?;
        self.since = sync["next_batch"].as_str().map(str::to_owned);
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        for room in sync["rooms"]["join"].as_object().into_iter().flat_map(|rooms| rooms.values()) {
            let ids = list(&room["timeline"]["events"]);
            let ids = ids.iter().filter_map(|event| event["event_id"].as_str().map(str::to_owned));
            self.events.extend(ids);
        }
        let notes = list(&sync["to_device"]["events"]);
        let notes = notes.iter().filter(|event| event["type"] == "org.example.note");
        self.notes.extend(notes.filter_map(|event| event["content"]["number"].as_u64()));
        Ok(())
    }

    /// Waits until a sync brings an event; for how long it took. Then it can be fetched, too.
    pub async fn sees(&mut self, room_id: &str, event_id: &str) -> Result<Duration, KitError> {
        let began = Instant::now();
        while !self.events.contains(event_id) {
            self.be_patient(began, event_id)?;
            self.listen().await?;
        }
        let took = began.elapsed();
        assert_eq!(self.fetch(room_id, event_id).await?, 200);
        Ok(took)
    }

    /// Waits for these to-device messages, in order, each once; for how long it took.
    pub async fn gets(&mut self, expected: &[u64]) -> Result<Duration, KitError> {
        let began = Instant::now();
        while self.notes.len() < expected.len() {
            self.be_patient(began, &format!("{expected:?}, having {:?}", self.notes))?;
            self.listen().await?;
        }
        assert_eq!(std::mem::take(&mut self.notes), expected);
        Ok(began.elapsed())
    }

    /// Neither these events nor any to-device message is there.
    pub async fn knows_nothing_of(&mut self, event_ids: &[String]) -> Result<(), KitError> {
        self.listen().await?;
        assert!(!event_ids.iter().any(|event_id| self.events.contains(event_id)));
        assert_eq!(self.notes, [0_u64; 0]);
        Ok(())
    }

    /// Waits until a user has a device; for how long it took.
    pub async fn finds(&self, of: &str, device_id: &str) -> Result<Duration, KitError> {
        let began = Instant::now();
        while self.query(of).await?["device_keys"][of].get(device_id).is_none() {
            self.be_patient(began, device_id)?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(began.elapsed())
    }

    /// Waits until a user is joined to a room.
    pub async fn meets(&self, room_id: &str, user_id: &str) -> Result<(), KitError> {
        let began = Instant::now();
        let path = format!("/rooms/{room_id}/joined_members");
        while self.get(&path).await?.json()["joined"].get(user_id).is_none() {
            self.be_patient(began, user_id)?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Waits until the engine has opened a message with this text; for how long it took.
    pub async fn reads(&self, room_id: &str, text: &str) -> Result<Duration, KitError> {
        let began = Instant::now();
        loop {
            self.client.settle().await?;
            let read = self.client.read(room_id).await?;
            if read.iter().any(|event| event.text().as_deref() == Some(text)) {
                return Ok(began.elapsed());
            }
            self.be_patient(began, text)?;
        }
    }

    fn be_patient(&self, began: Instant, what: &str) -> Result<(), KitError> {
        match began.elapsed() > PATIENCE {
            false => Ok(()),
            true => Err(KitError::GaveUp {
                device: self.client.name(),
                what: format!("waiting for {what}"),
                reason: format!("it did not come in {PATIENCE:?}"),
            }),
        }
    }
}
