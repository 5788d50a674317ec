//! An account of this client: what it publishes, what its syncs bring, what it asks.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use matrix_mls_kit::{Fields as _, Homeserver, Http, OrMissing as _, Result, bail, eyre, schema};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    devices::Devices,
    events::{Event, HistoryOffer, Media, Payload, Welcome},
    head::Device,
    mls::Mls,
    names,
    opening::sha256,
    room::Room,
    wire::{base64, from_base64},
};

/// How many bytes of a value stay in an event.
const INLINE: usize = 30_000;
/// How much a value has at most (R15).
const LARGEST: usize = 50_000_000;
/// How many Welcomes wait for their room to be shown (R13).
const WAITING: usize = 100;

static TRANSACTION: AtomicU64 = AtomicU64::new(1);

/// One device of the second implementation.
pub struct Second {
    /// Its user and its device.
    pub device: Device,
    /// Its requests.
    pub http: Http,
    /// Its MLS.
    pub mls: Mls,
    /// What it knows of devices.
    pub devices: Devices,
    /// Its rooms.
    pub rooms: BTreeMap<String, Room>,
    since: Option<String>,
    /// Welcomes of rooms that no sync has shown yet, with who sent them.
    waiting: Vec<(String, Welcome)>,
    /// Offers of history that were not taken yet, with who sent them.
    pub offers: Vec<(String, HistoryOffer)>,
}

/// Percent-encodes a path segment.
pub fn segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

impl Second {
    /// A new account with one device, with everything published.
    pub async fn register(homeserver: &Homeserver, username: &str) -> Result<Self> {
        let auth = json!({ "type": "m.login.dummy" });
        let request = json!({
            "username": username, "password": password(username), "device_id": "SECOND",
            "auth": auth,
        });
        Self::enter(homeserver, "register", "SECOND", request).await
    }

    /// Another device of an account, also of one that the library's client made.
    pub async fn log_in(homeserver: &Homeserver, username: &str, device: &str) -> Result<Self> {
        let request = json!({
            "type": "m.login.password", "identifier": { "type": "m.id.user", "user": username },
            "password": password(username), "device_id": device,
        });
        Self::enter(homeserver, "login", device, request).await
    }

    async fn enter(
        homeserver: &Homeserver,
        endpoint: &str,
        device: &str,
        request: Value,
    ) -> Result<Self> {
        let http = Http::new(homeserver.base_url(), device)?;
        let answer = http.post(&format!("/_matrix/client/v3/{endpoint}"), request).await?;
        let http = http.with_token(answer.text("access_token")?);
        let device = (answer.text("user_id")?.to_owned(), device.to_owned());
        let mls = Mls::new(&device)?;
        let mut second = Self {
            device,
            http,
            mls,
            devices: Devices::default(),
            rooms: BTreeMap::new(),
            since: None,
            waiting: Vec::new(),
            offers: Vec::new(),
        };
        second.publish().await?;
        second.settle().await?;
        Ok(second)
    }

    /// Uploads `device_keys`, one-time packages and a last-resort package (D10).
    async fn publish(&self) -> Result {
        let mut one_time = serde_json::Map::new();
        for _ in 0..5 {
            let (reference, package) = self.mls.key_package(false)?;
            let id = format!("{}:{}", names::KEY_PACKAGE, base64(&reference));
            one_time.insert(id, json!(base64(&package)));
        }
        let (reference, package) = self.mls.key_package(true)?;
        let fallback = format!("{}:{}", names::KEY_PACKAGE, base64(&reference));
        let upload = json!({
            "device_keys": self.device_keys()?, "one_time_keys": one_time,
            "fallback_keys": { fallback: base64(&package) },
        });
        self.post("/_matrix/client/v3/keys/upload", upload).await?;
        Ok(())
    }

    /// Those of a device without an Olm account.
    fn device_keys(&self) -> Result<Value> {
        let (user, device) = &self.device;
        let key = base64(&self.mls.key);
        let ids = [format!("ed25519:{device}"), format!("{}:{device}", names::CREDENTIAL)];
        let mut keys = json!({
            "user_id": user, "device_id": device, "algorithms": [names::ROOM],
            "keys": { &ids[0]: key, &ids[1]: key },
        });
        let canonical: ruma::CanonicalJsonObject = serde_json::from_value(keys.clone())?;
        let signature = base64(&self.mls.sign(serde_json::to_string(&canonical)?.as_bytes())?);
        keys["signatures"] = json!({ user: { &ids[0]: signature, &ids[1]: signature } });
        Ok(keys)
    }

