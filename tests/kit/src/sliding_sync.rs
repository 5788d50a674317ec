//! The two sliding sync connections of Element X (MSC4186), built as matrix-sdk builds them.
//!
//! `room-list` has the rooms, newest first: twenty at the start, and then a hundred more with each
//! request. Its position outlives the app. `encryption` has to-device events and keys and no rooms.
//! It begins without a position at each start; the token of its to-device events is kept.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::{Http, KitError, http::segment};

/// The state that Element X wants of each room, and the restarts that README.md tells apps to want.
const REQUIRED_STATE: [(&str, &str); 18] = [
    ("org.matrix.msc2883.v1.dmls.restart", ""),
    ("m.room.name", ""),
    ("m.room.encryption", ""),
    ("m.room.member", "$LAZY"),
    ("m.room.member", "$ME"),
    ("m.room.topic", ""),
    ("m.room.avatar", ""),
    ("m.room.canonical_alias", ""),
    ("m.room.power_levels", ""),
    ("org.matrix.msc3401.call.member", "*"),
    ("m.room.join_rules", ""),
    ("m.room.tombstone", ""),
    ("m.room.create", ""),
    ("m.room.history_visibility", ""),
    ("io.element.functional_members", ""),
    ("m.space.parent", "*"),
    ("m.space.child", "*"),
    ("org.matrix.msc3672.beacon_info", "*"),
];
/// The same of a room that is open.
const REQUIRED_OF_OPEN_ROOM: (&str, &str) = ("m.room.pinned_events", "");
/// How many rooms the first request wants, and how many more each later one.
const FIRST_ROOMS: u64 = 20;
const MORE_ROOMS: u64 = 100;
/// How many events of a room in the list are wanted, and of one that is open.
const LISTED_EVENTS: u64 = 1;
const OPEN_EVENTS: u64 = 20;
/// The only list.
const LIST: &str = "all_rooms";

/// A sliding sync connection of a device.
#[derive(Debug, Clone)]
pub struct SlidingSync {
    http: Http,
    id: &'static str,
    position: Option<String>,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    RoomList {
        timeline_limit: u64,
        /// How many rooms the next request wants.
        window: u64,
        /// Whether a first request has been answered.
        has_begun: bool,
        open: Vec<String>,
    },
    Encryption {
        to_device: Option<String>,
    },
}

impl SlidingSync {
    /// The connection that has the rooms. `position` is where an earlier run of the app ended.
    pub fn room_list(http: &Http, position: Option<String>) -> Self {
        let kind = Kind::RoomList {
            timeline_limit: LISTED_EVENTS,
            window: FIRST_ROOMS,
            has_begun: false,
            open: Vec::new(),
        };
        Self { http: http.clone(), id: "room-list", position, kind }
    }

    /// The connection that has to-device events and keys. `to_device` is the token of the to-device
    /// events that an earlier run of the app has seen.
    pub fn encryption(http: &Http, to_device: Option<String>) -> Self {
        let kind = Kind::Encryption { to_device };
        Self { http: http.clone(), id: "encryption", position: None, kind }
    }

    /// The same with another number of events a room; has no effect on `encryption`.
    pub fn with_timeline_limit(mut self, limit: u64) -> Self {
        if let Kind::RoomList { timeline_limit, .. } = &mut self.kind {
            *timeline_limit = limit;
        }
        self
    }

    /// The rooms that are open from now on, of which more is wanted; has no effect on `encryption`.
    pub fn open_rooms(&mut self, room_ids: &[&str]) {
        if let Kind::RoomList { open, .. } = &mut self.kind {
            *open = room_ids.iter().map(|room_id| (*room_id).to_owned()).collect();
        }
    }

    /// From where the next request goes on; nothing where the connection begins.
    pub fn position(&self) -> Option<&str> {
        self.position.as_deref()
    }

    /// The token of the to-device events so far.
    pub fn to_device_token(&self) -> Option<&str> {
        match &self.kind {
            Kind::Encryption { to_device } => to_device.as_deref(),
            Kind::RoomList { .. } => None,
        }
    }

    /// Begins anew, as when the homeserver does not know the position (`M_UNKNOWN_POS`).
    pub fn expire(&mut self) {
        self.position = None;
        if let Kind::RoomList { window, has_begun, open, .. } = &mut self.kind {
            (*window, *has_begun) = (FIRST_ROOMS, false);
            open.clear();
        }
    }

    /// The body of the next request.
    pub fn request(&self) -> Value {
        match &self.kind {
            Kind::RoomList { timeline_limit, window, open, .. } => {
                let required: Vec<Value> = REQUIRED_STATE.iter().map(|pair| json!(pair)).collect();
                let mut of_open = required.clone();
                of_open.push(json!(REQUIRED_OF_OPEN_ROOM));
                let open = open.iter().map(|room_id| {
                    let wanted =
                        json!({ "required_state": of_open, "timeline_limit": OPEN_EVENTS });
                    (room_id.clone(), wanted)
                });
                json!({
                    "conn_id": self.id,
                    "lists": { LIST: {
                        "ranges": [[0, window.saturating_sub(1)]],
                        "required_state": required,
                        "timeline_limit": timeline_limit,
                        "filters": {},
                    } },
                    "room_subscriptions": open.collect::<Map<_, _>>(),
                    "extensions": {
                        "account_data": { "enabled": true },
                        "receipts": { "enabled": true, "rooms": ["*"] },
                        "typing": { "enabled": true },
                    },
                })
            }
            Kind::Encryption { to_device } => {
                let mut events = json!({ "enabled": true });
                if let Some(since) = to_device {
                    events["since"] = json!(since);
                }
                let extensions = json!({ "to_device": events, "e2ee": { "enabled": true } });
                json!({ "conn_id": self.id, "extensions": extensions })
            }
        }
    }

    /// Syncs once, waiting this long for news, and goes on from there with the next request.
    pub async fn sync(&mut self, timeout: Duration) -> Result<Value, KitError> {
        let answer = self.ask(timeout).await?;
        self.position = answer["pos"].as_str().map(str::to_owned);
        match &mut self.kind {
            Kind::RoomList { window, has_begun, .. } => {
                let count = answer["lists"][LIST]["count"].as_u64().unwrap_or(0);
                let fetched = if *has_begun { *window } else { 0 };
                (*window, *has_begun) = ((fetched + MORE_ROOMS).min(count.max(1)), true);
            }
            Kind::Encryption { to_device } => {
                let next = answer["extensions"]["to_device"]["next_batch"].as_str();
                *to_device = next.map(str::to_owned);
            }
        }
        Ok(answer)
    }

    /// Asks once and forgets the answer, as when it is lost: the next request is the same again.
    pub async fn ask(&self, timeout: Duration) -> Result<Value, KitError> {
        let mut path = format!(
            "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?timeout={}",
            timeout.as_millis(),
        );
        if let Some(position) = &self.position {
            path.push_str(&format!("&pos={}", segment(position)));
        }
        let answer = self.http.post(&path, self.request()).await?;
        match answer["pos"].is_string() {
            true => Ok(answer),
            false => Err(KitError::BadAnswer {
                device: self.id.to_owned(),
                what: format!("POST {path}"),
                answer: answer.to_string(),
            }),
        }
    }
}
