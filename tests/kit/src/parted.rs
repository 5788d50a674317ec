//! A room whose members cannot hear each other for a while, and what has to hold when they do
//! again.
//!
//! A [`Ledger`] writes down each message with the devices that were in its epoch. When all is
//! quiet, [`Ledger::check`] asks what the simulator asks too: all members are on one head, with the
//! members that the room says; every message is read by every device that was in its epoch, and by
//! no other. Like [`together`](crate::together) what does not hold panics; a step that fails is an
//! error.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use eyre::bail;
use matrix_mls::MlsError;
use serde_json::Value;

use crate::{Client, OrMissing as _, Result, together::head};

/// How long devices may take to agree, once they can hear each other.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was said in a room.
pub struct Ledger {
    room: String,
    said: Vec<Said>,
    /// Devices that no message may reach from now on, by the side that knows of their removal.
    removed: BTreeMap<String, BTreeSet<String>>,
}

struct Said {
    event_id: String,
    text: String,
    sender: String,
    /// The devices in its epoch.
    members: BTreeSet<String>,
    withheld: Withheld,
}

/// What a homeserver keeps back of what somebody sends after having been removed on its side.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Withheld {
    /// Nothing.
    Nothing,
    /// The message.
    Message,
    /// The commit of its epoch: where that was never seen nobody can read it.
    Commit,
}

/// What one parting came to.
#[derive(Debug, Clone)]
pub struct Parting {
    /// What it was about.
    pub what: &'static str,
    /// Messages sent while the link was cut.
    pub messages: usize,
    /// Commits made while it was cut.
    pub commits: usize,
    /// Commits made since, until all members were right and everybody had spoken.
    pub commits_to_converge: usize,
    /// From the healing of the link until all devices had one head.
    pub to_one_head: Duration,
}

impl Ledger {
    /// Of a room in which nothing has been said that matters.
    pub fn new(room: &str) -> Self {
        Self { room: room.to_owned(), said: Vec::new(), removed: BTreeMap::new() }
    }

    /// How many messages it holds.
    pub fn len(&self) -> usize {
        self.said.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.said.is_empty()
    }

    /// Sends a message and writes it down. It must not reach a device of whose removal its sender
    /// knows.
    pub async fn say(&mut self, client: &Client, text: &str) -> Result {
        let event_id = client.send_text(&self.room, text).await?;
        let members = members(client, &self.room).await?;
        let sender = client.name();
        if let Some(removed) = self.removed.get(&sender) {
            let reached: Vec<_> = removed.intersection(&members).collect();
            assert!(
                reached.is_empty(),
                "{sender} sent {text:?} to {reached:?}, of whose removal it knew"
            );
        }
        self.said.push(Said {
            event_id,
            text: text.to_owned(),
            sender,
            members,
            withheld: Withheld::Nothing,
        });
        Ok(())
    }

    /// The same, where something is kept back from the other side.
    pub async fn say_unheard(&mut self, client: &Client, text: &str, withheld: Withheld) -> Result {
        self.say(client, text).await?;
        self.said.last_mut().or_missing("message in the ledger")?.withheld = withheld;
        Ok(())
    }

    /// From now on nothing that `by` send may reach these.
    pub fn removed(&mut self, by: &[&Client], gone: &[&Client]) {
        for client in by {
            let names = gone.iter().map(|gone| gone.name());
            self.removed.entry(client.name()).or_default().extend(names);
        }
    }

    /// Whoever was removed is in the room again.
    pub fn came_back(&mut self, client: &Client) {
        for removed in self.removed.values_mut() {
            removed.remove(&client.name());
        }
    }

    /// `live` are all the devices of all the room's users; `gone` have been in it.
    pub async fn check(&self, live: &[&Client], gone: &[&Client]) -> Result {
        let target: BTreeSet<String> = live.iter().map(|client| client.name()).collect();
        let of_first = head(live[0], &self.room).await;
        for client in live {
            let name = client.name();
            assert_eq!(head(client, &self.room).await, of_first, "the head of {name}");
            assert_eq!(members(client, &self.room).await?, target, "the members for {name}");
        }
        let mut events = BTreeMap::new();
        for client in live.iter().chain(gone) {
            let is_live = target.contains(&client.name());
            let history = self.history(client, is_live).await?;
            if is_live {
                self.are_read(client, &history).await?;
            }
            events.extend(history);
        }
        for client in live.iter().chain(gone) {
            self.are_not_read(client, &events).await?;
        }
        Ok(())
    }

