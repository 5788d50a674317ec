//! `/sync`: everything after a position that concerns a device, waiting for it if need be.
//!
//! A token is `s{position}_{to-device position}`: to-device events come a hundred at a time, so
//! their position may lag behind. They are deleted when a later sync brings the token back.
//!
//! As in Synapse, a request that is repeated within two minutes gets the same answer again,
//! unless that answer's token was the request's.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json,
    extract::{Query, State},
};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{
    Shared,
    answer::{Answer, Sender},
    error::Refusal,
    keys::one_time_key_counts,
    messages::{position_of, show, token},
    state::{RecentSync, Room, World},
};

/// How many to-device events one sync brings.
const TO_DEVICE_LIMIT: usize = 100;
/// The longest wait, whatever the client asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// The parts of an answer that a waiting client is woken for.
const NEWS: [&str; 3] = ["rooms", "to_device", "device_lists"];
/// For how long a repeated request gets the same answer.
const REPEATED_FOR: Duration = Duration::from_secs(120);
/// How many answers of a device are kept for repeated requests.
const KEPT_ANSWERS: usize = 16;

/// What a device asks for.
struct Request {
    sender: Sender,
    since: Option<Since>,
    timeline_limit: Option<usize>,
    full_state: bool,
}

/// The token of an earlier sync.
#[derive(Clone, Copy)]
struct Since {
    position: u64,
    to_device: u64,
}

pub(super) async fn sync(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
    sender: Sender,
) -> Answer {
    let since = query.get("since").map(|since| Since::read(since)).transpose()?;
    let timeout = query.get("timeout").map(|timeout| timeout.parse().map(Duration::from_millis));
    let timeout = timeout.transpose().map_err(|_| Refusal::invalid("timeout must be a number"))?;
    let deadline = Instant::now() + timeout.unwrap_or_default().min(LONGEST_WAIT);
    let request = Request {
        sender,
        since,
        timeline_limit: timeline_limit(query.get("filter"))?,
        full_state: query.get("full_state").is_some_and(|full| full == "true"),
    };
    let asked_since = query.get("since").cloned();
    let query: BTreeMap<String, String> = query.into_iter().collect();
    {
        let mut world = shared.world();
        if let Some(answer) = repeated(&world, &request.sender, &query) {
            return Ok(Json(answer));
        }
        if let Some(since) = since {
            acknowledge(&mut world, &request.sender, since);
        }
    }
    let mut position = shared.position.subscribe();
    loop {
        position.borrow_and_update();
        let answer = {
            let mut world = shared.world();
            // The device may have been deleted while this waited.
            if world.device(&request.sender.user_id, &request.sender.device_id).is_none() {
                return Err(Refusal::unknown_token());
            }
            let answer = request.answer(&world);
            let has_news = NEWS.iter().any(|part| answer.get(part).is_some());
            if has_news || since.is_none() || request.full_state {
                keep(&mut world, &request.sender, query, &answer);
                return Ok(Json(answer));
            }
            answer
        };
        let waited = tokio::time::timeout_at(deadline, position.changed()).await;
        if !matches!(waited, Ok(Ok(()))) {
            if answer.get("next_batch").and_then(Value::as_str) != asked_since.as_deref() {
                keep(&mut shared.world(), &request.sender, query, &answer);
            }
            return Ok(Json(answer));
        }
    }
}

/// The answer that this request got before, if that was not long ago.
fn repeated(world: &World, sender: &Sender, query: &BTreeMap<String, String>) -> Option<Value> {
    let key = (sender.user_id.clone(), sender.device_id.clone());
    let recent = world.recent_syncs.get(&key)?;
    let same = recent.iter().find(|recent| recent.query == *query)?;
    (same.answered.elapsed() < REPEATED_FOR).then(|| same.answer.clone())
}

fn keep(world: &mut World, sender: &Sender, query: BTreeMap<String, String>, answer: &Value) {
    let key = (sender.user_id.clone(), sender.device_id.clone());
    let recent = world.recent_syncs.entry(key).or_default();
    recent.retain(|recent| recent.query != query);
    if recent.len() == KEPT_ANSWERS {
        recent.pop_front();
    }
    let answered = std::time::Instant::now();
    recent.push_back(RecentSync { query, answered, answer: answer.clone() });
}

impl Since {
    fn read(text: &str) -> Result<Self, Refusal> {
        let position = position_of(text)?;
        let to_device = text.split_once('_').and_then(|(_, to_device)| to_device.parse().ok());
        Ok(Self { position, to_device: to_device.unwrap_or(position) })
    }
}

