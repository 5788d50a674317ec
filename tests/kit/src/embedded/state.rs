//! What the embedded homeserver knows: accounts, devices, rooms and one stream of positions.
//!
//! Everything lives in one [`World`] behind one mutex, so each request is atomic and the order of
//! changes is total: every change takes the next position, and a sync token is such a position.
//! Nothing here speaks HTTP; the modules beside it read and change the world under its lock.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Instant,
};

use axum::body::Bytes;
use serde_json::{Map, Value, json};

use super::{
    account_data::AccountData, limits::Limits, media::DEFAULT_LIMIT, push::PushRules,
    receipts::Receipt, room_keys::Backup, sliding_sync::Connections, sync::SentMembers,
};

/// How many members a room without a name is called after.
const HEROES: usize = 5;

/// All that the server remembers.
pub(super) struct World {
    pub server_name: String,
    /// The position of the latest change.
    pub position: u64,
    pub users: BTreeMap<String, User>,
    /// Access token to (user, device).
    pub tokens: HashMap<String, (String, String)>,
    pub rooms: BTreeMap<String, Room>,
    /// By media id.
    pub media: HashMap<String, Media>,
    /// The largest upload, in bytes.
    pub upload_limit: usize,
    /// Whose device list changed, and when.
    pub device_changes: Vec<(u64, String)>,
    /// Whose master key a user has signed, in the order of positions: the signer, who alone is
    /// told, and the other.
    pub signed_users: Vec<(u64, String, String)>,
    /// Answers by (user, device, request path), so that a transaction id has effect once.
    pub answers: HashMap<(String, String, String), Value>,
    /// Recent sync answers by device, for requests that are repeated.
    pub recent_syncs: HashMap<(String, String), VecDeque<RecentSync>>,
    /// Users whose to-device messages wait until a test releases them.
    pub held_inboxes: BTreeSet<String>,
    /// Users who get each timeline in reverse order.
    pub reversed_timelines: BTreeSet<String>,
    /// The timeline length of a sync whose filter does not say one.
    pub default_timeline_limit: usize,
    /// What each sliding sync connection of each device has been sent.
    pub connections: Connections,
    /// The members that each lazily loading device has been sent by `/sync`.
    pub sent_members: HashMap<(String, String), SentMembers>,
    /// The limits on how often users may send, where a test has switched them on.
    pub limits: Option<Limits>,
    /// The sessions in which somebody was asked who they are.
    pub auth_sessions: BTreeSet<String>,
}

/// An account.
pub(super) struct User {
    pub password: String,
    pub devices: BTreeMap<String, Device>,
    /// `master_key`, `self_signing_key` and `user_signing_key` as uploaded.
    pub cross_signing: BTreeMap<String, Value>,
    /// The signatures of other users' master keys, by user and key id: for this user's eyes only.
    pub signed_others: BTreeMap<String, Map<String, Value>>,
    /// The versions of the key backup that were not deleted, the current one last.
    pub backups: Vec<Backup>,
    /// How many versions there ever were.
    pub backup_versions: u64,
    pub account_data: AccountData,
    pub push_rules: PushRules,
}

/// A device of an account.
#[derive(Default)]
pub(super) struct Device {
    pub display_name: Option<String>,
    /// `device_keys` as uploaded.
    pub keys: Option<Value>,
    /// The owner's signatures of these keys, by key id. They stay where the keys are replaced.
    pub cross_signatures: Map<String, Value>,
    pub one_time_keys: Vec<OneTimeKey>,
    /// By algorithm.
    pub fallback_keys: BTreeMap<String, FallbackKey>,
    /// To-device events that no later sync has acknowledged, by position.
    pub inbox: Vec<(u64, Value)>,
    /// To-device events that a test holds back.
    pub held: Vec<Value>,
}

/// A one-time key that nobody has claimed.
pub(super) struct OneTimeKey {
    pub algorithm: String,
    pub id: String,
    pub key: Value,
}

/// A device's fallback key of one algorithm.
pub(super) struct FallbackKey {
    pub id: String,
    pub key: Value,
    pub used: bool,
}

/// A room: its events in the server's order.
pub(super) struct Room {
    pub id: String,
    /// Room version 12 and later: creators stand above every power level.
    pub creators_are_supreme: bool,
    pub events: Vec<Event>,
    /// The index of the current event of each (type, state key).
    pub state: BTreeMap<(String, String), usize>,
    /// How far each user has read.
    pub receipts: BTreeMap<String, Receipt>,
}

