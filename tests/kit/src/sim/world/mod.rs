//! The world: three homeservers that hear of each other sooner or later, and one room.
//!
//! Each server has a copy of the room with a timeline order of its own, the device lists of its
//! users and what it has heard of the others', inboxes, one-time keys and media. What goes from
//! server to server is a parcel: it takes as long as the step's dice say, so parcels overtake each
//! other; where the link is cut it waits until the link is mended, as federation sends again. There
//! is no thread and no socket, all of it can be cloned, and event ids come from a counter.

mod bent;
mod event;
mod forged;
mod http;
mod keys;
mod media;
mod room;
mod server;
mod sliding;
mod sync;
mod to_device;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use matrix_mls::OutgoingRequest;

use bent::Bends;
pub(super) use bent::{Listed, Order};
pub(super) use event::Event;
pub(super) use http::Reply;
pub(super) use keys::DeviceList;
use server::Server;

use super::{dice::Dice, schedule::Weather};

/// The servers' names.
pub(super) const SERVERS: [&str; 3] = ["one", "two", "three"];
/// Users and the servers they are on.
pub(super) const USERS: [(&str, usize); 5] =
    [("ann", 0), ("ben", 1), ("cat", 2), ("dan", 0), ("mal", 2)];
/// How many of them are honest: the first ones.
pub(super) const HONEST: usize = 4;
/// The room.
pub(super) const ROOM: &str = "!room:one";

/// A user's Matrix id.
pub(super) fn user_id(user: usize) -> String {
    let (name, server) = USERS[user % USERS.len()];
    format!("@{name}:{}", SERVERS[server])
}

/// A device, as servers know it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    /// The number of its user.
    pub(super) user: usize,
    /// The device id.
    pub(super) device: String,
}

impl Name {
    pub(super) fn user_id(&self) -> String {
        user_id(self.user)
    }

    /// The device that Matrix ids name, if it is one of this world.
    pub(super) fn parse(user: &str, device: &str) -> Option<Self> {
        let number = (0..USERS.len()).find(|number| user_id(*number) == user)?;
        Some(Self { user: number, device: device.to_owned() })
    }

    /// The server it is on.
    pub(super) fn server(&self) -> usize {
        USERS[self.user % USERS.len()].1
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", USERS[self.user % USERS.len()].0, self.device)
    }
}

/// What goes from server to server.
#[derive(Clone)]
enum Cargo {
    Event(Arc<Event>),
    ToDevice { to: Name, json: Arc<str> },
    Devices { user: usize, list: DeviceList },
}

#[derive(Clone)]
struct Parcel {
    from: usize,
    to: usize,
    due_ms: u64,
    cargo: Cargo,
}

/// A request that its app has given up and that arrives after all.
#[derive(Clone)]
struct LateRequest {
    due_ms: u64,
    from: Name,
    request: OutgoingRequest,
}

/// All there is but the devices.
#[derive(Clone)]
pub(super) struct World {
    pub(super) now_ms: u64,
    pub(super) weather: Weather,
    /// Counts what happens: an order of everything, finer than the clock.
    tick: u64,
    servers: Vec<Server>,
    cut: BTreeSet<(usize, usize)>,
    parcels: Vec<Parcel>,
    late: Vec<LateRequest>,
    /// Every event there ever was, on whichever server.
    events: BTreeMap<String, Arc<Event>>,
    /// Servers that know of no devices of a user.
    lies: BTreeSet<(usize, usize)>,
    /// How many of the next Welcomes for these devices are lost.
    losing: BTreeMap<Name, u32>,
    /// Whose Welcome was lost, and the event of its commit.
    pub(super) lost: BTreeSet<(Name, String)>,
    /// Commits that no member can process, each with a public group state that may be in order.
    pub(super) garbage: BTreeSet<String>,
    /// Whether a member or a server lies: only then is remembered what they need for that.
    pub(super) is_hostile: bool,
    /// What servers do that they should not.
    bends: Bends,
    /// Events that a hostile server keeps from these servers.
    withheld: Vec<(usize, Arc<Event>)>,
    /// What the machines have sent.
    pub(super) traffic: Traffic,
    /// Requests that no server of ours knows.
    pub(super) unknown_requests: BTreeSet<String>,
}

/// What the machines have sent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Traffic {
    pub(super) commits: u64,
    pub(super) requests: u64,
    /// Those among them that are no `GET`.
    pub(super) writes: u64,
    pub(super) bytes: u64,
}