fn timeline_limit(filter: Option<&String>) -> Result<Option<usize>, Refusal> {
    let Some(filter) = filter else {
        return Ok(None);
    };
    let filter: Value = serde_json::from_str(filter)
        .map_err(|_| Refusal::invalid("the filter must be JSON: filter ids are not kept here"))?;
    let limit = filter.pointer("/room/timeline/limit").and_then(Value::as_u64);
    Ok(limit.and_then(|limit| usize::try_from(limit).ok()))
}

fn acknowledge(world: &mut World, sender: &Sender, since: Since) {
    if let Some(device) = world.device_mut(&sender.user_id, &sender.device_id) {
        device.inbox.retain(|(position, _)| *position > since.to_device);
    }
}

impl Request {
    fn answer(&self, world: &World) -> Value {
        let (to_device, to_device_position) = self.to_device(world);
        let mut answer = Map::new();
        let next = format!("{}_{to_device_position}", token(world.position));
        answer.insert("next_batch".to_owned(), json!(next));
        if !to_device.is_empty() {
            answer.insert("to_device".to_owned(), json!({ "events": to_device }));
        }
        if let Some(since) = self.since {
            let (changed, left) = self.device_lists(world, since.position);
            if !changed.is_empty() || !left.is_empty() {
                let lists = json!({ "changed": changed, "left": left });
                answer.insert("device_lists".to_owned(), lists);
            }
        }
        if let Some(device) = world.device(&self.sender.user_id, &self.sender.device_id) {
            let counts = json!(one_time_key_counts(device));
            answer.insert("device_one_time_keys_count".to_owned(), counts);
            let unused = device.fallback_keys.iter().filter(|(_, key)| !key.used);
            let unused: Vec<&String> = unused.map(|(algorithm, _)| algorithm).collect();
            answer.insert("device_unused_fallback_key_types".to_owned(), json!(unused));
        }
        let rooms = self.rooms(world);
        if !rooms.is_empty() {
            answer.insert("rooms".to_owned(), json!(rooms));
        }
        Value::from(answer)
    }

