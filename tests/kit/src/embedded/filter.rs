//! Filters: which events of a page or a timeline are wanted, by type, sender and media, and whether
//! members come lazily.

use serde_json::Value;

use super::{error::Refusal, state::Event};

/// A filter as `/messages` takes it; what it does not name passes.
#[derive(Default)]
pub(super) struct EventFilter {
    types: Option<Vec<String>>,
    not_types: Vec<String>,
    senders: Option<Vec<String>>,
    not_senders: Vec<String>,
    contains_url: Option<bool>,
    pub limit: Option<usize>,
    /// Only the members that are needed to show the events.
    pub lazy_members: bool,
    /// Even where the client has been sent them.
    pub redundant_members: bool,
}

impl EventFilter {
    /// Reads a query's filter; without one, everything passes.
    pub fn read(text: Option<&String>) -> Result<Self, Refusal> {
        let Some(text) = text else {
            return Ok(Self::default());
        };
        let filter: Value = serde_json::from_str(text)
            .map_err(|_| Refusal::not_json("Query parameter filter must be a valid JSON object"))?;
        Ok(Self::of(&filter))
    }

    /// The filter that is a part of a greater one.
    pub fn of(filter: &Value) -> Self {
        let names = |field: &str| strings(filter.get(field)?);
        let flag = |field: &str| filter.get(field) == Some(&Value::Bool(true));
        let limit = filter.get("limit").and_then(Value::as_u64);
        Self {
            types: names("types"),
            not_types: names("not_types").unwrap_or_default(),
            senders: names("senders"),
            not_senders: names("not_senders").unwrap_or_default(),
            contains_url: filter.get("contains_url").and_then(Value::as_bool),
            limit: limit.and_then(|limit| usize::try_from(limit).ok()),
            lazy_members: flag("lazy_load_members"),
            redundant_members: flag("include_redundant_members"),
        }
    }

    pub fn passes(&self, event: &Event) -> bool {
        let of_type = |pattern: &String| matches(pattern, &event.event_type);
        let by = |sender: &String| *sender == event.sender;
        let has_url = event.content.get("url").is_some_and(Value::is_string);
        self.types.as_ref().is_none_or(|types| types.iter().any(of_type))
            && !self.not_types.iter().any(of_type)
            && self.senders.as_ref().is_none_or(|senders| senders.iter().any(by))
            && !self.not_senders.iter().any(by)
            && self.contains_url.is_none_or(|wanted| wanted == has_url)
    }
}

/// The strings of a list.
pub(super) fn strings(value: &Value) -> Option<Vec<String>> {
    let items = value.as_array()?.iter();
    Some(items.filter_map(|item| item.as_str().map(str::to_owned)).collect())
}

/// Whether a name fits a pattern, in which `*` stands for any letters.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(name) = name.strip_prefix(start) else {
        return false;
    };
    (0..=name.len()).filter_map(|at| name.get(at..)).any(|end| matches(rest, end))
}
