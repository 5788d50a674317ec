//! Setting up and renewing a room's keys, by the number of devices: what `docs/bench/graph.svg` draws. This
//! library through its public API, on a real file, beside a new Megolm session in the same run: one outbound
//! group session, whose key goes through an established Olm session to each device (vodozemac).
//!
//! `cargo bench --bench graph -- 10 100` measures those sizes. Prints a JSON line a figure. What takes longer
//! than it helps is measured less often (`runs`). Times are of the library's calls alone: the homeserver is three
//! tables, and what `/keys/query` takes is left out on both sides.

mod support;

use std::time::Instant;

use matrix_mls::{RoomSettings, SyncChanges};
use matrix_mls_kit::{
    giant::{Device, Giant, ROOM},
    peer::{Peer, base64},
    tables::{Sent, Tables, join},
    written_tree::Shape,
};
use serde_json::json;
use support::{Figure, OURS, rounds, sizes};
use vodozemac::{
    megolm::GroupSession,
    olm::{Account, OlmMessage, Session, SessionConfig},
};

/// How many devices one user has.
const DEVICES_OF_A_USER: usize = 20;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let all = [2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];
    for devices in sizes(&all) {
        eprintln!("rooms of {devices} devices …");
        runtime.block_on(create(devices));
        if devices >= 3 {
            for shape in Shape::ALL {
                runtime.block_on(change(devices, shape));
            }
        }
        new_session(devices);
    }
}

fn figure(operation: &str, devices: usize) -> Figure {
    Figure::new("graph", OURS, operation, devices)
}

/// Bytes without trees, and those of trees, of so many operations.
fn wire(sent: &Sent, operations: usize) -> (usize, usize) {
    ((sent.bytes - sent.tree_bytes) / operations, sent.tree_bytes / operations)
}

/// Makes a room of devices whose key packages are published.
async fn create(devices: usize) {
    let mut tables = Tables::default();
    for number in 1..devices {
        let user = format!("@user{}:example.org", number / DEVICES_OF_A_USER);
        tables.publish_peer(Peer::new(&user, &format!("D{number}")));
    }
    let mut times = Vec::new();
    let mut bytes = (0, 0);
    for _ in 0..rounds(devices, 3) {
        let store = tempfile::tempdir().expect("a directory");
        let device = Device::open("@me:example.org", "ME", store.path()).await;
        device.upload(&mut tables).await;
        let create = json!({
            "type": "m.room.create", "state_key": "", "event_id": "$create:example.org",
            "sender": "@me:example.org", "content": {},
        });
        let state = [create].into_iter().chain(tables.users().map(join));
        device.sync(Vec::new(), state.map(|event| event.to_string()).collect(), Vec::new()).await;
        tables.settle(&device.machine).await;
        tables.take_sent();
        let start = Instant::now();
        device.room.enable(RoomSettings::default()).await.expect("it can be enabled");
        let enabling = start.elapsed();
        let took = tables.make_ready(&device.machine, &device.room).await;
        times.push(enabling + took.calls);
        assert_eq!(device.room.members().await.expect("members").len(), devices);
        bytes = wire(&tables.take_sent(), 1);
    }
    figure("create", devices).times(times).bytes(bytes).print();
}

/// Adds a device, and renews keys, in a room that is there.
async fn change(devices: usize, shape: Shape) {
    let store = tempfile::tempdir().expect("a directory");
    // The one that is added comes on top.
    let mut giant = Giant::new(devices.max(4) - 1, shape, store.path()).await;
    let runs = rounds(devices, 5);
    let mut times = Vec::new();
    giant.tables.take_sent();
    for number in 0..runs {
        let peer = Peer::new("@founder:example.org", &format!("LATE{number}"));
        giant.tables.publish_peer(peer);
        let changes = SyncChanges {
            changed_devices: vec!["@founder:example.org".to_owned()],
            ..SyncChanges::default()
        };
        let device = &giant.device;
        device.machine.receive_sync(changes).await.expect("the sync is taken in");
        giant.tables.settle(&device.machine).await;
        times.push(giant.tables.make_ready(&device.machine, &device.room).await.calls);
    }
    let bytes = wire(&giant.tables.take_sent(), runs);
    figure("add", devices).tree(shape).times(times).bytes(bytes).print();
    let mut times = Vec::new();
    for _ in 0..runs {
        let device = &giant.device;
        device.room.rotate_keys().await.expect("it is noted");
        times.push(giant.tables.make_ready(&device.machine, &device.room).await.calls);
    }
    let bytes = wire(&giant.tables.take_sent(), runs);
    figure("update", devices).tree(shape).times(times).bytes(bytes).print();
}

