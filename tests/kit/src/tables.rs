//! A homeserver that is three tables (device keys, key packages, media) and answers at once: for
//! rooms that no real one would carry, and for measuring what the library's calls take without a
//! network.
//!
//! It keeps no timeline and sends nothing by sync; whoever uses it feeds the library.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use eyre::{bail, ensure};
use matrix_mls::{MlsMachine, MlsRoom, OutgoingRequest, SendPlan};
use openmls::prelude::{
    KeyPackage, KeyPackageIn, MlsMessageBodyIn, MlsMessageIn, OpenMlsCrypto as _,
    OpenMlsProvider as _, ProtocolVersion,
};
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::types::HashType;
use serde_json::{Map, Value, json};
use tls_codec::{Deserialize as _, Size as _};

use crate::{
    Fields as _, OrMissing as _, Result,
    cross_signing::CrossSigning,
    peer::{KEY_PACKAGE, Peer, base64, from_base64},
};

/// What devices have published and uploaded, and what was sent since it was last asked.
#[derive(Default)]
pub struct Tables {
    device_keys: BTreeMap<String, BTreeMap<String, Value>>,
    /// What each user's identity has published.
    identities: BTreeMap<String, Value>,
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

    /// Gives every user that has devices an identity, which signs all of them.
    pub fn give_identities(&mut self) -> Result {
        for (user, devices) in &mut self.device_keys {
            let identity = CrossSigning::new(user);
            for keys in devices.values_mut() {
                *keys = identity.sign_device(keys.take())?;
            }
            self.identities.insert(user.clone(), identity.published()?);
        }
        Ok(())
    }

