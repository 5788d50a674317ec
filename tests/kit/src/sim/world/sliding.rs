//! Simplified sliding sync (MSC4186), as Synapse answers the two connections of Element X: one has
//! the rooms, the other to-device events and keys.
//!
//! The rooms' connection remembers what it has told by each answer that its device may come back
//! from. A position that it does not remember is refused, as after a restart of the server or a
//! week without a request. What a list tells of a room is the newest events and the state behind
//! them, members only as far as those events need them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Value, json, value::RawValue};

use super::{Event, Name, ROOM, World, server::Server};

/// After how long without a request a connection is forgotten, in milliseconds: seven days, as in
/// Synapse.
const FORGOTTEN_MS: u64 = 7 * 86_400_000;
/// How many to-device messages one answer brings at the most.
const INBOX_LIMIT: usize = 100;
const MEMBER: &str = "m.room.member";

/// The rooms' connection of a device.
#[derive(Clone, Default)]
pub(super) struct Connection {
    last: u64,
    /// By position: what had been told.
    told: BTreeMap<u64, Told>,
    used_ms: u64,
}

/// What a connection had told with an answer.
#[derive(Clone, Default)]
struct Told {
    /// The server's position then.
    position: u64,
    /// Up to where the room was told.
    room: Option<u64>,
    /// The members that were told since the timeline needed them.
    members: BTreeSet<String>,
}

/// The room as a user's request finds it.
struct View<'a> {
    server: &'a Server,
    to: &'a Name,
    now_ms: u64,
    me: String,
    is_joined: bool,
    /// Up to which position the user sees it.
    end: u64,
    /// From where it is told; nothing where all of it is.
    from: Option<u64>,
}

/// The events after a position, newest last.
struct Timeline<'a> {
    shown: Vec<&'a (u64, Arc<Event>)>,
    is_limited: bool,
}

impl World {
    /// The answer to a request for the rooms; nothing if the position is unknown.
    pub(in crate::sim) fn slide_rooms(
        &mut self,
        name: &Name,
        request: &Value,
        pos: Option<u64>,
    ) -> Option<Value> {
        let now_ms = self.now_ms;
        let here = &mut self.servers[name.server()];
        let mut connection = here.connections.remove(name).unwrap_or_default();
        let before = match pos {
            Some(pos) => {
                let is_old = now_ms.saturating_sub(connection.used_ms) > FORGOTTEN_MS;
                connection.told.get(&pos).filter(|_| !is_old).cloned()?
            }
            None => Told::default(),
        };
        // A request may be repeated, so its position stays until the next one is asked from.
        connection.told.retain(|known, _| Some(*known) == pos);
        let limit = request["lists"]["all_rooms"]["timeline_limit"].as_u64().unwrap_or(0);
        let since = pos.map(|_| before.position);
        let mut after = Told { position: here.position, ..before.clone() };
        let mut rooms = BTreeMap::new();
        let view = View::of(here, name, now_ms, since, &before);
        if let Some(view) = &view {
            rooms.extend(view.tell(since, limit, &before, &mut after).map(|told| (ROOM, told)));
            after.room = Some(here.position);
        }
        connection.last += 1;
        connection.used_ms = now_ms;
        connection.told.insert(connection.last, after);
        let answer = json!({
            "pos": connection.last.to_string(),
            "lists": { "all_rooms": { "count": u64::from(view.is_some()) } },
            "rooms": rooms,
            "extensions": {},
        });
        here.connections.insert(name.clone(), connection);
        Some(answer)
    }

    /// The answer to a request for to-device events and keys. Its position is the server's own.
    pub(in crate::sim) fn slide_keys(
        &mut self,
        name: &Name,
        request: &Value,
        pos: Option<u64>,
    ) -> Value {
        let here = &mut self.servers[name.server()];
        let position = here.position;
        let seen = &request["extensions"]["to_device"]["since"];
        let seen = seen.as_str().and_then(|seen| seen.parse::<u64>().ok()).unwrap_or(0);
        let (mut events, mut next, mut keys) = (Vec::new(), position, json!({}));
        if let Some(device) = here.devices.get_mut(name) {
            device.inbox.retain(|(position, _)| *position > seen);
            let page = device.inbox.iter().take(INBOX_LIMIT);
            events.extend(page.filter_map(|(_, json)| raw(json)));
            if let Some((last, _)) = device.inbox.get(INBOX_LIMIT - 1) {
                next = *last;
            }
            keys = json!({
                "device_one_time_keys_count": device.counts(),
                "device_unused_fallback_key_types": device.unused_fallback_types(),
            });
        }
        // A connection that begins is told of no lists.
        if let Some(since) = pos {
            let lists = here.device_lists(name.user, since);
            keys["device_lists"] = json!({ "changed": lists.changed, "left": lists.left });
        }
        let to_device = json!({ "next_batch": next.to_string(), "events": events });
        json!({
            "pos": position.to_string(),
            "rooms": {},
            "extensions": { "to_device": to_device, "e2ee": keys },
        })
    }

    /// A server forgets what a device's connection was told.
    pub(in crate::sim) fn forget_connection(&mut self, name: &Name) {
        self.servers[name.server()].connections.remove(name);
    }

    /// Where in its timeline a server has an event.
    pub(in crate::sim) fn place_of(&self, server: usize, event_id: &str) -> Option<u64> {
        let mut timeline = self.servers[server].timeline.iter().rev();
        timeline.find(|(_, event)| event.id == event_id).map(|(position, _)| *position)
    }

