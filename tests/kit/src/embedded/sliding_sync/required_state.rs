//! Which state of a room a connection wants, and what a change of that wish means.
//!
//! A connection is told of a state event once, and again when it changes. What it did not want
//! before is told when it wants it; what it stops wanting is remembered as told until it changes.

use std::collections::{BTreeMap, BTreeSet};

use super::request::Parameters;

/// Any type, or any state key.
const ANY: &str = "*";
/// The members whom the timeline needs.
const LAZY: &str = "$LAZY";
/// The user who asks.
const ME: &str = "$ME";
pub(super) const MEMBER: &str = "m.room.member";
/// How many state keys of a type are remembered as told that are not wanted any more.
const REMEMBERED_KEYS: usize = 100;

/// State keys by type.
pub(super) type Wanted = BTreeMap<String, BTreeSet<String>>;

/// What of a room is wanted.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct RoomConfig {
    pub timeline_limit: i64,
    pub required_state: Wanted,
}

impl RoomConfig {
    pub fn of(parameters: &Parameters) -> Self {
        let mut config = Self { timeline_limit: parameters.timeline_limit, ..Self::default() };
        for (event_type, state_key) in &parameters.required_state {
            config.want(event_type, state_key);
        }
        config
    }

    /// What this or the other wants.
    pub fn combined(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.timeline_limit = both.timeline_limit.max(other.timeline_limit);
        for (event_type, state_keys) in &other.required_state {
            state_keys.iter().for_each(|state_key| both.want(event_type, state_key));
        }
        both
    }

    fn has(&self, event_type: &str, state_key: &str) -> bool {
        self.required_state.get(event_type).is_some_and(|keys| keys.contains(state_key))
    }

    /// Adds a wish, unless a greater one covers it, and drops those that it covers.
    fn want(&mut self, event_type: &str, state_key: &str) {
        let covered = [(ANY, ANY), (ANY, state_key), (event_type, ANY)]
            .map(|(kind, key)| self.has(kind, key));
        if covered.contains(&true) {
            return;
        }
        match (event_type, state_key) {
            (ANY, ANY) => self.required_state.clear(),
            (ANY, _) => {
                self.required_state.values_mut().for_each(|keys| {
                    keys.remove(state_key);
                });
                self.required_state.retain(|_, keys| !keys.is_empty());
            }
            (_, ANY) => {
                self.required_state.remove(event_type);
            }
            _ => {}
        }
        let keys = self.required_state.entry(event_type.to_owned()).or_default();
        keys.insert(state_key.to_owned());
    }

    pub fn is_lazy(&self) -> bool {
        !self.required_state.contains_key(ANY) && self.has(MEMBER, LAZY)
    }

    /// The members that are wanted by name.
    pub fn named_members(&self, me: &str) -> BTreeSet<String> {
        if self.required_state.contains_key(ANY) {
            return BTreeSet::new();
        }
        let keys = self.required_state.get(MEMBER).into_iter().flatten();
        let named = keys.filter(|key| !matches!(key.as_str(), ANY | LAZY));
        named.map(|key| if key == ME { me.to_owned() } else { key.clone() }).collect()
    }

    /// Everything that is wanted, members that come lazily aside. A wish for one key of every type
    /// is taken as one for the whole state, as in Synapse.
    pub fn filter(&self, me: &str) -> StateFilter {
        if self.required_state.contains_key(ANY) {
            return StateFilter::All;
        }
        let mut filter = StateFilter::nothing();
        for (event_type, state_keys) in &self.required_state {
            for state_key in state_keys {
                match state_key.as_str() {
                    ANY => filter.add(event_type, None),
                    LAZY if event_type == MEMBER => {}
                    ME => filter.add(event_type, Some(me)),
                    _ => filter.add(event_type, Some(state_key)),
                }
            }
        }
        filter
    }
}

/// Picks events out of a room's state.
pub(super) enum StateFilter {
    All,
    /// By type: these state keys, or any.
    Types(BTreeMap<String, Option<BTreeSet<String>>>),
}

impl StateFilter {
    pub fn nothing() -> Self {
        Self::Types(BTreeMap::new())
    }

    pub fn add(&mut self, event_type: &str, state_key: Option<&str>) {
        let Self::Types(types) = self else {
            return;
        };
        let keys = types.entry(event_type.to_owned()).or_insert_with(|| Some(BTreeSet::new()));
        match (keys.as_mut(), state_key) {
            (Some(keys), Some(state_key)) => {
                keys.insert(state_key.to_owned());
            }
            _ => *keys = None,
        }
    }

    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Types(types) if types.is_empty())
    }

    pub fn passes(&self, (event_type, state_key): (&str, &str)) -> bool {
        match self {
            Self::All => true,
            Self::Types(types) => types
                .get(event_type)
                .is_some_and(|keys| keys.as_ref().is_none_or(|keys| keys.contains(state_key))),
        }
    }
}

/// What a request that is not a connection's first means for a room's state.
pub(super) struct Change {
    /// What is remembered as wanted and told, where that has changed.
    pub remembered: Option<Wanted>,
    /// The current state that is told beside what has changed.
    pub added: StateFilter,
    /// Members of whose change the connection is not told, so that they are not told any more.
    pub forgotten_members: BTreeSet<String>,
    /// Members that were told by name and from now on come lazily.
    pub known_members: BTreeSet<String>,
}

