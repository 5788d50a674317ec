//! A device of matrix-sdk's in a process of its own, for the scenario between languages (`cargo
//! xtask demo --clients sdk`): `device URL DIRECTORY USER DEVICE`. It takes the steps of the test
//! kit's `bin/device.rs`.
//!
//! So that a scenario can tell who has heard of what, it syncs when it is told to, and not by
//! itself.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use matrix_mls_kit::{Homeserver, Http, OrMissing as _, Result, bail, eyre, password_auth};
use matrix_mls_sdk::{
    Config, Error, Mls, OlmStore,
    matrix_mls::{MlsError, RecoveryKey, RestoreScope, RoomSettings},
};
use matrix_sdk::{
    Client, SlidingSync, SlidingSyncList, SlidingSyncMode,
    authentication::matrix::MatrixSession,
    ruma::{
        RoomId,
        api::client::sync::sync_events::v5::request::{E2EE, ToDevice},
        events::{AnySyncTimelineEvent, StateEventType},
        serde::Raw,
    },
    sliding_sync::{Version, VersionBuilder},
};
use serde_json::{Value, json};

/// How long a step that sends may take before the device syncs, as what it waits for may come so.
const SYNC_ASIDE: Duration = Duration::from_secs(4);

#[tokio::main]
async fn main() -> Result {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, directory, user, device] = &*arguments else {
        bail!("usage: device URL DIRECTORY USER DEVICE");
    };
    let place = Place {
        homeserver: Homeserver::at(url),
        directory: PathBuf::from(directory),
        user: user.clone(),
        device: device.clone(),
    };
    let mut running: Option<Device> = None;
    for line in std::io::stdin().lines() {
        let line = line?;
        if line == "quit" {
            break;
        }
        let most = if line.starts_with("send ") { 3 } else { usize::MAX };
        let step: Vec<&str> = line.splitn(most, ' ').collect();
        match take(&place, &mut running, &step).await {
            Ok(()) => println!("ok"),
            Err(error) => println!("failed {}", error.to_string().replace('\n', " ")),
        }
        std::io::stdout().flush()?;
    }
    if let Some(device) = running {
        device.mls.close().await?;
    }
    Ok(())
}

/// Whose device it is, and where.
struct Place {
    homeserver: Homeserver,
    directory: PathBuf,
    user: String,
    device: String,
}

struct Device {
    client: Client,
    mls: Mls,
    http: Http,
    encryption: SlidingSync,
    rooms: SlidingSync,
}

async fn take(place: &Place, running: &mut Option<Device>, step: &[&str]) -> Result {
    match step {
        ["register"] => {
            let http = Http::new(place.homeserver.base_url(), &place.user)?;
            let request = json!({
                "username": place.user, "password": password(&place.user),
                "auth": { "type": "m.login.dummy" }, "inhibit_login": true,
            });
            http.post("/_matrix/client/v3/register", request).await?;
            let device = running.insert(Device::log_in(place).await?);
            println!("user {}", device.mls.machine().user_id());
            device.settle().await
        }
        ["log-in"] => {
            *running = Some(Device::log_in(place).await?);
            Ok(())
        }
        ["log-out"] => {
            let device = running.take().or_missing("device (register or log-in comes first)")?;
            device.client.matrix_auth().logout().await?;
            Ok(device.mls.close().await?)
        }
        _ => {
            let device = running.as_ref();
            device.or_missing("device (register or log-in comes first)")?.step(step).await
        }
    }
}

impl Device {
    async fn log_in(place: &Place) -> Result<Self> {
        let (base_url, directory) = (place.homeserver.base_url(), &place.directory);
        let sdk = directory.join("sdk");
        let client = Client::builder()
            .homeserver_url(base_url)
            .sqlite_store(&sdk, None)
            .sliding_sync_version_builder(VersionBuilder::Native)
            .build()
            .await?;
        enter(&client, place, &directory.join("session.json")).await?;
        let token = client.access_token().or_missing("access token")?;
        let config = Config::new(directory.join("mls"), vec![7; 32]);
        let mls = Mls::attach(&client, config).await?;
        mls.before_sync().await?;
        mls.bind(&OlmStore::new(&sdk, None)).await?;
        Ok(Self {
            http: Http::new(base_url, &place.user)?.with_token(&token),
            encryption: encryption(&client).await?,
            rooms: rooms(&client).await?,
            client,
            mls,
        })
    }

