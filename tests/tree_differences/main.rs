//! Ratchet trees that commits publish as what differs from a tree that was published before: what
//! that saves, who needs it, and what members and servers can say there.

mod lost;
mod said;
mod saved;

use std::collections::BTreeSet;

use matrix_mls::RoomSettings;
use matrix_mls_kit::{
    Client, Homeserver, OrMissing as _, Result, crowd, is_commit,
    other::{Other, join_path},
    peer::base64,
    published_tree,
    together::{pair_without_a_group, phone_of, quiet},
};
use serde_json::{Value, json};

/// So many that no event holds the tree.
pub const DEVICES: usize = 220;

/// A room whose tree no event holds: Alice's and Bob's phones, and many that are offline.
pub struct Large {
    pub homeserver: Homeserver,
    pub alice: Client,
    pub bob: Client,
    pub room: String,
}

impl Large {
    pub async fn new() -> Result<Self> {
        let homeserver = Homeserver::embedded()?;
        let (alice, bob, room) = pair_without_a_group(&homeserver).await?;
        let crowd = crowd::register(&homeserver, "crowd", DEVICES).await?;
        crowd::enter_room(&alice, &room, &crowd).await?;
        alice.settle().await?;
        alice.enable(&room, RoomSettings::default()).await?;
        alice.send_text(&room, "to all of you").await?;
        quiet(&[&alice, &bob]).await;
        let history = alice.history(&room).await?;
        let last = history.iter().rev().find(|event| is_commit(event)).or_missing("commit")?;
        assert!(
            last["content"].get("ratchet_tree").is_some(),
            "a whole tree, outside of the event"
        );
        Ok(Self { homeserver, alice, bob, room })
    }

    /// The contents of its commits, oldest first.
    pub async fn commits(&self) -> Result<Vec<Value>> {
        let history = self.alice.history(&self.room).await?;
        Ok(history.into_iter().filter(is_commit).map(|event| event["content"].clone()).collect())
    }

    /// How many uploads were answered since this was last asked, and how many downloads of trees.
    pub async fn media_requests(&self) -> Result<(usize, usize)> {
        let controls = self.homeserver.controls().or_missing("controls")?;
        let requests = controls.requests();
        controls.clear_requests();
        let count = |part: &str| requests.iter().filter(|sent| sent.path.contains(part)).count();
        // Whoever joins also looks at large commits of the past.
        let mut of_trees = 0;
        let trees: Vec<_> = self.commits().await?.iter().flat_map(published_tree::values).collect();
        let urls: BTreeSet<_> = trees.iter().filter_map(|tree| tree["url"].as_str()).collect();
        for name in urls.iter().filter_map(|url| url.rsplit('/').next()) {
            of_trees += count(&format!("/media/download/embedded.test/{name}"));
        }
        Ok((count("/media/v3/upload"), of_trees))
    }

    /// A commit by which this device renews its keys, and everybody's hearing of it.
    pub async fn renew(&self, client: &Client, text: &str) -> Result {
        client.rotate_keys(&self.room).await?;
        client.send_text(&self.room, text).await?;
        quiet(&[&self.alice, &self.bob]).await;
        Ok(())
    }
}

pub fn url_of(reference: &Value) -> Result<&str> {
    reference["url"].as_str().or_missing("URL")
}

/// A room of Alice's with Mallory, a member with a client of her own.
pub async fn with_mallory(homeserver: &Homeserver) -> Result<(Client, Other, String, String)> {
    let alice = phone_of(homeserver, "alice").await?;
    let mut mallory = Other::register(homeserver, "mallory").await;
    let request = json!({ "preset": "private_chat", "invite": [mallory.peer.user] });
    let room = alice.create_room_from(request).await?;
    mallory.http.post(&join_path(&room), json!({})).await?;
    alice.settle().await?;
    alice.enable(&room, RoomSettings::default()).await?;
    alice.send_text(&room, "first").await?;
    let commit = mallory.join_by_welcome().await;
    Ok((alice, mallory, room, commit))
}

/// A reference to bytes that are in the media repository now.
pub async fn upload(client: &Client, bytes: Vec<u8>) -> Result<Value> {
    use sha2::{Digest as _, Sha256};
    let (size, sha256) = (bytes.len(), base64(&Sha256::digest(&bytes)));
    let url = client.upload_media(bytes).await?;
    Ok(json!({ "url": url, "size": size, "sha256": sha256 }))
}
