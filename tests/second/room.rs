//! A room as this client knows it: epochs by id, what was claimed, what was read, who was heard.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::{SystemTime, UNIX_EPOCH},
};

use matrix_mls_kit::{OrMissing as _, Result};
use serde_json::Value;

use crate::{
    devices::Devices,
    events::{Event, Media, Restart, TreeDifference},
    head::{self, AHEAD, Device, EpochId, Graph, HIGHEST, Maker, Node, Place, Votes},
    mls::MlsGroup,
    names,
    opening::Export,
};

const DAY_MS: u64 = 86_400_000;

/// An epoch that this device is or was in, or whose export it was given.
pub struct Epoch {
    /// Its node in the graph of the head rule; none of an epoch that only opens messages.
    pub node: Option<Node>,
    /// Its group's id and its number.
    pub group_id: Vec<u8>,
    pub number: u64,
    /// Who made it, and with which event.
    pub creator: Device,
    pub commit_event: Option<String>,
    /// Its state; none of an epoch that only opens messages.
    pub group: Option<MlsGroup>,
    /// What opens its messages.
    pub export: Export,
    /// How many messages this device has sealed in it.
    pub sealed: u32,
}

/// What an event says of an epoch that it begins.
#[derive(Clone)]
pub struct Claim {
    pub id: EpochId,
    pub number: u64,
    pub group_id: Vec<u8>,
    pub sender: Device,
    /// The event's own sender.
    pub user: String,
    /// The event of its base, as the commit says.
    pub base: String,
    pub is_announcement: bool,
    /// MLSMessage with the GroupInfo.
    pub state: Vec<u8>,
    pub tree: Option<Media>,
    pub difference: Option<TreeDifference>,
}

/// A commit that removed this device.
pub struct Removal {
    /// The epoch that it leads to.
    pub node: Node,
    /// The epochs that this device was in when it came. What it is let into later is not left.
    pub before: BTreeSet<EpochId>,
}

/// A message that was read.
#[derive(Clone, Debug)]
pub struct Read {
    pub sender: Device,
    pub kind: String,
    pub content: Value,
}

