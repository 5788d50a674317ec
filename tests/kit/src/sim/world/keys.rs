//! Device lists and key packages.
//!
//! A server knows its own users' lists. Another's it asks for when a device wants it, and keeps it
//! up to date from then on by what the other server sends, which may be late. Key packages are
//! claimed on the spot, where the link is up.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{Cargo, Name, Reply, USERS, World, server::Device, user_id};
use crate::sim::dice::Dice;

/// A user's published devices, with a number that grows with each change.
#[derive(Clone, Default)]
pub(in crate::sim) struct DeviceList {
    version: u64,
    pub(super) devices: BTreeMap<String, Arc<str>>,
}

#[derive(Deserialize)]
struct Upload {
    device_keys: Option<Box<RawValue>>,
    #[serde(default)]
    one_time_keys: BTreeMap<String, Box<RawValue>>,
    #[serde(default)]
    fallback_keys: BTreeMap<String, Box<RawValue>>,
}

fn user_number(id: &str) -> Option<usize> {
    (0..USERS.len()).find(|user| user_id(*user) == id)
}

fn algorithm(key_id: &str) -> &str {
    key_id.split(':').next().unwrap_or_default()
}

impl Device {
    /// How many one-time keys there are, by algorithm.
    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for key_id in self.one_time.keys() {
            *counts.entry(algorithm(key_id).to_owned()).or_default() += 1;
        }
        counts
    }

    /// The algorithms whose fallback key was not handed out.
    pub(super) fn unused_fallback_types(&self) -> Vec<String> {
        let unused = self.fallback.iter().filter(|(_, (_, _, used))| !used);
        unused.map(|(algorithm, _)| algorithm.clone()).collect()
    }

    fn claim(&mut self, wanted: &str) -> Option<(String, Arc<str>)> {
        let key_id = self.one_time.keys().find(|id| algorithm(id) == wanted).cloned();
        if let Some(key_id) = key_id {
            return self.one_time.remove(&key_id).map(|value| (key_id, value));
        }
        let (key_id, value, used) = self.fallback.get_mut(wanted)?;
        *used = true;
        Some((key_id.clone(), value.clone()))
    }
}

impl World {
    /// A user logs in with a new device.
    pub(in crate::sim) fn log_in(&mut self, name: &Name) {
        self.servers[name.server()].devices.insert(name.clone(), Device::default());
    }

    /// A device is deleted.
    pub(in crate::sim) fn log_out(&mut self, name: &Name, dice: &mut Dice) {
        let here = &mut self.servers[name.server()];
        here.connections.remove(name);
        let gone = here.devices.remove(name);
        if let Some(keys) = gone.as_ref().and_then(|device| device.keys.clone()) {
            self.note_gone(name, keys);
        }
        if gone.is_some_and(|device| device.keys.is_some()) {
            self.publish(name.user, dice);
        }
    }

    /// The devices of a user that have published their keys, as the user's own server knows them.
    pub(in crate::sim) fn published(&self, user: usize) -> Vec<String> {
        let devices = self.servers[USERS[user].1].devices.iter();
        let published = devices.filter(|(name, device)| name.user == user && device.keys.is_some());
        published.map(|(name, _)| name.device.clone()).collect()
    }

    /// Makes a user's list anew from the devices, and tells it.
    fn publish(&mut self, user: usize, dice: &mut Dice) {
        let server = USERS[user].1;
        let here = &mut self.servers[server];
        let devices = here.devices.iter().filter(|(name, _)| name.user == user);
        let devices = devices
            .filter_map(|(name, device)| Some((name.device.clone(), device.keys.clone()?)))
            .collect();
        let version = here.lists.get(&user).map_or(0, |list| list.version) + 1;
        let list = DeviceList { version, devices };
        here.lists.insert(user, list.clone());
        here.list_changed(user, None, false);
        self.broadcast(server, &Cargo::Devices { user, list }, dice);
    }

    /// A server hears that another's user has other devices.
    pub(super) fn take_device_list(&mut self, server: usize, user: usize, list: DeviceList) {
        let here = &mut self.servers[server];
        if here.lists.get(&user).is_some_and(|known| known.version >= list.version) {
            return;
        }
        here.lists.insert(user, list);
        here.list_changed(user, None, false);
    }

