//! Rooms of any size without a homeserver: a library device in a group of many peers.
//!
//! The other devices exist only as leaves and as published keys: the group was written down
//! ([`crate::written_tree`]), and its founder here is the first who joined it. The library is given
//! the Welcome, the room's members and the answers to its key queries, all through its public API,
//! and finds the room ready to send to.

use std::{path::Path, sync::Arc};

use eyre::ensure;
use matrix_mls::{MlsMachine, MlsRoom, RoomChanges, SyncChanges, SyncSummary, ToDeviceResult};
use openmls::prelude::KeyPackage;
use serde_json::{Value, json};

use crate::{
    OrMissing as _, Result, config, feed, news,
    peer::{ALGORITHM, Peer, WELCOME_ALGORITHM, base64},
    tables::{Tables, join},
    written_tree::{Shape, USERS, WrittenGroup},
};

/// The room's id.
pub const ROOM: &str = "!giant:example.org";

/// A room with many devices.
pub struct Giant {
    /// The library's device.
    pub device: Device,
    /// A peer that is as able as any to send and commit.
    pub founder: Peer,
    /// Another, which came in with the library's device.
    pub observer: Peer,
    /// The homeserver.
    pub tables: Tables,
    /// The event id of the commit that made the founder's epoch.
    pub commit_event: String,
    events: usize,
}

/// A device of the library.
pub struct Device {
    /// The machine.
    pub machine: Arc<MlsMachine>,
    /// Its handle of the room.
    pub room: Arc<MlsRoom>,
}

impl Device {
    /// Opens a device's store, or makes it.
    pub async fn open(user: &str, device: &str, store: &Path) -> Result<Self> {
        let machine = MlsMachine::open(config(user, device, store)).await?;
        let room = machine.room(ROOM.into())?;
        Ok(Self { machine, room })
    }

    /// Has it upload its keys; gives one of its key packages.
    pub async fn upload(&self, tables: &mut Tables) -> Result<KeyPackage> {
        let packages = tables.take_key_packages(&self.machine).await?;
        packages.into_iter().next().or_missing("key package in what was uploaded")
    }

    /// Feeds it a sync with events of the room.
    pub async fn sync(
        &self,
        to_device: Vec<String>,
        state: Vec<String>,
        timeline: Vec<String>,
    ) -> Result<SyncSummary> {
        let room = RoomChanges { state, ..news(ROOM, timeline) };
        let changes = SyncChanges { to_device, rooms: vec![room], ..feed() };
        Ok(self.machine.receive_sync(changes).await?)
    }
}

impl Giant {
    /// Makes a room of so many devices, three at the least: the library's, the founder's and the
    /// observer's included, whose paths have no key in a blank tree.
    pub async fn new(devices: usize, shape: Shape, store: &Path) -> Result<Self> {
        Self::make(devices, USERS, shape, store, false).await
    }

    /// The same where the devices whose group was written down belong to so many users.
    pub async fn among(devices: usize, users: usize, shape: Shape, store: &Path) -> Result<Self> {
        Self::make(devices, users, shape, store, false).await
    }

    /// The same where every user has an identity, which has signed the user's devices.
    pub async fn with_identities(devices: usize, shape: Shape, store: &Path) -> Result<Self> {
        Self::make(devices, USERS, shape, store, true).await
    }

