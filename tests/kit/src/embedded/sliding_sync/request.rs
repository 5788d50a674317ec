//! The body of a sliding sync request. What it does not name is ignored, as MSC4186 wants it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::error::Refusal;

/// The longest timeline that may be asked for.
const LONGEST_TIMELINE: i64 = 1000;

#[derive(Deserialize)]
pub(super) struct Body {
    conn_id: Option<String>,
    lists: Option<BTreeMap<String, List>>,
    room_subscriptions: Option<BTreeMap<String, Parameters>>,
    extensions: Option<Extensions>,
}

/// What of a room is wanted.
#[derive(Deserialize)]
pub(super) struct Parameters {
    pub required_state: Vec<(String, String)>,
    pub timeline_limit: i64,
}

#[derive(Deserialize)]
pub(super) struct List {
    #[serde(flatten)]
    pub parameters: Parameters,
    /// The windows, both ends included.
    pub ranges: Option<Vec<(usize, usize)>>,
    pub filters: Option<Filters>,
}

/// Which rooms a list has. Those that Synapse has and that are not here are refused.
#[derive(Default, Deserialize)]
pub(super) struct Filters {
    pub is_dm: Option<bool>,
    pub is_encrypted: Option<bool>,
    pub is_invite: Option<bool>,
    pub room_types: Option<Vec<Option<String>>>,
    pub not_room_types: Option<Vec<Option<String>>>,
    spaces: Option<Value>,
    room_name_like: Option<Value>,
    tags: Option<Value>,
    not_tags: Option<Value>,
}

#[derive(Default, Deserialize)]
pub(super) struct Extensions {
    pub to_device: Option<ToDevice>,
    pub e2ee: Option<Switch>,
    pub account_data: Option<OfRooms>,
    pub receipts: Option<OfRooms>,
    pub typing: Option<OfRooms>,
}

/// An extension without settings.
#[derive(Deserialize)]
pub(super) struct Switch {
    enabled: Option<bool>,
}

#[derive(Deserialize)]
pub(super) struct ToDevice {
    enabled: Option<bool>,
    limit: Option<i64>,
    since: Option<String>,
}

/// An extension that concerns the rooms of some lists and some subscriptions: of all, unless said.
#[derive(Deserialize)]
pub(super) struct OfRooms {
    enabled: Option<bool>,
    #[serde(default = "all")]
    pub lists: Option<Vec<String>>,
    #[serde(default = "all")]
    pub rooms: Option<Vec<String>>,
}

fn all() -> Option<Vec<String>> {
    Some(vec!["*".to_owned()])
}

impl Switch {
    pub fn is_on(&self) -> bool {
        self.enabled == Some(true)
    }
}

impl OfRooms {
    pub fn is_on(&self) -> bool {
        self.enabled == Some(true)
    }
}

impl ToDevice {
    pub fn is_on(&self) -> bool {
        self.enabled == Some(true)
    }

    /// How many events are wanted at most.
    pub fn limit(&self) -> usize {
        usize::try_from(self.limit.unwrap_or(100)).unwrap_or(0).min(100)
    }

    /// The position that the device has seen.
    pub fn since(&self) -> Option<u64> {
        self.since.as_ref()?.parse().ok()
    }
}

/// A checked request.
pub(super) struct Request {
    pub conn_id: String,
    pub lists: BTreeMap<String, List>,
    pub room_subscriptions: BTreeMap<String, Parameters>,
    pub extensions: Extensions,
}

impl Request {
    pub fn read(body: Map<String, Value>) -> Result<Self, Refusal> {
        let body: Body = serde_json::from_value(Value::from(body)).map_err(|error| {
            let error = error.to_string();
            match error.strip_prefix("missing field ") {
                Some(field) => Refusal::missing(field),
                None => Refusal::bad_json(error),
            }
        })?;
        let lists = body.lists.unwrap_or_default();
        let room_subscriptions = body.room_subscriptions.unwrap_or_default();
        let of_lists = lists.values().map(|list| &list.parameters);
        for parameters in of_lists.chain(room_subscriptions.values()) {
            if parameters.timeline_limit > LONGEST_TIMELINE {
                return Err(Refusal::bad_json("timeline_limit: at most 1000"));
            }
        }
        for filters in lists.values().filter_map(|list| list.filters.as_ref()) {
            let unknown =
                [&filters.spaces, &filters.room_name_like, &filters.tags, &filters.not_tags];
            if unknown.into_iter().any(Option::is_some) {
                return Err(Refusal::invalid("this homeserver does not have this filter"));
            }
        }
        let extensions = body.extensions.unwrap_or_default();
        let since = extensions.to_device.as_ref().and_then(|to_device| to_device.since.as_ref());
        if since.is_some_and(|since| since.parse::<u64>().is_err()) {
            return Err(Refusal::invalid("'extensions.to_device.since' is invalid"));
        }
        let conn_id = body.conn_id.unwrap_or_default();
        Ok(Self { conn_id, lists, room_subscriptions, extensions })
    }
}
