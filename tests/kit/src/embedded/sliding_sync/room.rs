//! What a connection is told of one room: the newest events, and the state after them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{
    super::{
        answer::Sender,
        messages::{show, show_seen, token},
        state::{Event, Room},
        sync::invite_state,
        visibility::Sight,
    },
    connection::{Sent, Told},
    lists::Entry,
    required_state::{Change, Comparison, MEMBER, RoomConfig, StateFilter, Wanted},
};

/// The events that move a room up in a list.
const BUMPS: [&str; 7] = [
    "m.room.create",
    "m.room.message",
    "m.room.encrypted",
    "m.sticker",
    "m.call.invite",
    "m.poll.start",
    "m.beacon_info",
];

/// A room and what a connection wants of it.
pub(super) struct View<'a> {
    pub sender: &'a Sender,
    pub entry: Entry<'a>,
    pub config: &'a RoomConfig,
    /// The request's position.
    pub since: Option<u64>,
    pub is_direct: bool,
    /// Whether the user gets timelines backwards.
    pub is_reversed: bool,
}

struct Timeline<'a> {
    events: Vec<(&'a Event, Sight<'a>)>,
    limited: bool,
    prev_batch: u64,
}

impl View<'_> {
    /// What is told, and notes it as sent. Nothing where there is nothing to tell.
    pub fn tell(&self, before: &Sent, sent: &mut Sent) -> Option<Value> {
        let room = self.entry.room;
        let from = match self.since {
            Some(since) if !self.entry.newly_joined => match before.rooms.told(&room.id) {
                Some(Told::Live) => Some(since),
                Some(Told::Until(position)) => Some(position),
                None => None,
            },
            _ => None,
        };
        let known = before.configs.get(&room.id).filter(|_| self.since.is_some());
        // Whether a timeline goes further back than what the connection had, as a longer one is
        // wanted.
        let expanded = known.is_some_and(|known| {
            known.timeline_limit < self.config.timeline_limit && !self.entry.newly_joined
        });
        let timeline = self.timeline(from.filter(|_| !expanded), from);
        let mut shown = Map::new();
        let changed = from.map(|from| self.deltas(from)).unwrap_or_default();
        let is_news = self.summarise(from, &changed, &mut shown);
        let (state, remembered) =
            self.state(from, known, &changed, timeline.as_ref(), before, sent);
        if let Some(bump_stamp) = self.bump_stamp(from, timeline.as_ref()) {
            shown.insert("bump_stamp".to_owned(), json!(bump_stamp));
        }
        let mut invitation = Vec::new();
        if matches!(self.entry.membership, "invite" | "knock") {
            invitation = invite_state(room, self.entry.member_event);
            shown.insert("invite_state".to_owned(), json!(invitation));
        }
        let has_events = timeline.as_ref().is_some_and(|timeline| !timeline.events.is_empty());
        let limited = timeline.as_ref().is_some_and(|timeline| timeline.limited);
        self.remember(known, remembered, expanded, limited, sent);
        let is_empty = !is_news && state.is_empty() && !has_events && invitation.is_empty();
        if is_empty && from.is_some() {
            return None;
        }
        if !state.is_empty() {
            let state = state.iter().filter_map(|index| room.events.get(*index));
            let state = state.map(|event| show(room, event, self.sender, true));
            shown.insert("required_state".to_owned(), state.collect());
        }
        if let Some(timeline) = timeline {
            self.show_timeline(&timeline, &mut shown);
        }
        if from.is_none() {
            shown.insert("initial".to_owned(), json!(true));
        }
        if expanded {
            shown.insert("unstable_expanded_timeline".to_owned(), json!(true));
        }
        if self.is_direct {
            shown.insert("is_dm".to_owned(), json!(true));
        }
        // Synapse leaves counting to the client.
        shown.insert("notification_count".to_owned(), json!(0));
        shown.insert("highlight_count".to_owned(), json!(0));
        Some(Value::from(shown))
    }

    /// Up to where the user sees the room, as an index.
    fn end(&self) -> usize {
        match self.entry.membership {
            "leave" | "ban" => self.entry.room.end_at(self.entry.member_event.position),
            _ => self.entry.room.events.len(),
        }
    }

    /// The newest events after a position; `known` is up to where the connection has them.
    fn timeline(&self, after: Option<u64>, known: Option<u64>) -> Option<Timeline<'_>> {
        let room = self.entry.room;
        let limit = usize::try_from(self.config.timeline_limit).ok().filter(|limit| *limit > 0)?;
        if matches!(self.entry.membership, "invite" | "knock") {
            return None;
        }
        let start = after.map_or(0, |after| room.end_at(after));
        let end = self.end();
        let first = end.saturating_sub(limit).max(start);
        let me = &self.sender.user_id;
        let seen = room.seen_by(me, self.entry.membership != "join");
        let events = room.events.iter().zip(seen).take(end).skip(first);
        let before = room.events.get(first).filter(|_| first < end);
        Some(Timeline {
            events: events.filter(|(_, sight)| sight.visible).collect(),
            limited: first > start,
            prev_batch: match (before, known) {
                (Some(event), _) => event.position - 1,
                (None, Some(known)) => known,
                (None, None) => self.entry.member_event.position,
            },
        })
    }

    fn show_timeline(&self, timeline: &Timeline<'_>, shown: &mut Map<String, Value>) {
        let room = self.entry.room;
        let live = timeline
            .events
            .iter()
            .rev()
            .take_while(|(event, _)| self.since.is_some_and(|since| event.position > since));
        shown.insert("num_live".to_owned(), json!(live.count()));
        let events = timeline.events.iter();
        let mut events: Vec<Value> = events
            .map(|(event, sight)| show_seen(room, event, *sight, self.sender, true))
            .collect();
        if self.is_reversed {
            events.reverse();
        }
        if !events.is_empty() {
            shown.insert("timeline".to_owned(), json!(events));
        }
        shown.insert("limited".to_owned(), json!(timeline.limited));
        shown.insert("prev_batch".to_owned(), json!(token(timeline.prev_batch)));
    }

    /// The state that has changed since a position, as the index of the latest event of each key.
    /// An invitation brings its own state.
    fn deltas(&self, from: u64) -> BTreeMap<(&str, &str), usize> {
        let room = self.entry.room;
        if matches!(self.entry.membership, "invite" | "knock") {
            return BTreeMap::new();
        }
        let events = room.events.iter().enumerate().take(self.end()).skip(room.end_at(from));
        events.filter_map(|(index, event)| Some((event.key_in_state()?, index))).collect()
    }

    /// Name, avatar, heroes and counts, where they are new; says whether any is there.
    fn summarise(
        &self,
        from: Option<u64>,
        changed: &BTreeMap<(&str, &str), usize>,
        shown: &mut Map<String, Value>,
    ) -> bool {
        let room = self.entry.room;
        let is_new = |kind: &str| from.is_none() || changed.contains_key(&(kind, ""));
        let state = self.current();
        let text = |kind: &'static str, field: &str| {
            let event = room.events.get(*state.get(&(kind, ""))?)?;
            event.content.get(field)?.as_str().map(str::to_owned)
        };
        let name = is_new("m.room.name").then(|| text("m.room.name", "name")).flatten();
        let avatar = is_new("m.room.avatar").then(|| text("m.room.avatar", "url")).flatten();
        // That a name is empty now is news, and is not shown.
        let mut is_news = name.is_some() || avatar.is_some();
        let not_empty = |text: &String| !text.is_empty();
        let (name, avatar) = (name.filter(not_empty), avatar.filter(not_empty));
        let is_named = name.is_some();
        shown.extend(name.map(|name| ("name".to_owned(), json!(name))));
        shown.extend(avatar.map(|avatar| ("avatar".to_owned(), json!(avatar))));
        let members_changed = changed.keys().any(|(kind, _)| *kind == MEMBER);
        if self.entry.membership != "join" || (from.is_some() && !members_changed) {
            return is_news;
        }
        is_news = true;
        for (field, membership) in [("joined_count", "join"), ("invited_count", "invite")] {
            shown.insert(field.to_owned(), json!(room.members_with(membership).count()));
        }
        let heroes = room.heroes(&self.sender.user_id);
        if !is_named && !heroes.is_empty() {
            let heroes = heroes.iter().map(|event| {
                let mut hero = json!({ "user_id": event.state_key });
                for field in ["displayname", "avatar_url"] {
                    if let Some(Value::String(text)) = event.content.get(field) {
                        hero[field] = json!(text);
                    }
                }
                hero
            });
            shown.insert("heroes".to_owned(), heroes.collect());
        }
        is_news
    }

    /// The state as the user sees it.
    fn current(&self) -> BTreeMap<(&str, &str), usize> {
        let room = self.entry.room;
        match self.entry.membership {
            "leave" | "ban" => room.state_before(self.end()),
            _ => {
                let state = room.state.iter();
                state.map(|((kind, key), index)| ((kind.as_str(), key.as_str()), *index)).collect()
            }
        }
    }

    /// The indexes of the state events that are told; and what is remembered as wanted, where that
    /// has changed. Notes the members that come lazily.
    fn state(
        &self,
        from: Option<u64>,
        known: Option<&RoomConfig>,
        changed: &BTreeMap<(&str, &str), usize>,
        timeline: Option<&Timeline<'_>>,
        before: &Sent,
        sent: &mut Sent,
    ) -> (Vec<usize>, Option<Wanted>) {
        let room = self.entry.room;
        let me = self.sender.user_id.as_str();
        // An invitation brings its own state; what is wanted is remembered all the same.
        let is_invited = matches!(self.entry.membership, "invite" | "knock");
        let is_lazy = self.config.is_lazy() && !is_invited;
        let mut filter = if is_invited { StateFilter::nothing() } else { self.config.filter(me) };
        let mut lazy = BTreeSet::new();
        if is_lazy {
            lazy = self.lazy_members(from, changed, timeline, &mut filter);
            let named = self.config.named_members(me);
            lazy.retain(|user_id| !named.contains(user_id));
        }
        let mut remembered = None;
        let state = match from {
            None => self.current(),
            Some(_) => {
                let mut state = changed.clone();
                if let Some(known) = known {
                    let nobody = BTreeSet::new();
                    let comparison = Comparison {
                        me,
                        before: known,
                        now: self.config,
                        told_members: before.lazy_members.get(&room.id).unwrap_or(&nobody),
                        lazy_members: &lazy,
                        deltas: &changed.keys().copied().collect(),
                    };
                    let change = comparison.change();
                    self.add(&change.added, &mut state);
                    remembered = self.remember_members(change, sent);
                }
                state
            }
        };
        if is_lazy {
            sent.lazy_members.entry(room.id.clone()).or_default().extend(lazy);
        }
        let told = state.into_iter().filter(|(key, _)| filter.passes(*key));
        (told.map(|(_, index)| index).collect(), remembered)
    }

    /// The members that a timeline needs. The filter lets them pass; and without a gap, every
    /// change of a membership.
    fn lazy_members(
        &self,
        from: Option<u64>,
        changed: &BTreeMap<(&str, &str), usize>,
        timeline: Option<&Timeline<'_>>,
        filter: &mut StateFilter,
    ) -> BTreeSet<String> {
        let mut lazy = BTreeSet::new();
        for (event, _) in timeline.map(|timeline| &timeline.events).into_iter().flatten() {
            lazy.insert(event.sender.clone());
            if event.event_type == MEMBER {
                lazy.extend(event.state_key.clone());
            }
        }
        if from.is_none() || timeline.is_some_and(|timeline| timeline.limited) {
            lazy.iter().for_each(|user_id| filter.add(MEMBER, Some(user_id)));
        } else {
            filter.add(MEMBER, None);
            let members = changed.keys().filter(|(kind, _)| *kind == MEMBER);
            lazy.extend(members.map(|(_, user_id)| (*user_id).to_owned()));
        }
        lazy
    }

    /// Adds current state. As in Synapse, the event with which the user has left comes with it.
    fn add<'b>(&'b self, added: &StateFilter, state: &mut BTreeMap<(&'b str, &'b str), usize>) {
        if added.is_nothing() {
            return;
        }
        let own = self.entry.member_event.key_in_state();
        let has_left = matches!(self.entry.membership, "leave" | "ban");
        let current = self.current().into_iter();
        state.extend(
            current.filter(|(key, _)| added.passes(*key) || (has_left && Some(*key) == own)),
        );
    }

    /// Gives back what is remembered as wanted.
    fn remember_members(&self, change: Change, sent: &mut Sent) -> Option<Wanted> {
        let room_id = &self.entry.room.id;
        if let Some(members) = sent.lazy_members.get_mut(room_id) {
            members.retain(|user_id| !change.forgotten_members.contains(user_id));
        }
        if !change.known_members.is_empty() {
            let members = sent.lazy_members.entry(room_id.clone()).or_default();
            members.extend(change.known_members);
        }
        change.remembered
    }

    /// Notes what was wanted. That the timeline is shorter than before counts once there is a gap.
    fn remember(
        &self,
        known: Option<&RoomConfig>,
        remembered: Option<Wanted>,
        expanded: bool,
        limited: bool,
        sent: &mut Sent,
    ) {
        let timeline_limit = self.config.timeline_limit;
        let is_news = known.is_none_or(|known| {
            let is_shorter = known.timeline_limit > timeline_limit;
            remembered.is_some() || expanded || (limited && is_shorter)
        });
        if is_news {
            let wanted = || self.config.required_state.clone();
            let required_state = remembered.unwrap_or_else(wanted);
            let config = RoomConfig { timeline_limit, required_state };
            sent.configs.insert(self.entry.room.id.clone(), config);
        }
    }

    /// The position of the last event that moves the room in a list, where it may be news.
    fn bump_stamp(&self, from: Option<u64>, timeline: Option<&Timeline<'_>>) -> Option<u64> {
        let bumps = |event: &&Event| BUMPS.contains(&event.event_type.as_str());
        let always = self.entry.membership != "join"
            || timeline.is_none_or(|timeline| timeline.limited)
            || from.is_none();
        let mut stamp = None;
        if self.entry.membership == "join" {
            let shown = timeline.map(|timeline| &timeline.events).into_iter().flatten();
            stamp = shown.map(|(event, _)| *event).rfind(bumps).map(|event| event.position);
            if stamp.is_none() && always {
                let room: &Room = self.entry.room;
                stamp = room.events.iter().rfind(bumps).map(|event| event.position);
            }
        }
        stamp.or_else(|| always.then_some(self.entry.member_event.position))
    }
}