impl World {
    /// A world without users.
    pub(super) fn new(now_ms: u64) -> Self {
        let weather = Weather::CALM;
        matrix_mls::test_hooks::set_clock_ms(now_ms);
        Self {
            now_ms,
            weather,
            tick: 0,
            servers: SERVERS.iter().map(|_| Server::new()).collect(),
            cut: BTreeSet::new(),
            parcels: Vec::new(),
            late: Vec::new(),
            events: BTreeMap::new(),
            lies: BTreeSet::new(),
            losing: BTreeMap::new(),
            lost: BTreeSet::new(),
            garbage: BTreeSet::new(),
            is_hostile: false,
            bends: Bends::default(),
            withheld: Vec::new(),
            traffic: Traffic::default(),
            unknown_requests: BTreeSet::new(),
        }
    }

    /// The next tick.
    pub(super) fn tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    /// Whether two servers hear each other.
    fn is_linked(&self, one: usize, other: usize) -> bool {
        one == other || !self.cut.contains(&(one.min(other), one.max(other)))
    }

    /// Cuts or mends the link between two servers: 0 is first and second, 1 second and third, 2
    /// first and third.
    pub(super) fn set_link(&mut self, link: usize, is_up: bool) {
        let pair = [(0, 1), (1, 2), (0, 2)][link % 3];
        if is_up {
            self.cut.remove(&pair);
        } else {
            self.cut.insert(pair);
        }
    }

    /// All links are up, and nothing takes time any more.
    pub(super) fn heal(&mut self) {
        self.cut.clear();
        self.losing.clear();
        self.weather.delay_ms = 0;
        self.tell_withheld();
        let now_ms = self.now_ms;
        let parcels = self.parcels.iter_mut().map(|parcel| &mut parcel.due_ms);
        let late = self.late.iter_mut().map(|late| &mut late.due_ms);
        parcels.chain(late).for_each(|due_ms| *due_ms = (*due_ms).min(now_ms));
    }

    /// Whether something is still on its way.
    pub(super) fn is_busy(&self) -> bool {
        !self.parcels.is_empty() || !self.late.is_empty()
    }

    /// A number that grows with everything that a server shows to a device.
    pub(super) fn position(&self) -> u64 {
        self.servers.iter().map(|server| server.position).sum()
    }

    /// Lets time pass, and brings what is due by then.
    pub(super) fn pass(&mut self, ms: u64, dice: &mut Dice) {
        self.now_ms += ms;
        matrix_mls::test_hooks::set_clock_ms(self.now_ms);
        let now_ms = self.now_ms;
        let (due, later) =
            std::mem::take(&mut self.late).into_iter().partition(|late| late.due_ms <= now_ms);
        self.late = later;
        for LateRequest { from, request, .. } in due {
            self.handle(&from, &request, dice);
        }
        self.deliver(dice);
        self.accept_invitations(dice);
    }

    /// The request arrives later than its app believes.
    pub(super) fn delay_request(&mut self, from: &Name, request: OutgoingRequest, ms: u64) {
        let due_ms = self.now_ms + ms;
        self.late.push(LateRequest { due_ms, from: from.clone(), request });
    }

    /// Brings the parcels that are due and can travel.
    fn deliver(&mut self, dice: &mut Dice) {
        loop {
            let travels = |parcel: &Parcel| {
                parcel.due_ms <= self.now_ms && self.is_linked(parcel.from, parcel.to)
            };
            let first = self.parcels.iter().enumerate().filter(|(_, parcel)| travels(parcel));
            let Some((index, _)) = first.min_by_key(|(index, parcel)| (parcel.due_ms, *index))
            else {
                return;
            };
            let Parcel { to, cargo, .. } = self.parcels.remove(index);
            match cargo {
                Cargo::Event(event) => self.take_event(to, &event),
                Cargo::ToDevice { to: name, json } => self.put_in_inbox(to, &name, json),
                Cargo::Devices { user, list } => self.take_device_list(to, user, list),
            }
            self.accept_invitations(dice);
        }
    }

    /// Sends something to all other servers, each in its own time.
    fn broadcast(&mut self, from: usize, cargo: &Cargo, dice: &mut Dice) {
        for to in (0..SERVERS.len()).filter(|to| *to != from) {
            self.ship(from, to, cargo.clone(), dice);
        }
    }

    fn ship(&mut self, from: usize, to: usize, cargo: Cargo, dice: &mut Dice) {
        // One in eight is lost on the way and sent again much later.
        let delay = u64::from(self.weather.delay_ms);
        let again = if delay > 0 && dice.percent(12) { 10 * delay } else { 0 };
        let due_ms = self.now_ms + dice.below(delay + 1) + again;
        self.parcels.push(Parcel { from, to, due_ms, cargo });
        if delay == 0 {
            self.deliver(dice);
        }
    }
}
