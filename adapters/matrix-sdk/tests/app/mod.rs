//! An app as Element X is one: a client of matrix-sdk on two sliding sync connections, and this
//! crate beside it.
#![allow(dead_code, reason = "each file of tests uses some of it")]

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use matrix_mls_kit::{Homeserver, Http, OrMissing as _, Result, bail};
use matrix_mls_sdk::{Config, Decrypted, Mls, OlmStore, TimelineItem};
use matrix_sdk::{
    Client, Room, SlidingSync, SlidingSyncList, SlidingSyncMode,
    authentication::matrix::MatrixSession,
    encryption::EncryptionSettings,
    ruma::{
        OwnedEventId, OwnedRoomId, RoomId, UserId,
        api::client::sync::sync_events::v5::request::{E2EE, ToDevice},
        events::StateEventType,
    },
    sliding_sync::{Version, VersionBuilder},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::JoinHandle,
};

pub const PASSPHRASE: &str = "passphrase";
/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// How an app is set up.
#[derive(Clone, Copy)]
pub struct Setup {
    pub timeline_limit: u32,
    /// Whether the user gets a cross-signing identity.
    pub has_identity: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self { timeline_limit: 10, has_identity: true }
    }
}

/// A running app.
pub struct App {
    pub client: Client,
    pub mls: Mls,
    pub http: Http,
    pub name: String,
    directory: PathBuf,
    /// Deletes the directory in the end.
    place: Arc<TempDir>,
    setup: Setup,
    tasks: Vec<JoinHandle<()>>,
    items: UnboundedReceiver<TimelineItem>,
    read: Vec<Decrypted>,
}

/// What is left of an app that was closed.
pub struct Closed {
    pub name: String,
    pub session: MatrixSession,
    pub directory: PathBuf,
    pub http: Http,
    pub setup: Setup,
    place: Arc<TempDir>,
}

/// Builds a client on the store in a directory.
pub async fn client(base_url: &str, directory: &Path, setup: Setup) -> Result<Client> {
    let settings = EncryptionSettings {
        auto_enable_cross_signing: setup.has_identity,
        ..EncryptionSettings::default()
    };
    Ok(Client::builder()
        .homeserver_url(base_url)
        .sqlite_store(directory.join("sdk"), Some(PASSPHRASE))
        .sliding_sync_version_builder(VersionBuilder::Native)
        .with_encryption_settings(settings)
        .build()
        .await?)
}

pub fn mls_config(directory: &Path, setup: Setup) -> Config {
    let mut config = Config::new(directory.join("mls"), vec![7; 32]);
    config.timeline_limit = setup.timeline_limit;
    config
}

pub fn olm_store(directory: &Path) -> OlmStore {
    OlmStore::new(directory.join("sdk"), Some(PASSPHRASE))
}

impl App {
    /// A new account and its phone.
    pub async fn register(homeserver: &Homeserver, name: &str, setup: Setup) -> Result<Self> {
        Http::register(homeserver.base_url(), name, "REGISTRATION").await?;
        Self::log_in(homeserver, name, "PHONE", setup).await
    }

    /// Another device of an account.
    pub async fn log_in(
        homeserver: &Homeserver,
        name: &str,
        device: &str,
        setup: Setup,
    ) -> Result<Self> {
        let place = Arc::new(tempfile::tempdir()?);
        let client = client(homeserver.base_url(), place.path(), setup).await?;
        client.matrix_auth().login_username(name, "p").device_id(device).send().await?;
        client.encryption().wait_for_e2ee_initialization_tasks().await;
        Self::start(client, homeserver.base_url(), place, name, setup).await
    }

