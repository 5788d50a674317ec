//! A device's own keys in a group are renewed as often as the room's settings say, and after
//! joining, whatever others commit: whoever has taken a copy of the device is shut out again.
//!
//! The library's clock is the process's, so the tests take turns.

use matrix_mls::RoomSettings;
use matrix_mls_kit::{
    Client, Clock, Fields as _, Homeserver, OrMissing as _, Result,
    other::{Other, group_of_three_with, name_of},
    peer::{KEY_PACKAGE, from_base64},
    together::{all_talk, phone_of, quiet, texts},
};
use serde_json::{Value, json};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Alice and Bob, and Mallory, whose device is made of plain OpenMLS and sees everybody's keys.
struct Trio {
    alice: Client,
    bob: Client,
    mallory: Other,
    room: String,
    /// The event of the commit that Mallory is at, and who made it.
    at: String,
    creator: Value,
    _homeserver: Homeserver,
}

impl Trio {
    async fn new(settings: RoomSettings) -> Result<Self> {
        let homeserver = Homeserver::embedded()?;
        let (alice, bob, mallory, room, at) = group_of_three_with(&homeserver, &settings).await?;
        let creator = name_of(&alice);
        Ok(Self { alice, bob, mallory, room, at, creator, _homeserver: homeserver })
    }

    /// Both say something, and read each other.
    async fn talk(&self, text: &str) -> Result {
        for client in [&self.alice, &self.bob] {
            client.send_text(&self.room, &format!("{text}, {}", client.name())).await?;
            quiet(&[&self.alice, &self.bob]).await;
        }
        Ok(())
    }

    /// Mallory takes in what the others have committed.
    async fn follow(&mut self) -> Result {
        let own = self.mallory.peer.user.clone();
        for event in self.alice.commits(&self.room).await? {
            let content = &event["content"];
            if content["commit_event"] != json!(self.at) {
                continue;
            }
            if event.text("sender")? != own {
                self.mallory.peer.process(&from_base64(content.text("ciphertext")?));
                self.at = event.text("event_id")?.to_owned();
                self.creator = content["sender"].clone();
            }
        }
        Ok(())
    }

    /// Mallory renews her own keys.
    async fn commit(&mut self) -> Result {
        let content = self.mallory.renewal(&self.creator, &self.at);
        self.at = self.mallory.send(&self.room, content).await;
        self.creator = self.mallory.name();
        quiet(&[&self.alice, &self.bob]).await;
        Ok(())
    }

    fn leaf_keys(&mut self) -> [Vec<u8>; 2] {
        let users = [self.alice.user_id(), self.bob.user_id()];
        users.map(|user| self.mallory.peer.encryption_key_of(user, "PHONE"))
    }
}

/// How many commits of a user a room has.
async fn commits_of(client: &Client, room: &str) -> Result<usize> {
    let commits = client.commits(room).await?;
    Ok(commits.iter().filter(|event| event["sender"] == client.user_id()).count())
}

/// Alice and Bob write every day, and a third member commits every five, so that no epoch gets old.
/// Both renew their keys every seven days all the same, and not more often.
#[tokio::test]
async fn own_keys_are_renewed_though_others_commit() -> Result {
    let clock = Clock::take().await;
    let mut trio = Trio::new(RoomSettings::default()).await?;
    // Bob's keys came with the Welcome.
    let [_, package] = trio.leaf_keys();
    trio.talk("hello").await?;
    trio.follow().await?;
    assert_ne!(trio.leaf_keys()[1], package, "the first message renews them");
    let mut keys = trio.leaf_keys();
    let mut since = [0, 0];
    let before =
        [commits_of(&trio.alice, &trio.room).await?, commits_of(&trio.bob, &trio.room).await?];
    for day in 1..=60 {
        clock.set(Clock::today_ms() + day * DAY_MS);
        trio.talk(&format!("day {day}")).await?;
        trio.follow().await?;
        let now = trio.leaf_keys();
        for (who, (now, known)) in now.iter().zip(&mut keys).enumerate() {
            if now != known {
                known.clone_from(now);
                since[who] = day;
            }
            assert!(day - since[who] < 7, "the keys are {} days old", day - since[who]);
        }
        if day % 5 == 0 {
            trio.commit().await?;
        }
    }
    for (client, before) in [&trio.alice, &trio.bob].into_iter().zip(before) {
        let made = commits_of(client, &trio.room).await? - before;
        assert_eq!(made, 60 / 7, "{} has made so many commits in 60 days", client.name());
    }
    let read = texts(&trio.bob, &trio.room).await;
    assert!((1..=60).all(|day| read.contains(&format!("day {day}, {}", trio.alice.name()))));
    Ok(())
}

