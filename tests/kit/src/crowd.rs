//! Very many devices of plain OpenMLS on a homeserver: what makes a room large.
//!
//! Each has published its device keys and one key package, as a device that is offline has. Any of
//! them can be asked to take in the Welcome that waits for it; they share no code with the library
//! under test.

use openmls::prelude::*;
use serde_json::{Value, json};
use tls_codec::Deserialize as _;

use crate::{
    Client, Homeserver, Http, KitError,
    http::segment,
    peer::{ALGORITHM, Peer, from_base64},
    published_tree,
};

/// How many devices one user has.
const DEVICES_OF_A_USER: usize = 50;

/// One of them.
pub struct Offline {
    /// The device.
    pub peer: Peer,
    http: Http,
}

/// Registers so many devices, each with a key package.
pub async fn register(
    homeserver: &Homeserver,
    name: &str,
    devices: usize,
) -> Result<Vec<Offline>, KitError> {
    let mut crowd = Vec::with_capacity(devices);
    for number in 0..devices {
        let user = format!("{name}{}", number / DEVICES_OF_A_USER);
        let device = format!("D{number}");
        let first = number % DEVICES_OF_A_USER == 0;
        crowd.push(enter(homeserver, &user, &device, first).await?);
    }
    Ok(crowd)
}

/// Has somebody invite all these devices' users to a room, and them join it.
pub async fn enter_room(host: &Client, room_id: &str, crowd: &[Offline]) -> Result<(), KitError> {
    for device in crowd.iter().filter(|device| device.is_first_of_its_user()) {
        host.invite(room_id, &device.peer.user).await?;
        device.join_room(room_id).await?;
    }
    Ok(())
}

async fn enter(
    homeserver: &Homeserver,
    user: &str,
    device: &str,
    first: bool,
) -> Result<Offline, KitError> {
    let http = Http::new(homeserver.base_url(), &format!("{user}/{device}"))?;
    let password = format!("the password of {user}");
    let (endpoint, request) = if first {
        let auth = json!({ "type": "m.login.dummy" });
        (
            "register",
            json!({ "username": user, "password": password, "device_id": device, "auth": auth }),
        )
    } else {
        let identifier = json!({ "type": "m.id.user", "user": user });
        let login = json!({
            "type": "m.login.password", "identifier": identifier, "password": password,
            "device_id": device,
        });
        ("login", login)
    };
    let answer = http.post(&format!("/_matrix/client/v3/{endpoint}"), request).await?;
    let text = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
    let http = http.with_token(&text("access_token"));
    let peer = Peer::new(&text("user_id"), device);
    let (id, package) = peer.published_key_package();
    let keys = json!({ "device_keys": peer.device_keys(), "one_time_keys": { id: package } });
    http.post("/_matrix/client/v3/keys/upload", keys).await?;
    Ok(Offline { peer, http })
}

impl Offline {
    /// Publishes another key package: one that is claimed is gone.
    pub async fn publish_key_package(&self) -> Result<(), KitError> {
        let (id, package) = self.peer.published_key_package();
        let keys =
            json!({ "device_keys": self.peer.device_keys(), "one_time_keys": { id: package } });
        self.http.post("/_matrix/client/v3/keys/upload", keys).await.map(drop)
    }

    /// Joins a Matrix room, with all devices of its user.
    pub async fn join_room(&self, room_id: &str) -> Result<(), KitError> {
        let path = format!("/_matrix/client/v3/rooms/{}/join", segment(room_id));
        self.http.post(&path, json!({})).await.map(drop)
    }

    /// Whether it is the first device of its user.
    pub fn is_first_of_its_user(&self) -> bool {
        let number: usize = self.peer.device.trim_start_matches('D').parse().unwrap_or(1);
        number.is_multiple_of(DEVICES_OF_A_USER)
    }

    /// Comes online and takes in the Welcome that waits for it, the ratchet tree from wherever it
    /// is. Gives how many bytes the Welcome took in the to-device message.
    pub async fn join_group(&mut self) -> Result<usize, KitError> {
        let sync = self.http.get("/_matrix/client/v3/sync?timeout=0").await?;
        let events = sync["to_device"]["events"].as_array().cloned().unwrap_or_default();
        let missing = |what: &str| KitError::Setup(format!("{}: no {what}", self.peer.device));
        let content = &events.last().ok_or_else(|| missing("Welcome"))?["content"];
        let size = content.to_string().len();
        let ciphertext = content["ciphertext"].as_str().ok_or_else(|| missing("ciphertext"))?;
        let mut values = Vec::new();
        for value in published_tree::values(content) {
            let url = value["url"].as_str().ok_or_else(|| missing("URL"))?;
            let path = url.replacen("mxc://", "/_matrix/client/v1/media/download/", 1);
            let answer = self.http.send("GET", &path, "application/json", Vec::new()).await?;
            values.push(answer.body);
        }
        let tree = match values.is_empty() {
            true => None,
            false => {
                let tree = published_tree::put_together(content, values)
                    .map_err(|_| missing("ratchet tree"))?;
                let tree = RatchetTreeIn::tls_deserialize_exact(tree.as_slice());
                Some(tree.map_err(|_| missing("ratchet tree"))?)
            }
        };
        let message = MlsMessageIn::tls_deserialize_exact(from_base64(ciphertext).as_slice())
            .map_err(|_| missing("MLSMessage"))?;
        let MlsMessageBodyIn::Welcome(welcome) = message.extract() else {
            return Err(missing("Welcome in the MLSMessage"));
        };
        let config = MlsGroupJoinConfig::builder()
            .wire_format_policy(MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .build();
        let provider = &self.peer.provider;
        let joined = StagedWelcome::new_from_welcome(provider, &config, welcome, tree)
            .map_err(|error| KitError::Setup(format!("{}: {error}", self.peer.device)))?
            .into_group(provider)
            .map_err(|error| KitError::Setup(format!("{}: {error}", self.peer.device)))?;
        self.peer.group = Some(joined);
        Ok(size)
    }

    /// The text of an encrypted message.
    pub fn read(&mut self, event: &Value) -> Option<String> {
        let content = &event["content"];
        if content["algorithm"] != ALGORITHM {
            return None;
        }
        let plaintext = self.peer.process(&from_base64(content["ciphertext"].as_str()?))?;
        let plaintext: Value = serde_json::from_slice(&plaintext).ok()?;
        Some(plaintext["content"]["body"].as_str()?.to_owned())
    }
}
