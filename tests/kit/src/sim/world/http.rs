//! The client-server API, without HTTP: a request of a machine, and what its server answers.

use std::collections::BTreeMap;

use matrix_mls::OutgoingRequest;
use serde_json::{Value, json};

use super::{Event, Name, World, event::Draft};
use crate::sim::dice::Dice;

/// The largest event, in bytes (Matrix spec, "Size limits").
const LARGEST_EVENT: usize = 65_535;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sim) struct Reply {
    pub(in crate::sim) status: u16,
    pub(in crate::sim) body: Vec<u8>,
}

impl Reply {
    /// No answer at all.
    pub(in crate::sim) fn none() -> Self {
        Self { status: 0, body: Vec::new() }
    }

    pub(super) fn ok(body: &Value) -> Self {
        Self { status: 200, body: body.to_string().into_bytes() }
    }

    pub(super) fn error(status: u16, code: &str) -> Self {
        let body = json!({ "errcode": code, "error": "as the simulation wants it" });
        Self { status, body: body.to_string().into_bytes() }
    }

    pub(super) fn bad(code: &str) -> Self {
        Self::error(400, code)
    }

    pub(super) fn logged_out() -> Self {
        Self::error(401, "M_UNKNOWN_TOKEN")
    }

    /// 429.
    pub(in crate::sim) fn too_many() -> Self {
        let body = json!({ "errcode": "M_LIMIT_EXCEEDED", "error": "", "retry_after_ms": 700 });
        Self { status: 429, body: body.to_string().into_bytes() }
    }

    /// 502, from a proxy.
    pub(in crate::sim) fn bad_gateway() -> Self {
        Self { status: 502, body: b"<html>".to_vec() }
    }

    /// The member events in the answer to the question who is in the room.
    pub(in crate::sim) fn members(&self) -> Option<Vec<String>> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        let chunk = body["chunk"].as_array().filter(|_| body["start"].is_null())?;
        (self.status == 200).then(|| chunk.iter().map(Value::to_string).collect())
    }

    /// The member events in a page of the history.
    pub(in crate::sim) fn members_of_page(&self) -> Vec<String> {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let chunk = body["chunk"].as_array().filter(|_| !body["start"].is_null());
        let members = chunk.into_iter().flatten().filter(|event| event["type"] == "m.room.member");
        members.map(Value::to_string).collect()
    }

    /// The event id in the answer to a sent event.
    pub(in crate::sim) fn event_id(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        (self.status == 200).then(|| Some(body["event_id"].as_str()?.to_owned()))?
    }
}

/// An event as a request brings it.
struct Sending<'a> {
    room: &'a str,
    kind: &'a str,
    state_key: Option<&'a str>,
    transaction: Option<&'a str>,
    body: &'a [u8],
}

impl World {
    /// A server does what a device asks.
    pub(in crate::sim) fn handle(
        &mut self,
        from: &Name,
        request: &OutgoingRequest,
        dice: &mut Dice,
    ) -> Reply {
        self.traffic.requests += 1;
        self.traffic.writes += u64::from(request.method != "GET");
        self.traffic.bytes += request.body.len() as u64;
        if !self.servers[from.server()].devices.contains_key(from) {
            return Reply::logged_out();
        }
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let segments: Vec<String> = path.split('/').skip(2).map(decode).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let body = &request.body;
        let is_question = request.method == "GET" || segments.ends_with(&["keys", "query"]);
        if self.is_hostile && is_question {
            if let Some(reply) = self.old_answer(from, &request.path, body) {
                return reply;
            }
            let reply = self.answer(from, (&request.method, path, query), &segments, body, dice);
            // Who is in the room is bent by nobody.
            if segments.last() != Some(&"members") {
                self.note_answer(from, &request.path, body, &reply);
            }
            return reply;
        }
        self.answer(from, (&request.method, path, query), &segments, body, dice)
    }

