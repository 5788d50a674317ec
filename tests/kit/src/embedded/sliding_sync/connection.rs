//! What each connection of a device has been sent. A device has as many connections as it names,
//! and none knows of another.
//!
//! A connection keeps what it had sent by the answer that the device has come back from, and by the
//! answers to that request: a request may be repeated, and is then answered as the first time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::required_state::RoomConfig;

/// How far a connection has been told of something in a room.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Everything, as of the connection's position.
    Live,
    /// Everything up to this position.
    Until(u64),
}

/// What a connection has been told of each room, in one respect.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Rooms(BTreeMap<String, Told>);

impl Rooms {
    pub fn told(&self, room_id: &str) -> Option<Told> {
        self.0.get(room_id).copied()
    }

    pub fn sent(&mut self, room_id: &str) {
        self.0.insert(room_id.to_owned(), Told::Live);
    }

    /// Something has happened since a position that the connection is not told now.
    pub fn passed_over(&mut self, room_id: &str, since: u64) {
        if let Some(told) = self.0.get_mut(room_id)
            && *told == Told::Live
        {
            *told = Told::Until(since);
        }
    }

    /// The rooms of which everything has been told.
    pub fn live(&self) -> impl Iterator<Item = &str> {
        let live = self.0.iter().filter(|(_, told)| **told == Told::Live);
        live.map(|(room_id, _)| room_id.as_str())
    }
}

/// What a connection has been sent up to one of its answers.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Sent {
    pub rooms: Rooms,
    pub account_data: Rooms,
    pub receipts: Rooms,
    /// What of each room was wanted.
    pub configs: BTreeMap<String, RoomConfig>,
    /// The members of each room that came lazily.
    pub lazy_members: BTreeMap<String, BTreeSet<String>>,
}

/// The connections of all devices.
#[derive(Default)]
pub(in super::super) struct Connections {
    last_position: u64,
    /// By user, device and connection id: what had been sent at each position.
    positions: HashMap<(String, String, String), BTreeMap<u64, Sent>>,
}

/// A user, a device and a connection's id.
pub(super) type Key = (String, String, String);

impl Connections {
    /// What a connection has been sent at a position from which the device comes back; nothing
    /// where the position is not known. Position 0 is the beginning.
    pub(super) fn resume(&mut self, key: &Key, position: u64) -> Option<Sent> {
        if position == 0 {
            return Some(Sent::default());
        }
        let positions = self.positions.get_mut(key)?;
        let sent = positions.get(&position)?.clone();
        positions.retain(|known, _| *known == position);
        Some(sent)
    }

    /// Forgets the connections of a user.
    pub fn expire(&mut self, user_id: &str) {
        self.positions.retain(|(owner, _, _), _| owner != user_id);
    }

    /// Notes what an answer to a request from `position` has sent, and gives its position.
    pub(super) fn record(&mut self, key: &Key, position: u64, before: &Sent, sent: Sent) -> u64 {
        if *before == sent {
            return position;
        }
        self.last_position += 1;
        let positions = self.positions.entry(key.clone()).or_default();
        if position == 0 {
            positions.clear();
        }
        positions.insert(self.last_position, sent);
        self.last_position
    }
}
