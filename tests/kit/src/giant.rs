//! Rooms of any size without a homeserver: a library device in a group of many peers.
//!
//! The other devices exist only as leaves and as published keys. The library is given the Welcome,
//! the room's members and the answers to its key queries, all through its public API, and finds the
//! room ready to send to.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use matrix_mls::{
    MachineConfig, MlsMachine, MlsRoom, OutgoingRequest, Publishing, RoomChanges, SendPlan,
    StoreKey, SyncChanges, ToDeviceResult,
};
use openmls::prelude::{KeyPackage, KeyPackageIn, ProtocolVersion};
use openmls_traits::OpenMlsProvider;
use serde_json::{Value, json};
use tls_codec::Deserialize as _;

use crate::peer::{ALGORITHM, Peer, WELCOME_ALGORITHM, base64, from_base64};

/// How many devices are added by one commit while a giant room is made.
const BATCH: usize = 500;
/// How many users the devices belong to, at the most.
const USERS: usize = 100;

/// A room with many devices.
pub struct Giant {
    /// The library's device.
    pub machine: Arc<MlsMachine>,
    /// Its handle of the room, ready to send to.
    pub room: Arc<MlsRoom>,
    /// The peer that made the group; as able as any to send and commit.
    pub founder: Peer,
    /// The event id of the commit that made the current epoch.
    pub commit_event: String,
    /// The room's id.
    pub room_id: String,
}

impl Giant {
    /// Makes a room of so many devices, the library's and the founder's included.
    pub async fn new(devices: usize, store: &Path) -> Self {
        let room_id = "!giant:example.org".to_owned();
        let machine = MlsMachine::open(MachineConfig {
            user_id: "@me:example.org".into(),
            device_id: "ME".into(),
            store_path: store.display().to_string(),
            store_key: StoreKey::Raw { key: vec![7; 32] },
            publishing: Publishing::Alone,
        })
        .await
        .expect("the store opens");

        let mut founder = Peer::new("@user0:example.org", "D0");
        founder.create(&room_id, false);
        let mut published = Published::default();
        published.put(&founder.user, &founder.device, founder.device_keys());
        let mut packages: Vec<KeyPackage> = Vec::new();
        for number in 1..devices.saturating_sub(1) {
            let user = format!("@user{}:example.org", number % USERS);
            let peer = Peer::new(&user, &format!("D{number}"));
            published.put(&peer.user, &peer.device, peer.device_keys());
            packages.push(peer.key_package());
        }
        for batch in packages.chunks(BATCH) {
            founder.add(batch);
        }
        let package = upload(&machine, &mut published).await;
        let welcome = welcome_with_tree(&mut founder, package);

        let commit_event = "$commit:example.org".to_owned();
        let to_device = json!({
            "type": "m.room.encrypted",
            "sender": founder.user,
            "content": {
                "algorithm": WELCOME_ALGORITHM,
                "ciphertext": base64(&welcome),
                "room_id": room_id,
                "sender": [founder.user, founder.device],
                "resolves": [],
                "commit_event": commit_event,
            },
        });
        let mut state = vec![json!({
            "type": "m.room.create", "state_key": "", "event_id": "$create:example.org",
            "sender": founder.user, "content": { "encryption": { "algorithm": ALGORITHM } },
        })];
        state.extend(published.0.keys().map(|user| {
            json!({
                "type": "m.room.member", "state_key": user, "sender": user,
                "event_id": format!("$join-{}", &user[1..]), "content": { "membership": "join" },
            })
        }));
        let summary = machine
            .receive_sync(SyncChanges {
                to_device: vec![to_device.to_string()],
                rooms: vec![RoomChanges {
                    room_id: room_id.clone(),
                    state: state.iter().map(Value::to_string).collect(),
                    timeline: Vec::new(),
                }],
                ..SyncChanges::default()
            })
            .await
            .expect("the sync is taken in");
        assert!(
            matches!(summary.to_device[..], [ToDeviceResult::Joined { .. }]),
            "the Welcome failed: {:?}",
            summary.to_device
        );
        let room = machine.room(room_id.clone()).expect("a room id");
        loop {
            match room.prepare_to_send().await.expect("the room can be sent to") {
                SendPlan::Ready => break,
                SendPlan::Waiting { requests, .. } => {
                    assert!(!requests.is_empty(), "nothing to do and not ready");
                    for request in requests {
                        published.answer(&machine, request).await;
                    }
                }
            }
        }
        Self { machine, room, founder, commit_event, room_id }
    }

    /// An event with a message from the founder.
    pub fn message_event(&mut self, body: &str) -> String {
        let plaintext = Peer::plaintext(&self.room_id, body);
        let ciphertext = self.founder.seal(&plaintext);
        json!({
            "type": "m.room.encrypted",
            "event_id": "$message:example.org",
            "sender": self.founder.user,
            "content": {
                "algorithm": ALGORITHM,
                "ciphertext": base64(&ciphertext),
                "epoch_creator": [self.founder.user, self.founder.device],
                "commit_event": self.commit_event,
            },
        })
        .to_string()
    }
}

/// The Welcome for the last device must hold the tree; those before need not, and are smaller
/// without.
fn welcome_with_tree(founder: &mut Peer, package: KeyPackage) -> Vec<u8> {
    founder.put_tree_in_welcomes(true);
    founder.add(&[package]).1
}

/// Has the machine upload its keys; gives one of its key packages.
async fn upload(machine: &MlsMachine, published: &mut Published) -> KeyPackage {
    let mut package = None;
    for request in machine.outgoing_requests().await.expect("requests") {
        if request.path.ends_with("/keys/upload") {
            let body: Value = serde_json::from_slice(&request.body).expect("JSON");
            published.put("@me:example.org", "ME", body["device_keys"].clone());
            let one_time = body["one_time_keys"].as_object().expect("key packages");
            let text = one_time.values().next().and_then(Value::as_str).expect("a bare string");
            package = Some(from_base64(text));
        }
        published.answer(machine, request).await;
    }
    KeyPackageIn::tls_deserialize_exact(package.expect("an upload"))
        .expect("a key package")
        .validate(
            openmls_rust_crypto::OpenMlsRustCrypto::default().crypto(),
            ProtocolVersion::Mls10,
        )
        .expect("a valid key package")
}

/// What devices have published, by user and device.
#[derive(Default)]
struct Published(BTreeMap<String, BTreeMap<String, Value>>);

impl Published {
    fn put(&mut self, user: &str, device: &str, keys: Value) {
        self.0.entry(user.to_owned()).or_default().insert(device.to_owned(), keys);
    }

    async fn answer(&self, machine: &MlsMachine, request: OutgoingRequest) {
        let body = if request.path.ends_with("/keys/query") {
            let asked: Value = serde_json::from_slice(&request.body).expect("JSON");
            let users = asked["device_keys"].as_object().expect("users").keys();
            let answer: BTreeMap<_, _> =
                users.filter_map(|user| Some((user, self.0.get(user)?))).collect();
            json!({ "device_keys": answer, "failures": {} })
        } else if request.path.ends_with("/keys/upload") {
            json!({ "one_time_key_counts": { crate::peer::KEY_PACKAGE: 50 } })
        } else {
            panic!("a giant room needs no {} {}", request.method, request.path)
        };
        let body = body.to_string().into_bytes();
        machine.mark_request_as_sent(request.id, 200, body).await.expect("the answer is taken");
    }
}
