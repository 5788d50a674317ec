//! The rooms of a sync: which there is something to tell of, and each room's timeline.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    super::{
        messages::{show, show_seen, token},
        push::unread,
        state::{Event, Room, World},
        visibility::Sight,
    },
    Request, SentMembers,
};

/// The state that somebody who is invited is shown.
const INVITE_STATE: [&str; 7] = [
    "m.room.create",
    "m.room.join_rules",
    "m.room.canonical_alias",
    "m.room.avatar",
    "m.room.encryption",
    "m.room.name",
    "m.room.topic",
];

/// The state with which a user was invited, ending with the invitation. What has changed since is
/// not in it.
pub(in super::super) fn invite_state(room: &Room, invitation: &Event) -> Vec<Value> {
    let state = room.state_before(room.end_at(invitation.position - 1));
    let inviter = ("m.room.member", invitation.sender.as_str());
    let keys = INVITE_STATE.iter().map(|event_type| (*event_type, "")).chain([inviter]);
    let events = keys.filter_map(|key| room.events.get(*state.get(&key)?));
    let events = events.chain([invitation]).map(|event| {
        json!({
            "type": event.event_type, "sender": event.sender,
            "state_key": event.state_key, "content": event.content,
        })
    });
    events.collect()
}

/// The stretch of a room's events that a sync brings.
pub(super) struct Stretch {
    /// The position from which the device knows the room; nothing where it does not.
    pub since: Option<u64>,
    /// The whole state, whatever the device knows.
    pub full_state: bool,
    /// Where it ends, as an index: now, or with the user's leave event.
    pub end: usize,
}

/// What of a stretch is shown.
pub(super) struct Timeline<'a> {
    /// The events with their index.
    pub events: Vec<(usize, &'a Event, Sight<'a>)>,
    pub limited: bool,
}

/// What a sync tells of rooms.
#[derive(Default)]
pub(super) struct Told<'a> {
    /// By part of the answer and by room.
    pub parts: BTreeMap<&'static str, BTreeMap<String, Value>>,
    /// The membership events among it, of the rooms that the user is in.
    pub memberships: Vec<(&'a Room, &'a Event)>,
}

impl Told<'_> {
    fn insert(&mut self, part: &'static str, room: &Room, content: Value) {
        self.parts.entry(part).or_default().insert(room.id.clone(), content);
    }
}

