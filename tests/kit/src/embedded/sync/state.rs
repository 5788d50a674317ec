//! The state that a sync brings with a room's timeline: what has changed since the last sync and is
//! not in the timeline, and with lazily loaded members those that the timeline needs.
//!
//! As in Synapse, lazy loading leaves members out of a room's whole state only: of a timeline with
//! a gap, every change in the gap is told. The state "before" the timeline is the one after its
//! first event, so a member who joins and speaks in it comes in both.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    super::state::{Event, Room, World},
    Request, SentMembers,
    rooms::{Stretch, Timeline},
};

/// The index of the event for each key of the state.
type State<'a> = BTreeMap<(&'a str, &'a str), usize>;

/// Whose memberships are wanted.
enum Members {
    All,
    Of(BTreeSet<String>),
}

impl Members {
    /// Leaves out the members that are not wanted.
    fn narrow(&self, state: &mut State<'_>) {
        if let Self::Of(wanted) = self {
            state.retain(|(event_type, key), _| {
                *event_type != "m.room.member" || wanted.contains(*key)
            });
        }
    }

    fn with(self, user_id: &str) -> Self {
        match self {
            Self::All => Self::All,
            Self::Of(mut wanted) => {
                wanted.insert(user_id.to_owned());
                Self::Of(wanted)
            }
        }
    }
}

impl Request {
    /// The events of the state, with their indexes.
    pub(super) fn state<'a>(
        &self,
        world: &World,
        room: &'a Room,
        stretch: &Stretch,
        timeline: &Timeline<'_>,
        sent: &mut SentMembers,
    ) -> Vec<(usize, &'a Event)> {
        let wanted = self.members_of(timeline);
        let (mut state, changed) = match (stretch.since, self.state_after) {
            (Some(since), false) if !stretch.full_state => {
                before_timeline(room, since, stretch, timeline, &wanted)
            }
            (Some(since), true) if !stretch.full_state => {
                after_timeline(room, since, stretch, &wanted)
            }
            _ => {
                let wanted = wanted.with(&self.sender.user_id);
                (whole(room, stretch, timeline, &wanted, self.state_after), BTreeSet::new())
            }
        };
        if self.filter.loads_lazily() {
            let event_id = |index: usize| room.events.get(index).map(|event| &event.event_id);
            state.retain(|key, index| {
                changed.contains(key) || !event_id(*index).is_some_and(|id| sent.has(id))
            });
            let shown = timeline.events.iter().map(|(index, _, _)| *index);
            for index in state.values().copied().chain(shown) {
                mark_sent(room, index, world.position, sent);
            }
        }
        let events = state.into_values().filter_map(|index| Some((index, room.events.get(index)?)));
        events.filter(|(_, event)| self.filter.state.passes(event)).collect()
    }

    /// The members that are needed to show a timeline; all where they are not loaded lazily.
    fn members_of(&self, timeline: &Timeline<'_>) -> Members {
        if !self.filter.state.lazy_members {
            return Members::All;
        }
        let mut told = BTreeSet::new();
        let mut wanted = BTreeSet::new();
        for (_, event, _) in &timeline.events {
            if self.state_after || !told.contains(event.sender.as_str()) {
                wanted.insert(event.sender.clone());
            }
            if event.event_type == "m.room.member" {
                told.extend(event.state_key.as_deref());
            }
        }
        Members::Of(wanted)
    }

    /// How many members there are, and after whom to call a room without a name. The members it is
    /// called after come with the state. Clients that load members lazily alone are told.
    pub(super) fn summary<'a>(
        &self,
        world: &World,
        room: &'a Room,
        stretch: &Stretch,
        timeline: &Timeline<'_>,
        state: &mut Vec<(usize, &'a Event)>,
        sent: &mut SentMembers,
    ) -> Value {
        let is_member = |event: &Event| event.event_type == "m.room.member";
        let told = timeline.events.iter().any(|(_, event, _)| is_member(event))
            || (timeline.limited && state.iter().any(|(_, event)| is_member(event)))
            || stretch.since.is_none();
        if !self.filter.state.lazy_members || !told {
            return json!({});
        }
        let mut summary = json!({
            "m.joined_member_count": room.members_with("join").count(),
            "m.invited_member_count": room.members_with("invite").count(),
        });
        let named = |event_type, field| {
            let content = room.state_content(event_type, "");
            let name = content.and_then(|content| content.get(field)?.as_str());
            name.is_some_and(|name| !name.is_empty())
        };
        if named("m.room.name", "name") || named("m.room.canonical_alias", "alias") {
            return summary;
        }
        let heroes = room.heroes(&self.sender.user_id);
        let ids: Vec<&String> = heroes.iter().filter_map(|hero| hero.state_key.as_ref()).collect();
        summary["m.heroes"] = json!(ids);
        for hero in heroes {
            let Some(user_id) = &hero.state_key else {
                continue;
            };
            let here = state.iter().any(|(_, event)| event.is_membership_of(user_id))
                || timeline.events.iter().any(|(_, event, _)| event.is_membership_of(user_id));
            if !here && !sent.has(&hero.event_id) {
                sent.mark(&hero.event_id, world.position);
                let key = ("m.room.member".to_owned(), user_id.clone());
                state.extend(room.state.get(&key).map(|index| (*index, hero)));
            }
        }
        summary
    }
}