    /// Everything once: the SDK's connections, this crate's, and what the machine has to send.
    async fn sync(&self) -> Result {
        self.encryption.sync_once().await?;
        self.rooms.sync_once().await?;
        self.mls.sync_once(Duration::ZERO).await?;
        Ok(())
    }

    async fn settle(&self) -> Result {
        for _ in 0..3 {
            self.mls.send_outgoing_requests().await?;
            self.sync().await?;
        }
        Ok(self.mls.send_outgoing_requests().await?)
    }

    /// Does what waits for syncs now and then.
    async fn with_syncs<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T> {
        let mut work = std::pin::pin!(work);
        for _ in 0..30 {
            match tokio::time::timeout(SYNC_ASIDE, &mut work).await {
                Ok(done) => return Ok(done?),
                Err(_) => self.sync().await?,
            }
        }
        Err(eyre!("it does not end"))
    }

    async fn step(&self, step: &[&str]) -> Result {
        match step {
            ["settle"] => self.settle().await?,
            ["create-room", invited @ ..] => {
                let request = json!({ "preset": "private_chat", "invite": invited });
                let answer = self.http.post("/_matrix/client/v3/createRoom", request).await?;
                println!("room {}", answer["room_id"].as_str().or_missing("room_id")?);
                self.settle().await?;
            }
            ["enable", room] => {
                let handle = self.mls.room(&RoomId::parse(room)?)?;
                match handle.enable(RoomSettings::default()).await {
                    Err(MlsError::InvalidInput { details })
                        if details.code == "already_enabled" => {}
                    enabled => enabled?,
                }
                self.settle().await?;
            }
            ["join", room] => self.act(room, "join", json!({})).await?,
            ["kick", room, user] => self.act(room, "kick", json!({ "user_id": user })).await?,
            ["prepare", room] => {
                let room = RoomId::parse(room)?;
                self.with_syncs(self.mls.prepare(&room)).await?;
            }
            ["rotate", room] => {
                let room = RoomId::parse(room)?;
                self.mls.room(&room)?.rotate_keys().await?;
                self.with_syncs(self.mls.prepare(&room)).await?;
            }
            ["send", room, text] => {
                let room = RoomId::parse(room)?;
                self.with_syncs(self.mls.send_text(&room, text)).await?;
            }
            ["head", room] => self.head(&RoomId::parse(room)?).await?,
            ["look", room] => {
                let room = RoomId::parse(room)?;
                self.settle().await?;
                self.head(&room).await?;
                let members = self.mls.room(&room)?.members().await?;
                let mut names: Vec<String> =
                    members.iter().map(|it| format!("{}|{}", it.user_id, it.device_id)).collect();
                names.sort();
                names.iter().for_each(|name| println!("member {name}"));
                self.read(&room).await?;
            }
            ["read", room] => self.read(&RoomId::parse(room)?).await?,
            ["back-up"] => self.back_up().await?,
            ["restore", key @ ..] => self.restore(&key.concat()).await?,
            ["sign-out", device] => self.sign_out(device).await?,
            _ => bail!("there is no step {}", step.join(" ")),
        }
        Ok(())
    }

    async fn act(&self, room: &str, action: &str, body: Value) -> Result {
        self.http.post(&format!("/_matrix/client/v3/rooms/{room}/{action}"), body).await?;
        Ok(())
    }

    async fn head(&self, room: &RoomId) -> Result {
        for epoch in self.mls.room(room)?.epochs().await?.iter().filter(|epoch| epoch.is_head) {
            println!("epoch {} {}", epoch.epoch, epoch.id);
        }
        Ok(())
    }

