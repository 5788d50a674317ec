//! Setting up and renewing a room's keys, by the number of devices: what `docs/bench/graph.svg`
//! draws. This library through its public API, on a real file, beside a new Megolm session in the
//! same run: one outbound group session, whose key goes through an established Olm session to each
//! device (vodozemac, in memory).
//!
//! A client has to have its sessions on disk before it sends, so that is told too ("stored").
//!
//! `cargo bench --bench graph -- 10 100` measures those sizes. Prints a JSON line a figure. What
//! takes longer than it helps is measured less often (`runs`). Times are of the library's calls
//! alone: the homeserver is three tables, and what `/keys/query` takes is left out on both sides.

mod support;

use std::{path::Path, time::Instant};

use matrix_mls_kit::{
    OrMissing as _, Result, bail,
    giant::{Giant, ROOM},
    peer::base64,
    written_tree::Shape,
};
use rusqlite::Connection;
use serde_json::json;
use support::{Figure, rooms, rounds, sizes};
use vodozemac::{
    megolm::GroupSession,
    olm::{Account, OlmMessage, Session, SessionConfig},
};

/// How many devices one user has.
const DEVICES_OF_A_USER: usize = 20;

fn main() -> Result {
    let runtime = tokio::runtime::Runtime::new()?;
    let all = [2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];
    for devices in sizes(&all) {
        eprintln!("rooms of {devices} devices …");
        runtime.block_on(rooms::create("graph", devices))?;
        // The one that is added comes on top of three.
        if devices >= 4 {
            for shape in Shape::ALL {
                runtime.block_on(change(devices, shape))?;
            }
        }
        new_session(devices)?;
    }
    Ok(())
}

/// Adds a device to a room, which then has so many, and renews keys in it.
async fn change(devices: usize, shape: Shape) -> Result {
    let store = tempfile::tempdir()?;
    let mut giant = Giant::new(devices - 1, shape, store.path()).await?;
    rooms::add("graph", devices, shape, &mut giant).await?;
    rooms::update("graph", devices, shape, &mut giant).await
}

/// A new Megolm session for a room of so many devices.
fn new_session(devices: usize) -> Result {
    let mut sessions = Sessions::establish(devices - 1)?;
    let directory = tempfile::tempdir()?;
    let mut store = open(&directory.path().join("olm.db"))?;
    let (mut times, mut stored) = (Vec::new(), Vec::new());
    let mut bytes = 0;
    for _ in 0..rounds(devices, 5) {
        let start = Instant::now();
        let megolm = GroupSession::new(vodozemac::megolm::SessionConfig::version_1());
        let messages = sessions.share(&megolm)?;
        times.push(start.elapsed());
        sessions.store(&mut store, &megolm)?;
        stored.push(start.elapsed());
        bytes = sessions.request_bytes(&messages);
    }
    Figure::new("graph", "vodozemac, stored", "new session", devices).times(stored).print();
    Figure::new("graph", "vodozemac", "new session", devices)
        .times(times)
        .bytes((bytes, 0))
        .print();
    Ok(())
}

/// A store for sessions, as durable as this library's.
fn open(path: &Path) -> Result<Connection> {
    let store = Connection::open(path)?;
    store.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE session (id BLOB PRIMARY KEY, pickle BLOB NOT NULL) WITHOUT ROWID",
    )?;
    Ok(store)
}

/// Olm sessions with many devices, all of which have answered.
struct Sessions {
    sender_key: String,
    keys: String,
    others: Vec<(String, Session)>,
}

impl Sessions {
    fn establish(devices: usize) -> Result<Self> {
        let me = Account::new();
        let others: Result<_> = (0..devices).map(|_| Self::with_one(&me)).collect();
        Ok(Self {
            sender_key: me.curve25519_key().to_base64(),
            keys: me.ed25519_key().to_base64(),
            others: others?,
        })
    }

    /// A new device: its key, and a session with it that it has answered.
    fn with_one(me: &Account) -> Result<(String, Session)> {
        let config = SessionConfig::version_1();
        let mut account = Account::new();
        account.generate_one_time_keys(1);
        let one_time = account.one_time_keys().values().next().copied();
        let one_time = one_time.or_missing("one-time key")?;
        let mut session = me.create_outbound_session(config, account.curve25519_key(), one_time)?;
        let OlmMessage::PreKey(first) = session.encrypt("{}")? else {
            bail!("the first is no pre-key message")
        };
        let mut back = account.create_inbound_session(config, me.curve25519_key(), &first)?;
        let answer = back.session.encrypt("{}")?;
        session.decrypt(&answer)?;
        // The first after an answer starts a new chain: that is not every session's price.
        session.encrypt("{}")?;
        Ok((account.curve25519_key().to_base64(), session))
    }

    /// The session's key, sealed for each device as `m.room_key` (Matrix spec, "m.olm.v1").
    fn share(&mut self, megolm: &GroupSession) -> Result<Vec<OlmMessage>> {
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
                Ok(session.encrypt(plaintext.to_string())?)
            })
            .collect()
    }

    /// Stores what a client must have on disk before it sends: the group session, and every Olm
    /// session, each of which has moved on. In one transaction, not sealed.
    fn store(&self, store: &mut Connection, megolm: &GroupSession) -> Result {
        let transaction = store.transaction()?;
        let put = |id: &str, pickle: Vec<u8>| -> Result {
            let mut statement =
                transaction.prepare_cached("INSERT OR REPLACE INTO session VALUES (?1, ?2)")?;
            statement.execute((id, pickle))?;
            Ok(())
        };
        put("megolm", serde_json::to_vec(&megolm.pickle())?)?;
        for (key, session) in &self.others {
            put(key, serde_json::to_vec(&session.pickle())?)?;
        }
        transaction.commit()?;
        Ok(())
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
