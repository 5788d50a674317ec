//! The filter of a page of events: which types and senders, and with or without media.

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
}

impl EventFilter {
    /// Reads a query's filter; without one, everything passes.
    pub fn read(text: Option<&String>) -> Result<Self, Refusal> {
        let Some(text) = text else {
            return Ok(Self::default());
        };
        let filter: Value = serde_json::from_str(text)
            .map_err(|_| Refusal::not_json("Query parameter filter must be a valid JSON object"))?;
        let names = |field: &str| {
            let names = filter.get(field)?.as_array()?;
            Some(names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
        };
        Ok(Self {
            types: names("types"),
            not_types: names("not_types").unwrap_or_default(),
            senders: names("senders"),
            not_senders: names("not_senders").unwrap_or_default(),
            contains_url: filter.get("contains_url").and_then(Value::as_bool),
        })
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
