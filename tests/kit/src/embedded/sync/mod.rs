//! `/sync`: everything after a position that concerns a device, waiting for it if need be.
//!
//! A token is `s{position}_{to-device position}`: to-device events come a hundred at a time, so
//! their position may lag behind. They are deleted when a later sync brings the token back.
//!
//! As in Synapse, a request that is repeated within two minutes gets the same answer again,
//! unless that answer's token was the request's.

mod lazy;
mod rooms;
mod state;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json,
    extract::{Query, State},
};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

pub(super) use self::{lazy::SentMembers, rooms::invite_state};
use super::{
    Shared,
    answer::{Answer, Sender},
    device_lists::{Asker, DeviceLists},
    error::Refusal,
    filter::{EventFilter, strings},
    keys::{one_time_key_counts, unused_fallback_keys},
    messages::{position_of, token},
    state::{RecentSync, World},
};

/// How many to-device events one sync brings.
const TO_DEVICE_LIMIT: usize = 100;
/// The longest wait, whatever the client asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// The parts of an answer that a waiting client is woken for.
const NEWS: [&str; 4] = ["rooms", "to_device", "device_lists", "account_data"];
/// For how long a repeated request gets the same answer.
const REPEATED_FOR: Duration = Duration::from_secs(120);
/// How many answers of a device are kept for repeated requests.
const KEPT_ANSWERS: usize = 16;

/// What a device asks for.
struct Request {
    sender: Sender,
    since: Option<Since>,
    filter: Filter,
    full_state: bool,
    /// The state after the timeline instead of before it (MSC4222).
    state_after: bool,
}

/// The parts of a sync's filter that have an effect here.
#[derive(Default)]
struct Filter {
    timeline: EventFilter,
    state: EventFilter,
    rooms: Option<Vec<String>>,
    not_rooms: Vec<String>,
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
    let flag = |name: &str| query.get(name).is_some_and(|value| value == "true");
    let request = Request {
        sender,
        since,
        filter: Filter::read(query.get("filter"))?,
        full_state: flag("full_state"),
        state_after: flag("org.matrix.msc4222.use_state_after"),
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
            world.judge_for(&request.sender.user_id);
            let device = (request.sender.user_id.clone(), request.sender.device_id.clone());
            let mut sent = world.sent_members.get(&device).cloned().unwrap_or_default();
            if request.filter.loads_lazily() {
                sent.forget_after(since.map(|since| since.position));
            }
            let answer = request.answer(&world, &mut sent);
            let has_news = NEWS.iter().any(|part| answer.get(part).is_some());
            if has_news || since.is_none() || request.full_state {
                world.sent_members.insert(device, sent);
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

impl Filter {
    fn read(text: Option<&String>) -> Result<Self, Refusal> {
        let Some(text) = text else {
            return Ok(Self::default());
        };
        if !text.starts_with('{') {
            return Err(Refusal::invalid("the filter must be JSON: filter ids are not kept here"));
        }
        let filter: Value =
            serde_json::from_str(text).map_err(|_| Refusal::not_json("Invalid filter JSON"))?;
        let part = |pointer: &str| filter.pointer(pointer).unwrap_or(&Value::Null);
        Ok(Self {
            timeline: EventFilter::of(part("/room/timeline")),
            state: EventFilter::of(part("/room/state")),
            rooms: strings(part("/room/rooms")),
            not_rooms: strings(part("/room/not_rooms")).unwrap_or_default(),
        })
    }

    /// Whether members are left out that the device has been sent.
    fn loads_lazily(&self) -> bool {
        self.state.lazy_members && !self.state.redundant_members
    }

    fn wants_room(&self, room_id: &String) -> bool {
        self.rooms.as_ref().is_none_or(|rooms| rooms.contains(room_id))
            && !self.not_rooms.contains(room_id)
    }
}

fn acknowledge(world: &mut World, sender: &Sender, since: Since) {
    if let Some(device) = world.device_mut(&sender.user_id, &sender.device_id) {
        device.inbox.retain(|(position, _)| *position > since.to_device);
    }
}

impl Request {
    fn answer(&self, world: &World, sent: &mut SentMembers) -> Value {
        let (to_device, to_device_position) = self.to_device(world);
        let mut answer = Map::new();
        let next = format!("{}_{to_device_position}", token(world.position));
        answer.insert("next_batch".to_owned(), json!(next));
        if !to_device.is_empty() {
            answer.insert("to_device".to_owned(), json!({ "events": to_device }));
        }
        let me = self.sender.user_id.as_str();
        let told = self.rooms(world, sent);
        if let Some(since) = self.since {
            let asker = Asker::Sync(&told.memberships);
            let lists = DeviceLists::since(world, me, since.position, asker);
            if !lists.is_empty() {
                let lists = json!({ "changed": lists.changed, "left": lists.left });
                answer.insert("device_lists".to_owned(), lists);
            }
        }
        if let Some(device) = world.device(me, &self.sender.device_id) {
            let counts = json!(one_time_key_counts(device));
            answer.insert("device_one_time_keys_count".to_owned(), counts);
            let unused = json!(unused_fallback_keys(device));
            answer.insert("device_unused_fallback_key_types".to_owned(), unused);
        }
        let noted = account_data(world, me, self.since.map(|since| since.position));
        if !noted.is_empty() {
            answer.insert("account_data".to_owned(), json!({ "events": noted }));
        }
        if !told.parts.is_empty() {
            answer.insert("rooms".to_owned(), json!(told.parts));
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
}

/// What an account has noted since a position, its push rules with it; everything where there is
/// none.
pub(super) fn account_data(world: &World, user_id: &str, since: Option<u64>) -> Vec<Value> {
    let Some(user) = world.users.get(user_id) else {
        return Vec::new();
    };
    let mut noted = user.account_data.since(None, since.unwrap_or(0));
    if since.is_none_or(|since| user.push_rules.changed_since(since)) {
        noted.push(json!({ "type": "m.push_rules", "content": user.push_rules.shown() }));
    }
    noted
}