/// An event of a room.
pub(super) struct Event {
    pub position: u64,
    pub event_id: String,
    pub event_type: String,
    pub sender: String,
    pub state_key: Option<String>,
    pub content: Value,
    pub origin_server_ts: u64,
    /// The state event that this one replaced.
    pub replaces: Option<usize>,
    /// (user, device, transaction id) of the request that sent it.
    pub transaction: Option<(String, String, String)>,
}

/// A blob of the media repository.
pub(super) struct Media {
    pub content_type: String,
    pub bytes: Bytes,
}

/// A sync answer that a repeated request gets again.
pub(super) struct RecentSync {
    /// The request's query.
    pub query: BTreeMap<String, String>,
    pub answered: Instant,
    pub answer: Value,
}

impl World {
    pub fn new(server_name: &str) -> Self {
        Self {
            server_name: server_name.to_owned(),
            position: 1,
            users: BTreeMap::new(),
            tokens: HashMap::new(),
            rooms: BTreeMap::new(),
            media: HashMap::new(),
            upload_limit: DEFAULT_LIMIT,
            device_changes: Vec::new(),
            signed_users: Vec::new(),
            answers: HashMap::new(),
            recent_syncs: HashMap::new(),
            held_inboxes: BTreeSet::new(),
            reversed_timelines: BTreeSet::new(),
            default_timeline_limit: 10,
            connections: Connections::default(),
            sent_members: HashMap::new(),
            limits: None,
            auth_sessions: BTreeSet::new(),
        }
    }

    /// Takes the next position for a change.
    pub fn advance(&mut self) -> u64 {
        self.position += 1;
        self.position
    }

    /// Notes that a user's device list is no longer what others know.
    pub fn device_list_changed(&mut self, user_id: &str) {
        let position = self.advance();
        self.device_changes.push((position, user_id.to_owned()));
    }

    /// Tells the signer, and nobody else, that there is something new about a user.
    pub fn user_signed(&mut self, signer: &str, user_id: &str) {
        let position = self.advance();
        self.signed_users.push((position, signer.to_owned(), user_id.to_owned()));
    }

    pub fn device_mut(&mut self, user_id: &str, device_id: &str) -> Option<&mut Device> {
        self.users.get_mut(user_id)?.devices.get_mut(device_id)
    }

    pub fn device(&self, user_id: &str, device_id: &str) -> Option<&Device> {
        self.users.get(user_id)?.devices.get(device_id)
    }

    /// Puts a to-device event into a device's inbox, or aside while that user's inbox is held.
    pub fn deliver(&mut self, user_id: &str, device_id: &str, event: Value) {
        let held = self.held_inboxes.contains(user_id);
        let position = self.advance();
        if let Some(device) = self.device_mut(user_id, device_id) {
            match held {
                true => device.held.push(event),
                false => device.inbox.push((position, event)),
            }
        }
    }

    /// Deletes devices with their tokens and keys.
    pub fn delete_devices(&mut self, user_id: &str, device_ids: &[String]) {
        let Some(user) = self.users.get_mut(user_id) else {
            return;
        };
        let before = user.devices.len();
        user.devices.retain(|id, _| !device_ids.contains(id));
        let changed = user.devices.len() != before;
        self.tokens.retain(|_, (user, device)| user != user_id || !device_ids.contains(device));
        if changed {
            self.device_list_changed(user_id);
        }
    }

    /// Whether two users are joined to a room together now.
    pub fn share_a_room(&self, one: &str, other: &str) -> bool {
        self.rooms.values().any(|room| {
            room.membership(one) == Some("join") && room.membership(other) == Some("join")
        })
    }
}

impl User {
    pub fn new(user_id: &str, password: String) -> Self {
        Self {
            password,
            devices: BTreeMap::new(),
            cross_signing: BTreeMap::new(),
            signed_others: BTreeMap::new(),
            backups: Vec::new(),
            backup_versions: 0,
            account_data: AccountData::default(),
            push_rules: PushRules::of(user_id),
        }
    }
}

impl Room {
    pub fn new(id: &str, creators_are_supreme: bool) -> Self {
        Self {
            id: id.to_owned(),
            creators_are_supreme,
            events: Vec::new(),
            state: BTreeMap::new(),
            receipts: BTreeMap::new(),
        }
    }

    pub fn state_event(&self, event_type: &str, state_key: &str) -> Option<&Event> {
        let index = self.state.get(&(event_type.to_owned(), state_key.to_owned()))?;
        self.events.get(*index)
    }

    pub fn state_content(&self, event_type: &str, state_key: &str) -> Option<&Value> {
        self.state_event(event_type, state_key).map(|event| &event.content)
    }

