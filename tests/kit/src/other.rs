//! A device of plain OpenMLS with an account: what another implementation of the protocol does in a
//! room, or what a member does that an honest one would not. Like [`Peer`] it works or ends the
//! test.

use matrix_mls::RoomSettings;
use openmls::prelude::{KeyPackage, KeyPackageIn, OpenMlsProvider as _, ProtocolVersion};
use openmls_rust_crypto::OpenMlsRustCrypto;
use serde_json::{Value, json};
use tls_codec::DeserializeBytes as _;

use crate::{
    Client, Fields as _, Homeserver, Http, OrMissing as _, Result,
    http::segment,
    peer::{ALGORITHM, KEY_PACKAGE, Peer, WELCOME_ALGORITHM, base64, from_base64},
    result::sure,
    together::{phone_of, quiet, two_phones},
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
        sure(Self::enter(homeserver, username).await)
    }

    async fn enter(homeserver: &Homeserver, username: &str) -> Result<Self> {
        let (user_id, http) = Http::register(homeserver.base_url(), username, "OTHER").await?;
        let peer = Peer::new(&user_id, "OTHER");
        let (id, package) = peer.published_key_package();
        let upload = json!({ "device_keys": peer.device_keys(), "one_time_keys": { id: package } });
        http.post("/_matrix/client/v3/keys/upload", upload).await?;
        Ok(Self { peer, http })
    }

    /// Registers, and comes into a new room of a host's with these others. The room has no group,
    /// and nobody has synced since; its id.
    pub async fn in_room_of(
        homeserver: &Homeserver,
        username: &str,
        host: &Client,
        others: &[&Client],
    ) -> Result<(Self, String)> {
        let new = Self::register(homeserver, username).await;
        let mut invite = vec![new.peer.user.as_str()];
        invite.extend(others.iter().map(|other| other.user_id()));
        let request = json!({ "preset": "private_chat", "invite": invite });
        let room = host.create_room_from(request).await?;
        new.http.post(&join_path(&room), json!({})).await?;
        for other in others {
            other.join(&room).await?;
        }
        Ok((new, room))
    }

    /// Joins the group by the Welcome that its sync brings; the commit's event id.
    pub async fn join_by_welcome(&mut self) -> String {
        let (welcome, commit_event) = sure(self.welcome().await);
        self.peer.join(&from_base64(&welcome));
        commit_event
    }

    /// The Welcome that its sync brings, and the commit's event id.
    async fn welcome(&self) -> Result<(String, String)> {
        let sync = self.http.get("/_matrix/client/v3/sync?timeout=0").await?;
        let content = &sync["to_device"]["events"][0]["content"];
        Ok((content.text("ciphertext")?.to_owned(), content.text("commit_event")?.to_owned()))
    }

    /// Sends an event's content as `m.room.encrypted`; gives the event id.
    pub async fn send(&self, room: &str, content: Value) -> String {
        sure(self.try_send(room, content).await)
    }

    async fn try_send(&self, room: &str, content: Value) -> Result<String> {
        let path = format!(
            "/_matrix/client/v3/rooms/{}/send/m.room.encrypted/{}",
            segment(room),
            rand::random::<u64>()
        );
        Ok(self.http.put(&path, content).await?.text("event_id")?.to_owned())
    }

    /// Takes a key package of a device from the homeserver.
    pub async fn claim(&self, of: &Client) -> Result<KeyPackage> {
        let request = json!({ "one_time_keys": { of.user_id(): { of.device_id(): KEY_PACKAGE } } });
        let answer = self.http.post("/_matrix/client/v3/keys/claim", request).await?;
        let keys = answer["one_time_keys"][of.user_id()][of.device_id()].as_object();
        let key = keys.or_missing("key packages")?.values().next().or_missing("key package")?;
        let bytes = from_base64(key.as_str().or_missing("text")?);
        let package = KeyPackageIn::tls_deserialize_exact_bytes(&bytes)?;
        Ok(package.validate(self.peer.provider.crypto(), ProtocolVersion::Mls10)?)
    }

    /// Makes a group of its own under a room's id, whose epochs go on from a number, and leaves the
    /// group that it was in.
    pub fn make_own_group(&mut self, room: &str, number: u64) {
        self.peer.provider = OpenMlsRustCrypto::default();
        self.peer.create_at(room, number);
    }

    /// The content of a Welcome that adds a device to the group, as if by this event's commit.
    pub async fn welcome_to(
        &mut self,
        to: &Client,
        room: &str,
        commit_event: &str,
    ) -> Result<Value> {
        let package = self.claim(to).await?;
        let (_, welcome) = self.peer.add(&[package]);
        Ok(json!({
            "algorithm": WELCOME_ALGORITHM, "ciphertext": base64(&welcome), "room_id": room,
            "sender": self.name(), "resolves": [], "commit_event": commit_event,
        }))
    }

    /// Sends a device a Welcome.
    pub async fn send_welcome(&self, to: &Client, content: Value) -> Result {
        let messages = json!({ "messages": { to.user_id(): { to.device_id(): content } } });
        let number: u64 = rand::random();
        let path = format!("/_matrix/client/v3/sendToDevice/m.room.encrypted/{number}");
        self.http.put(&path, messages).await?;
        Ok(())
    }

    /// The content of an announcement of the epoch that it is in, with this public group state.
    pub fn announcement(&self, state: &[u8]) -> Value {
        let mut content = self.commit(&[], &self.name(), "");
        content["public_group_state"] = json!(base64(state));
        content
    }

    /// The content of a commit that renews its keys, on an epoch that somebody made.
    pub fn renewal(&mut self, creator: &Value, commit_event: &str) -> Value {
        let commit = self.peer.update();
        let mut content = self.commit(&commit, creator, commit_event);
        content["public_group_state"] = json!(base64(&self.peer.group_info()));
        content
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

/// Alice, Bob and Mallory in one group; and the event of its last commit, which is Alice's.
pub async fn group_of_three(
    homeserver: &Homeserver,
) -> Result<(Client, Client, Other, String, String)> {
    group_of_three_with(homeserver, &RoomSettings::default()).await
}

/// The same, with the settings that Alice and Bob have for the room.
pub async fn group_of_three_with(
    homeserver: &Homeserver,
    settings: &RoomSettings,
) -> Result<(Client, Client, Other, String, String)> {
    let (alice, bob) = two_phones(homeserver).await?;
    let (mut mallory, room) = Other::in_room_of(homeserver, "mallory", &alice, &[&bob]).await?;
    let commit = make_group(&alice, &bob, &mut mallory, &room, settings).await?;
    Ok((alice, bob, mallory, room, commit))
}

/// Makes a group of all three, who are in the Matrix room, with Alice's "first" in it; the event of
/// its last commit, which is Alice's.
pub async fn make_group(
    alice: &Client,
    bob: &Client,
    other: &mut Other,
    room: &str,
    settings: &RoomSettings,
) -> Result<String> {
    quiet(&[alice, bob]).await;
    alice.enable(room, settings.clone()).await?;
    alice.send_text(room, "first").await?;
    quiet(&[alice, bob]).await;
    bob.set_settings(room, settings.clone()).await?;
    Ok(other.join_by_welcome().await)
}

/// Alice and Mallory in one group, in which nothing was said; and the event of its last commit,
/// which is Alice's.
pub async fn group_of_two(homeserver: &Homeserver) -> Result<(Client, Other, String, String)> {
    group_of_two_with(homeserver, RoomSettings::default()).await
}

/// The same, with Alice's settings for the room.
pub async fn group_of_two_with(
    homeserver: &Homeserver,
    settings: RoomSettings,
) -> Result<(Client, Other, String, String)> {
    let alice = phone_of(homeserver, "alice").await?;
    let (mut mallory, room) = Other::in_room_of(homeserver, "mallory", &alice, &[]).await?;
    alice.settle().await?;
    alice.enable(&room, settings).await?;
    alice.prepare(&room).await?;
    alice.settle().await?;
    let commit = mallory.join_by_welcome().await;
    Ok((alice, mallory, room, commit))
}

/// `[user_id, device_id]` of a device of the library.
pub fn name_of(client: &Client) -> Value {
    json!([client.user_id(), client.device_id()])
}

/// The path of the request with which a user joins a Matrix room.
pub fn join_path(room: &str) -> String {
    format!("/_matrix/client/v3/rooms/{}/join", segment(room))
}
