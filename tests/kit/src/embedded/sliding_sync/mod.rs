//! Simplified sliding sync (MSC4186): a device asks for the newest of some rooms, and is told what
//! has changed since on the same connection.
//!
//! A position is `{connection}/s{position}`: what the connection had been sent, and how far the
//! world was. A connection that only has extensions has nothing to remember and stays at 0, from
//! which every device can go on.

mod connection;
mod extensions;
mod lists;
mod request;
mod required_state;
mod room;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json,
    extract::{Query, State},
    http::StatusCode,
};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

pub(super) use self::connection::Connections;
use self::{
    connection::Sent,
    extensions::Sources,
    lists::Interest,
    request::{Request, ToDevice},
    room::View,
};
use super::{
    Shared,
    answer::{self, Answer, Sender},
    error::Refusal,
    messages::{position_of, token},
    state::World,
};

/// The longest wait, whatever the client asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// From where a request goes on.
#[derive(Clone, Copy)]
struct Position {
    connection: u64,
    world: u64,
}

impl Position {
    fn read(text: &str) -> Result<Self, Refusal> {
        let parts = text.split_once('/').and_then(|(connection, world)| {
            Some(Self { connection: connection.parse().ok()?, world: position_of(world).ok()? })
        });
        parts.ok_or_else(|| Refusal::unknown("Invalid stream token"))
    }
}

fn unknown_position() -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "M_UNKNOWN_POS", "Unknown position")
}

/// An answer before it is given: what it says, and what the connection has then been sent.
struct Draft {
    shown: Map<String, Value>,
    sent: Sent,
    has_news: bool,
}

pub(super) async fn sync(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
    sender: Sender,
    answer::Body(body): answer::Body,
) -> Answer {
    let timeout = query.get("timeout").map(|timeout| timeout.parse().map(Duration::from_millis));
    let timeout =
        timeout.transpose().map_err(|_| Refusal::invalid("timeout must be an integer"))?;
    let timeout = timeout.unwrap_or_default();
    let deadline = Instant::now() + timeout.min(LONGEST_WAIT);
    let from = query.get("pos").map(|position| Position::read(position)).transpose()?;
    let request = Request::read(body)?;
    let key = (sender.user_id.clone(), sender.device_id.clone(), request.conn_id.clone());
    let connection = from.map_or(0, |from| from.connection);
    let mut position = shared.position.subscribe();
    loop {
        position.borrow_and_update();
        {
            let mut world = shared.world();
            // The device may have been deleted while this waited.
            if world.device(&sender.user_id, &sender.device_id).is_none() {
                return Err(Refusal::unknown_token());
            }
            let before = world.connections.resume(&key, connection);
            let before = before.ok_or_else(unknown_position)?;
            if let Some(to_device) = &request.extensions.to_device {
                acknowledge(&mut world, &sender, to_device);
            }
            let draft = draft(&world, &sender, &request, from, &before);
            let has_waited = Instant::now() >= deadline;
            if draft.has_news || from.is_none() || has_waited {
                let recorded = world.connections.record(&key, connection, &before, draft.sent);
                let mut shown = draft.shown;
                let position = format!("{recorded}/{}", token(world.position));
                shown.insert("pos".to_owned(), json!(position));
                return Ok(Json(Value::from(shown)));
            }
        }
        // Whether there was a change or the time is up, the next round tells.
        let _ = tokio::time::timeout_at(deadline, position.changed()).await;
    }
}

/// Deletes the to-device events that the device says it has.
fn acknowledge(world: &mut World, sender: &Sender, to_device: &ToDevice) {
    let since = to_device.since().filter(|_| to_device.is_on()).unwrap_or(0);
    if let Some(device) = world.device_mut(&sender.user_id, &sender.device_id) {
        device.inbox.retain(|(position, _)| *position > since);
    }
}

fn draft(
    world: &World,
    sender: &Sender,
    request: &Request,
    from: Option<Position>,
    before: &Sent,
) -> Draft {
    let since = from.map(|from| from.world);
    let me = sender.user_id.as_str();
    let interest = Interest::of(world, me, request, since);
    let mut sent = before.clone();
    let mut rooms: BTreeMap<String, Value> = BTreeMap::new();
    for (entry, config) in interest.to_send(before, since) {
        let is_direct = interest.direct.contains(&entry.room.id);
        let is_reversed = world.reversed_timelines.contains(me);
        let view = View { sender, entry, config, since, is_direct, is_reversed };
        if let Some(told) = view.tell(before, &mut sent) {
            rooms.insert(entry.room.id.clone(), told);
        }
        sent.rooms.sent(&entry.room.id);
    }
    if let Some(since) = since {
        let outside = interest.all.iter().filter(|(id, _)| !interest.wanted.contains_key(*id));
        for (room_id, entry) in outside {
            if entry.has_updates_since(since) {
                sent.rooms.passed_over(room_id, since);
            }
        }
    }
    let sources = Sources { world, sender, interest: &interest, rooms: &rooms, since };
    let extended = sources.answer(&request.extensions, before, &mut sent);
    let has_news = !rooms.is_empty() || extended.has_news;
    // Extensions alone leave a connection nothing to remember.
    if request.lists.is_empty() && request.room_subscriptions.is_empty() {
        sent = before.clone();
    }
    let mut shown = Map::new();
    if !interest.lists.is_empty() {
        shown.insert("lists".to_owned(), json!(interest.lists));
    }
    shown.insert("rooms".to_owned(), json!(rooms));
    shown.insert("extensions".to_owned(), Value::from(extended.shown));
    Draft { shown, sent, has_news }
}