    async fn make(
        devices: usize,
        users: usize,
        shape: Shape,
        store: &Path,
        signed: bool,
    ) -> Result<Self> {
        let device = Device::open("@me:example.org", "ME", store).await?;
        let mut tables = Tables::default();
        let mut founder = Peer::new("@founder:example.org", "FOUNDER");
        let mut observer = Peer::new("@founder:example.org", "OBSERVER");
        let written = devices.saturating_sub(3);
        if written == 0 {
            founder.create(ROOM, false);
        } else {
            let group = WrittenGroup::among(ROOM, written, users, shape)?;
            founder.try_join_externally(&group.group_info)?;
            for member in &group.members {
                tables.publish(&member.user, &member.device, member.device_keys());
            }
        }
        for peer in [&founder, &observer] {
            tables.publish(&peer.user, &peer.device, peer.device_keys());
        }
        let package = device.upload(&mut tables).await?;
        if signed {
            tables.give_identities()?;
        }
        founder.put_tree_in_welcomes(true);
        let (_, welcome) = founder.add(&[package, observer.key_package()]);
        observer.join(&welcome);
        let commit_event = "$commit:example.org".to_owned();
        let mut giant = Self { device, founder, observer, tables, commit_event, events: 0 };
        let to_device = giant.welcome_event(&welcome);
        let state = giant.room_state();
        let summary = giant.device.sync(vec![to_device], state, Vec::new()).await?;
        let results = &summary.to_device;
        ensure!(matches!(results[..], [ToDeviceResult::Joined { .. }]), "no Welcome: {results:?}");
        giant.tables.make_ready(&giant.device.machine, &giant.device.room).await?;
        Ok(giant)
    }

    /// The room's creation and the joins of all users that have devices.
    pub fn room_state(&self) -> Vec<String> {
        let create = json!({
            "type": "m.room.create", "state_key": "", "event_id": "$create:example.org",
            "sender": self.founder.user, "content": { "encryption": { "algorithm": ALGORITHM } },
        });
        let joins = self.tables.users().map(join);
        [create].into_iter().chain(joins).map(|event| event.to_string()).collect()
    }

    /// The to-device event with a Welcome of the founder's last commit.
    pub fn welcome_event(&self, welcome: &[u8]) -> String {
        json!({
            "type": "m.room.encrypted",
            "sender": self.founder.user,
            "content": {
                "algorithm": WELCOME_ALGORITHM,
                "ciphertext": base64(welcome),
                "room_id": ROOM,
                "sender": self.name(),
                "resolves": [],
                "commit_event": self.commit_event,
            },
        })
        .to_string()
    }

    /// An event with a message from the founder.
    pub fn message_event(&mut self, body: &str) -> String {
        let ciphertext = self.founder.seal(&Peer::plaintext(ROOM, body));
        self.event(json!({
            "algorithm": ALGORITHM,
            "ciphertext": base64(&ciphertext),
            "epoch_creator": self.name(),
            "commit_event": self.commit_event,
        }))
        .1
    }

    /// The event with a commit that the founder has made. With `public`, anybody can join by it:
    /// that takes writing the whole tree.
    pub fn founders_commit(&mut self, commit: &[u8], public: bool) -> Result<String> {
        let mut content = json!({
            "algorithm": ALGORITHM,
            "ciphertext": self.payload(commit)?,
            "epoch_creator": self.name(),
            "sender": self.name(),
            "resolves": [],
            "commit_event": self.commit_event,
            "public_group_state": "AAAA",
        });
        if public {
            let (info, tree) = self.founder.public_state();
            content["public_group_state"] = json!(base64(&info));
            content["ratchet_tree"] = self.tables.upload(tree)?;
        }
        let (id, event) = self.event(content);
        self.commit_event = id;
        Ok(event)
    }

    /// In the event, or in the media repository.
    fn payload(&mut self, bytes: &[u8]) -> Result<Value> {
        match bytes.len() {
            ..30_000 => Ok(json!(base64(bytes))),
            _ => self.tables.upload(bytes.to_vec()),
        }
    }

    fn name(&self) -> Value {
        json!([self.founder.user, self.founder.device])
    }

    fn event(&mut self, content: Value) -> (String, String) {
        self.events += 1;
        let id = format!("$founders{}:example.org", self.events);
        let event = json!({
            "type": "m.room.encrypted", "event_id": id, "sender": self.founder.user,
            "content": content,
        });
        (id, event.to_string())
    }
}