    fn to_device<'a>(&self, world: &'a World) -> (Vec<&'a Value>, u64) {
        let device = world.device(&self.sender.user_id, &self.sender.device_id);
        let inbox = device.map(|device| device.inbox.as_slice()).unwrap_or_default();
        let page: Vec<_> = inbox.iter().take(TO_DEVICE_LIMIT).collect();
        let position = match page.last() {
            Some((position, _)) if inbox.len() > page.len() => *position,
            _ => world.position,
        };
        (page.into_iter().map(|(_, event)| event).collect(), position)
    }

    fn rooms(&self, world: &World) -> BTreeMap<&'static str, BTreeMap<String, Value>> {
        let mut rooms: BTreeMap<&str, BTreeMap<String, Value>> = BTreeMap::new();
        for room in world.rooms.values() {
            if let Some((part, content)) = self.room(world, room) {
                rooms.entry(part).or_default().insert(room.id.clone(), content);
            }
        }
        rooms
    }

    fn room(&self, world: &World, room: &Room) -> Option<(&'static str, Value)> {
        let user_id = &self.sender.user_id;
        let since = self.since.map(|since| since.position);
        let member_event = room.state_event("m.room.member", user_id)?;
        let newly = since.is_none_or(|since| member_event.position > since);
        match room.membership(user_id)? {
            "join" => {
                let known = since
                    .filter(|since| room.membership_at(user_id, *since) == Some("join"))
                    .filter(|_| !self.full_state);
                let content = self.timeline(world, room, known, u64::MAX)?;
                Some(("join", content))
            }
            "invite" if newly => {
                let shown = [
                    "m.room.create",
                    "m.room.name",
                    "m.room.join_rules",
                    "m.room.encryption",
                    "m.room.canonical_alias",
                    "m.room.avatar",
                ];
                let mut events: Vec<Value> = shown
                    .iter()
                    .filter_map(|event_type| room.state_event(event_type, ""))
                    .chain([member_event])
                    .chain(room.state_event("m.room.member", &member_event.sender))
                    .map(|event| {
                        json!({
                            "type": event.event_type, "sender": event.sender,
                            "state_key": event.state_key, "content": event.content,
                        })
                    })
                    .collect();
                events.dedup();
                Some(("invite", json!({ "invite_state": { "events": events } })))
            }
            "leave" | "ban" if newly => {
                let since = since?;
                let known = (room.membership_at(user_id, since) == Some("join")).then_some(since);
                match (known, room.readable_until(user_id)) {
                    (None, None) => {
                        let event = show(room, member_event, &self.sender, true);
                        Some((
                            "leave",
                            json!({
                                "state": { "events": [] },
                                "timeline": { "events": [event], "limited": false,
                                    "prev_batch": token(member_event.position - 1) },
                            }),
                        ))
                    }
                    (known, until) => {
                        let until = until.unwrap_or(member_event.position);
                        Some(("leave", self.timeline(world, room, known, until)?))
                    }
                }
            }
            _ => None,
        }
    }

    /// A room's part: what is new since `known`, or all when this user was not joined then.
    fn timeline(
        &self,
        world: &World,
        room: &Room,
        known: Option<u64>,
        until: u64,
    ) -> Option<Value> {
        let limit = self.timeline_limit.unwrap_or(world.default_timeline_limit);
        let end = room.events.iter().take_while(|event| event.position <= until).count();
        let known_end = known.map_or(0, |known| {
            room.events.iter().take_while(|event| event.position <= known).count()
        });
        if known.is_some() && known_end == end {
            return None;
        }
        let start = known_end.max(end.saturating_sub(limit));
        let before = room.state_before(start);
        let known_state = room.state_before(known_end);
        let state: Vec<Value> = before
            .iter()
            .filter(|(key, index)| known_state.get(*key) != Some(index))
            .filter_map(|(_, index)| room.events.get(*index))
            .map(|event| show(room, event, &self.sender, true))
            .collect();
        let events = room.events.get(start..end).unwrap_or_default();
        let visible = room.visible_events(&self.sender.user_id, false);
        let current: BTreeSet<usize> = room.state.values().copied().collect();
        let mut timeline: Vec<Value> = (start..end)
            .zip(events)
            .filter(|(index, _)| visible.get(*index) == Some(&true) || current.contains(index))
            .map(|(_, event)| show(room, event, &self.sender, true))
            .collect();
        if world.reversed_timelines.contains(&self.sender.user_id) {
            timeline.reverse();
        }
        let first = events.first().map_or(world.position, |event| event.position - 1);
        Some(json!({
            "timeline": {
                "events": timeline, "limited": start > known_end, "prev_batch": token(first),
            },
            "state": { "events": state },
            "account_data": { "events": [] },
            "ephemeral": { "events": [] },
            "unread_notifications": { "notification_count": 0, "highlight_count": 0 },
            "summary": {},
        }))
    }

    /// Whose devices to ask for again, and whose to forget.
    fn device_lists(&self, world: &World, since: u64) -> (Vec<String>, Vec<String>) {
        let me = self.sender.user_id.as_str();
        let mut changed: BTreeSet<&str> = world
            .device_changes
            .iter()
            .filter(|(position, user_id)| {
                *position > since && (user_id == me || world.share_a_room(me, user_id))
            })
            .map(|(_, user_id)| user_id.as_str())
            .collect();
        let mut left: BTreeSet<&str> = BTreeSet::new();
        for room in world.rooms.values() {
            let was_joined = room.membership_at(me, since) == Some("join");
            let is_joined = room.membership(me) == Some("join");
            let memberships = room.state.iter().filter_map(|((event_type, user_id), index)| {
                let event = room.events.get(*index).filter(|_| event_type == "m.room.member")?;
                Some((user_id.as_str(), event))
            });
            for (user_id, event) in memberships {
                let now = event.content.get("membership").and_then(Value::as_str);
                let before = room.membership_at(user_id, since);
                match (was_joined, is_joined) {
                    (false, true) if now == Some("join") => {
                        changed.insert(user_id);
                    }
                    (true, true) if before != now && matches!(now, Some("join" | "invite")) => {
                        changed.insert(user_id);
                    }
                    (true, true) if before == Some("join") && now != Some("join") => {
                        left.insert(user_id);
                    }
                    (true, false) if before == Some("join") => {
                        left.insert(user_id);
                    }
                    _ => {}
                }
            }
        }
        left.retain(|user_id| *user_id != me && !world.share_a_room(me, user_id));
        changed.retain(|user_id| !left.contains(user_id));
        let owned = |set: BTreeSet<&str>| set.into_iter().map(str::to_owned).collect();
        (owned(changed), owned(left))
    }
}
