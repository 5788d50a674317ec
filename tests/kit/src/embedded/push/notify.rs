//! Which events notify whom: each room is walked once a user, and what notified is kept.

use std::{
    collections::HashMap,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use axum::{
    Json,
    extract::{Query, State},
};
use ruma::{
    UInt,
    push::{Action, PushConditionRoomCtx, Ruleset},
    serde::Raw,
};
use serde_json::{Value, json};

use super::super::{
    Shared,
    answer::{Answer, Sender},
    error::Refusal,
    messages::show,
    state::{Event, Room, World},
};

/// How many notifications a page has at most, and without a limit.
const LONGEST_PAGE: usize = 500;
const DEFAULT_PAGE: usize = 50;

/// What a user was notified of in a room, and how far its events have been judged.
#[derive(Default)]
pub(super) struct Walk {
    next: usize,
    notified: Vec<Notified>,
    /// The state as of `next`: how many are joined, and what the user is and is called.
    joined: u64,
    membership: Option<String>,
    name: String,
}

struct Notified {
    /// The event's index in the room.
    index: usize,
    actions: Vec<Action>,
}

impl Notified {
    fn highlights(&self) -> bool {
        self.actions.iter().any(Action::is_highlight)
    }
}

impl Walk {
    fn advance(&mut self, room: &Room, user_id: &str, rules: &Ruleset) {
        for (index, event) in room.events.iter().enumerate().skip(self.next) {
            let is_member = event.event_type == "m.room.member" && event.state_key.is_some();
            let own = event.is_membership_of(user_id);
            // Others' memberships are not judged, as in Synapse.
            let concerned = match self.membership.as_deref() {
                Some("join") => own || !is_member,
                _ => own && event.membership() == Some("invite"),
            };
            if concerned && event.sender != user_id {
                let actions = judge(room, event, user_id, &self.name, self.joined, rules);
                if actions.iter().any(Action::should_notify) {
                    self.notified.push(Notified { index, actions });
                }
            }
            if is_member {
                let before = event.replaces.and_then(|index| room.events.get(index));
                let was_joined = before.and_then(Event::membership) == Some("join");
                let is_joined = event.membership() == Some("join");
                self.joined += u64::from(is_joined && !was_joined);
                self.joined = self.joined.saturating_sub(u64::from(was_joined && !is_joined));
            }
            if own {
                self.membership = event.membership().map(str::to_owned);
                let name = event.content.get("displayname").and_then(Value::as_str);
                self.name = name.unwrap_or_default().to_owned();
            }
        }
        self.next = room.events.len();
    }
}

/// What the rules say of an event; nothing where no rule fits it.
fn judge(
    room: &Room,
    event: &Event,
    user_id: &str,
    name: &str,
    joined: u64,
    rules: &Ruleset,
) -> Vec<Action> {
    let mut json = json!({
        "type": event.event_type, "sender": event.sender, "content": event.content,
        "event_id": event.event_id, "room_id": room.id,
    });
    if let Some(state_key) = &event.state_key {
        json["state_key"] = json!(state_key);
    }
    let (Ok(json), Ok(room_id), Ok(user_id)) =
        (serde_json::value::to_raw_value(&json), room.id.as_str().try_into(), user_id.try_into())
    else {
        return Vec::new();
    };
    let joined = UInt::try_from(joined).unwrap_or(UInt::MAX);
    let context = PushConditionRoomCtx::new(room_id, joined, user_id, name.to_owned());
    let event: Raw<Value> = Raw::from_json(json);
    // Only a condition on threads would have anything to wait for, and there is none.
    let judged = pin!(rules.get_actions(&event, &context));
    match judged.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(actions) => actions.to_vec(),
        Poll::Pending => Vec::new(),
    }
}

impl World {
    /// Judges what has happened in a user's rooms since the last time.
    pub fn judge_for(&mut self, user_id: &str) {
        let Some(user) = self.users.get_mut(user_id) else {
            return;
        };
        let push = &mut user.push_rules;
        for room in self.rooms.values().filter(|room| room.membership(user_id).is_some()) {
            let walk = push.walks.entry(room.id.clone()).or_default();
            walk.advance(room, user_id, &push.rules);
        }
    }
}

/// How many events that a user has not read notify, and how many of them highlight.
pub(in super::super) fn unread(world: &World, room: &Room, user_id: &str) -> (usize, usize) {
    let walk = world.users.get(user_id).and_then(|user| user.push_rules.walks.get(&room.id));
    let read = match room.receipts.get(user_id) {
        Some(receipt) => Some(receipt.index),
        // Whoever has read nothing begins with the own membership as it is now.
        None => room.state.get(&("m.room.member".to_owned(), user_id.to_owned())).copied(),
    };
    let notified = walk.map(|walk| walk.notified.as_slice()).unwrap_or_default();
    let unread = notified.iter().filter(|notified| Some(notified.index) > read);
    unread.fold((0, 0), |(notify, highlight), notified| {
        (notify + 1, highlight + usize::from(notified.highlights()))
    })
}

pub(in super::super) async fn notifications(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
    sender: Sender,
) -> Answer {
    let number = |name: &str| {
        let number = query.get(name).map(|number| number.parse::<u64>());
        number.transpose().map_err(|_| Refusal::invalid(format!("{name} must be an integer")))
    };
    let from = number("from")?;
    let limit = number("limit")?.and_then(|limit| usize::try_from(limit).ok());
    let limit = limit.unwrap_or(DEFAULT_PAGE).min(LONGEST_PAGE);
    let highlights_only = query.get("only").is_some_and(|only| only == "highlight");
    let mut world = shared.world();
    world.judge_for(&sender.user_id);
    let user = world.users.get(&sender.user_id).ok_or_else(Refusal::unknown_token)?;
    let mut notified: Vec<(&Room, &Event, &Notified)> = Vec::new();
    for (room_id, walk) in &user.push_rules.walks {
        let Some(room) = world.rooms.get(room_id) else {
            continue;
        };
        let events =
            walk.notified.iter().filter_map(|one| Some((one, room.events.get(one.index)?)));
        notified.extend(events.map(|(one, event)| (room, event, one)));
    }
    notified.retain(|(_, event, one)| {
        from.is_none_or(|from| event.position < from) && (!highlights_only || one.highlights())
    });
    notified.sort_by_key(|(_, event, _)| std::cmp::Reverse(event.position));
    notified.truncate(limit);
    let next = notified.last().map(|(_, event, _)| event.position.to_string());
    let shown = notified.iter().map(|(room, event, one)| {
        let receipt = room.receipts.get(&sender.user_id);
        json!({
            "room_id": room.id, "profile_tag": null, "actions": one.actions,
            "ts": event.origin_server_ts, "event": show(room, event, &sender, true),
            "read": receipt.is_some_and(|receipt| receipt.index >= one.index),
        })
    });
    let shown: Vec<Value> = shown.collect();
    Ok(Json(json!({ "notifications": shown, "next_token": next })))
}
