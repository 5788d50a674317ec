//! A device of plain OpenMLS with an account: what another implementation of the protocol does in a room,
//! or what a member does that an honest one would not.

use serde_json::{Value, json};

use crate::{
    Homeserver, Http,
    http::segment,
    peer::{ALGORITHM, Peer, base64, from_base64},
};

/// A plain-OpenMLS device with an account.
pub struct Other {
    /// The device.
    pub peer: Peer,
    /// Its requests.
    pub http: Http,
}

impl Other {
    /// Registers, publishes device keys and one key package.
    pub async fn register(homeserver: &Homeserver, username: &str) -> Self {
        let http = Http::new(homeserver.base_url(), username).expect("a test's own request");
        let request = json!({
            "username": username, "password": "p", "device_id": "OTHER",
            "auth": { "type": "m.login.dummy" },
        });
        let answer =
            http.post("/_matrix/client/v3/register", request).await.expect("a test's own request");
        let http = http.with_token(answer["access_token"].as_str().expect("a test's own request"));
        let peer = Peer::new(answer["user_id"].as_str().expect("a test's own request"), "OTHER");
        let (id, package) = peer.published_key_package();
        let upload = json!({ "device_keys": peer.device_keys(), "one_time_keys": { id: package } });
        http.post("/_matrix/client/v3/keys/upload", upload).await.expect("a test's own request");
        Self { peer, http }
    }

    /// Joins the group by the Welcome that its sync brings; the commit's event id.
    pub async fn join_by_welcome(&mut self) -> String {
        let sync =
            self.http.get("/_matrix/client/v3/sync?timeout=0").await.expect("a test's own request");
        let content = &sync["to_device"]["events"][0]["content"];
        self.peer.join(&from_base64(content["ciphertext"].as_str().expect("a test's own request")));
        content["commit_event"].as_str().expect("a test's own request").to_owned()
    }

    /// Sends an event's content as `m.room.encrypted`; gives the event id.
    pub async fn send(&self, room: &str, content: Value) -> String {
        let path = format!(
            "/_matrix/client/v3/rooms/{}/send/m.room.encrypted/{}",
            segment(room),
            rand::random::<u64>()
        );
        let answer = self.http.put(&path, content).await.expect("a test's own request");
        answer["event_id"].as_str().expect("a test's own request").to_owned()
    }

    /// `[user_id, device_id]`.
    pub fn name(&self) -> Value {
        json!([self.peer.user, self.peer.device])
    }

    /// The content of a message that says this, in an epoch that somebody made.
    pub fn message(&mut self, plaintext: &[u8], creator: &Value, commit_event: &str) -> Value {
        json!({
            "algorithm": ALGORITHM, "ciphertext": base64(&self.peer.seal(plaintext)),
            "epoch_creator": creator, "commit_event": commit_event,
        })
    }

    /// The content of a commit on an epoch that somebody made.
    pub fn commit(&self, commit: &[u8], creator: &Value, commit_event: &str) -> Value {
        json!({
            "algorithm": ALGORITHM, "ciphertext": base64(commit), "epoch_creator": creator,
            "sender": self.name(), "resolves": [], "commit_event": commit_event,
            "public_group_state": "AAAA",
        })
    }
}

/// The path of the request with which a user joins a Matrix room.
pub fn join_path(room: &str) -> String {
    format!("/_matrix/client/v3/rooms/{}/join", segment(room))
}