    /// Prints every text of the room's history that can be read, and which messages cannot.
    async fn read(&self, room: &RoomId) -> Result {
        let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=1000");
        let answer = self.http.get(&path).await?;
        for event in answer["chunk"].as_array().into_iter().flatten().rev() {
            let is_commit = event["content"].get("resolves").is_some();
            if event["type"] != "m.room.encrypted" || is_commit {
                continue;
            }
            let raw: Raw<AnySyncTimelineEvent> = serde_json::from_str(&event.to_string())?;
            match self.mls.decrypt(room, &raw).await {
                Ok(read) if read.body().is_some() => println!(
                    "text {}|{} {}",
                    read.sender,
                    read.sender_device,
                    read.body().unwrap_or_default()
                ),
                _ => println!("unread {}", event["event_id"].as_str().unwrap_or_default()),
            }
        }
        Ok(())
    }

    /// Backs up Megolm's keys and those of MLS in one version, and prints the key of both.
    async fn back_up(&self) -> Result {
        self.client.encryption().backups().create().await?;
        self.mls.share_backup(&OlmStore::new(self.directory()?, None)).await?;
        let key = self.mls.machine().backup().recovery_key().await?.or_missing("key")?;
        self.settle().await?;
        println!("key {}", key.text());
        Ok(())
    }

    fn directory(&self) -> Result<PathBuf> {
        Ok(PathBuf::from(std::env::args().nth(2).or_missing("directory")?).join("sdk"))
    }

    async fn restore(&self, typed: &str) -> Result {
        let key = RecoveryKey::parse(typed.to_owned())?;
        let backup = self.mls.machine().backup();
        backup.enable(key.clone()).await?;
        backup.restore(Some(key), RestoreScope::AllRooms).await?;
        for _ in 0..100 {
            self.mls.send_outgoing_requests().await?;
            if backup.restores().await?.is_empty() {
                println!("restored");
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(eyre!("the restore does not end"))
    }

    async fn sign_out(&self, device: &str) -> Result {
        let path = "/_matrix/client/v3/delete_devices";
        let mut request = json!({ "devices": [device] });
        let first = self.http.try_json("POST", path, request.clone()).await?;
        if first.status == 401
            && let Some(session) = first.json()["session"].as_str()
        {
            request["auth"] = password_auth(&self.mls.machine().user_id(), session);
            self.http.post(path, request).await?;
        }
        Ok(())
    }
}

/// Logs in, or goes on with the session of an earlier start.
async fn enter(client: &Client, place: &Place, session: &Path) -> Result {
    if let Ok(text) = std::fs::read(session) {
        return Ok(client.restore_session(serde_json::from_slice::<MatrixSession>(&text)?).await?);
    }
    let login = client.matrix_auth().login_username(&place.user, &password(&place.user));
    login.device_id(&place.device).send().await?;
    let kept = client.matrix_auth().session().or_missing("session")?;
    Ok(std::fs::write(session, serde_json::to_vec(&kept)?)?)
}

/// The password of every account of the scenario.
fn password(user: &str) -> String {
    format!("the password of {user}")
}

async fn encryption(client: &Client) -> Result<SlidingSync> {
    let (mut e2ee, mut to_device) = (E2EE::default(), ToDevice::default());
    (e2ee.enabled, to_device.enabled) = (Some(true), Some(true));
    let sync = client.sliding_sync("encryption")?.version(Version::Native);
    let sync = sync.with_e2ee_extension(e2ee).with_to_device_extension(to_device);
    Ok(sync.poll_timeout(Duration::ZERO).build().await?)
}

async fn rooms(client: &Client) -> Result<SlidingSync> {
    let list = SlidingSyncList::builder("all_rooms")
        .sync_mode(SlidingSyncMode::new_growing(20))
        .timeline_limit(1)
        .required_state(vec![(StateEventType::RoomEncryption, String::new())]);
    let sync = client.sliding_sync("room-list")?.version(Version::Native).add_list(list);
    Ok(sync.poll_timeout(Duration::ZERO).build().await?)
}