    /// A user's membership now.
    pub fn membership(&self, user_id: &str) -> Option<&str> {
        self.state_content("m.room.member", user_id)?.get("membership")?.as_str()
    }

    /// A user's membership as of a position.
    pub fn membership_at(&self, user_id: &str, position: u64) -> Option<&str> {
        let until = self.events.get(..self.end_at(position))?;
        until.iter().rfind(|event| event.is_membership_of(user_id))?.membership()
    }

    /// Whether a user is joined, and was not all the time since a position.
    pub fn newly_joined(&self, user_id: &str, since: u64) -> bool {
        let joined = self.state_event("m.room.member", user_id);
        let joined = joined.filter(|event| event.membership() == Some("join"));
        // A membership that has not changed since needs no look at the past.
        joined.is_some_and(|event| event.position > since)
            && (self.membership_at(user_id, since) != Some("join")
                || self.events_since(since).any(|event| {
                    event.is_membership_of(user_id) && event.membership() != Some("join")
                }))
    }

    /// Whether a user was joined at a position or has been since.
    pub fn was_joined_since(&self, user_id: &str, since: u64) -> bool {
        self.membership_at(user_id, since) == Some("join") || self.has_come_since(user_id, since)
    }

    /// Whether a user has joined since a position, whatever came then.
    pub fn has_come_since(&self, user_id: &str, since: u64) -> bool {
        self.events_since(since)
            .any(|event| event.is_membership_of(user_id) && event.membership() == Some("join"))
    }

    /// What has happened since a position.
    pub fn events_since(&self, position: u64) -> impl Iterator<Item = &Event> {
        self.events.iter().skip(self.end_at(position))
    }

    /// How many events there were as of a position.
    pub fn end_at(&self, position: u64) -> usize {
        self.events.partition_point(|event| event.position <= position)
    }

    /// The members of this membership now, in the order in which they came to it.
    pub fn members_with<'a>(&'a self, membership: &'a str) -> impl Iterator<Item = &'a Event> {
        let mut indexes: Vec<usize> = self
            .state
            .iter()
            .filter(|((event_type, _), _)| event_type == "m.room.member")
            .map(|(_, index)| *index)
            .collect();
        indexes.sort_unstable();
        let events = indexes.into_iter().filter_map(|index| self.events.get(index));
        events.filter(move |event| event.membership() == Some(membership))
    }

    /// The members after whom a room without a name is called.
    pub fn heroes(&self, me: &str) -> Vec<&Event> {
        let others = |membership| {
            let members = self.members_with(membership);
            members.filter(|event| event.state_key.as_deref() != Some(me))
        };
        let here: Vec<&Event> = others("join").chain(others("invite")).take(HEROES).collect();
        match here.is_empty() {
            true => others("leave").chain(others("ban")).take(HEROES).collect(),
            false => here,
        }
    }

    /// The state before the event at `end`, as indexes into `events`.
    pub fn state_before(&self, end: usize) -> BTreeMap<(&str, &str), usize> {
        let mut state = BTreeMap::new();
        for (index, event) in self.events.iter().take(end).enumerate() {
            if let Some(state_key) = &event.state_key {
                state.insert((event.event_type.as_str(), state_key.as_str()), index);
            }
        }
        state
    }

    /// The last position a user may read: nothing for one who never joined.
    pub fn readable_until(&self, user_id: &str) -> Option<u64> {
        if self.membership(user_id) == Some("join") {
            return Some(u64::MAX);
        }
        let mut joined = false;
        let mut until = None;
        for event in self.events.iter().filter(|event| event.is_membership_of(user_id)) {
            let now_joined = event.content.get("membership") == Some(&json!("join"));
            if joined && !now_joined {
                until = Some(event.position);
            }
            joined = now_joined;
        }
        until
    }

    /// Appends an event. Access has been checked by the caller.
    pub fn append(&mut self, event: Event) -> String {
        let event_id = event.event_id.clone();
        if let Some(state_key) = &event.state_key {
            let key = (event.event_type.clone(), state_key.clone());
            self.state.insert(key, self.events.len());
        }
        self.events.push(event);
        event_id
    }
}

impl Event {
    /// What a membership event says.
    pub fn membership(&self) -> Option<&str> {
        self.content.get("membership")?.as_str()
    }

    /// The event as a key of the state.
    pub fn key_in_state(&self) -> Option<(&str, &str)> {
        Some((self.event_type.as_str(), self.state_key.as_deref()?))
    }

    pub fn is_membership_of(&self, user_id: &str) -> bool {
        self.event_type == "m.room.member" && self.state_key.as_deref() == Some(user_id)
    }
}