    pub(super) fn upload_keys(&mut self, from: &Name, body: &[u8], dice: &mut Dice) -> Reply {
        let Ok(upload) = serde_json::from_slice::<Upload>(body) else {
            return Reply::bad("M_BAD_JSON");
        };
        let here = &mut self.servers[from.server()];
        let Some(device) = here.devices.get_mut(from) else { return Reply::logged_out() };
        for (key_id, value) in upload.one_time_keys {
            device.one_time.insert(key_id, value.get().into());
        }
        for (key_id, value) in upload.fallback_keys {
            let algorithm = algorithm(&key_id).to_owned();
            device.fallback.insert(algorithm, (key_id, value.get().into(), false));
        }
        let counts = device.counts();
        let published = upload.device_keys.is_some_and(|keys| {
            let changed = device.keys.as_deref() != Some(keys.get());
            device.keys = Some(keys.get().into());
            changed
        });
        if published {
            self.publish(from.user, dice);
        }
        Reply::ok(&json!({ "one_time_key_counts": counts }))
    }

    /// A server's list of another's user is wrong from now on: the user has no devices. Tells
    /// whether that is news.
    pub(in crate::sim) fn mislead(&mut self, server: usize, user: usize) -> bool {
        let is_news = USERS[user].1 != server && self.lies.insert((server, user));
        if is_news {
            self.servers[server].list_changed(user, None, false);
        }
        is_news
    }

    /// All servers know the right lists, and tell those that were wrong; tells whether any was.
    pub(in crate::sim) fn tell_the_truth(&mut self) -> bool {
        let lies = std::mem::take(&mut self.lies);
        for (server, user) in &lies {
            self.servers[*server].list_changed(*user, None, false);
        }
        !lies.is_empty()
    }

    pub(super) fn query_keys(&mut self, from: &Name, body: &[u8]) -> Reply {
        let asked: Value = serde_json::from_slice(body).unwrap_or_default();
        let Some(asked) = asked["device_keys"].as_object() else { return Reply::bad("M_BAD_JSON") };
        let (mut found, mut failures) = (BTreeMap::new(), BTreeMap::new());
        let here = from.server();
        for user in asked.keys() {
            let Some(number) = user_number(user) else { continue };
            let home = USERS[number].1;
            if self.lies.contains(&(here, number)) {
                found.insert(user.clone(), BTreeMap::new());
                continue;
            }
            let known = &self.servers[here].lists;
            let is_fresh =
                known.contains_key(&number) && !self.servers[here].stale.contains(&number);
            if home != here && !is_fresh {
                if self.is_linked(here, home) {
                    let list = self.servers[home].lists.get(&number).cloned().unwrap_or_default();
                    self.servers[here].lists.insert(number, list);
                    self.servers[here].stale.remove(&number);
                } else {
                    failures.insert(super::SERVERS[home], json!({ "status": 503 }));
                }
            }
            if let Some(list) = self.servers[here].lists.get(&number).cloned() {
                let told = self.bend_list(from, number, list.devices.clone());
                let devices: BTreeMap<_, Box<RawValue>> = told
                    .into_iter()
                    .filter_map(|(device, keys)| {
                        Some((device, RawValue::from_string(keys.to_string()).ok()?))
                    })
                    .collect();
                found.insert(user.clone(), devices);
            }
        }
        Reply::ok(&serde_json::json!({ "device_keys": found, "failures": failures }))
    }

    pub(super) fn claim_keys(&mut self, from: &Name, body: &[u8]) -> Reply {
        let asked: Value = serde_json::from_slice(body).unwrap_or_default();
        let Some(asked) = asked["one_time_keys"].as_object() else {
            return Reply::bad("M_BAD_JSON");
        };
        let mut found = serde_json::Map::new();
        let mut failures = serde_json::Map::new();
        for (user, devices) in asked {
            let Some(number) = user_number(user) else { continue };
            let home = USERS[number].1;
            if !self.is_linked(from.server(), home) {
                failures.insert(super::SERVERS[home].to_owned(), json!({ "status": 503 }));
                continue;
            }
            let mut of_user = serde_json::Map::new();
            for (device, algorithm) in devices.as_object().into_iter().flatten() {
                let name = Name { user: number, device: device.clone() };
                let bent = self.bent_package(from, &name);
                let home = self.servers[home].devices.get_mut(&name);
                let claimed =
                    bent.or_else(|| home.and_then(|device| device.claim(algorithm.as_str()?)));
                if let Some((key_id, value)) = claimed {
                    let value: Value = serde_json::from_str(&value).unwrap_or_default();
                    of_user.insert(device.clone(), json!({ key_id: value }));
                }
            }
            found.insert(user.clone(), Value::Object(of_user));
        }
        Reply::ok(&json!({ "one_time_keys": found, "failures": failures }))
    }
}