    fn answer(
        &mut self,
        from: &Name,
        (method, path, query): (&str, &str, &str),
        segments: &[&str],
        body: &[u8],
        dice: &mut Dice,
    ) -> Reply {
        match (method, segments) {
            ("POST", ["client", "v3", "keys", "upload"]) => self.upload_keys(from, body, dice),
            ("POST", ["client", "v3", "keys", "query"]) => self.query_keys(from, body),
            ("POST", ["client", "v3", "keys", "claim"]) => self.claim_keys(from, body),
            ("PUT", ["client", "v3", "sendToDevice", kind, _]) => {
                self.once(from, path, |world| world.send_to_device(from, kind, body, dice))
            }
            ("PUT", ["client", "v3", "rooms", room, "send", kind, id]) => {
                let sending = Sending { room, kind, state_key: None, transaction: Some(id), body };
                self.once(from, path, |world| world.send_event(from, &sending, dice))
            }
            ("PUT", ["client", "v3", "rooms", room, "state", kind, key @ ..]) => {
                let key = key.first().copied().unwrap_or_default();
                let sending = Sending { room, kind, state_key: Some(key), transaction: None, body };
                self.send_event(from, &sending, dice)
            }
            ("GET", ["client", "v3", "rooms", room, "event", event_id]) => {
                self.fetch_event(from, room, event_id)
            }
            ("GET", ["client", "v3", "rooms", room, "context", event_id]) => {
                self.place(from, room, event_id)
            }
            ("GET", ["client", "v3", "rooms", room, "messages"]) => {
                self.messages(from, room, query)
            }
            ("GET", ["client", "v3", "rooms", room, "members"]) => self.members(from, room, query),
            ("PUT", ["client", "v3", "pushrules", ..]) => Reply::ok(&json!({})),
            ("POST", ["media", "v3", "upload"]) => self.upload_media(from, body),
            ("GET", ["client", "v1", "media", "download", server, id]) => {
                self.download_media(from, server, id)
            }
            (method, _) => {
                self.unknown_requests.insert(format!("{method} {path}"));
                Reply::error(404, "M_UNRECOGNIZED")
            }
        }
    }

    /// The same transaction again gets the same answer.
    fn once(&mut self, from: &Name, path: &str, work: impl FnOnce(&mut Self) -> Reply) -> Reply {
        let key = (from.clone(), path.to_owned());
        let server = from.server();
        if let Some(reply) = self.servers[server].transactions.get(&key) {
            return reply.clone();
        }
        let reply = work(self);
        if reply.status == 200 {
            self.servers[server].transactions.insert(key, reply.clone());
        }
        reply
    }

    fn send_event(&mut self, from: &Name, sending: &Sending<'_>, dice: &mut Dice) -> Reply {
        let Sending { room, kind, state_key, transaction, body } = *sending;
        if !self.may_send(from, room) {
            return Reply::error(403, "M_FORBIDDEN");
        }
        if body.len() > LARGEST_EVENT {
            return Reply::error(413, "M_TOO_LARGE");
        }
        let Ok(content) = std::str::from_utf8(body) else { return Reply::bad("M_NOT_JSON") };
        let sender = from.user_id();
        let sent_by = Some(from);
        let draft = Draft { sender: &sender, kind, state_key, content, transaction, sent_by };
        let event = self.make(from.server(), &draft, dice);
        Reply::ok(&json!({ "event_id": event.id }))
    }

    /// The events that a device may read, with their positions.
    fn readable(&self, from: &Name, room: &str) -> Option<Vec<(u64, &Event)>> {
        let here = &self.servers[from.server()];
        let id = from.user_id();
        let until = match here.membership(&id)? {
            "join" => u64::MAX,
            "leave" => {
                let own = |event: &Event| event.state_key.as_deref() == Some(&id);
                here.timeline.iter().rev().find(|(_, event)| own(event))?.0
            }
            _ => return None,
        };
        let events = here.timeline.iter().filter(|(position, _)| *position <= until);
        let events = events.filter(|(_, event)| !self.is_hidden(from, &event.id));
        (room == super::ROOM)
            .then(|| events.map(|(position, event)| (*position, &**event)).collect())
    }

    fn fetch_event(&self, from: &Name, room: &str, event_id: &str) -> Reply {
        let events = self.readable(from, room).unwrap_or_default();
        match events.iter().find(|(_, event)| event.id == event_id) {
            Some((_, event)) => {
                Reply { status: 200, body: event.shown_to(from, self.now_ms).into_bytes() }
            }
            None => Reply::error(404, "M_NOT_FOUND"),
        }
    }

