//! Commits that some members cannot open: whoever commits seals the new secret to each of the
//! others, and may seal something else to one of them. The others follow, and nobody can prove
//! whose fault it is. Whoever is left out gets in again, may always speak, and is heard.

use std::time::Duration;

use matrix_mls_kit::{
    Client, Fields as _, Homeserver, OrMissing as _, Result,
    other::{Other, group_of_three, name_of},
    peer::{base64, from_base64},
    together::{all_talk, quiet, texts},
};
use serde_json::{Value, json};

/// How often it is looked whether Alice is back, and how long between two looks: she waits for a
/// moment at random.
const LOOKS: usize = 200;
const PAUSE: Duration = Duration::from_millis(50);

/// Alice, Bob and Mallory in one group; who made its last epoch and the event of that commit.
struct Scene {
    _homeserver: Homeserver,
    alice: Client,
    bob: Client,
    mallory: Other,
    room: String,
    creator: Value,
    commit: String,
}

impl Scene {
    async fn new() -> Result<Self> {
        let homeserver = Homeserver::embedded()?;
        let (alice, bob, mallory, room, commit) = group_of_three(&homeserver).await?;
        let creator = name_of(&alice);
        Ok(Self { _homeserver: homeserver, alice, bob, mallory, room, creator, commit })
    }

    /// Mallory commits so that Alice cannot follow.
    async fn leave_alice_out(&mut self) {
        let peer = &mut self.mallory.peer;
        let victim = peer.encryption_key_of(self.alice.user_id(), self.alice.device_id());
        let commit = peer.update_closed_to(vec![victim]);
        let mut content = self.mallory.commit(&commit, &self.creator, &self.commit);
        content["public_group_state"] = json!(base64(&self.mallory.peer.group_info()));
        self.commit = self.mallory.send(&self.room, content).await;
        self.creator = self.mallory.name();
    }

    /// Waits until Alice's device has let itself in where Bob is.
    async fn alice_is_back(&self) -> Result {
        for _ in 0..LOOKS {
            quiet(&[&self.alice, &self.bob]).await;
            let at = self.bob.head(&self.room).await?;
            if at.creator_user_id == self.alice.user_id() {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        None.or_missing("join of Alice's")
    }

    /// Mallory takes in what was committed on her commit.
    async fn follow(&mut self) -> Result {
        let commits = self.bob.commits(&self.room).await?;
        let next = |on: &str| commits.iter().find(|it| it["content"]["commit_event"] == on);
        while let Some(event) = next(&self.commit) {
            let bytes = from_base64(event["content"].text("ciphertext")?);
            self.mallory.peer.process(&bytes);
            self.commit = event.text("event_id")?.to_owned();
            self.creator = event["content"]["sender"].clone();
        }
        Ok(())
    }

    async fn commits(&self) -> Result<usize> {
        Ok(self.bob.commits(&self.room).await?.len())
    }
}

#[tokio::test]
async fn whoever_cannot_open_a_commit_comes_back_and_is_heard() -> Result {
    let mut scene = Scene::new().await?;
    scene.leave_alice_out().await;
    let before = scene.commits().await?;
    let Scene { alice, bob, room, .. } = &scene;
    bob.settle().await?;
    assert_eq!(bob.head(room).await?.creator_user_id, scene.mallory.peer.user, "Bob follows");
    bob.send_text(room, "where Alice is not").await?;
    alice.settle().await?;
    alice.send_text(room, "of Alice").await?;
    quiet(&[alice, bob]).await;
    assert!(texts(bob, room).await.contains(&"of Alice".to_owned()));
    all_talk(&[alice, bob], room).await;
    assert!(scene.commits().await? - before <= 4, "{} commits", scene.commits().await?);
    Ok(())
}

/// Alice joins anew, beside what she has: the join proves nothing, so she goes on there as soon as
/// Bob does. Until then she is heard where she was.
#[tokio::test]
async fn whoever_cannot_open_a_commit_is_heard_before_and_after_coming_back() -> Result {
    let mut scene = Scene::new().await?;
    scene.leave_alice_out().await;
    let Scene { alice, bob, room, .. } = &scene;
    quiet(&[alice, bob]).await;
    alice.send_text(room, "of Alice").await?;
    quiet(&[alice, bob]).await;
    assert!(texts(bob, room).await.contains(&"of Alice".to_owned()));
    bob.send_text(room, "Bob goes on").await?;
    scene.alice_is_back().await?;
    bob.send_text(room, "to Alice").await?;
    quiet(&[alice, bob]).await;
    assert!(texts(alice, room).await.contains(&"to Alice".to_owned()));
    all_talk(&[alice, bob], room).await;
    scene.follow().await?;
    let Scene { bob, room, commit, .. } = &scene;
    assert_eq!(bob.head(room).await?.commit_event.as_ref(), Some(commit), "Mallory follows too");
    Ok(())
}
