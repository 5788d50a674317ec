//! Rooms of any size without a homeserver: a library device in a group of many peers.
//!
//! The other devices exist only as leaves and as published keys: the group was written down
//! ([`crate::written_tree`]), and its founder here is the first who joined it. The library is given the
//! Welcome, the room's members and the answers to its key queries, all through its public API, and finds
//! the room ready to send to.

use std::{path::Path, sync::Arc};

use matrix_mls::{
    MachineConfig, MlsMachine, MlsRoom, Publishing, RoomChanges, StoreKey, SyncChanges,
    SyncSummary, ToDeviceResult,
};
use openmls::prelude::{KeyPackage, KeyPackageIn, ProtocolVersion};
use openmls_traits::OpenMlsProvider;
use serde_json::{Value, json};
use tls_codec::Deserialize as _;

use crate::{
    peer::{ALGORITHM, Peer, WELCOME_ALGORITHM, base64, from_base64},
    tables::{Tables, join},
    written_tree::{Shape, WrittenGroup},
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
    pub async fn open(user: &str, device: &str, store: &Path) -> Self {
        let machine = MlsMachine::open(MachineConfig {
            user_id: user.into(),
            device_id: device.into(),
            store_path: store.display().to_string(),
            store_key: StoreKey::Raw { key: vec![7; 32] },
            publishing: Publishing::Alone,
        })
        .await
        .expect("the store opens");
        let room = machine.room(ROOM.into()).expect("a room id");
        Self { machine, room }
    }

    /// Has it upload its keys; gives one of its key packages.
    pub async fn upload(&self, tables: &mut Tables) -> KeyPackage {
        let mut package = None;
        for request in self.machine.outgoing_requests().await.expect("requests") {
            if request.path.ends_with("/keys/upload") {
                let body: Value = serde_json::from_slice(&request.body).expect("JSON");
                let keys = body["device_keys"].clone();
                tables.publish(&self.machine.user_id(), &self.machine.device_id(), keys);
                let one_time = body["one_time_keys"].as_object().expect("key packages");
                let text = one_time.values().next().and_then(Value::as_str).expect("a bare string");
                package = Some(from_base64(text));
            }
            let answer = tables.answer(&request);
            let taken = self.machine.mark_request_as_sent(request.id, 200, answer).await;
            taken.expect("the answer is taken");
        }
        KeyPackageIn::tls_deserialize_exact(package.expect("an upload"))
            .expect("a key package")
            .validate(
                openmls_rust_crypto::OpenMlsRustCrypto::default().crypto(),
                ProtocolVersion::Mls10,
            )
            .expect("a valid key package")
    }

    /// Feeds it a sync with events of the room.
    pub async fn sync(
        &self,
        to_device: Vec<String>,
        state: Vec<String>,
        timeline: Vec<String>,
    ) -> SyncSummary {
        let room = RoomChanges { room_id: ROOM.to_owned(), state, timeline };
        let changes = SyncChanges { to_device, rooms: vec![room], ..SyncChanges::default() };
        self.machine.receive_sync(changes).await.expect("the sync is taken in")
    }
}

impl Giant {
    /// Makes a room of so many devices, three at the least: the library's, the founder's and the observer's
    /// included, whose paths have no key in a blank tree.
    pub async fn new(devices: usize, shape: Shape, store: &Path) -> Self {
        let device = Device::open("@me:example.org", "ME", store).await;
        let mut tables = Tables::default();
        let mut founder = Peer::new("@founder:example.org", "FOUNDER");
        let mut observer = Peer::new("@founder:example.org", "OBSERVER");
        let written = devices.saturating_sub(3);
        if written == 0 {
            founder.create(ROOM, false);
        } else {
            let group = WrittenGroup::new(ROOM, written, shape);
            founder.try_join_externally(&group.group_info).expect("what was written is valid");
            for member in &group.members {
                tables.publish(&member.user, &member.device, member.device_keys());
            }
        }
        for peer in [&founder, &observer] {
            tables.publish(&peer.user, &peer.device, peer.device_keys());
        }
        let package = device.upload(&mut tables).await;
        founder.put_tree_in_welcomes(true);
        let (_, welcome) = founder.add(&[package, observer.key_package()]);
        observer.join(&welcome);
        let commit_event = "$commit:example.org".to_owned();
        let mut giant = Self { device, founder, observer, tables, commit_event, events: 0 };
        let to_device = giant.welcome_event(&welcome);
        let state = giant.room_state();
        let summary = giant.device.sync(vec![to_device], state, Vec::new()).await;
        let results = &summary.to_device;
        assert!(matches!(results[..], [ToDeviceResult::Joined { .. }]), "no Welcome: {results:?}");
        giant.tables.make_ready(&giant.device.machine, &giant.device.room).await;
        giant
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

    /// The event with a commit that the founder has made. With `public`, anybody can join by it: that takes
    /// writing the whole tree.
    pub fn founders_commit(&mut self, commit: &[u8], public: bool) -> String {
        let mut content = json!({
            "algorithm": ALGORITHM,
            "ciphertext": self.payload(commit),
            "epoch_creator": self.name(),
            "sender": self.name(),
            "resolves": [],
            "commit_event": self.commit_event,
            "public_group_state": "AAAA",
        });
        if public {
            let (info, tree) = self.founder.public_state();
            content["public_group_state"] = json!(base64(&info));
            content["ratchet_tree"] = self.tables.upload(tree);
        }
        let (id, event) = self.event(content);
        self.commit_event = id;
        event
    }

    /// In the event, or in the media repository.
    fn payload(&mut self, bytes: &[u8]) -> Value {
        match bytes.len() {
            ..30_000 => json!(base64(bytes)),
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