impl Request {
    pub(super) fn rooms<'a>(&self, world: &'a World, sent: &mut SentMembers) -> Told<'a> {
        let mut told = Told::default();
        for room in world.rooms.values().filter(|room| self.filter.wants_room(&room.id)) {
            self.room(world, room, sent, &mut told);
        }
        told
    }

    fn room<'a>(
        &self,
        world: &'a World,
        room: &'a Room,
        sent: &mut SentMembers,
        told: &mut Told<'a>,
    ) {
        let user_id = &self.sender.user_id;
        let since = self.since.map(|since| since.position);
        let Some(member_event) = room.state_event("m.room.member", user_id) else {
            return;
        };
        let membership = member_event.membership();
        if membership == Some("join") {
            let known = since.filter(|since| !room.newly_joined(user_id, *since));
            let stretch = Stretch {
                since: known,
                full_state: known.is_none() || self.full_state,
                end: room.events.len(),
            };
            return self.joined(world, room, &stretch, sent, told);
        }
        if since.is_some_and(|since| member_event.position <= since) {
            return;
        }
        if membership == Some("invite") {
            let events = invite_state(room, member_event);
            told.insert("invite", room, json!({ "invite_state": { "events": events } }));
        }
        // Whoever was put out and is invited again is told of both.
        let mut own = room.events.iter().skip(since.map_or(0, |since| room.end_at(since)));
        let gone = |event: &&Event| {
            event.is_membership_of(user_id) && matches!(event.membership(), Some("leave" | "ban"))
        };
        if let Some(gone) = own.by_ref().rfind(gone)
            && self.is_told_of_going(gone, membership)
        {
            told.insert("leave", room, self.left(world, room, gone.position, sent));
        }
    }

    /// A first sync tells only whoever was put out and is not invited again.
    fn is_told_of_going(&self, gone: &Event, membership: Option<&str>) -> bool {
        let was_put_out = gone.membership() == Some("ban") || gone.sender != self.sender.user_id;
        self.since.is_some() || (was_put_out && membership != Some("invite"))
    }

    /// The part of a room that the user has left, up to then.
    fn left(&self, world: &World, room: &Room, until: u64, sent: &mut SentMembers) -> Value {
        let user_id = &self.sender.user_id;
        // Whoever came in meanwhile does not know the room.
        let has_come = |since: &u64| {
            room.membership_at(user_id, *since) != Some("join")
                && room.has_come_since(user_id, *since)
        };
        let known = self.since.map(|since| since.position).filter(|since| !has_come(since));
        let stretch = Stretch {
            since: known,
            full_state: known.is_none() || self.full_state,
            end: room.end_at(until),
        };
        let timeline = self.timeline(world, room, &stretch);
        let mut state = self.state(world, room, &stretch, &timeline, sent);
        // As in Synapse, the members after whom the room is called come here too, without the
        // summary.
        let _ = self.summary(world, room, &stretch, &timeline, &mut state, sent);
        let mut shown = self.shown(world, room, &timeline, &state);
        shown["account_data"] = json!({ "events": self.noted(world, room) });
        shown
    }

    /// What the user has noted of a room since the last sync.
    fn noted(&self, world: &World, room: &Room) -> Vec<Value> {
        let since = self.since.map_or(0, |since| since.position);
        let user = world.users.get(&self.sender.user_id);
        user.map(|user| user.account_data.since(Some(&room.id), since)).unwrap_or_default()
    }

    /// The part of a room in which the user is, if there is something to tell of it.
    fn joined<'a>(
        &self,
        world: &'a World,
        room: &'a Room,
        stretch: &Stretch,
        sent: &mut SentMembers,
        told: &mut Told<'a>,
    ) {
        let me = self.sender.user_id.as_str();
        // Whoever comes in is told the room, and not what was noted and read of it before.
        let since = self.since.map_or(0, |since| since.position);
        let noted = self.noted(world, room);
        let receipts = room.receipts_since(me, since);
        let is_new = room.events_since(since).next().is_some();
        if !is_new && noted.is_empty() && receipts.is_none() && !stretch.full_state {
            return;
        }
        let timeline = self.timeline(world, room, stretch);
        let mut state = self.state(world, room, stretch, &timeline, sent);
        let summary = self.summary(world, room, stretch, &timeline, &mut state, sent);
        let mut shown = self.shown(world, room, &timeline, &state);
        let (notify, highlight) = unread(world, room, me);
        shown["summary"] = summary;
        shown["account_data"] = json!({ "events": noted });
        shown["ephemeral"] = json!({ "events": receipts.into_iter().collect::<Vec<_>>() });
        shown["unread_notifications"] =
            json!({ "notification_count": notify, "highlight_count": highlight });
        told.insert("join", room, shown);
        let events = state.iter().map(|(_, event)| *event);
        let events = events.chain(timeline.events.iter().map(|(_, event, _)| *event));
        let memberships = events.filter(|event| event.event_type == "m.room.member");
        told.memberships.extend(memberships.map(|event| (room, event)));
    }

    fn timeline<'a>(&self, world: &World, room: &'a Room, stretch: &Stretch) -> Timeline<'a> {
        let limit = self.filter.timeline.limit.unwrap_or(world.default_timeline_limit);
        let start = stretch.since.map_or(0, |since| room.end_at(since));
        let events = room.events.get(..stretch.end).unwrap_or_default();
        let seen = room.seen_by(&self.sender.user_id, false);
        // The current state is shown even where its event may not be seen.
        let is_current = |index: usize, event: &Event| {
            let key = event.state_key.clone().map(|key| (event.event_type.clone(), key));
            key.and_then(|key| room.state.get(&key)) == Some(&index)
        };
        let mut passing = events.iter().zip(seen).enumerate().skip(start).rev().filter(
            |(index, (event, sight))| {
                self.filter.timeline.passes(event) && (sight.visible || is_current(*index, event))
            },
        );
        let mut shown: Vec<_> = passing
            .by_ref()
            .take(limit)
            .map(|(index, (event, sight))| (index, event, sight))
            .collect();
        shown.reverse();
        let newly_joined = self.since.is_some() && stretch.since.is_none();
        Timeline { events: shown, limited: newly_joined || passing.next().is_some() }
    }

    fn shown(
        &self,
        world: &World,
        room: &Room,
        timeline: &Timeline<'_>,
        state: &[(usize, &Event)],
    ) -> Value {
        let events = timeline.events.iter();
        let mut shown: Vec<Value> = events
            .map(|(_, event, sight)| show_seen(room, event, *sight, &self.sender, true))
            .collect();
        if world.reversed_timelines.contains(&self.sender.user_id) {
            shown.reverse();
        }
        let first = timeline.events.first();
        let before = first.map_or(world.position, |(_, event, _)| event.position - 1);
        let state = state.iter().map(|(_, event)| show(room, event, &self.sender, true));
        let state = json!({ "events": state.collect::<Vec<_>>() });
        let name = if self.state_after { "org.matrix.msc4222.state_after" } else { "state" };
        json!({
            "timeline": {
                "events": shown, "limited": timeline.limited, "prev_batch": token(before),
            },
            name: state,
            "account_data": { "events": [] },
        })
    }
}