/// The count of messages goes on from epoch to epoch.
#[tokio::test]
async fn own_keys_are_renewed_after_so_many_messages_in_many_epochs() -> Result {
    let _clock = Clock::take().await;
    let settings = RoomSettings { rotate_after_messages: 30, ..RoomSettings::default() };
    let mut trio = Trio::new(settings).await?;
    trio.talk("hello").await?;
    trio.follow().await?;
    let before = commits_of(&trio.alice, &trio.room).await?;
    let [key, _] = trio.leaf_keys();
    for round in 0..12 {
        for number in 0..5 {
            trio.alice.send_text(&trio.room, &format!("{round}: {number}")).await?;
        }
        quiet(&[&trio.alice, &trio.bob]).await;
        trio.follow().await?;
        trio.commit().await?;
    }
    assert_ne!(trio.leaf_keys()[0], key);
    let made = commits_of(&trio.alice, &trio.room).await? - before;
    // Sixty messages; generations that were reserved and not used count as used.
    assert!((2..=4).contains(&made), "{made} commits");
    Ok(())
}

/// The clock and the origin of the keys are in the store.
#[tokio::test]
async fn what_is_due_survives_a_restart_and_is_done_once() -> Result {
    let clock = Clock::take().await;
    let mut trio = Trio::new(RoomSettings::default()).await?;
    trio.bob.restart().await?;
    trio.talk("hello").await?;
    assert_eq!(commits_of(&trio.bob, &trio.room).await?, 1, "after joining");
    trio.bob.restart().await?;
    trio.talk("again").await?;
    assert_eq!(commits_of(&trio.bob, &trio.room).await?, 1);
    trio.follow().await?;
    clock.set(Clock::today_ms() + 4 * DAY_MS);
    trio.commit().await?;
    trio.bob.restart().await?;
    clock.set(Clock::today_ms() + 8 * DAY_MS);
    trio.talk("a week later").await?;
    assert_eq!(commits_of(&trio.bob, &trio.room).await?, 2, "after a week");
    trio.talk("and again").await?;
    assert_eq!(commits_of(&trio.bob, &trio.room).await?, 2);
    Ok(())
}

/// Bob and Carol renew their keys at once, on the same epoch. One of the two branches loses, and
/// its renewal with it: it is made again, once.
#[tokio::test]
async fn a_branch_that_loses_takes_its_renewal_with_it() -> Result {
    let _clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let bob = phone_of(&homeserver, "bob").await?;
    let carol = phone_of(&homeserver, "carol").await?;
    let all = [&alice, &bob, &carol];
    let room = alice.create_group(&[&bob, &carol], RoomSettings::default()).await?;
    alice.send_text(&room, "first").await?;
    quiet(&all).await;
    for (client, text) in [(&bob, "bob's"), (&carol, "carol's")] {
        client.send_text(&room, text).await?;
    }
    quiet(&all).await;
    assert_eq!((commits_of(&bob, &room).await?, commits_of(&carol, &room).await?), (1, 1));
    for _ in 0..2 {
        all_talk(&all, &room).await;
        let both = commits_of(&bob, &room).await? + commits_of(&carol, &room).await?;
        assert_eq!(both, 3, "the one that lost is made again");
    }
    Ok(())
}

/// In a group of more than eight a renewal that is due waits, so that not all commit at once:
/// unless the keys lay in a last-resort package, which others may have got, too.
#[tokio::test]
async fn in_a_large_group_a_renewal_is_put_off_unless_its_keys_are_a_last_resort() -> Result {
    let clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let mut others = Vec::new();
    for number in 0..9 {
        others.push(phone_of(&homeserver, &format!("guest{number}")).await?);
    }
    let dry = phone_of(&homeserver, "dry").await?;
    let claim = json!({ "one_time_keys": { dry.user_id(): { dry.device_id(): KEY_PACKAGE } } });
    for _ in 0..60 {
        alice.http().post("/_matrix/client/v3/keys/claim", claim.clone()).await?;
    }
    let mut all: Vec<&Client> = others.iter().chain([&dry]).collect();
    let room = alice.create_group(&all, RoomSettings::default()).await?;
    alice.send_text(&room, "welcome, all").await?;
    all.push(&alice);
    quiet(&all).await;
    dry.send_text(&room, "from the last resort").await?;
    assert_eq!(commits_of(&dry, &room).await?, 1, "at once");
    quiet(&all).await;
    let mut made = 0;
    for client in &others {
        client.send_text(&room, "the first message").await?;
        quiet(&all).await;
        made += commits_of(client, &room).await?;
    }
    assert!(made <= 1, "{made} of nine have committed at once");
    // The longest wait is a second for each device.
    clock.set(Clock::today_ms() + 60 * 1000);
    for client in &others {
        client.send_text(&room, "a minute later").await?;
        quiet(&all).await;
        assert_eq!(commits_of(client, &room).await?, 1, "{}", client.name());
    }
    let first = others.first().or_missing("guest")?;
    first.send_text(&room, "and that is it").await?;
    assert_eq!(commits_of(first, &room).await?, 1);
    Ok(())
}
