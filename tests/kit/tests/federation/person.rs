//! A user of one of the servers: a client with an engine, and what is asked of its homeserver beside it.

use std::time::{Duration, Instant};

use matrix_mls_kit::{Answer, Client, Homeserver, KitError};
use serde_json::{Value, json};

/// How long anything may take to cross between the servers.
const PATIENCE: Duration = Duration::from_secs(20);
const V3: &str = "/_matrix/client/v3";

pub struct Person {
    pub client: Client,
    /// The token of this person's own syncs, which the engine does not see.
    since: Option<String>,
}

impl Person {
    pub async fn register(server: &Homeserver, name: &str) -> Result<Self, KitError> {
        let client = Client::register(server, name, "PHONE").await?;
        client.settle().await?;
        Ok(Self { client, since: None })
    }

    pub fn id(&self) -> &str {
        self.client.user_id()
    }

    /// `localhost:PORT`.
    pub fn server(&self) -> &str {
        self.id().split_once(':').unwrap_or_default().1
    }

    pub async fn ask(&self, method: &str, path: &str, body: Value) -> Result<Answer, KitError> {
        self.client.http().try_json(method, &format!("{V3}{path}"), body).await
    }

    pub async fn query(&self, of: &str) -> Result<Value, KitError> {
        let body = json!({ "device_keys": { of: [] } });
        self.client.http().post(&format!("{V3}/keys/query"), body).await
    }

    pub async fn claim(&self, of: &str, algorithm: &str) -> Result<Value, KitError> {
        let body = json!({ "one_time_keys": { of: { "PHONE": algorithm } } });
        self.client.http().post(&format!("{V3}/keys/claim"), body).await
    }

    pub async fn say(&self, room_id: &str, text: &str) -> Result<String, KitError> {
        self.client.send_unencrypted(room_id, "org.example.talk", json!({ "text": text })).await
    }

    /// The status of fetching an event by its id.
    pub async fn event(&self, room_id: &str, event_id: &str) -> Result<u16, KitError> {
        let path = format!("/rooms/{room_id}/event/{event_id}");
        Ok(self.ask("GET", &path, Value::Null).await?.status)
    }

    /// Waits until an event is there; for how long it took.
    pub async fn sees(&self, room_id: &str, event_id: &str) -> Result<Duration, KitError> {
        let began = Instant::now();
        while self.event(room_id, event_id).await? != 200 {
            self.wait(began, event_id).await?;
        }
        Ok(began.elapsed())
    }

    /// Sends a message to the other's device.
    pub async fn pass(&self, to: &Person, number: u64) -> Result<(), KitError> {
        let path = format!("{V3}/sendToDevice/org.example.note/{}", rand::random::<u64>());
        let body = json!({ "messages": { to.id(): { "PHONE": { "number": number } } } });
        self.client.http().put(&path, body).await.map(drop)
    }

    /// What to-device messages of this test a sync brings.
    pub async fn notes(&mut self) -> Result<Vec<u64>, KitError> {
        let since = self.since.as_ref().map(|since| format!("&since={since}")).unwrap_or_default();
        let nonce = rand::random::<u32>();
        let path = format!("{V3}/sync?timeout=0&filter=%7B%22nonce%22%3A{nonce}%7D{since}");
        let sync = self.client.http().get(&path).await?;
        self.since = sync["next_batch"].as_str().map(str::to_owned);
        let events = sync["to_device"]["events"].as_array().cloned().unwrap_or_default();
        let notes = events.iter().filter(|event| event["type"] == "org.example.note");
        Ok(notes.filter_map(|event| event["content"]["number"].as_u64()).collect())
    }

    /// Waits for so many to-device messages; for how long it took.
    pub async fn gets(&mut self, expected: &[u64]) -> Result<Duration, KitError> {
        let began = Instant::now();
        let mut notes = Vec::new();
        while notes.len() < expected.len() {
            notes.extend(self.notes().await?);
            self.wait(began, &format!("{expected:?}, having {notes:?}")).await?;
        }
        assert_eq!(notes, expected, "in order, each once");
        Ok(began.elapsed())
    }

    async fn wait(&self, began: Instant, what: &str) -> Result<(), KitError> {
        if began.elapsed() > PATIENCE {
            return Err(KitError::GaveUp {
                device: self.client.name(),
                what: format!("waiting for {what}"),
                reason: format!("it did not come in {PATIENCE:?}"),
            });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(())
    }
}
