//! How homeservers lie to their own devices, until the world heals.
//!
//! What they do to the room's state would stay wrong for good, so they bend what belongs to the
//! group alone: its events, and the lists of devices and their keys.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use matrix_mls::SyncChanges;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Name, Reply, USERS, World, user_id};

/// How many earlier events a sync brings again.
const AGAIN: usize = 12;

/// A device that a server lists beside the true ones, or in place of one.
#[derive(Clone)]
pub(in crate::sim) struct Listed {
    /// `device_keys`.
    pub(in crate::sim) keys: Arc<str>,
    /// A key package that is handed out for it: key id and value.
    pub(in crate::sim) package: Option<(String, Arc<str>)>,
}

/// The keys in an answer to `/keys/query`.
#[derive(Deserialize)]
struct KeyAnswer {
    device_keys: BTreeMap<String, BTreeMap<String, Box<RawValue>>>,
}

/// How an event of the group is brought to a device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) enum Order {
    Backwards,
    Shuffled,
    Twice,
}

/// What servers do that they should not.
#[derive(Clone, Default)]
pub(super) struct Bends {
    /// How many of the next events are kept from a device.
    hides: BTreeMap<Name, u8>,
    /// The events that are.
    hidden: BTreeSet<(Name, String)>,
    orders: BTreeMap<Name, Order>,
    /// Devices that a server lists beside the true ones.
    added: BTreeMap<(usize, Name), Listed>,
    /// Keys that a server lists in place of the true ones.
    swapped: BTreeMap<(usize, Name), Listed>,
    /// To whom which device's true keys were told.
    told: BTreeSet<(Name, Name)>,
    /// Servers that answer as they did before.
    old: BTreeSet<usize>,
    /// The first answer to each question.
    answers: BTreeMap<(Name, String, Vec<u8>), Reply>,
    /// Devices that do not exist, with where each was listed and until which position.
    ghosts: BTreeMap<Name, BTreeMap<usize, Option<u64>>>,
    /// The last keys of devices that are gone.
    gone: BTreeMap<Name, Arc<str>>,
}

impl World {
    /// A server keeps the next events of the group from a device.
    pub(in crate::sim) fn hide(&mut self, from: &Name, events: u8) {
        self.bends.hides.insert(from.clone(), events);
    }

    /// A server brings a device the events of the group in another way.
    pub(in crate::sim) fn reorder(&mut self, to: &Name, order: Order) {
        self.bends.orders.insert(to.clone(), order);
    }

    /// A server lists a device that is none.
    pub(in crate::sim) fn list(&mut self, server: usize, name: &Name, listed: Listed) {
        let places = self.bends.ghosts.entry(name.clone()).or_default();
        places.insert(server, None);
        self.add_to_list(server, name, listed);
    }

    fn add_to_list(&mut self, server: usize, name: &Name, listed: Listed) {
        self.bends.added.insert((server, name.clone()), listed);
        self.servers[server].list_changed(name.user, None, false);
    }

    /// A server lists other keys of a device.
    pub(in crate::sim) fn swap(&mut self, server: usize, name: &Name, listed: Listed) {
        self.bends.swapped.insert((server, name.clone()), listed);
        self.servers[server].list_changed(name.user, None, false);
    }

    /// A server lists the devices that were logged out; how many there are.
    pub(in crate::sim) fn list_gone(&mut self, server: usize) -> usize {
        let gone = self.bends.gone.clone();
        for (name, keys) in &gone {
            self.add_to_list(server, name, Listed { keys: keys.clone(), package: None });
        }
        gone.len()
    }

    /// A server answers from now on what it answered first.
    pub(in crate::sim) fn answer_as_before(&mut self, server: usize) {
        self.bends.old.insert(server);
    }

    /// A device is gone that had these keys.
    pub(super) fn note_gone(&mut self, name: &Name, keys: Arc<str>) {
        self.bends.gone.insert(name.clone(), keys);
    }

    /// There is no such device, whoever says so.
    pub(in crate::sim) fn note_ghost(&mut self, name: &Name) {
        self.bends.ghosts.entry(name.clone()).or_default();
    }

    /// Whether a device does not exist, and a device with this place in its syncs was told nothing
    /// else.
    pub(in crate::sim) fn is_known_ghost(
        &self,
        name: &Name,
        server: usize,
        since: Option<u64>,
    ) -> bool {
        let Some(places) = self.bends.ghosts.get(name) else { return false };
        match places.get(&server) {
            None => true,
            Some(None) => false,
            Some(Some(until)) => since.is_some_and(|since| since >= *until),
        }
    }

    /// All servers tell the truth again, and say that they do.
    pub(in crate::sim) fn straighten(&mut self) {
        let bends = std::mem::take(&mut self.bends);
        for (server, name) in bends.added.keys().chain(bends.swapped.keys()) {
            self.servers[*server].list_changed(name.user, None, false);
        }
        for server in &bends.old {
            for user in 0..USERS.len() {
                self.servers[*server].list_changed(user, None, false);
            }
        }
        let mut ghosts = bends.ghosts;
        for (server, until) in ghosts.values_mut().flat_map(BTreeMap::iter_mut) {
            until.get_or_insert(self.servers[*server].position);
        }
        let Bends { told, answers, gone, .. } = bends;
        self.bends = Bends { ghosts, told, answers, gone, ..Bends::default() };
    }