    async fn start(
        client: Client,
        base_url: &str,
        place: Arc<TempDir>,
        name: &str,
        setup: Setup,
    ) -> Result<Self> {
        let directory = place.path();
        let token = client.access_token().or_missing("access token")?;
        let http = Http::new(base_url, name)?.with_token(&token);
        let mls = Mls::attach(&client, mls_config(directory, setup)).await?;
        let mut stream = mls.timeline();
        let (sender, items) = unbounded_channel();
        let listen = tokio::spawn(async move {
            while let Some(item) = stream.next().await {
                if sender.send(item).is_err() {
                    return;
                }
            }
        });
        mls.before_sync().await?;
        mls.bind(&olm_store(directory)).await?;
        let mut tasks = vec![listen];
        for sync in [encryption(&client).await?, room_list(&client).await?] {
            tasks.push(tokio::spawn(sync_on(sync)));
        }
        let runs = mls.clone();
        tasks.push(tokio::spawn(async move {
            if let Err(error) = runs.run().await {
                eprintln!("run ended: {error}");
            }
        }));
        eventually("its keys are published", async || {
            let pending = mls.machine().pending_requests().await?;
            let is_done = mls.machine().outgoing_requests().await?.is_empty();
            Ok((is_done && pending.put_off == 0).then_some(()))
        })
        .await?;
        let (name, directory) = (name.to_owned(), directory.to_owned());
        Ok(Self {
            client,
            mls,
            http,
            name,
            directory,
            place,
            setup,
            tasks,
            items,
            read: Vec::new(),
        })
    }

    pub fn user(&self) -> &UserId {
        self.client.user_id().expect("it is logged in")
    }

