//! Which rooms a request is about: those of its lists' windows, and those it subscribes to.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    super::state::{Event, Room, World},
    connection::{Sent, Told},
    request::{Filters, List, Request},
    required_state::RoomConfig,
};

/// A room with which the user has to do.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub room: &'a Room,
    pub membership: &'a str,
    /// The user's own membership event.
    pub member_event: &'a Event,
    /// Whether the user has come since the request's position, or gone.
    pub newly_joined: bool,
    pub newly_left: bool,
}

impl<'a> Entry<'a> {
    fn of(room: &'a Room, me: &str, since: Option<u64>) -> Option<Self> {
        let member_event = room.state_event("m.room.member", me)?;
        let membership = member_event.membership()?;
        let newly_joined = since.is_some_and(|since| room.newly_joined(me, since));
        let newly = since.is_some_and(|since| member_event.position > since);
        let newly_left = newly && membership == "leave";
        Some(Self { room, membership, member_event, newly_joined, newly_left })
    }

    /// Whether lists have it: a room that the user has left is told of once, one that the user was
    /// put out of stays.
    fn is_listed(&self, me: &str) -> bool {
        self.membership != "leave" || self.newly_left || self.member_event.sender != me
    }

    /// The position of the last event that the user should see.
    fn activity(&self) -> u64 {
        match self.membership {
            "join" => self.room.events.last().map_or(0, |event| event.position),
            _ => self.member_event.position,
        }
    }

    pub fn has_updates_since(&self, position: u64) -> bool {
        self.room.events.last().is_some_and(|event| event.position > position)
    }
}

/// The rooms that a request is about.
#[derive(Default)]
pub(super) struct Interest<'a> {
    pub lists: BTreeMap<String, Value>,
    /// The rooms of each list's windows.
    pub windows: BTreeMap<String, BTreeSet<String>>,
    /// Every room that a list has or a subscription names, within a window or not.
    pub all: BTreeMap<String, Entry<'a>>,
    /// What is wanted of each room within a window or subscribed to.
    pub wanted: BTreeMap<String, RoomConfig>,
    pub direct: BTreeSet<String>,
}

impl<'a> Interest<'a> {
    pub fn of(world: &'a World, me: &str, request: &Request, since: Option<u64>) -> Self {
        let mut interest = Self { direct: direct_rooms(world, me), ..Self::default() };
        if request.lists.is_empty() && request.room_subscriptions.is_empty() {
            return interest;
        }
        let entries: Vec<Entry<'_>> =
            world.rooms.values().filter_map(|room| Entry::of(room, me, since)).collect();
        for (name, list) in &request.lists {
            let listed = entries.iter().filter(|entry| entry.is_listed(me));
            let mut listed: Vec<Entry<'_>> = listed
                .filter(|entry| list.filters.as_ref().is_none_or(|f| interest.passes(f, entry)))
                .copied()
                .collect();
            listed.sort_by_key(|entry| std::cmp::Reverse(entry.activity()));
            interest.list(name, list, &listed);
        }
        for (room_id, parameters) in &request.room_subscriptions {
            if let Some(entry) = entries.iter().find(|entry| entry.room.id == *room_id) {
                interest.all.insert(room_id.clone(), *entry);
                interest.want(room_id, &RoomConfig::of(parameters));
            }
        }
        interest
    }

    fn list(&mut self, name: &str, list: &List, listed: &[Entry<'a>]) {
        let config = RoomConfig::of(&list.parameters);
        let mut window = BTreeSet::new();
        let mut operations = Vec::new();
        for (first, last) in list.ranges.iter().flatten().copied() {
            let end = last.saturating_add(1).min(listed.len());
            let within = listed.get(first..end).unwrap_or_default();
            let ids: Vec<&String> = within.iter().map(|entry| &entry.room.id).collect();
            ids.iter().for_each(|room_id| self.want(room_id, &config));
            window.extend(ids.iter().map(|room_id| (*room_id).clone()));
            operations.push(json!({ "op": "SYNC", "range": [first, last], "room_ids": ids }));
        }
        self.all.extend(listed.iter().map(|entry| (entry.room.id.clone(), *entry)));
        self.windows.insert(name.to_owned(), window);
        let shown = json!({ "count": listed.len(), "ops": operations });
        self.lists.insert(name.to_owned(), shown);
    }

    fn want(&mut self, room_id: &str, config: &RoomConfig) {
        let wanted = self.wanted.entry(room_id.to_owned()).or_insert_with(|| config.clone());
        *wanted = wanted.combined(config);
    }

    fn passes(&self, filters: &Filters, entry: &Entry<'_>) -> bool {
        let room = entry.room;
        let is = |wanted: Option<bool>, is: bool| wanted.is_none_or(|wanted| wanted == is);
        let create = room.state_content("m.room.create", "");
        let kind = create.and_then(|content| content.get("type")?.as_str().map(str::to_owned));
        is(filters.is_dm, self.direct.contains(&room.id))
            && is(filters.is_encrypted, room.state_event("m.room.encryption", "").is_some())
            && is(filters.is_invite, entry.membership == "invite")
            && filters.room_types.as_ref().is_none_or(|types| types.contains(&kind))
            && !filters.not_room_types.as_ref().is_some_and(|types| types.contains(&kind))
    }

    /// The rooms of which there may be something to tell: of a connection's first request, all that
    /// are wanted.
    pub fn to_send(&self, sent: &Sent, since: Option<u64>) -> Vec<(Entry<'a>, &RoomConfig)> {
        let wanted = self.wanted.iter().filter_map(|(room_id, config)| {
            let entry = *self.all.get(room_id)?;
            let told_all = sent.rooms.told(room_id) == Some(Told::Live);
            let known = sent.configs.get(room_id);
            let wants_more = known.is_some_and(|known| known.combined(config) != *known);
            let is_new = since.is_none_or(|since| entry.has_updates_since(since));
            (is_new || wants_more || !told_all).then_some((entry, config))
        });
        wanted.collect()
    }
}

/// The rooms that the user has noted as direct chats.
fn direct_rooms(world: &World, me: &str) -> BTreeSet<String> {
    let user = world.users.get(me);
    let noted = user.and_then(|user| user.account_data.get(None, "m.direct"));
    let by_user = noted.and_then(Value::as_object).into_iter().flat_map(|map| map.values());
    let rooms = by_user.filter_map(Value::as_array).flatten();
    rooms.filter_map(|room_id| room_id.as_str().map(str::to_owned)).collect()
}