    /// Whether a server keeps an event from a device.
    pub(super) fn is_hidden(&self, from: &Name, event_id: &str) -> bool {
        !self.bends.hidden.is_empty()
            && self.bends.hidden.contains(&(from.clone(), event_id.to_owned()))
    }

    /// The answer to a question that a machine has asked before, where the server gives that again.
    pub(super) fn old_answer(&self, from: &Name, path: &str, body: &[u8]) -> Option<Reply> {
        if !self.bends.old.contains(&from.server()) {
            return None;
        }
        self.bends.answers.get(&(from.clone(), path.to_owned(), body.to_vec())).cloned()
    }

    /// Remembers the first answer to a question.
    pub(super) fn note_answer(&mut self, from: &Name, path: &str, body: &[u8], reply: &Reply) {
        let key = (from.clone(), path.to_owned(), body.to_vec());
        self.bends.answers.entry(key).or_insert_with(|| reply.clone());
    }

    /// The devices of a user as a server tells them to a device.
    pub(super) fn bend_list(
        &self,
        to: &Name,
        user: usize,
        mut devices: BTreeMap<String, Arc<str>>,
    ) -> BTreeMap<String, Arc<str>> {
        if !self.is_hostile {
            return devices;
        }
        let server = to.server();
        for (device, keys) in &mut devices {
            let name = Name { user, device: device.clone() };
            let told = (to.clone(), name.clone());
            if let Some(other) = self.bends.swapped.get(&(server, name))
                && self.bends.told.contains(&told)
            {
                *keys = other.keys.clone();
            }
        }
        for ((at, name), listed) in &self.bends.added {
            if *at == server && name.user == user {
                devices.entry(name.device.clone()).or_insert_with(|| listed.keys.clone());
            }
        }
        devices
    }

    /// A device has taken an answer with others' keys. The true ones among them count for good.
    pub(in crate::sim) fn note_told(&mut self, to: &Name, answer: &[u8]) {
        if !self.is_hostile {
            return;
        }
        let Ok(answer) = serde_json::from_slice::<KeyAnswer>(answer) else { return };
        for (user, devices) in answer.device_keys {
            let Some(number) = (0..USERS.len()).find(|number| user_id(*number) == user) else {
                continue;
            };
            let list = self.servers[to.server()].lists.get(&number);
            for (device, keys) in devices {
                let known = list.and_then(|list| list.devices.get(&device));
                if known.is_some_and(|known| **known == *keys.get()) {
                    self.bends.told.insert((to.clone(), Name { user: number, device }));
                }
            }
        }
    }

    /// The key package that a server has of its own for a device.
    pub(super) fn bent_package(&self, to: &Name, of: &Name) -> Option<(String, Arc<str>)> {
        let place = (to.server(), of.clone());
        let swapped = self
            .bends
            .swapped
            .get(&place)
            .filter(|_| self.bends.told.contains(&(to.clone(), of.clone())));
        swapped.or(self.bends.added.get(&place))?.package.clone()
    }

    /// What a sync brings, as the server chooses to bring it.
    pub(super) fn bend_sync(&mut self, to: &Name, changes: &mut SyncChanges, next: u64) {
        if !self.is_hostile {
            return;
        }
        let is_group = |json: &String| json.contains(r#""type":"m.room.encrypted""#);
        let order = self.bends.orders.get(to).copied();
        for room in &mut changes.rooms {
            if let Some(left) = self.bends.hides.get_mut(to) {
                room.timeline.retain(|json| {
                    if *left == 0 || !is_group(json) {
                        return true;
                    }
                    *left -= 1;
                    let event: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
                    let id = event["event_id"].as_str().unwrap_or_default().to_owned();
                    self.bends.hidden.insert((to.clone(), id));
                    false
                });
            }
            let places: Vec<usize> =
                (0..room.timeline.len()).filter(|at| is_group(&room.timeline[*at])).collect();
            let mut events: Vec<String> =
                places.iter().map(|at| room.timeline[*at].clone()).collect();
            match order {
                Some(Order::Backwards) => events.reverse(),
                Some(Order::Shuffled) => {
                    let middle = events.len() / 2;
                    events.rotate_left(middle);
                    if events.len() > 2 {
                        events.swap(0, 1);
                    }
                }
                Some(Order::Twice) | None => {}
            }
            for (at, event) in places.iter().zip(&events) {
                room.timeline[*at].clone_from(event);
            }
            if order == Some(Order::Twice) {
                let here = &self.servers[to.server()].timeline;
                let earlier = here
                    .iter()
                    .rev()
                    .filter(|(position, event)| *position <= next && event.is_encrypted());
                let earlier = earlier.take(AGAIN).map(|(_, event)| event.shown_to(to, self.now_ms));
                let hidden = |json: &String| {
                    let mut hidden = self.bends.hidden.iter();
                    hidden.any(|(name, id)| name == to && json.contains(id.as_str()))
                };
                room.timeline.extend(events);
                room.timeline.extend(earlier.filter(|json| !hidden(json)));
            }
        }
    }
}