    /// The position of the newest thing that a server can show.
    pub(in crate::sim) fn position_of(&self, server: usize) -> u64 {
        self.servers[server].position
    }
}

impl<'a> View<'a> {
    /// The room, if the user's list has it: a room that the user has left is told of once, and one
    /// that the user was put out of stays.
    fn of(
        server: &'a Server,
        to: &'a Name,
        now_ms: u64,
        since: Option<u64>,
        before: &Told,
    ) -> Option<Self> {
        let me = to.user_id();
        let is_own = |event: &Event| event.member() == Some(&me);
        let own = || server.timeline.iter().filter(|(_, event)| is_own(event));
        let (at, event) = own().next_back()?;
        let is_joined = event.is_membership("join");
        if !is_joined {
            let is_new = since.is_some_and(|since| *at > since);
            let is_listed = event.is_membership("leave") && (is_new || event.sender != me);
            if !is_listed {
                return None;
            }
        }
        let newly_joined = since.is_some_and(|since| {
            let at_since = own().take_while(|(position, _)| *position <= since).last();
            let was_joined = at_since.is_some_and(|(_, event)| event.is_membership("join"));
            let is_gone = |event: &Event| !event.is_membership("join");
            let left = own().any(|(position, event)| *position > since && is_gone(event));
            is_joined && (!was_joined || left)
        });
        let end = if is_joined { u64::MAX } else { *at };
        let from = before.room.filter(|_| since.is_some() && !newly_joined);
        Some(Self { server, to, now_ms, me, is_joined, end, from })
    }

    /// What is told, and notes the members that it names; nothing if there is nothing to tell.
    fn tell(
        &self,
        since: Option<u64>,
        limit: u64,
        before: &Told,
        after: &mut Told,
    ) -> Option<Value> {
        let timeline = self.timeline(usize::try_from(limit).unwrap_or(usize::MAX));
        if self.from.is_some() && timeline.shown.is_empty() && since.is_some() {
            return None;
        }
        let changed = self.state(self.from.unwrap_or(0));
        let state = self.required_state(&changed, &timeline, before, after);
        let show = |event: &Event| raw(&event.shown_to(self.to, self.now_ms));
        let state: Vec<Box<RawValue>> = state.iter().filter_map(|event| show(event)).collect();
        let events = timeline.shown.iter().filter_map(|(_, event)| show(event));
        let mut room = json!({
            "required_state": state,
            "timeline": events.collect::<Vec<_>>(),
            "limited": timeline.is_limited,
        });
        if self.from.is_none() {
            room["initial"] = json!(true);
        }
        let members_changed = changed.iter().any(|event| event.kind == MEMBER);
        if self.is_joined && (self.from.is_none() || members_changed) {
            room["joined_count"] = json!(self.server.joined_count());
        }
        Some(room)
    }

    fn timeline(&self, limit: usize) -> Timeline<'a> {
        let from = self.from.unwrap_or(0);
        let all = self.server.timeline.iter();
        let all = all.filter(|(position, _)| *position > from && *position <= self.end);
        let mut shown: Vec<_> = all.collect();
        let hidden = shown.len().saturating_sub(limit);
        shown.drain(..hidden);
        Timeline { shown, is_limited: hidden > 0 }
    }

    /// The state as the user sees it, as far as it is newer than a position.
    fn state(&self, after: u64) -> Vec<&'a Arc<Event>> {
        let mut state = BTreeMap::new();
        let seen = self.server.timeline.iter().filter(|(position, _)| *position <= self.end);
        for (position, event) in seen {
            if let Some(key) = &event.state_key {
                state.insert((&event.kind, key), (*position, event));
            }
        }
        let newer = state.into_values().filter(|(position, _)| *position > after);
        newer.map(|(_, event)| event).collect()
    }

    /// The state that is told: all that has changed, but of members, where the timeline leaves
    /// something out, only those that it needs; and these if they were not told before.
    fn required_state(
        &self,
        changed: &[&'a Arc<Event>],
        timeline: &Timeline<'_>,
        before: &Told,
        after: &mut Told,
    ) -> Vec<&'a Arc<Event>> {
        let shown = timeline.shown.iter();
        let mut needed: BTreeSet<String> = shown
            .flat_map(|(_, event)| [Some(event.sender.as_str()), event.member()])
            .flatten()
            .map(str::to_owned)
            .collect();
        let tells_all = self.from.is_some() && !timeline.is_limited;
        let changed_members: BTreeSet<String> =
            changed.iter().filter_map(|event| event.member()).map(str::to_owned).collect();
        if tells_all {
            needed.extend(changed_members.iter().cloned());
        }
        let is_told = |event: &&Arc<Event>| match event.member() {
            Some(member) => member == self.me || needed.contains(member),
            None => true,
        };
        let mut told: Vec<_> = changed.iter().copied().filter(is_told).collect();
        let known = if self.from.is_some() { before.members.clone() } else { BTreeSet::new() };
        for event in self.state(0) {
            let is_new = event.member().is_some_and(|member| {
                needed.contains(member) && !known.contains(member) && member != self.me
            });
            if is_new && !told.iter().any(|other| other.id == event.id) {
                told.push(event);
            }
        }
        after.members = known;
        // Whoever has changed without being told is told anew when the timeline needs it.
        after.members.retain(|member| !changed_members.contains(member));
        after.members.extend(needed);
        told
    }
}

/// JSON that goes into an answer as it is.
fn raw(json: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(json.to_owned()).ok()
}

#[cfg(test)]
mod tests;