    /// Posts what fits the schemas.
    pub async fn post(&self, path: &str, body: Value) -> Result<Value> {
        schema::check("POST", path, body.to_string().as_bytes()).map_err(|fault| eyre!(fault))?;
        Ok(self.http.post(path, body).await?)
    }

    /// Puts what fits the schemas.
    pub async fn put(&self, path: &str, body: Value) -> Result<Value> {
        schema::check("PUT", path, body.to_string().as_bytes()).map_err(|fault| eyre!(fault))?;
        Ok(self.http.put(path, body).await?)
    }

    /// Its room of this id.
    pub fn room(&mut self, id: &str) -> Result<&mut Room> {
        self.rooms.get_mut(id).or_missing("room")
    }

    /// Syncs until nothing new comes, and takes in all that came.
    pub async fn settle(&mut self) -> Result {
        for _ in 0..20 {
            let quiet = self.sync().await?;
            self.look_at_members().await?;
            self.take_welcomes().await?;
            let ids: Vec<String> = self.rooms.keys().cloned().collect();
            for id in ids {
                self.take_events(&id).await?;
            }
            if quiet {
                return Ok(());
            }
        }
        bail!("the syncs do not end")
    }

    /// One sync; whether it brought nothing.
    async fn sync(&mut self) -> Result<bool> {
        let filter = json!({ "room": { "timeline": { "limit": 500 } } }).to_string();
        let since = self.since.as_ref().map(|since| format!("&since={}", segment(since)));
        let path = format!(
            "/_matrix/client/v3/sync?timeout=0&filter={}{}",
            segment(&filter),
            since.unwrap_or_default()
        );
        let mut answer = self.http.get(&path).await?;
        let mut quiet = true;
        for event in answer["to_device"]["events"].as_array().into_iter().flatten() {
            quiet = false;
            let algorithm = event["content"]["algorithm"].as_str().unwrap_or_default();
            let welcome = serde_json::from_value(event["content"].clone());
            if let (true, Ok(welcome)) = (names::is(algorithm, names::WELCOME), welcome)
                && self.waiting.len() < WAITING
            {
                self.waiting.push((event.text("sender")?.to_owned(), welcome));
            }
            let offer = serde_json::from_value(event["content"].clone());
            if let (true, Ok(offer)) = (names::is(algorithm, names::HISTORY), offer)
                && self.offers.len() < WAITING
            {
                self.offers.push((event.text("sender")?.to_owned(), offer));
            }
        }
        let joined = answer["rooms"]["join"].as_object_mut().map(std::mem::take);
        for (id, news) in joined.into_iter().flatten() {
            quiet = false;
            self.take_news(&id, &news).await?;
        }
        self.since = Some(answer.text("next_batch")?.to_owned());
        Ok(quiet)
    }

    /// What a sync says of a room, with the pages that it left out (E2).
    async fn take_news(&mut self, id: &str, news: &Value) -> Result {
        let mut events: Vec<Value> = Vec::new();
        let timeline = &news["timeline"];
        let known = self.rooms.contains_key(id);
        if timeline["limited"] == true {
            let mut from = timeline["prev_batch"].as_str().map(str::to_owned);
            while let Some(token) = from.take() {
                let path = format!(
                    "/_matrix/client/v3/rooms/{}/messages?dir=b&limit=200&from={}",
                    segment(id),
                    segment(&token)
                );
                let page = self.http.get(&path).await?;
                let chunk = page["chunk"].as_array().cloned().unwrap_or_default();
                let seen = |event: &Value| {
                    let id = event["event_id"].as_str().unwrap_or_default();
                    self.rooms.values().any(|room| room.seen.contains(id))
                };
                let ends = chunk.is_empty() || (known && chunk.iter().any(seen));
                events.extend(chunk);
                from = page["end"].as_str().filter(|end| !ends && *end != token).map(str::to_owned);
            }
            events.reverse();
        }
        let state = news["state"]["events"].as_array().into_iter().flatten();
        events.extend(timeline["events"].as_array().into_iter().flatten().cloned());
        let room = self.rooms.entry(id.to_owned()).or_insert_with(|| Room::new(id));
        for event in state.chain(&events) {
            if let Ok(event) = serde_json::from_value::<Event>(event.clone()) {
                room.see(event);
            }
        }
        Ok(())
    }