/// A new Megolm session for a room of so many devices.
fn new_session(devices: usize) {
    let mut sessions = Sessions::establish(devices - 1);
    let mut times = Vec::new();
    let mut bytes = 0;
    for _ in 0..rounds(devices, 5) {
        let start = Instant::now();
        let megolm = GroupSession::new(vodozemac::megolm::SessionConfig::version_1());
        let messages = sessions.share(&megolm);
        times.push(start.elapsed());
        bytes = sessions.request_bytes(&messages);
    }
    Figure::new("graph", "vodozemac", "new session", devices)
        .times(times)
        .bytes((bytes, 0))
        .print();
}

/// Olm sessions with many devices, all of which have answered.
struct Sessions {
    sender_key: String,
    keys: String,
    others: Vec<(String, Session)>,
}

impl Sessions {
    fn establish(devices: usize) -> Self {
        let me = Account::new();
        let config = SessionConfig::version_1();
        let others = (0..devices).map(|_| {
            let mut account = Account::new();
            account.generate_one_time_keys(1);
            let one_time = *account.one_time_keys().values().next().expect("one");
            let mut session =
                me.create_outbound_session(config, account.curve25519_key(), one_time);
            let first = session.as_mut().expect("a session").encrypt("{}").expect("it encrypts");
            let OlmMessage::PreKey(first) = first else { panic!("the first is a pre-key message") };
            let mut back = account
                .create_inbound_session(config, me.curve25519_key(), &first)
                .expect("a session");
            let mut session = session.expect("a session");
            let answer = back.session.encrypt("{}").expect("it encrypts");
            session.decrypt(&answer).expect("it decrypts");
            // The first after an answer starts a new chain: that is not every session's price.
            session.encrypt("{}").expect("it encrypts");
            (account.curve25519_key().to_base64(), session)
        });
        let others = others.collect();
        Self {
            sender_key: me.curve25519_key().to_base64(),
            keys: me.ed25519_key().to_base64(),
            others,
        }
    }

    /// The session's key, sealed for each device as `m.room_key` (Matrix spec, "m.olm.v1").
    fn share(&mut self, megolm: &GroupSession) -> Vec<OlmMessage> {
        let key = megolm.session_key().to_base64();
        let id = megolm.session_id();
        let (keys, sender_key) = (&self.keys, &self.sender_key);
        self.others
            .iter_mut()
            .map(|(recipient_key, session)| {
                let plaintext = json!({
                    "type": "m.room_key", "sender": "@me:example.org", "sender_device": "ME",
                    "keys": { "ed25519": keys }, "recipient": "@user10:example.org",
                    "recipient_keys": { "ed25519": recipient_key },
                    "content": {
                        "algorithm": "m.megolm.v1.aes-sha2", "room_id": ROOM,
                        "session_id": id, "session_key": key, "sender_key": sender_key,
                    },
                });
                session.encrypt(plaintext.to_string()).expect("it encrypts")
            })
            .collect()
    }

    /// How large the `/sendToDevice` requests are.
    fn request_bytes(&self, messages: &[OlmMessage]) -> usize {
        let content = messages.iter().zip(&self.others).map(|(message, (recipient_key, _))| {
            let (kind, body) = message.to_parts();
            let content = json!({
                "algorithm": "m.olm.v1.curve25519-aes-sha2", "sender_key": self.sender_key,
                "ciphertext": { recipient_key: { "type": kind, "body": base64(&body) } },
            });
            // The device's id and the user's share.
            content.to_string().len() + "\"DEVICEABCD\":,".len() + 30 / DEVICES_OF_A_USER
        });
        content.sum::<usize>() + "{\"messages\":{}}".len()
    }
}
