//! The hostile member: a device of plain OpenMLS that is a real member of the group, follows it on
//! all branches, and lies where a schedule's steps say so.
//!
//! Its homeserver works for it: what it sends goes out whether its user is in the room or not, to
//! the servers of its choice. What the others make of it is the simulator's business (`check`).

mod acts;
mod client;
mod contents;

use std::sync::Arc;

use serde_json::{Value, json};

use self::client::{Place, Values};
pub(super) use self::{acts::Stage, client::Client};
use super::{
    dice::Dice,
    world::{Event, Name, World},
};
use crate::{OrMissing as _, Result, peer::from_base64};

/// The number of the hostile user.
pub(super) const USER: usize = 4;
/// How many one-time key packages the liar publishes.
const PACKAGES: usize = 4;
/// How many epochs the liar remembers.
const MOST_PLACES: usize = 24;
/// How many commits wait for their base.
const MOST_PENDING: usize = 40;
/// What begins the transaction id of a message of the liar's that counts as one.
pub(super) const SAID: &str = "liar-says-";
/// The same of what nobody may read.
pub(super) const NEVER: &str = "liar-never-";

/// The hostile member.
pub(super) struct Liar {
    pub(super) name: Name,
    client: Client,
    /// What it has stored before it was in a group: the keys of its key packages.
    home: Values,
    places: Vec<Place>,
    /// How much of its server's timeline it has seen.
    seen: usize,
    /// Commits on epochs that it does not know.
    pending: Vec<Arc<Event>>,
    /// Devices that it has made up.
    ghosts: usize,
    /// Counts what it sends.
    sent: usize,
}

impl Liar {
    /// Logs in and publishes its keys.
    pub(super) fn enter(world: &mut World, dice: &mut Dice) -> Result<Self> {
        let name = Name { user: USER, device: "M1".to_owned() };
        let client = Client::new(&name.user_id(), &name.device);
        let mut one_time = serde_json::Map::new();
        for _ in 0..PACKAGES {
            let (_, id, value) = client.key_package()?;
            one_time.insert(id, json!(value));
        }
        let (_, id, value) = client.key_package()?;
        let keys = client.peer.device_keys();
        let upload = json!({
            "device_keys": keys, "one_time_keys": one_time, "fallback_keys": { id: value },
        });
        world.log_in(&name);
        world.ask(&name, "POST", "/_matrix/client/v3/keys/upload", &upload, dice);
        let home = client.values()?;
        let (places, pending) = (Vec::new(), Vec::new());
        Ok(Self { name, client, home, places, seen: 0, pending, ghosts: 0, sent: 0 })
    }

    /// The same one, in another history.
    pub(super) fn copy(&self) -> Result<Self> {
        Ok(Self {
            name: self.name.clone(),
            client: self.client.copy()?,
            home: self.home.clone(),
            places: self.places.clone(),
            seen: self.seen,
            pending: self.pending.clone(),
            ghosts: self.ghosts,
            sent: self.sent,
        })
    }

    /// Takes in what its server shows: Welcomes, and the commits on every epoch that it has been
    /// in.
    pub(super) fn follow(&mut self, world: &mut World) {
        for json in world.take_inbox(&self.name) {
            let event: Value = serde_json::from_str(&json).unwrap_or_default();
            // What is no Welcome for it leads nowhere.
            let _ = self.welcomed(&event["content"]);
        }
        let events = world.timeline(self.name.server());
        let news: Vec<Arc<Event>> = events.skip(self.seen).cloned().collect();
        self.seen += news.len();
        self.pending.extend(news.into_iter().filter(|event| event.is_commit()));
        loop {
            let before = self.pending.len();
            for event in std::mem::take(&mut self.pending) {
                if !self.knows(&event.id) && !self.followed(&event) {
                    self.pending.push(event);
                }
            }
            if self.pending.len() == before {
                break;
            }
        }
        let old = self.pending.len().saturating_sub(MOST_PENDING);
        self.pending.drain(..old);
    }

    fn welcomed(&mut self, content: &Value) -> Result {
        let welcome = content["ciphertext"].as_str().or_missing("Welcome")?;
        let event = content["commit_event"].as_str().or_missing("event")?;
        self.client.restore(&self.home)?;
        self.client.join(&from_base64(welcome))?;
        let place = self.client.place(event, content["sender"].clone())?;
        self.keep(place);
        Ok(())
    }

    /// Whether a commit is done with: it was followed, or cannot be.
    fn followed(&mut self, event: &Event) -> bool {
        let base = event.base.as_deref().unwrap_or_default();
        let Some(place) = self.places.iter().find(|place| place.event == base).cloned() else {
            return false;
        };
        let content: Value = serde_json::from_str(&event.json).unwrap_or_default();
        let content = &content["content"];
        if let Some(ciphertext) = content["ciphertext"].as_str()
            && self.process(&place, ciphertext).is_ok()
            && let Ok(next) = self.client.place(&event.id, content["sender"].clone())
            && self.client.group().is_ok_and(|group| group.is_active())
        {
            self.keep(next);
        }
        true
    }

    fn process(&mut self, place: &Place, ciphertext: &str) -> Result<Option<Vec<u8>>> {
        self.client.stand(place)?;
        self.client.process(&from_base64(ciphertext))
    }

    fn knows(&self, event: &str) -> bool {
        self.places.iter().any(|place| place.event == event)
    }

    fn keep(&mut self, place: Place) {
        if self.places.len() == MOST_PLACES {
            self.places.remove(0);
        }
        self.places.push(place);
    }

    /// Whether it can open a message that somebody else has sealed, with anything that it ever had.
    pub(super) fn opens(&mut self, event: &Event) -> bool {
        let content: Value = serde_json::from_str(&event.json).unwrap_or_default();
        let Some(ciphertext) = content["content"]["ciphertext"].as_str() else { return false };
        let number = contents::number(&from_base64(ciphertext));
        let at = |place: &&Place| Some(place.number) == number;
        let places: Vec<Place> = self.places.iter().filter(at).cloned().collect();
        places
            .iter()
            .any(|place| self.process(place, ciphertext).is_ok_and(|plain| plain.is_some()))
    }
}
