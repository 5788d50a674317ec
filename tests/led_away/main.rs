//! Members, removed devices and liars who want others to leave the epoch in which they talk: by
//! epochs that are only claimed, groups of their own, Welcomes, and commits beside their removal.
//! Everybody else stays together, is never held up, and takes in whoever comes.
//!
//! The library's clock is the process's, so the tests take turns.

mod backwards;
mod claims;
mod groups;
mod impostors;
mod outrun;
mod removed;
mod welcomes;

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use matrix_mls::{EpochInfo, RoomSettings, test_hooks};
use matrix_mls_kit::{
    Client, Fields as _, Homeserver, OrMissing as _, Result,
    other::{Other, group_of_three_with, name_of},
    peer::{Peer, from_base64},
    together::{head, log_in, quiet, texts},
};
use serde_json::{Value, json};

pub const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// How long somebody may have to wait before a message leaves.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The clock, in one test's hand: it runs, ahead by some time. It is right again when dropped.
pub struct Clock {
    _turn: tokio::sync::MutexGuard<'static, ()>,
}

/// By how much the clock is ahead, in milliseconds; nothing where it is left alone.
static AHEAD_MS: Mutex<Option<u64>> = Mutex::new(None);

fn ahead_ms() -> MutexGuard<'static, Option<u64>> {
    AHEAD_MS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Clock {
    pub async fn take() -> Self {
        static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        Self { _turn: TURN.lock().await }
    }

    /// So much time passes.
    fn pass(&self, ms: u64) -> Result {
        let is_first = {
            let mut ahead = ahead_ms();
            let before = *ahead;
            *ahead = Some(before.unwrap_or(0) + ms);
            before.is_none()
        };
        tick()?;
        if is_first {
            std::thread::spawn(|| {
                while tick().unwrap_or(false) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        }
        Ok(())
    }
}

/// Sets the clock, if it is to be ahead; tells whether it is.
fn tick() -> Result<bool> {
    let ahead = ahead_ms();
    let Some(ahead_ms) = *ahead else { return Ok(false) };
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    test_hooks::set_clock_ms(u64::try_from(now_ms)? + ahead_ms);
    Ok(true)
}

impl Drop for Clock {
    fn drop(&mut self) {
        let mut ahead = ahead_ms();
        *ahead = None;
        test_hooks::set_clock_ms(0);
    }
}

/// Alice and Bob, and Mallory, whose device is made of plain OpenMLS: all three in one group.
pub struct Trio {
    pub alice: Client,
    pub bob: Client,
    pub mallory: Other,
    pub room: String,
    settings: RoomSettings,
    /// The event of the commit that Mallory is at, and who made it.
    pub at: String,
    pub creator: Value,
    pub clock: Clock,
    pub homeserver: Homeserver,
}

impl Trio {
    pub async fn new() -> Result<Self> {
        Self::with(RoomSettings::default()).await
    }

    pub async fn with(settings: RoomSettings) -> Result<Self> {
        let clock = Clock::take().await;
        let homeserver = Homeserver::embedded()?;
        let (alice, bob, mallory, room, at) = group_of_three_with(&homeserver, &settings).await?;
        let creator = name_of(&alice);
        let trio = Self { alice, bob, mallory, room, settings, at, creator, clock, homeserver };
        trio.talk(&[&trio.alice, &trio.bob], "before anything happened").await?;
        Ok(trio)
    }

    /// Everybody sees what the others did.
    pub async fn quiet(&self) {
        quiet(&[&self.alice, &self.bob]).await;
    }

    /// Bob logs in on a new laptop. Before the clock is put ahead: MLS looks at the real one to see
    /// whether the keys of a device are from the future.
    pub async fn laptop(&self) -> Result<Client> {
        let laptop = log_in(&self.homeserver, "bob", "LAPTOP").await?;
        laptop.set_settings(&self.room, self.settings.clone()).await?;
        Ok(laptop)
    }

    /// Mallory takes in what the others have committed.
    pub async fn follow(&mut self) -> Result {
        let own = self.mallory.peer.user.clone();
        for event in self.alice.commits(&self.room).await? {
            let content = &event["content"];
            let goes_on = content["commit_event"] == json!(self.at);
            if goes_on && event.text("sender")? != own {
                self.mallory.peer.process(&from_base64(content.text("ciphertext")?));
                self.at = event.text("event_id")?.to_owned();
                self.creator = content["sender"].clone();
            }
        }
        Ok(())
    }

    /// Mallory renews her own keys, on the epoch that she is in.
    pub async fn renew(&mut self) {
        let content = self.mallory.renewal(&self.creator, &self.at);
        self.send_commit(content).await;
    }

    /// Mallory sends a commit, and goes on from there.
    pub async fn send_commit(&mut self, content: Value) {
        self.at = self.mallory.send(&self.room, content).await;
        self.creator = self.mallory.name();
    }

    /// Mallory says something in the epoch that she is in.
    pub async fn say(&mut self, text: &str) {
        let plain = Peer::plaintext(&self.room, text);
        let content = self.mallory.message(&plain, &self.creator, &self.at);
        self.mallory.send(&self.room, content).await;
    }

    /// So many days pass, and everybody syncs some rounds.
    pub async fn later(&self, days: u64, others: &[&Client]) -> Result {
        self.clock.pass(days * DAY_MS)?;
        for _ in 0..2 {
            quiet(&[&[&self.alice, &self.bob], others].concat()).await;
        }
        Ok(())
    }

    /// Each says something that all read, without being held up, and they end on one head.
    pub async fn talk(&self, clients: &[&Client], when: &str) -> Result {
        let mut said = Vec::new();
        for client in clients {
            let text = format!("{}, {when}", client.name());
            self.send(client, &text).await?;
            said.push(text);
            quiet(clients).await;
        }
        let mut heads = HashSet::new();
        for client in clients {
            let read = texts(client, &self.room).await;
            let missing: Vec<_> = said.iter().filter(|text| !read.contains(text)).collect();
            assert!(missing.is_empty(), "{when}: {} does not read {missing:?}", client.name());
            heads.insert(head(client, &self.room).await);
        }
        assert_eq!(heads.len(), 1, "{when}: they read each other, and send in different epochs");
        Ok(())
    }

    /// Sends a text that is not held up.
    pub async fn send(&self, client: &Client, text: &str) -> Result {
        let sending = client.send_text(&self.room, text);
        let sent = tokio::time::timeout(LONGEST_WAIT, sending).await.ok();
        sent.or_missing(&format!("answer in time, {}: {text}", client.name()))??;
        Ok(())
    }

    /// Alice's and Bob's head is an epoch, or one that they came to from there.
    pub async fn assert_stands(&self, honest: &str, when: &str) -> Result {
        for client in [&self.alice, &self.bob] {
            assert!(self.stands(client, honest).await?, "{when}: {} was led away", client.name());
        }
        Ok(())
    }

    async fn stands(&self, client: &Client, honest: &str) -> Result<bool> {
        let epochs = client.epochs(&self.room).await?;
        let mut at: Option<&EpochInfo> = epochs.iter().find(|epoch| epoch.is_head);
        while let Some(epoch) = at.filter(|epoch| epoch.id != honest) {
            at = epochs.iter().find(|other| Some(&other.id) == epoch.parent.as_ref());
        }
        Ok(at.is_some())
    }

    /// The honest epoch stands, and Alice, Bob and the laptop, which comes in by itself if it may,
    /// talk.
    pub async fn assert_goes_on(&self, laptop: &Client, honest: &str, when: &str) -> Result {
        let all = [&self.alice, &self.bob, laptop];
        self.assert_stands(honest, when).await?;
        if self.settings.allow_external_joins {
            laptop.join_externally(&self.room).await?;
        }
        quiet(&all).await;
        self.talk(&all, when).await?;
        self.assert_stands(honest, when).await
    }

    /// How many commits of a user the room has.
    pub async fn commits_of(&self, client: &Client) -> Result<usize> {
        let commits = client.commits(&self.room).await?;
        Ok(commits.iter().filter(|event| event["sender"] == client.user_id()).count())
    }
}