fn mark_sent(room: &Room, index: usize, position: u64, sent: &mut SentMembers) {
    if let Some(event) = room.events.get(index)
        && event.event_type == "m.room.member"
    {
        sent.mark(&event.event_id, position);
    }
}

/// The state after a timeline's first event.
fn at_start<'a>(room: &'a Room, stretch: &Stretch, timeline: &Timeline<'_>) -> State<'a> {
    let first = timeline.events.first();
    room.state_before(first.map_or(stretch.end, |(index, _, _)| index + 1))
}

/// The indexes of the latest state events of a timeline.
fn within(timeline: &Timeline<'_>) -> BTreeSet<usize> {
    let mut latest = State::new();
    for (index, event, _) in &timeline.events {
        if let Some(key) = event.key_in_state() {
            latest.insert(key, *index);
        }
    }
    latest.into_values().collect()
}

/// The whole state before a timeline, or after it.
fn whole<'a>(
    room: &'a Room,
    stretch: &Stretch,
    timeline: &Timeline<'_>,
    members: &Members,
    after: bool,
) -> State<'a> {
    let mut state = room.state_before(stretch.end);
    if !after {
        state.extend(at_start(room, stretch, timeline));
        let within = within(timeline);
        state.retain(|_, index| !within.contains(index));
    }
    members.narrow(&mut state);
    state
}

/// What has changed before a timeline since the device's last sync, and the members that it needs;
/// and which of them are changes.
fn before_timeline<'a>(
    room: &'a Room,
    since: u64,
    stretch: &Stretch,
    timeline: &Timeline<'_>,
    members: &Members,
) -> (State<'a>, BTreeSet<(&'a str, &'a str)>) {
    let is_lazy = matches!(members, Members::Of(_));
    if !timeline.limited {
        let mut state = State::new();
        if is_lazy && !timeline.events.is_empty() {
            state = at_start(room, stretch, timeline);
            state.retain(|(event_type, _), _| *event_type == "m.room.member");
            members.narrow(&mut state);
        }
        return (state, BTreeSet::new());
    }
    let mut start = at_start(room, stretch, timeline);
    members.narrow(&mut start);
    let known = room.state_before(room.end_at(since));
    let within = within(timeline);
    let mut state = room.state_before(stretch.end);
    state.extend(start.iter().map(|(key, index)| (*key, *index)));
    state.retain(|key, index| {
        let is_needed = is_lazy && key.0 == "m.room.member" && start.get(key) == Some(index);
        (known.get(key) != Some(index) || is_needed) && !within.contains(index)
    });
    let changed = state.iter().filter(|(key, index)| known.get(*key) != Some(index));
    let changed = changed.map(|(key, _)| *key).collect();
    (state, changed)
}

/// What has changed up to the end of a timeline, and the members that it needs.
fn after_timeline<'a>(
    room: &'a Room,
    since: u64,
    stretch: &Stretch,
    members: &Members,
) -> (State<'a>, BTreeSet<(&'a str, &'a str)>) {
    let mut state = State::new();
    if let Members::Of(_) = members {
        state = room.state_before(stretch.end);
        state.retain(|(event_type, _), _| *event_type == "m.room.member");
        members.narrow(&mut state);
    }
    let mut changed = BTreeSet::new();
    let events = room.events.get(..stretch.end).unwrap_or_default().iter().enumerate();
    for (index, event) in events.skip(room.end_at(since)) {
        if let Some(key) = event.key_in_state() {
            state.insert(key, index);
            changed.insert(key);
        }
    }
    (state, changed)
}