    pub fn olm_store(&self) -> OlmStore {
        olm_store(&self.directory)
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Closes the app as a user does.
    pub async fn close(mut self) -> Result<Closed> {
        for task in std::mem::take(&mut self.tasks) {
            task.abort();
            let _ = task.await;
        }
        self.mls.close().await?;
        Ok(Closed {
            name: self.name.clone(),
            session: self.client.matrix_auth().session().or_missing("session")?,
            directory: self.directory.clone(),
            http: self.http.clone(),
            setup: self.setup,
            place: self.place.clone(),
        })
    }

    /// Creates a room that uses MLS from its birth, with these others in it, and its group.
    pub async fn create_room(&self, others: &[&Self]) -> Result<OwnedRoomId> {
        let room_id = self.create_plain_room(others).await?;
        self.mls.upgrade(&room_id, Default::default()).await?;
        for other in others {
            other.knows_mls(&room_id).await?;
        }
        Ok(room_id)
    }

    /// Creates a room with these others in it, that is not encrypted.
    pub async fn create_plain_room(&self, others: &[&Self]) -> Result<OwnedRoomId> {
        let invited: Vec<&UserId> = others.iter().map(|other| other.user()).collect();
        let request = json!({ "preset": "private_chat", "invite": invited });
        let answer = self.http.post("/_matrix/client/v3/createRoom", request).await?;
        let room_id = RoomId::parse(answer["room_id"].as_str().unwrap_or_default())?;
        for other in others {
            other.join(&room_id).await?;
        }
        self.sdk_knows(&room_id).await?;
        Ok(room_id)
    }

    pub async fn join(&self, room_id: &RoomId) -> Result {
        let path = format!("/_matrix/client/v3/rooms/{room_id}/join");
        self.http.post(&path, json!({})).await?;
        Ok(())
    }

    pub async fn act(&self, room_id: &RoomId, action: &str, body: Value) -> Result {
        self.http.post(&format!("/_matrix/client/v3/rooms/{room_id}/{action}"), body).await?;
        Ok(())
    }

    /// Waits until the SDK has the room as joined.
    pub async fn sdk_knows(&self, room_id: &RoomId) -> Result<Room> {
        eventually(&format!("{} has {room_id}", self.name), async || {
            let room = self.client.get_room(room_id);
            Ok(room.filter(|room| room.state() == matrix_sdk::RoomState::Joined))
        })
        .await
    }

    pub async fn knows_mls(&self, room_id: &RoomId) -> Result {
        eventually(&format!("{} knows that {room_id} uses MLS", self.name), async || {
            Ok(self.mls.uses_mls(room_id).await?.then_some(()))
        })
        .await
    }

    /// Sends a text to an MLS room.
    pub async fn says(&self, room_id: &RoomId, text: &str) -> Result<OwnedEventId> {
        match tokio::time::timeout(PATIENCE, self.mls.send_text(room_id, text)).await {
            Ok(sent) => Ok(sent?),
            Err(_) => bail!("{} cannot send {text:?} for {PATIENCE:?}", self.name),
        }
    }

    /// Waits until the stream has given an event.
    pub async fn reads(&mut self, event_id: &OwnedEventId) -> Result<Decrypted> {
        let began = Instant::now();
        let mut seen = Vec::new();
        loop {
            if let Some(read) = self.read.iter().find(|read| read.event_id == *event_id) {
                return Ok(read.clone());
            }
            let left = PATIENCE.saturating_sub(began.elapsed());
            match tokio::time::timeout(left, self.items.recv()).await {
                Ok(Some(TimelineItem::Decrypted(decrypted))) => self.read.push(*decrypted),
                Ok(Some(other)) => seen.push(other),
                Ok(None) => bail!("{}: the stream has ended", self.name),
                Err(_) => bail!("{} does not read {event_id}: {seen:?}", self.name),
            }
        }
    }

    /// Says something until a device is in the group: it is new, and has to be heard of.
    pub async fn lets_in(&self, room_id: &RoomId, device: &str) -> Result {
        eventually(&format!("{device} is in the group"), async || {
            self.says(room_id, "is anybody new here?").await?;
            let group = self.group(room_id).await?;
            Ok(group.iter().any(|name| name.ends_with(device)).then_some(()))
        })
        .await
    }

    /// The devices in the group of a room.
    pub async fn group(&self, room_id: &RoomId) -> Result<Vec<String>> {
        let members = self.mls.room(room_id)?.members().await?;
        let mut names: Vec<String> =
            members.iter().map(|it| format!("{}|{}", it.user_id, it.device_id)).collect();
        names.sort();
        Ok(names)
    }

    /// Whether the SDK decrypts an event of the room by itself, and to what.
    pub async fn sdk_reads(
        &self,
        room_id: &RoomId,
        event_id: &OwnedEventId,
    ) -> Result<Option<String>> {
        let room = self.sdk_knows(room_id).await?;
        let event = room.event(event_id, None).await?;
        let json: Value = serde_json::from_str(event.raw().json().get())?;
        Ok(json["content"]["body"].as_str().map(str::to_owned))
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Closed {
    /// Starts the app again.
    pub async fn open(self, homeserver: &Homeserver) -> Result<App> {
        let base_url = homeserver.base_url();
        let client = client(base_url, &self.directory, self.setup).await?;
        client.restore_session(self.session).await?;
        App::start(client, base_url, self.place, &self.name, self.setup).await
    }

    /// Where this crate's connection stands.
    pub fn position_file(&self) -> PathBuf {
        self.directory.join("mls/position.json")
    }

    /// Has this crate's connection begin anew.
    pub fn lose_position(&self) -> Result {
        Ok(std::fs::remove_file(self.position_file())?)
    }
}

/// The connection `encryption` of Element X: to-device events and keys, no rooms, no position kept.
pub async fn encryption(client: &Client) -> Result<SlidingSync> {
    let (mut e2ee, mut to_device) = (E2EE::default(), ToDevice::default());
    (e2ee.enabled, to_device.enabled) = (Some(true), Some(true));
    let sync = client.sliding_sync("encryption")?.version(Version::Native);
    let sync = sync.with_e2ee_extension(e2ee).with_to_device_extension(to_device);
    Ok(sync.poll_timeout(Duration::from_secs(2)).build().await?)
}

/// The connection `room-list` of Element X: one event a room, lazy members, its position kept.
pub async fn room_list(client: &Client) -> Result<SlidingSync> {
    let state = [
        (StateEventType::RoomName, ""),
        (StateEventType::RoomEncryption, ""),
        (StateEventType::RoomMember, "$LAZY"),
        (StateEventType::RoomMember, "$ME"),
        (StateEventType::RoomPowerLevels, ""),
        (StateEventType::RoomCreate, ""),
        (StateEventType::RoomHistoryVisibility, ""),
    ];
    let list = SlidingSyncList::builder("all_rooms")
        .sync_mode(SlidingSyncMode::new_growing(20))
        .timeline_limit(1)
        .required_state(state.map(|(kind, key)| (kind, key.to_owned())).into());
    let sync = client.sliding_sync("room-list")?.version(Version::Native).add_list(list);
    Ok(sync.share_pos().poll_timeout(Duration::from_secs(2)).build().await?)
}

/// Syncs as the SDK's services do: when a stream ends with an error, it is begun again.
pub async fn sync_on(sync: SlidingSync) {
    loop {
        let mut stream = std::pin::pin!(sync.sync());
        while let Some(Ok(_)) = stream.next().await {}
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Asks again and again until there is an answer.
pub async fn eventually<T, F: Future<Output = Result<Option<T>>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> Result<T> {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        if began.elapsed() > PATIENCE {
            bail!("in vain for {PATIENCE:?}: {what}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