    /// The users that have devices.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.device_keys.keys().map(String::as_str)
    }

    /// Keeps something in the media repository; gives the reference that events have to it.
    pub fn upload(&mut self, bytes: Vec<u8>) -> Result<Value> {
        let digest = sha256(&bytes)?;
        let size = bytes.len();
        self.media.push(bytes);
        let url = format!("mxc://example.org/{}", self.media.len() - 1);
        Ok(json!({ "url": url, "size": size, "sha256": digest }))
    }

    /// The bytes of a field that is base64 or names an upload.
    pub fn payload(&self, value: &Value) -> Result<Vec<u8>> {
        match value.as_str() {
            Some(text) => Ok(from_base64(text)),
            None => Ok(self.uploaded(value.text("url")?)?.to_vec()),
        }
    }

    /// What was uploaded, by its URL or the path that it is downloaded from.
    fn uploaded(&self, url: &str) -> Result<&[u8]> {
        let name = url.split('?').next().and_then(|url| url.rsplit('/').next());
        let number: usize = name.or_missing("name in the URL")?.parse()?;
        Ok(self.media.get(number).or_missing("upload of that number")?)
    }

    /// What was sent since this was last asked.
    pub fn take_sent(&mut self) -> Sent {
        std::mem::take(&mut self.sent)
    }

    /// Answers all that a machine asks, until it asks nothing more.
    pub async fn settle(&mut self, machine: &MlsMachine) -> Result<Took> {
        let mut took = Took::default();
        loop {
            let requests = machine.outgoing_requests().await?;
            if requests.is_empty() {
                return Ok(took);
            }
            for request in requests {
                self.serve(machine, request, &mut took).await?;
            }
        }
    }

    /// Does what the room asks for until it can be sent to.
    pub async fn make_ready(&mut self, machine: &MlsMachine, room: &MlsRoom) -> Result<Took> {
        let mut took = Took::default();
        loop {
            let start = Instant::now();
            let plan = room.prepare_to_send().await;
            took.calls += start.elapsed();
            let SendPlan::Waiting { requests, .. } = plan? else { return Ok(took) };
            ensure!(!requests.is_empty(), "nothing to do and not ready");
            for request in requests {
                self.serve(machine, request, &mut took).await?;
            }
        }
    }

    /// Answers what a machine asks, until it asks nothing more; gives the key packages that it
    /// uploads.
    pub async fn take_key_packages(&mut self, machine: &MlsMachine) -> Result<Vec<KeyPackage>> {
        let provider = OpenMlsRustCrypto::default();
        let mut packages = Vec::new();
        let mut requests = machine.outgoing_requests().await?;
        while let Some(request) = requests.pop() {
            if request.path.ends_with("/keys/upload") {
                let body: Value = serde_json::from_slice(&request.body)?;
                if let Some(keys) = body.get("device_keys") {
                    self.publish(&machine.user_id(), &machine.device_id(), keys.clone());
                }
                for package in body.object("one_time_keys")?.values() {
                    let text = package.as_str().or_missing("bare string for a key package")?;
                    let package = KeyPackageIn::tls_deserialize_exact(from_base64(text))?;
                    packages.push(package.validate(provider.crypto(), ProtocolVersion::Mls10)?);
                }
            }
            let answer = self.answer(&request)?;
            machine.mark_request_as_sent(request.id, 200, answer).await?;
            if requests.is_empty() {
                requests = machine.outgoing_requests().await?;
            }
        }
        Ok(packages)
    }

    async fn serve(
        &mut self,
        machine: &MlsMachine,
        request: OutgoingRequest,
        took: &mut Took,
    ) -> Result {
        let answer = self.answer(&request)?;
        let is_query = request.path.ends_with("/keys/query") || request.path.contains("/members");
        let start = Instant::now();
        let taken = machine.mark_request_as_sent(request.id, 200, answer).await;
        let spent = if is_query { &mut took.queries } else { &mut took.calls };
        *spent += start.elapsed();
        taken?;
        Ok(())
    }

    /// The answer to a request.
    pub fn answer(&mut self, request: &OutgoingRequest) -> Result<Vec<u8>> {
        let path = request.path.as_str();
        if request.method == "GET" && path.contains("/media/download/") {
            return Ok(self.uploaded(path)?.to_vec());
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let answer = if path.ends_with("/keys/query") {
            self.keys(&body)?
        } else if path.contains("/members?") {
            let joins: Vec<_> = self.users().map(join).collect();
            json!({ "chunk": joins })
        } else if path.ends_with("/keys/claim") {
            self.key_packages(&body)?
        } else if path.ends_with("/keys/upload") {
            json!({ "one_time_key_counts": { KEY_PACKAGE: 50 } })
        } else {
            self.take_in(path, body, request)?
        };
        Ok(answer.to_string().into_bytes())
    }

    /// What others would see of.
    fn take_in(&mut self, path: &str, body: Value, request: &OutgoingRequest) -> Result<Value> {
        self.sent.bytes += request.body.len();
        if path.contains("/upload") {
            let reference = self.upload(request.body.clone())?;
            return Ok(json!({ "content_uri": reference["url"] }));
        }
        if path.contains("/sendToDevice/") {
            let users = body.object("messages")?;
            let contents = users.values().filter_map(Value::as_object).flat_map(Map::values);
            let mut welcomes = 0;
            for content in contents {
                welcomes += 1;
                self.sent.welcome.get_or_insert_with(|| content.clone());
            }
            self.sent.welcomes += welcomes;
            // A Welcome without a reference to the tree has the tree in it, sealed.
            if let Some((_, commit)) = &self.sent.commit {
                self.sent.tree_bytes += welcomes * inline_tree(commit)?;
            }
            return Ok(json!({}));
        }
        self.events += 1;
        let id = format!("$event{}:example.org", self.events);
        if body.get("public_group_state").is_some() {
            self.sent.tree_bytes += self.tree_bytes(&body)?;
            self.sent.commit = Some((id.clone(), body));
        }
        Ok(json!({ "event_id": id }))
    }

    /// How many bytes a commit has of its ratchet tree, uploads included.
    fn tree_bytes(&self, content: &Value) -> Result<usize> {
        let difference = &content["tree_difference"];
        // The whole tree of a difference was published before; so was its middle where nodes
        // follow.
        let uploaded = content.get("ratchet_tree").or(match difference.get("nodes") {
            None => difference.get("middle"),
            Some(_) => None,
        });
        match (uploaded, difference["nodes"].as_str()) {
            (Some(reference), _) => Ok(self.uploaded(reference.text("url")?)?.len()),
            (None, Some(nodes)) => Ok(nodes.len()),
            (None, None) => inline_tree(content),
        }
    }

    fn keys(&self, asked: &Value) -> Result<Value> {
        let asked = asked.object("device_keys")?;
        let devices: BTreeMap<_, _> =
            asked.keys().filter_map(|user| Some((user, self.device_keys.get(user)?))).collect();
        let keys = |name: &str| -> BTreeMap<&String, &Value> {
            asked
                .keys()
                .filter_map(|user| Some((user, &self.identities.get(user)?[name])))
                .collect()
        };
        Ok(json!({
            "device_keys": devices, "failures": {}, "master_keys": keys("master_key"),
            "self_signing_keys": keys("self_signing_key"),
        }))
    }

    fn key_packages(&self, asked: &Value) -> Result<Value> {
        let all = asked.object("one_time_keys")?;
        let mut users = Map::new();
        for user in all.keys() {
            let mut devices = Map::new();
            for device in asked["one_time_keys"].object(user)?.keys() {
                let peer = self.peers.get(&(user.clone(), device.clone()));
                let (id, package) = peer.or_missing("peer of that name")?.published_key_package();
                devices.insert(device.clone(), json!({ id: package }));
            }
            users.insert(user.clone(), Value::Object(devices));
        }
        Ok(json!({ "one_time_keys": users, "failures": {} }))
    }
}

/// The event by which a user joined the room.
pub fn join(user: &str) -> Value {
    json!({
        "type": "m.room.member", "state_key": user, "sender": user,
        "event_id": format!("$join-{}", &user[1..]), "content": { "membership": "join" },
    })
}

/// How many bytes the ratchet tree takes in a commit's content, in base64; none where it was
/// uploaded.
fn inline_tree(content: &Value) -> Result<usize> {
    let Some(text) = content["public_group_state"].as_str() else { return Ok(0) };
    let message = MlsMessageIn::tls_deserialize_exact(from_base64(text))?;
    let MlsMessageBodyIn::GroupInfo(info) = message.extract() else { bail!("not a GroupInfo") };
    let tree = info.extensions().ratchet_tree();
    Ok(tree.map_or(0, |tree| tree.ratchet_tree().tls_serialized_len() * 4 / 3))
}

fn sha256(bytes: &[u8]) -> Result<String> {
    let provider = OpenMlsRustCrypto::default();
    Ok(base64(&provider.crypto().hash(HashType::Sha2_256, bytes)?))
}