    /// Where an event is, without what is around it.
    fn place(&self, from: &Name, room: &str, event_id: &str) -> Reply {
        let events = self.readable(from, room).unwrap_or_default();
        match events.iter().find(|(_, event)| event.id == event_id) {
            Some((position, event)) => {
                let (start, end, event) =
                    (position - 1, position, event.shown_to(from, self.now_ms));
                let around = r#""events_before":[],"events_after":[],"state":[]"#;
                let tokens = format!(r#""start":"{start}","end":"{end}""#);
                let body = format!(r#"{{"event":{event},{around},{tokens}}}"#);
                Reply { status: 200, body: body.into_bytes() }
            }
            None => Reply::error(404, "M_NOT_FOUND"),
        }
    }

    /// Who is in the room, by its state as it is now; for one who has left, as it was then.
    fn members(&self, from: &Name, room: &str, query: &str) -> Reply {
        let Some(events) = self.readable(from, room) else {
            return Reply::error(403, "M_FORBIDDEN");
        };
        let here = &self.servers[from.server()];
        let mut members: BTreeMap<&str, &Event> = BTreeMap::new();
        if here.is_joined(&from.user_id()) {
            let state = here.state.values().map(|event| &**event);
            members.extend(state.filter_map(|event| Some((event.member()?, event))));
        } else {
            members.extend(events.iter().filter_map(|(_, event)| Some((event.member()?, *event))));
        }
        let without = query.split('&').find_map(|pair| pair.strip_prefix("not_membership="));
        let chunk: Vec<String> = members
            .values()
            .filter(|event| event.membership.as_deref() != without)
            .map(|event| event.shown_to(from, self.now_ms))
            .collect();
        let body = format!(r#"{{"chunk":[{}]}}"#, chunk.join(","));
        Reply { status: 200, body: body.into_bytes() }
    }

    /// A page of the timeline.
    fn messages(&self, from: &Name, room: &str, query: &str) -> Reply {
        let Some(events) = self.readable(from, room) else {
            return Reply::error(403, "M_FORBIDDEN");
        };
        let parameter = |name: &str| {
            query.split('&').find_map(|pair| {
                pair.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| decode(value))
            })
        };
        let limit = parameter("limit").and_then(|limit| limit.parse().ok()).unwrap_or(10_usize);
        let token = parameter("from").and_then(|from| from.parse::<u64>().ok());
        let backwards = match parameter("dir").as_deref() {
            Some("b") => true,
            Some("f") => false,
            _ => return Reply::bad("M_INVALID_PARAM"),
        };
        let start = token.unwrap_or(if backwards { u64::MAX } else { 0 });
        // Of filters, machines use the types alone.
        let types = parameter("filter").and_then(|filter| types_of(&filter));
        let is_wanted = |kind: &String| types.as_ref().is_none_or(|types| types.contains(kind));
        let mut page: Vec<_> = events
            .iter()
            .filter(|(position, _)| (*position <= start) == backwards)
            .filter(|(_, event)| is_wanted(&event.kind))
            .collect();
        if backwards {
            page.reverse();
        }
        page.truncate(limit);
        let shown = page.iter().map(|(_, event)| event.shown_to(from, self.now_ms));
        let chunk: Vec<String> = shown.collect();
        let end = page.last().filter(|_| page.len() == limit);
        let end = end.map(|(position, _)| if backwards { position - 1 } else { *position });
        let end = end.map_or(String::new(), |end| format!(r#","end":"{end}""#));
        let body = format!(r#"{{"start":"{start}","chunk":[{}]{end}}}"#, chunk.join(","));
        Reply { status: 200, body: body.into_bytes() }
    }
}

/// The types of events that a filter lets pass.
fn types_of(filter: &str) -> Option<Vec<String>> {
    let filter: Value = serde_json::from_str(filter).ok()?;
    serde_json::from_value(filter["types"].clone()).ok()
}

/// Undoes percent-encoding.
fn decode(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
