//! One homeserver's own data.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{DeviceList, Event, Name, Reply, sliding::Connection};

/// A device, on its own server.
#[derive(Clone, Default)]
pub(super) struct Device {
    /// `device_keys` as they were uploaded.
    pub(super) keys: Option<Arc<str>>,
    /// Key packages by key id.
    pub(super) one_time: BTreeMap<String, Arc<str>>,
    /// By algorithm: key id, value, and whether it has been handed out.
    pub(super) fallback: BTreeMap<String, (String, Arc<str>, bool)>,
    /// To-device events that were not acknowledged yet, with their positions.
    pub(super) inbox: Vec<(u64, Arc<str>)>,
}

/// Somebody's device list changed, or they are no longer of interest.
#[derive(Clone)]
pub(super) struct ListChange {
    pub(super) position: u64,
    pub(super) user: usize,
    /// Whom it concerns; nothing means everybody who shares the room with the user.
    pub(super) audience: Option<usize>,
    pub(super) left: bool,
}

/// What a server knows of an event it has.
#[derive(Clone, Copy)]
pub(super) struct Known {
    /// Whether clients see it.
    pub(super) shown: bool,
    /// When it came, by the clock.
    pub(super) at_ms: u64,
}

/// One homeserver.
#[derive(Clone)]
pub(super) struct Server {
    /// The position of the newest thing that a sync can show.
    pub(super) position: u64,
    /// What clients see of the room, in the order in which this server got it.
    pub(super) timeline: Vec<(u64, Arc<Event>)>,
    /// Events it has, in whatever order.
    pub(super) known: BTreeMap<String, Known>,
    /// The room's state by type and key.
    pub(super) state: BTreeMap<(String, String), Arc<Event>>,
    pub(super) depth: u64,
    pub(super) devices: BTreeMap<Name, Device>,
    /// Own users' device lists; and the others', as far as they were asked for.
    pub(super) lists: BTreeMap<usize, DeviceList>,
    /// Others' lists that have to be asked for anew.
    pub(super) stale: BTreeSet<usize>,
    pub(super) changes: Vec<ListChange>,
    pub(super) media: BTreeMap<String, Arc<[u8]>>,
    /// What was answered to a device's request with a transaction id.
    pub(super) transactions: BTreeMap<(Name, String), Reply>,
    /// What devices that sync by sliding sync were told of the room.
    pub(super) connections: BTreeMap<Name, Connection>,
}

impl Server {
    pub(super) fn new() -> Self {
        Self {
            position: 0,
            timeline: Vec::new(),
            known: BTreeMap::new(),
            state: BTreeMap::new(),
            depth: 0,
            devices: BTreeMap::new(),
            lists: BTreeMap::new(),
            stale: BTreeSet::new(),
            changes: Vec::new(),
            media: BTreeMap::new(),
            transactions: BTreeMap::new(),
            connections: BTreeMap::new(),
        }
    }

    pub(super) fn next_position(&mut self) -> u64 {
        self.position += 1;
        self.position
    }

    /// What a user is to the room, as this server sees it.
    pub(super) fn membership(&self, user_id: &str) -> Option<&str> {
        let key = ("m.room.member".to_owned(), user_id.to_owned());
        self.state.get(&key)?.membership.as_deref()
    }

    pub(super) fn is_joined(&self, user_id: &str) -> bool {
        self.membership(user_id) == Some("join")
    }

    /// How many users are joined, as this server sees it.
    pub(super) fn joined_count(&self) -> usize {
        self.state.values().filter(|event| event.is_membership("join")).count()
    }

    /// Tells those who see the user's devices that the list is another now.
    pub(super) fn list_changed(&mut self, user: usize, audience: Option<usize>, left: bool) {
        let position = self.next_position();
        self.changes.push(ListChange { position, user, audience, left });
    }
}