    /// The events that a device's homeserver shows it, by id. It may take a moment until those of
    /// the other one are there; what a member is never shown is a failure.
    async fn history(&self, client: &Client, is_live: bool) -> Result<BTreeMap<String, Value>> {
        let began = Instant::now();
        let name = client.name();
        loop {
            let history: BTreeMap<String, Value> = client
                .history(&self.room)
                .await?
                .into_iter()
                .filter_map(|event| Some((event["event_id"].as_str()?.to_owned(), event)))
                .collect();
            let missing = self.said.iter().find(|said| {
                said.members.contains(&name)
                    && said.withheld == Withheld::Nothing
                    && !history.contains_key(&said.event_id)
            });
            match missing {
                Some(missing) if is_live => {
                    let what = format!("{:?} of {}", missing.text, missing.sender);
                    assert!(began.elapsed() < PATIENCE, "{name} is never shown {what}");
                }
                _ => return Ok(history),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Every message of an epoch that this device was in.
    async fn are_read(&self, client: &Client, history: &BTreeMap<String, Value>) -> Result {
        let (name, room) = (client.name(), client.room(&self.room).await?);
        for said in self.said.iter().filter(|said| said.members.contains(&name)) {
            let what = format!("{name} reads {:?} of {}", said.text, said.sender);
            let Some(event) = history.get(&said.event_id) else { continue };
            let began = Instant::now();
            loop {
                match room.decrypt(event.to_string()).await {
                    Ok(message) => {
                        assert!(message.content.contains(&said.text), "{what}: another");
                        break;
                    }
                    Err(_) if said.withheld == Withheld::Commit => break,
                    // Its commit may be on its way.
                    Err(MlsError::UnknownEpoch { .. }) if began.elapsed() < PATIENCE => {
                        client.settle().await?;
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    Err(error) => bail!("{what}: {error}"),
                }
            }
        }
        Ok(())
    }

    /// No message of another epoch, even if a homeserver passes it on.
    async fn are_not_read(&self, client: &Client, events: &BTreeMap<String, Value>) -> Result {
        let (name, room) = (client.name(), client.room(&self.room).await?);
        for said in self.said.iter().filter(|said| !said.members.contains(&name)) {
            let event = events.get(&said.event_id).or_missing("event of what was said")?;
            let read = room.decrypt(event.to_string()).await;
            assert!(read.is_err(), "{name} reads {:?} of {}", said.text, said.sender);
        }
        Ok(())
    }
}

/// The devices in the group, as `user/device`.
pub async fn members(client: &Client, room: &str) -> Result<BTreeSet<String>> {
    let members = client.members(room).await?.into_iter();
    Ok(members.map(|member| format!("{}/{}", member.user_id, member.device_id)).collect())
}

/// The ids of all epochs that any of these devices knows.
pub async fn epochs(clients: &[&Client], room: &str) -> Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    for client in clients {
        ids.extend(client.epochs(room).await?.into_iter().map(|epoch| epoch.id));
    }
    Ok(ids)
}

/// Syncs until all devices have one head, and it has these members; for how long that took. Members
/// are put right by whoever sends next: here by the first, who may have sent before it had heard of
/// all.
pub async fn converge(clients: &[&Client], room: &str, whoever: Whoever) -> Result<Duration> {
    let began = Instant::now();
    let target: BTreeSet<String> = clients.iter().map(|client| client.name()).collect();
    loop {
        for client in clients {
            client.settle().await?;
        }
        let mut heads = BTreeMap::new();
        for client in clients {
            let known = client.epochs(room).await?;
            let head = known.into_iter().find(|epoch| epoch.is_head).map(|epoch| epoch.id);
            heads.insert(client.name(), head);
        }
        let different: BTreeSet<_> = heads.values().collect();
        let agree = different.len() == 1 && !different.contains(&None);
        if agree && whoever == Whoever::Anybody {
            return Ok(began.elapsed());
        }
        if agree {
            let members = members(clients[0], room).await?;
            if members == target {
                return Ok(began.elapsed());
            }
            assert!(began.elapsed() < PATIENCE, "these stay members: {members:?}");
            clients[0].prepare(room).await?;
        }
        assert!(began.elapsed() < PATIENCE, "no agreement: {heads:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Which members the one head must have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Whoever {
    /// It does not matter yet.
    Anybody,
    /// Just the devices that are asked.
    Target,
}

/// What several partings came to, as a table.
pub fn table(partings: &[Parting]) -> String {
    let mut out = format!(
        "{:<62} {:>8} {:>7} {:>11} {:>12}\n",
        "the link was cut while", "messages", "commits", "to converge", "to one head"
    );
    for parting in partings {
        let seconds = format!("{:.1} s", parting.to_one_head.as_secs_f64());
        out.push_str(&format!(
            "{:<62} {:>8} {:>7} {:>11} {seconds:>12}\n",
            parting.what, parting.messages, parting.commits, parting.commits_to_converge
        ));
    }
    out
}