/// A room's state in a request, beside what the connection was told before.
pub(super) struct Comparison<'a> {
    pub me: &'a str,
    pub before: &'a RoomConfig,
    pub now: &'a RoomConfig,
    /// The members that have come lazily.
    pub told_members: &'a BTreeSet<String>,
    /// The members that the timeline needs.
    pub lazy_members: &'a BTreeSet<String>,
    /// The state that has changed, as type and state key.
    pub deltas: &'a BTreeSet<(&'a str, &'a str)>,
}

impl Comparison<'_> {
    pub fn change(&self) -> Change {
        let mut change = Change {
            remembered: None,
            added: StateFilter::nothing(),
            forgotten_members: self.forgotten_members(),
            known_members: BTreeSet::new(),
        };
        let (before, now) = (&self.before.required_state, &self.now.required_state);
        let nothing = BTreeSet::new();
        let of = |wanted: &'_ Wanted| wanted.get(ANY).cloned().unwrap_or_default();
        let (any_before, any_now) = (of(before), of(now));
        if before == now {
            for user_id in self.lazy_members.difference(self.told_members) {
                change.added.add(MEMBER, Some(user_id));
            }
            return change;
        }
        if any_before.contains(ANY) || any_before != any_now {
            if !any_before.contains(ANY) && !any_now.is_subset(&any_before) {
                change.added = StateFilter::All;
            }
            change.remembered = Some(now.clone());
            return change;
        }
        let types: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
        let mut changes: Wanted = Wanted::new();
        for event_type in types {
            let was = before.get(event_type).unwrap_or(&nothing);
            let is = now.get(event_type).unwrap_or(&nothing);
            let remembered = match is.is_subset(was) {
                true => self.narrowed(event_type, was, is),
                false => Some(self.widened(event_type, was, is, &mut change.added)),
            };
            changes.extend(remembered.map(|keys| (event_type.clone(), keys)));
        }
        let named = self.before.named_members(self.me);
        for user_id in self.lazy_members.difference(self.told_members) {
            if !named.contains(user_id) {
                change.added.add(MEMBER, Some(user_id));
            }
        }
        let stays_lazy = now.get(MEMBER).is_some_and(|keys| keys.contains(LAZY));
        if stays_lazy && changes.get(MEMBER).is_some_and(|keys| !keys.is_empty()) {
            let unchanged = |user_id: &String| !self.deltas.contains(&(MEMBER, user_id.as_str()));
            change.known_members = named.into_iter().filter(unchanged).collect();
        }
        if !changes.is_empty() {
            let mut remembered = before.clone();
            remembered.extend(changes);
            remembered.retain(|_, keys| !keys.is_empty());
            change.remembered = Some(remembered);
        }
        change
    }

    fn forgotten_members(&self) -> BTreeSet<String> {
        let changed = self.deltas.iter().filter(|(event_type, _)| *event_type == MEMBER);
        changed
            .map(|(_, user_id)| (*user_id).to_owned())
            .filter(|user_id| {
                !self.lazy_members.contains(user_id) && self.told_members.contains(user_id)
            })
            .collect()
    }

    /// The state keys of a type that were told, are not wanted any more, and have changed.
    fn outdated(
        &self,
        event_type: &str,
        was: &BTreeSet<String>,
        is: &BTreeSet<String>,
    ) -> BTreeSet<String> {
        let has_changed = |key: &&String| {
            let key = if *key == ME { self.me } else { key.as_str() };
            self.deltas.contains(&(event_type, key))
        };
        was.difference(is).filter(has_changed).cloned().collect()
    }

    /// What is remembered of a type of which more is wanted; what is new is added.
    fn widened(
        &self,
        event_type: &str,
        was: &BTreeSet<String>,
        is: &BTreeSet<String>,
        added: &mut StateFilter,
    ) -> BTreeSet<String> {
        if event_type == MEMBER && !was.contains(LAZY) && is.contains(LAZY) {
            return is.clone();
        }
        let outdated = self.outdated(event_type, was, is);
        let told = was.difference(&outdated).filter(|key| !matches!(key.as_str(), ANY | LAZY));
        let room = REMEMBERED_KEYS.saturating_sub(is.len());
        let more: Vec<String> = told.filter(|key| !is.contains(*key)).take(room).cloned().collect();
        let remembered = is.iter().cloned().chain(more).collect();
        if was.contains(ANY) {
            return remembered;
        }
        if is.contains(ANY) {
            added.add(event_type, None);
            return remembered;
        }
        for state_key in is.difference(was) {
            match state_key.as_str() {
                ME => added.add(event_type, Some(self.me)),
                LAZY => {}
                _ if event_type == MEMBER && self.told_members.contains(state_key) => {}
                _ => added.add(event_type, Some(state_key)),
            }
        }
        remembered
    }

    /// What is remembered of a type of which less is wanted; nothing where that stays as it is.
    fn narrowed(
        &self,
        event_type: &str,
        was: &BTreeSet<String>,
        is: &BTreeSet<String>,
    ) -> Option<BTreeSet<String>> {
        let has_changed = self.deltas.iter().any(|(changed, _)| *changed == event_type);
        if was == is || !has_changed {
            return None;
        }
        let outdated = self.outdated(event_type, was, is);
        let lost = |key: &str| was.contains(key) && !is.contains(key);
        let lazy = event_type == MEMBER && was.contains(LAZY);
        if lost(ANY) || (lazy && (lost(LAZY) || !outdated.is_empty())) {
            return Some(is.clone());
        }
        (!outdated.is_empty()).then(|| was.difference(&outdated).cloned().collect())
    }
}
