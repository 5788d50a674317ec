//! A user who was put out of the Matrix room, or left it, and is let in again. Where that happens
//! before the others commit, they have the user's devices in their group still, and nothing that
//! they say is lost. Where the others have removed the devices, these come in as anybody does.
//!
//! The clock belongs to the process, so these tests run one after the other.

use matrix_mls::RoomSettings;
use matrix_mls_kit::{
    Client, Clock, Homeserver, Result,
    together::{all_talk, head, newcomer, pair, quiet, texts},
};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Bob is put out, and his device hears of it; then he is let in again.
struct Scene {
    alice: Client,
    bob: Client,
    carol: Client,
    room: String,
    clock: Clock,
    _homeserver: Homeserver,
}

impl Scene {
    async fn new(settings: Option<RoomSettings>) -> Result<Self> {
        let clock = Clock::take().await;
        clock.stop();
        let homeserver = Homeserver::embedded()?;
        let (alice, bob, room) = pair(&homeserver).await;
        let carol = newcomer(&homeserver, "carol", &alice, &room).await?;
        quiet(&[&alice, &bob, &carol]).await;
        all_talk(&[&alice, &bob, &carol], &room).await;
        if let Some(settings) = settings {
            bob.set_settings(&room, settings).await?;
        }
        Ok(Self { alice, bob, carol, room, clock, _homeserver: homeserver })
    }

    async fn put_out(&self) -> Result {
        self.alice.kick(&self.room, self.bob.user_id()).await?;
        self.bob.settle().await?;
        let error = self.bob.send_text(&self.room, "nobody hears this").await;
        assert!(error.is_err(), "he is out, and has something to say");
        Ok(())
    }

    async fn let_in(&self) -> Result {
        self.alice.invite(&self.room, self.bob.user_id()).await?;
        Ok(self.bob.join(&self.room).await?)
    }

    /// How many epochs Bob's device keeps in full.
    async fn full(&self) -> Result<usize> {
        Ok(self.bob.epochs(&self.room).await?.iter().filter(|epoch| epoch.is_full).count())
    }

    /// How many commits there are of Bob's.
    async fn commits(&self) -> Result<usize> {
        let commits = self.alice.commits(&self.room).await?;
        Ok(commits.iter().filter(|commit| commit["sender"] == self.bob.user_id()).count())
    }

    /// Carol has heard of both, and goes on: for her nothing has changed.
    async fn carol_goes_on(&self) -> Result {
        let members = self.carol.members(&self.room).await?.len();
        self.carol.rotate_keys(&self.room).await?;
        self.carol.send_text(&self.room, "in between").await?;
        assert_eq!(self.carol.members(&self.room).await?.len(), members);
        Ok(())
    }
}

#[tokio::test]
async fn whoever_is_let_in_before_the_others_commit_loses_nothing() -> Result {
    let scene = Scene::new(None).await?;
    let before = scene.commits().await?;
    scene.put_out().await?;
    scene.let_in().await?;
    scene.carol_goes_on().await?;
    quiet(&[&scene.bob]).await;
    let read = texts(&scene.bob, &scene.room).await;
    assert!(read.contains(&"in between".to_owned()), "{read:?}");
    assert_eq!(head(&scene.bob, &scene.room).await, head(&scene.carol, &scene.room).await);
    quiet(&[&scene.alice, &scene.bob, &scene.carol]).await;
    assert_eq!(scene.commits().await?, before, "he is in the group as he was");
    all_talk(&[&scene.alice, &scene.bob, &scene.carol], &scene.room).await;
    Ok(())
}

#[tokio::test]
async fn a_restart_in_between_changes_nothing() -> Result {
    let mut scene = Scene::new(None).await?;
    scene.put_out().await?;
    scene.bob.crash().await?;
    scene.let_in().await?;
    scene.bob.settle().await?;
    scene.bob.restart().await?;
    scene.carol_goes_on().await?;
    quiet(&[&scene.bob]).await;
    let read = texts(&scene.bob, &scene.room).await;
    assert!(read.contains(&"in between".to_owned()), "{read:?}");
    all_talk(&[&scene.alice, &scene.bob, &scene.carol], &scene.room).await;
    Ok(())
}

/// The others have removed him: what his device had set aside leads nowhere, and goes.
#[tokio::test]
async fn whoever_was_removed_comes_in_as_anybody_does() -> Result {
    let scene = Scene::new(None).await?;
    scene.put_out().await?;
    scene.carol.settle().await?;
    scene.carol.send_text(&scene.room, "without bob").await?;
    assert_eq!(scene.carol.members(&scene.room).await?.len(), 2);
    scene.let_in().await?;
    quiet(&[&scene.alice, &scene.bob, &scene.carol]).await;
    all_talk(&[&scene.alice, &scene.bob, &scene.carol], &scene.room).await;
    assert!(!texts(&scene.bob, &scene.room).await.contains(&"without bob".to_owned()));
    let first = scene.bob.head(&scene.room).await?;
    let epochs = scene.bob.epochs(&scene.room).await?;
    let older = epochs.iter().filter(|epoch| epoch.is_full && epoch.epoch + 3 < first.epoch);
    assert_eq!(older.count(), 0, "nothing from before he was out can take a commit: {epochs:?}");
    Ok(())
}