    /// Asks who is in the rooms and which devices these users have (E8).
    pub async fn look_at_members(&mut self) -> Result {
        for (id, room) in &mut self.rooms {
            let path = format!("/_matrix/client/v3/rooms/{}/joined_members", segment(id));
            let answer = self.http.try_json("GET", &path, Value::Null).await?;
            if answer.status == 200 {
                room.joined = answer.json().object("joined")?.keys().cloned().collect();
            } else {
                room.joined.remove(&self.device.0);
            }
        }
        let mut users: Vec<String> = self.rooms.values().flat_map(Room::users).collect();
        users.sort();
        users.dedup();
        if users.is_empty() {
            return Ok(());
        }
        let asked: BTreeMap<&str, [&str; 0]> = users.iter().map(|user| (&**user, [])).collect();
        let answer = self
            .http
            .post("/_matrix/client/v3/keys/query", json!({ "device_keys": asked }))
            .await?;
        self.devices.take(&users, &answer);
        Ok(())
    }

    /// Takes the Welcomes whose rooms syncs have shown (R13).
    async fn take_welcomes(&mut self) -> Result {
        for (sender, welcome) in std::mem::take(&mut self.waiting) {
            let shown = self.rooms.get(&welcome.room_id).is_some_and(|room| room.is_mls);
            if !shown {
                self.waiting.push((sender, welcome));
            } else if let Err(error) = self.join_by_welcome(&sender, &welcome).await {
                self.room(&welcome.room_id)?.refuse("a Welcome", &error);
            }
        }
        Ok(())
    }

    /// Sends an event; its id once the homeserver has accepted it.
    pub async fn send(&self, room: &str, kind: &str, content: &impl Serialize) -> Result<String> {
        let path = format!(
            "/_matrix/client/v3/rooms/{}/send/{kind}/second{}",
            segment(room),
            TRANSACTION.fetch_add(1, Ordering::Relaxed)
        );
        let answer = self.put(&path, serde_json::to_value(content)?).await?;
        Ok(answer.text("event_id")?.to_owned())
    }

    /// Sends one device a content.
    pub async fn send_to(&self, to: &Device, content: &impl Serialize) -> Result {
        let path = format!(
            "/_matrix/client/v3/sendToDevice/m.room.encrypted/second{}",
            TRANSACTION.fetch_add(1, Ordering::Relaxed)
        );
        let content = serde_json::to_value(content)?;
        let body = json!({ "messages": { &to.0: { &to.1: content } } });
        self.put(&path, body).await?;
        Ok(())
    }

    /// Uploads a large value.
    pub async fn upload(&self, bytes: Vec<u8>) -> Result<Media> {
        let (size, hash) = (bytes.len(), base64(&sha256(&bytes)));
        let path = "/_matrix/media/v3/upload";
        let answer = self.http.send("POST", path, "application/octet-stream", bytes).await?.json();
        Ok(Media { url: answer.text("content_uri")?.to_owned(), size, sha256: hash })
    }

    /// In the event, or in the media repository.
    pub async fn payload(&self, bytes: Vec<u8>) -> Result<Payload> {
        if bytes.len() <= INLINE {
            return Ok(Payload::Inline(base64(&bytes)));
        }
        Ok(Payload::Media(self.upload(bytes).await?))
    }

    /// A large value, checked before a byte is read (R15).
    pub async fn download(&self, media: &Media) -> Result<Vec<u8>> {
        if media.size > LARGEST {
            bail!("{} bytes are too many", media.size);
        }
        let path = media.url.replacen("mxc://", "/_matrix/client/v1/media/download/", 1);
        let answer = self.http.send("GET", &path, "", Vec::new()).await?;
        if answer.body.len() != media.size || base64(&sha256(&answer.body)) != media.sha256 {
            bail!("the media repository has something else under {}", media.url);
        }
        Ok(answer.body)
    }

    /// The bytes of a payload.
    pub async fn bytes(&self, payload: &Payload) -> Result<Vec<u8>> {
        match payload {
            Payload::Inline(text) => from_base64(text),
            Payload::Media(media) => self.download(media).await,
        }
    }
}

/// The password of every test account.
fn password(username: &str) -> String {
    format!("the password of {username}")
}