/// A room.
pub struct Room {
    pub id: String,
    /// Whether its state says that it is of this protocol (R1).
    pub is_mls: bool,
    pub create_event: Option<String>,
    pub joined: BTreeSet<String>,
    pub invited: BTreeSet<String>,
    visibility: String,
    /// All events that syncs have shown.
    pub seen: BTreeSet<String>,
    /// Those that are not settled yet.
    pub unsettled: Vec<Event>,
    pub epochs: BTreeMap<EpochId, Epoch>,
    pub claims: BTreeMap<String, Claim>,
    /// The commits that removed this device.
    pub removals: Vec<Removal>,
    pub read: Vec<Read>,
    /// Events that were refused, and why.
    pub refused: Vec<(String, String)>,
    /// The event that first showed a message (R9).
    pub shown: BTreeMap<(EpochId, u32, u32), String>,
    /// Events of this device's own.
    pub own: BTreeSet<String>,
    /// In which epochs each device was heard, and when first and last.
    heard: BTreeMap<Device, BTreeMap<EpochId, (u64, u64)>>,
    /// Number and sender of the state that starts the room anew, and of the last that counts.
    pub restart_state: Option<(String, Restart)>,
    pub restarts: BTreeMap<u64, Vec<u8>>,
    last_head: Option<EpochId>,
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Room {
    /// One of which nothing is known.
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            is_mls: false,
            create_event: None,
            joined: BTreeSet::new(),
            invited: BTreeSet::new(),
            visibility: "shared".to_owned(),
            seen: BTreeSet::new(),
            unsettled: Vec::new(),
            epochs: BTreeMap::new(),
            claims: BTreeMap::new(),
            removals: Vec::new(),
            read: Vec::new(),
            refused: Vec::new(),
            shown: BTreeMap::new(),
            own: BTreeSet::new(),
            heard: BTreeMap::new(),
            restart_state: None,
            restarts: BTreeMap::new(),
            last_head: None,
        }
    }

    /// Takes in what an event says of the room's state; keeps what is encrypted for later.
    pub fn see(&mut self, event: Event) {
        if !self.seen.insert(event.event_id.clone()) {
            return;
        }
        let names_it = |content: &Value| {
            content["algorithm"].as_str().is_some_and(|name| names::is(name, names::ROOM))
        };
        match (&*event.kind, event.state_key.as_deref()) {
            ("m.room.create", Some("")) => {
                self.is_mls |= names_it(&event.content["encryption"]);
                self.create_event = Some(event.event_id);
            }
            ("m.room.encryption", Some("")) => self.is_mls |= names_it(&event.content),
            ("m.room.history_visibility", Some("")) => {
                let visibility = event.content["history_visibility"].as_str();
                self.visibility = visibility.unwrap_or_default().to_owned();
            }
            ("m.room.member", Some(user)) => {
                let membership = event.content["membership"].as_str().unwrap_or_default();
                let set = |set: &mut BTreeSet<String>, is: bool| {
                    if is { set.insert(user.to_owned()) } else { set.remove(user) }
                };
                set(&mut self.joined, membership == "join");
                set(&mut self.invited, membership == "invite");
            }
            (kind, Some("")) if names::is(kind, names::RESTART) => {
                if let Ok(restart) = serde_json::from_value(event.content) {
                    self.restart_state = Some((event.sender, restart));
                }
            }
            ("m.room.encrypted", None) => self.unsettled.push(event),
            _ => {}
        }
    }

    /// Notes that something was not taken.
    pub fn refuse(&mut self, event_id: &str, why: &impl std::fmt::Display) {
        self.refused.push((event_id.to_owned(), why.to_string()));
    }

    /// The users whose devices may be in the group (D7).
    pub fn users(&self) -> Vec<String> {
        let seen_by_invited = ["invited", "shared", "world_readable"].contains(&&*self.visibility);
        let invited = self.invited.iter().filter(|_| seen_by_invited);
        self.joined.iter().chain(invited).cloned().collect()
    }

    /// Which group of the room an id names.
    pub fn place(&self, group_id: &[u8]) -> Place {
        match names::group_number(&self.id, group_id) {
            Some(0) => Place::First,
            Some(number) if self.restarts.get(&number).is_some_and(|id| id == group_id) => {
                Place::Restart(Reverse(number))
            }
            _ => Place::Unnamed,
        }
    }

    /// Whether a number may be that of an epoch that this device comes to (E7).
    pub fn number_fits(&self, number: u64) -> bool {
        let highest = self.nodes().map(|node| node.number).max();
        number <= HIGHEST && highest.is_none_or(|highest| number <= highest + AHEAD)
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.epochs.values().filter_map(|epoch| epoch.node.as_ref())
    }

    /// Whether a device has no place in the room.
    pub fn is_outsider(&self, devices: &Devices, device: &Device) -> bool {
        !self.users().contains(&device.0) || devices.is_out(device)
    }

    /// Notes that a device has spoken in an epoch.
    pub fn hear(&mut self, device: &Device, epoch: EpochId, sent_ms: u64) {
        let sent = sent_ms.min(now_ms());
        let times = self.heard.entry(device.clone()).or_default();
        let times = times.entry(epoch).or_insert((sent, sent));
        *times = (times.0.min(sent), times.1.max(sent));
    }

    fn votes(&self, graph: &Graph, devices: &Devices, own: &Device) -> BTreeMap<EpochId, Votes> {
        let mut votes = BTreeMap::new();
        let with_devices =
            self.joined.iter().filter(|user| !devices.trusted_of(user).is_empty()).count();
        if with_devices <= 2 {
            return votes;
        }
        let oldest = now_ms().saturating_sub(DAY_MS);
        let mut last: BTreeMap<&str, (u64, EpochId)> = BTreeMap::new();
        let mut lasting = BTreeSet::new();
        for (device, times) in &self.heard {
            let mut trees: BTreeMap<EpochId, (u64, u64)> = BTreeMap::new();
            for (epoch, (from, to)) in times.iter().filter(|(epoch, _)| graph.contains_key(*epoch))
            {
                let tree = trees.entry(head::root(graph, *epoch)).or_insert((*from, *to));
                *tree = (tree.0.min(*from), tree.1.max(*to));
            }
            for (root, (_, to)) in trees.iter().filter(|(_, (_, to))| *to >= oldest) {
                let latest = last.entry(&device.0).or_insert((*to, *root));
                *latest = (*latest).max((*to, *root));
            }
            if let [(root, (from, to))] = &*trees.into_iter().collect::<Vec<_>>()
                && device != own
                && to - from >= DAY_MS
            {
                lasting.insert(*root);
            }
        }
        let is_here = |user: &&str| self.joined.contains(*user);
        for (_, (_, root)) in last.into_iter().filter(|(user, _)| is_here(user)) {
            let count = votes.entry(root).or_insert(Votes::Some(0));
            if let Votes::Some(count) = count {
                *count += 1;
            }
        }
        if let Some(head) = self.last_head.filter(|head| graph.contains_key(head)) {
            let count = votes.entry(head::root(graph, head)).or_insert(Votes::Some(1));
            *count = (*count).max(Votes::Some(1));
        }
        votes.extend(lasting.into_iter().map(|root| (root, Votes::Lasting)));
        votes
    }

    /// Chooses the head (E4); none if this device is in no epoch.
    pub fn choose_head(&mut self, devices: &Devices, own: &Device) -> Option<EpochId> {
        let mut graph: Graph = self
            .nodes()
            .map(|node| (node.id, Node { group: self.place_of(node.id), ..node.clone() }))
            .collect();
        let removals = || self.removals.iter().map(|removal| &removal.node);
        let makers = graph.values().chain(removals()).map(|node| &node.maker);
        let is_out = |maker: &&Maker| maker.is_impostor || self.is_outsider(devices, &maker.device);
        let outsiders: BTreeSet<Maker> = makers.filter(is_out).cloned().collect();
        // Comparison 2 asks whether a removal comes before an epoch by the others.
        let mut with_removals = graph.clone();
        with_removals.extend(removals().map(|node| (node.id, node.clone())));
        let votes = self.votes(&with_removals, devices, own);
        let mut passed: Vec<&Removal> = Vec::new();
        for id in head::order(&with_removals, &votes, &outsiders) {
            passed.extend(self.removals.iter().filter(|removal| removal.node.id == id));
            if let Some(node) = graph.get_mut(&id) {
                node.left = passed.iter().any(|removal| removal.before.contains(&id));
            }
        }
        let head = head::order(&graph, &votes, &outsiders).first().copied();
        self.last_head = head;
        head
    }

    fn place_of(&self, id: EpochId) -> Place {
        self.epochs.get(&id).map_or(Place::Unnamed, |epoch| self.place(&epoch.group_id))
    }

    /// Whether what would be the head is left: the device was removed.
    pub fn is_left(&self, head: EpochId) -> bool {
        self.removals.iter().any(|removal| removal.node.parent == Some(head))
    }

    /// The claims of epochs that come before an epoch of the same group and that this device is not
    /// in, first the one that comes first (E14).
    pub fn claims_ahead_of(&self, head: EpochId) -> Vec<(String, Claim)> {
        let Some(epoch) = self.epochs.get(&head) else { return Vec::new() };
        let is_ahead = |claim: &&Claim| {
            claim.group_id == epoch.group_id
                && (Reverse(claim.number), claim.id) < (Reverse(epoch.number), head)
                && !self.epochs.contains_key(&claim.id)
        };
        let mut ahead: Vec<(String, Claim)> = self
            .claims
            .iter()
            .filter(|(_, claim)| is_ahead(claim))
            .map(|(event, claim)| (event.clone(), claim.clone()))
            .collect();
        ahead.sort_by_key(|(_, claim)| (Reverse(claim.number), claim.id));
        ahead
    }

    /// The ends of other branches of the head's group (E10).
    pub fn other_ends(&self, head: EpochId) -> Vec<(String, Device)> {
        let parents: BTreeSet<_> = self.nodes().filter_map(|node| node.parent).collect();
        let group = self.epochs.get(&head).map(|epoch| &epoch.group_id);
        let ends = self.epochs.iter().filter(|(id, epoch)| {
            epoch.node.is_some()
                && **id != head
                && !parents.contains(*id)
                && Some(&epoch.group_id) == group
        });
        ends.map(|(_, epoch)| (epoch.number.to_string(), epoch.creator.clone())).collect()
    }

    /// An epoch that this device is in.
    pub fn epoch(&mut self, id: EpochId) -> Result<&mut Epoch> {
        self.epochs.get_mut(&id).or_missing("epoch")
    }

    /// The texts that were read, in the order in which they became readable.
    pub fn texts(&self) -> Vec<&str> {
        let messages = self.read.iter().filter(|read| read.kind == "m.room.message");
        messages.filter_map(|read| read.content["body"].as_str()).collect()
    }

    /// Whether this user was read saying this.
    pub fn was_said_by(&self, user: &str, text: &str) -> bool {
        self.read.iter().any(|read| read.sender.0 == user && read.content["body"] == text)
    }
}