/// What was set aside is kept as long as epochs are that others may still be on.
#[tokio::test]
async fn what_was_set_aside_goes_in_time() -> Result {
    let scene = Scene::new(None).await?;
    scene.put_out().await?;
    assert!(scene.full().await? > 0);
    scene.clock.pass(6 * DAY_MS);
    scene.bob.settle().await?;
    assert!(scene.full().await? > 0);
    scene.clock.pass(2 * DAY_MS);
    scene.bob.settle().await?;
    assert_eq!(scene.full().await?, 0);
    scene.let_in().await?;
    quiet(&[&scene.alice, &scene.bob, &scene.carol]).await;
    all_talk(&[&scene.alice, &scene.bob, &scene.carol], &scene.room).await;
    Ok(())
}

/// Where keys are kept for a day, those of what was set aside are.
#[tokio::test]
async fn what_was_set_aside_is_kept_no_longer_than_the_past() -> Result {
    let settings = RoomSettings { keep_history_ms: Some(DAY_MS), ..RoomSettings::default() };
    let scene = Scene::new(Some(settings)).await?;
    scene.put_out().await?;
    scene.clock.pass(DAY_MS / 2);
    scene.bob.settle().await?;
    assert!(scene.full().await? > 0);
    scene.clock.pass(DAY_MS);
    scene.bob.settle().await?;
    assert_eq!(scene.full().await?, 0);
    Ok(())
}

/// An app that leaves the group keeps nothing, nor does a room whose messages are read once.
#[tokio::test]
async fn nothing_is_set_aside_where_it_is_not_wanted() -> Result {
    let scene = Scene::new(None).await?;
    scene.bob.room(&scene.room).await?.leave().await?;
    assert_eq!(scene.full().await?, 0);
    drop(scene);
    let settings = RoomSettings { read_once: true, ..RoomSettings::default() };
    let scene = Scene::new(Some(settings)).await?;
    assert!(scene.full().await? > 0);
    scene.put_out().await?;
    assert_eq!(scene.full().await?, 0);
    Ok(())
}

/// What is said after he was invited, and before he has joined, comes in front of his join.
#[tokio::test]
async fn what_is_said_before_the_join_is_read() -> Result {
    let scene = Scene::new(None).await?;
    scene.put_out().await?;
    scene.alice.invite(&scene.room, scene.bob.user_id()).await?;
    scene.carol_goes_on().await?;
    scene.bob.join(&scene.room).await?;
    quiet(&[&scene.bob]).await;
    let read = texts(&scene.bob, &scene.room).await;
    assert!(read.contains(&"in between".to_owned()), "{read:?}");
    all_talk(&[&scene.alice, &scene.bob, &scene.carol], &scene.room).await;
    Ok(())
}

/// An older copy of the store may have sent more than it remembers. Leaving the room does not make
/// its keys good again.
#[tokio::test]
async fn an_older_copy_sets_nothing_aside() -> Result {
    let mut scene = Scene::new(None).await?;
    let copy = scene.bob.back_up().await?;
    scene.bob.send_text(&scene.room, "the copy does not know").await?;
    scene.alice.kick(&scene.room, scene.bob.user_id()).await?;
    scene.bob.restore_backup(&copy).await?;
    scene.bob.settle().await?;
    assert_eq!(scene.full().await?, 0);
    scene.let_in().await?;
    quiet(&[&scene.alice, &scene.bob, &scene.carol]).await;
    all_talk(&[&scene.alice, &scene.bob, &scene.carol], &scene.room).await;
    Ok(())
}

/// What is wanted later counts for what was set aside before.
#[tokio::test]
async fn what_was_set_aside_goes_when_it_is_not_wanted_any_more() -> Result {
    let scene = Scene::new(None).await?;
    scene.put_out().await?;
    assert!(scene.full().await? > 0);
    scene.bob.room(&scene.room).await?.leave().await?;
    assert_eq!(scene.full().await?, 0);
    drop(scene);
    let scene = Scene::new(None).await?;
    scene.put_out().await?;
    let settings = RoomSettings { read_once: true, ..RoomSettings::default() };
    scene.bob.set_settings(&scene.room, settings).await?;
    scene.clock.pass(DAY_MS / 2);
    scene.bob.settle().await?;
    assert_eq!(scene.full().await?, 0);
    Ok(())
}
