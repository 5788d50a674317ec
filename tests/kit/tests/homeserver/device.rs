//! A logged-in device that speaks raw HTTP.

use std::sync::atomic::{AtomicU64, Ordering};

use matrix_mls_kit::{Answer, Homeserver, Http, KitError};
use serde_json::{Value, json};

pub struct Device {
    pub user_id: String,
    pub device_id: String,
    pub http: Http,
}

impl Device {
    pub async fn register(server: &Homeserver, username: &str) -> Result<Self, KitError> {
        let request = json!({
            "username": username, "password": "secret", "auth": { "type": "m.login.dummy" },
            "device_id": "FIRST", "initial_device_display_name": "the first",
        });
        Self::enter(server, "register", request).await
    }

    pub async fn log_in(
        server: &Homeserver,
        username: &str,
        device_id: &str,
    ) -> Result<Self, KitError> {
        let request = json!({
            "type": "m.login.password", "identifier": { "type": "m.id.user", "user": username },
            "password": "secret", "device_id": device_id,
        });
        Self::enter(server, "login", request).await
    }

    async fn enter(server: &Homeserver, endpoint: &str, request: Value) -> Result<Self, KitError> {
        let http = Http::new(server.base_url(), "test")?;
        let answer = http.post(&format!("/_matrix/client/v3/{endpoint}"), request).await?;
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        let (user_id, device_id) = (text("user_id"), text("device_id"));
        let http = Http::new(server.base_url(), &format!("{user_id}/{device_id}"))?
            .with_token(&text("access_token"));
        Ok(Self { user_id, device_id, http })
    }

    pub async fn get(&self, path: &str) -> Result<Value, KitError> {
        self.http.get(&format!("/_matrix/client/v3{path}")).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Result<Value, KitError> {
        self.http.post(&format!("/_matrix/client/v3{path}"), body).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Result<Value, KitError> {
        self.http.put(&format!("/_matrix/client/v3{path}"), body).await
    }

    /// The answer, whatever its status.
    pub async fn ask(&self, method: &str, path: &str, body: Value) -> Result<Answer, KitError> {
        self.http.try_json(method, &format!("/_matrix/client/v3{path}"), body).await
    }

    /// Status and errcode of an answer that should be a refusal.
    pub async fn refusal(
        &self,
        method: &str,
        path: &str,
        body: Value,
    ) -> Result<(u16, String), KitError> {
        let answer = self.ask(method, path, body).await?;
        let errcode = answer.json()["errcode"].as_str().unwrap_or_default().to_owned();
        Ok((answer.status, errcode))
    }

    /// A sync that does not wait.
    pub async fn sync(&self, since: Option<&str>) -> Result<Value, KitError> {
        match since {
            Some(since) => self.get(&format!("/sync?timeout=0&since={since}")).await,
            None => self.get("/sync?timeout=0").await,
        }
    }

    /// A sync that has not been asked for before, so that no cache answers it.
    pub async fn latest_sync(&self, since: Option<&str>) -> Result<Value, KitError> {
        static ASKED: AtomicU64 = AtomicU64::new(1);
        let nonce = ASKED.fetch_add(1, Ordering::Relaxed);
        let filter = format!("%7B%22nonce%22%3A{nonce}%7D");
        let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
        self.get(&format!("/sync?timeout=0&filter={filter}{since}")).await
    }

    /// Syncs until nothing new comes, and gives the last token.
    pub async fn caught_up(&self) -> Result<String, KitError> {
        let mut since: Option<String> = None;
        loop {
            let sync = self.latest_sync(since.as_deref()).await?;
            let known = since.is_some();
            since = sync["next_batch"].as_str().map(str::to_owned);
            let news = ["rooms", "to_device", "device_lists"].iter().any(|p| sync.get(p).is_some());
            if known && !news {
                return Ok(since.unwrap_or_default());
            }
        }
    }

    pub async fn create_room(&self, request: Value) -> Result<String, KitError> {
        let answer = self.post("/createRoom", request).await?;
        Ok(answer["room_id"].as_str().unwrap_or_default().to_owned())
    }

    /// A room with these others in it.
    pub async fn room_with(&self, others: &[&Device]) -> Result<String, KitError> {
        let invite: Vec<&str> = others.iter().map(|other| other.user_id.as_str()).collect();
        let room_id = self.create_room(json!({ "invite": invite })).await?;
        for other in others {
            other.post(&format!("/rooms/{room_id}/join"), json!({})).await?;
        }
        Ok(room_id)
    }

    pub async fn send(&self, room_id: &str, txn: &str, content: Value) -> Result<String, KitError> {
        let path = format!("/rooms/{room_id}/send/org.example.message/{txn}");
        let answer = self.put(&path, content).await?;
        Ok(answer["event_id"].as_str().unwrap_or_default().to_owned())
    }
}

/// The named list, empty where there is none.
pub fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Strings of the named list, sorted.
pub fn strings(value: &Value, pointer: &str) -> Vec<String> {
    let mut strings: Vec<String> =
        list(value, pointer).iter().filter_map(|item| item.as_str().map(str::to_owned)).collect();
    strings.sort();
    strings
}
