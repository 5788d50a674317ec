//! A homeserver that is three tables (device keys, key packages, media) and answers at once: for rooms that no
//! real one would carry, and for measuring what the library's calls take without a network.
//!
//! It keeps no timeline and sends nothing by sync; whoever uses it feeds the library.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use matrix_mls::{MlsMachine, MlsRoom, OutgoingRequest, SendPlan};
use openmls::prelude::{MlsMessageBodyIn, MlsMessageIn};
use serde_json::{Map, Value, json};
use tls_codec::{Deserialize as _, Size as _};

use crate::peer::{KEY_PACKAGE, Peer, from_base64};

/// What devices have published and uploaded, and what was sent since it was last asked.
#[derive(Default)]
pub struct Tables {
    device_keys: BTreeMap<String, BTreeMap<String, Value>>,
    peers: BTreeMap<(String, String), Peer>,
    media: Vec<Vec<u8>>,
    events: usize,
    sent: Sent,
}

/// What was sent.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// The bytes of all requests but those that ask (for keys, for media).
    pub bytes: usize,
    /// How many of them are ratchet trees, as they are written there.
    pub tree_bytes: usize,
    /// The event id and the content of the last commit.
    pub commit: Option<(String, Value)>,
    /// One of the Welcomes.
    pub welcome: Option<Value>,
    welcomes: usize,
}

/// What the library's calls took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Took {
    /// All but what `queries` says.
    pub calls: Duration,
    /// Taking in what `/keys/query` and `/members` answered.
    pub queries: Duration,
}

impl Tables {
    /// Publishes a device's keys.
    pub fn publish(&mut self, user: &str, device: &str, keys: Value) {
        self.device_keys.entry(user.to_owned()).or_default().insert(device.to_owned(), keys);
    }

    /// Publishes a peer's keys, and whatever key packages are asked for.
    pub fn publish_peer(&mut self, peer: Peer) {
        self.publish(&peer.user, &peer.device, peer.device_keys());
        self.peers.insert((peer.user.clone(), peer.device.clone()), peer);
    }

    /// Takes a peer out, to play it; its keys stay published.
    pub fn take_peer(&mut self, user: &str, device: &str) -> Option<Peer> {
        self.peers.remove(&(user.to_owned(), device.to_owned()))
    }

    /// A device is no more.
    pub fn unpublish(&mut self, user: &str, device: &str) {
        if let Some(devices) = self.device_keys.get_mut(user) {
            devices.remove(device);
        }
    }

