//! `/context`: an event, what is around it, and the tokens from which pages go on.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde_json::{Value, json};

use super::{
    Shared,
    answer::{Answer, Sender},
    error::Refusal,
    filter::EventFilter,
    messages::{show, show_seen, token},
    state::{Event, Room},
    visibility::Sight,
};

pub(super) async fn context(
    State(shared): State<Arc<Shared>>,
    Path((room_id, event_id)): Path<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
    sender: Sender,
) -> Answer {
    let world = shared.world();
    let limit = match query.get("limit") {
        None => 10,
        Some(limit) => {
            limit.parse::<usize>().map_err(|_| Refusal::invalid("limit must be a number"))?
        }
    };
    let filter = query.get("filter").map(|text| EventFilter::read(Some(text))).transpose()?;
    let not_found = || Refusal::not_found("Event not found.");
    let room = world.rooms.get(&room_id).ok_or_else(not_found)?;
    let peeking = room.membership(&sender.user_id) != Some("join");
    let events: Vec<_> = room.events.iter().zip(room.seen_by(&sender.user_id, peeking)).collect();
    let at = events.iter().position(|(event, _)| event.event_id == event_id);
    let at = at.ok_or_else(not_found)?;
    let (event, sight) = events[at];
    if !sight.visible {
        return Err(Refusal::forbidden("You don't have permission to access that event."));
    }
    let passes = |(event, _): &&(&Event, Sight<'_>)| {
        filter.as_ref().is_none_or(|filter| filter.passes(event))
    };
    let before: Vec<_> = events[..at].iter().rev().filter(passes).take(limit / 2).collect();
    let after = events[at + 1..].iter().filter(passes).take(limit - limit / 2);
    let after: Vec<_> = after.collect();
    // The tokens count what is taken out of the answer because it may not be seen.
    let start = before.last().map_or(event.position, |(event, _)| event.position) - 1;
    let end = after.last().map_or(event.position, |(event, _)| event.position);
    let visible = |around: Vec<&(&'_ Event, Sight<'_>)>| -> Vec<Value> {
        let seen = around.into_iter().filter(|(_, sight)| sight.visible);
        seen.map(|(event, sight)| show_seen(room, event, *sight, &sender, false)).collect()
    };
    let senders: BTreeSet<&str> = before
        .iter()
        .chain(&after)
        .filter(|(_, sight)| sight.visible)
        .map(|(event, _)| event.sender.as_str())
        .chain([event.sender.as_str()])
        .collect();
    let last = after.iter().rfind(|(_, sight)| sight.visible);
    let last = last.map_or(event.position, |(event, _)| event.position);
    let state = state_at(room, last, filter.as_ref(), &senders, &sender);
    Ok(Json(json!({
        "events_before": visible(before), "event": show_seen(room, event, sight, &sender, false),
        "events_after": visible(after), "state": state,
        "start": token(start), "end": token(end),
    })))
}

/// The room's state with the event at a position, as far as the filter wants it.
fn state_at(
    room: &Room,
    position: u64,
    filter: Option<&EventFilter>,
    senders: &BTreeSet<&str>,
    sender: &Sender,
) -> Vec<Value> {
    let end = room.events.iter().take_while(|event| event.position <= position).count();
    let state = room.state_before(end);
    let events = state.values().filter_map(|index| room.events.get(*index));
    events
        .filter(|event| {
            let needed = event.event_type != "m.room.member"
                || event.state_key.as_deref().is_some_and(|user| senders.contains(user));
            filter.is_none_or(|filter| filter.passes(event) && (needed || !filter.lazy_members))
        })
        .map(|event| show(room, event, sender, false))
        .collect()
}
