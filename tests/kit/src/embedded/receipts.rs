//! How far users have read each room: read receipts, public and private, and the marker of what has
//! been read fully. Receipts go forward only.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, State},
};
use serde_json::{Value, json};

use super::{
    Shared,
    answer::{Answer, Body, OptionalBody, Sender, optional},
    error::Refusal,
    events::now_ms,
    membership::room_of_member,
    state::{Room, World},
};

/// How far a user has read a room.
pub(super) struct Receipt {
    /// The index of the event in the room.
    pub index: usize,
    event_id: String,
    timestamp: u64,
    /// `m.read`, or `m.read.private`, which nobody else is told.
    kind: String,
    /// The position of the change.
    position: u64,
}

impl Room {
    /// What a device is told of receipts that are newer than a position; nothing where there are
    /// none.
    pub fn receipts_since(&self, me: &str, position: u64) -> Option<Value> {
        self.receipts_where(me, |_, receipt| receipt.position > position)
    }

    /// The same of one's own receipt and of those for some events.
    pub fn receipts_for(&self, me: &str, events: &[String]) -> Option<Value> {
        let wanted =
            |user_id: &str, receipt: &Receipt| user_id == me || events.contains(&receipt.event_id);
        self.receipts_where(me, wanted)
    }

    fn receipts_where(&self, me: &str, wanted: impl Fn(&str, &Receipt) -> bool) -> Option<Value> {
        let mut content: BTreeMap<&str, BTreeMap<&str, BTreeMap<&str, Value>>> = BTreeMap::new();
        for (user_id, receipt) in &self.receipts {
            let told = user_id == me || receipt.kind == "m.read";
            if told && wanted(user_id, receipt) {
                let of_event = content.entry(&receipt.event_id).or_default();
                let of_kind = of_event.entry(&receipt.kind).or_default();
                of_kind.insert(user_id, json!({ "ts": receipt.timestamp }));
            }
        }
        (!content.is_empty()).then(|| json!({ "type": "m.receipt", "content": content }))
    }
}

/// Notes that a user has read up to an event. An unknown event is no error.
fn mark(world: &mut World, room_id: &str, user_id: &str, kind: &str, event_id: &str) {
    let position = world.advance();
    let Some(room) = world.rooms.get_mut(room_id) else {
        return;
    };
    let Some(index) = room.events.iter().rposition(|event| event.event_id == event_id) else {
        return;
    };
    if room.receipts.get(user_id).is_some_and(|known| known.index >= index) {
        return;
    }
    let receipt = Receipt {
        index,
        event_id: event_id.to_owned(),
        timestamp: now_ms(),
        kind: kind.to_owned(),
        position,
    };
    room.receipts.insert(user_id.to_owned(), receipt);
}

pub(super) async fn send(
    State(shared): State<Arc<Shared>>,
    Path((room_id, kind, event_id)): Path<(String, String, String)>,
    sender: Sender,
    OptionalBody(_): OptionalBody,
) -> Answer {
    shared.change(|world| {
        require_sight(world, &room_id, &sender.user_id, &event_id)?;
        match kind.as_str() {
            "m.read" | "m.read.private" => {
                mark(world, &room_id, &sender.user_id, &kind, &event_id);
            }
            "m.fully_read" => mark_fully_read(world, &room_id, &sender.user_id, &event_id),
            _ => {
                let types = "Receipt type must be m.fully_read, m.read.private, m.read";
                return Err(Refusal::unknown(types));
            }
        }
        Ok(Json(json!({})))
    })
}

/// Refuses a receipt for an event that the user may not see. One that nobody knows is accepted.
fn require_sight(
    world: &World,
    room_id: &str,
    user_id: &str,
    event_id: &str,
) -> Result<(), Refusal> {
    let Some(room) = world.rooms.get(room_id) else {
        return Ok(());
    };
    let seen = room.seen_by(user_id, room.membership(user_id) != Some("join"));
    let mut events = room.events.iter().zip(seen);
    match events.find(|(event, _)| event.event_id == event_id) {
        Some((_, sight)) if !sight.visible => {
            Err(Refusal::forbidden("You don't have permission to access that event."))
        }
        _ => Ok(()),
    }
}

fn mark_fully_read(world: &mut World, room_id: &str, user_id: &str, event_id: &str) {
    let content = json!({ "event_id": event_id });
    world.set_account_data(user_id, Some(room_id), "m.fully_read", content);
}

pub(super) async fn read_markers(
    State(shared): State<Arc<Shared>>,
    Path(room_id): Path<String>,
    sender: Sender,
    Body(body): Body,
) -> Answer {
    shared.change(|world| {
        room_of_member(world, &room_id, &sender.user_id)?;
        for kind in ["m.read", "m.read.private"] {
            if let Some(event_id) = optional(&body, kind) {
                mark(world, &room_id, &sender.user_id, kind, event_id);
            }
        }
        if let Some(event_id) = optional(&body, "m.fully_read") {
            mark_fully_read(world, &room_id, &sender.user_id, event_id);
        }
        Ok(Json(json!({})))
    })
}