    /// The users that have devices.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.device_keys.keys().map(String::as_str)
    }

    /// Keeps something in the media repository; gives the reference that events have to it.
    pub fn upload(&mut self, bytes: Vec<u8>) -> Value {
        let digest = sha256(&bytes);
        let size = bytes.len();
        self.media.push(bytes);
        let url = format!("mxc://example.org/{}", self.media.len() - 1);
        json!({ "url": url, "size": size, "sha256": digest })
    }

    /// The bytes of a field that is base64 or names an upload.
    pub fn payload(&self, value: &Value) -> Vec<u8> {
        match value.as_str() {
            Some(text) => from_base64(text),
            None => self.media[media_number(&value["url"])].clone(),
        }
    }

    /// What was sent since this was last asked.
    pub fn take_sent(&mut self) -> Sent {
        std::mem::take(&mut self.sent)
    }

    /// Answers all that a machine asks, until it asks nothing more.
    pub async fn settle(&mut self, machine: &MlsMachine) -> Took {
        let mut took = Took::default();
        loop {
            let requests = machine.outgoing_requests().await.expect("requests");
            if requests.is_empty() {
                return took;
            }
            for request in requests {
                self.serve(machine, request, &mut took).await;
            }
        }
    }

    /// Does what the room asks for until it can be sent to.
    pub async fn make_ready(&mut self, machine: &MlsMachine, room: &MlsRoom) -> Took {
        let mut took = Took::default();
        loop {
            let start = Instant::now();
            let plan = room.prepare_to_send().await;
            took.calls += start.elapsed();
            let SendPlan::Waiting { requests, .. } = plan.expect("the room can be sent to") else {
                return took;
            };
            assert!(!requests.is_empty(), "nothing to do and not ready");
            for request in requests {
                self.serve(machine, request, &mut took).await;
            }
        }
    }

    async fn serve(&mut self, machine: &MlsMachine, request: OutgoingRequest, took: &mut Took) {
        let answer = self.answer(&request);
        let is_query = request.path.ends_with("/keys/query") || request.path.contains("/members");
        let start = Instant::now();
        let taken = machine.mark_request_as_sent(request.id, 200, answer).await;
        let spent = if is_query { &mut took.queries } else { &mut took.calls };
        *spent += start.elapsed();
        taken.expect("the answer is taken");
    }

    /// The answer to a request.
    pub fn answer(&mut self, request: &OutgoingRequest) -> Vec<u8> {
        let path = request.path.as_str();
        if request.method == "GET" && path.contains("/media/download/") {
            return self.media[media_number(&json!(path))].clone();
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let answer = if path.ends_with("/keys/query") {
            self.keys(&body)
        } else if path.contains("/members?") {
            let joins: Vec<_> = self.users().map(join).collect();
            json!({ "chunk": joins })
        } else if path.ends_with("/keys/claim") {
            self.key_packages(&body)
        } else if path.ends_with("/keys/upload") {
            json!({ "one_time_key_counts": { KEY_PACKAGE: 50 } })
        } else {
            self.take_in(path, body, request)
        };
        answer.to_string().into_bytes()
    }

    /// What others would see of.
    fn take_in(&mut self, path: &str, body: Value, request: &OutgoingRequest) -> Value {
        self.sent.bytes += request.body.len();
        if path.contains("/upload") {
            let reference = self.upload(request.body.clone());
            return json!({ "content_uri": reference["url"] });
        }
        if path.contains("/sendToDevice/") {
            let users = body["messages"].as_object().expect("messages");
            let contents = users.values().filter_map(Value::as_object).flat_map(Map::values);
            let mut welcomes = 0;
            for content in contents {
                welcomes += 1;
                self.sent.welcome.get_or_insert_with(|| content.clone());
            }
            self.sent.welcomes += welcomes;
            // A Welcome without a reference to the tree has the tree in it, sealed.
            if let Some((_, commit)) = &self.sent.commit {
                self.sent.tree_bytes += welcomes * inline_tree(commit);
            }
            return json!({});
        }
        self.events += 1;
        let id = format!("$event{}:example.org", self.events);
        if body.get("public_group_state").is_some() {
            self.sent.tree_bytes += match body.get("ratchet_tree") {
                Some(reference) => self.media[media_number(&reference["url"])].len(),
                None => inline_tree(&body),
            };
            self.sent.commit = Some((id.clone(), body));
        }
        json!({ "event_id": id })
    }

    fn keys(&self, asked: &Value) -> Value {
        let users = asked["device_keys"].as_object().expect("users").keys();
        let answer: BTreeMap<_, _> =
            users.filter_map(|user| Some((user, self.device_keys.get(user)?))).collect();
        json!({ "device_keys": answer, "failures": {} })
    }

    fn key_packages(&self, asked: &Value) -> Value {
        let mut users = Map::new();
        for (user, devices) in asked["one_time_keys"].as_object().expect("users") {
            let devices = devices.as_object().expect("devices").keys().map(|device| {
                let peer = &self.peers[&(user.clone(), device.clone())];
                let (id, package) = peer.published_key_package();
                (device.clone(), json!({ id: package }))
            });
            users.insert(user.clone(), Value::Object(devices.collect()));
        }
        json!({ "one_time_keys": users, "failures": {} })
    }
}

/// The event by which a user joined the room.
pub fn join(user: &str) -> Value {
    json!({
        "type": "m.room.member", "state_key": user, "sender": user,
        "event_id": format!("$join-{}", &user[1..]), "content": { "membership": "join" },
    })
}

/// How many bytes the ratchet tree takes in a commit's content, in base64; none where it was uploaded.
fn inline_tree(content: &Value) -> usize {
    let Some(text) = content["public_group_state"].as_str() else { return 0 };
    let message = MlsMessageIn::tls_deserialize_exact(from_base64(text)).expect("an MLS message");
    let MlsMessageBodyIn::GroupInfo(info) = message.extract() else { panic!("not a GroupInfo") };
    let tree = info.extensions().ratchet_tree();
    tree.map_or(0, |tree| tree.ratchet_tree().tls_serialized_len() * 4 / 3)
}

fn media_number(url: &Value) -> usize {
    let name = url.as_str().and_then(|url| url.split('?').next()?.rsplit('/').next());
    name.expect("a name").parse().expect("a number")
}

fn sha256(bytes: &[u8]) -> String {
    use openmls_traits::{OpenMlsProvider as _, crypto::OpenMlsCrypto as _, types::HashType};
    let provider = openmls_rust_crypto::OpenMlsRustCrypto::default();
    let digest = provider.crypto().hash(HashType::Sha2_256, bytes).expect("SHA-256 takes anything");
    crate::peer::base64(&digest)
}
