//! Reading and writing the JSON of events.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

/// The largest content that this library puts into an event, in bytes of JSON. The limit of 65,535
/// bytes holds for the whole federated event (Matrix spec, "Size limits"). The difference is for
/// the event's envelope: ids, hashes and signatures.
pub(crate) const CONTENT_LIMIT: usize = 60_000;

/// Why JSON from outside cannot be read. It quotes nothing, because serde's own text may hold parts
/// of the JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {kind} error at line {line} column {column}")]
pub(crate) struct JsonError {
    what: &'static str,
    kind: String,
    line: usize,
    column: usize,
}

/// Why a content cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ContentError {
    /// The content is larger than an event may be.
    #[error("{what} would take {size} bytes of an event; {CONTENT_LIMIT} are possible")]
    TooLarge {
        /// The thing that was to be sent.
        what: &'static str,
        /// How many bytes it has.
        size: usize,
    },
    /// The content cannot be written as JSON.
    #[error("{what} cannot be written as JSON: {reason}")]
    Unwritable {
        /// The thing that was to be sent.
        what: &'static str,
        /// Serde's text.
        reason: String,
    },
}

/// Parses JSON that came from outside; `what` names it in the error.
pub(crate) fn parse<T: DeserializeOwned>(json: &str, what: &'static str) -> Result<T, JsonError> {
    serde_json::from_str(json).map_err(|error| JsonError {
        what,
        kind: format!("{:?}", error.classify()),
        line: error.line(),
        column: error.column(),
    })
}

/// Writes an event's content. Fails if the content is so large that the homeserver would refuse it.
pub(crate) fn write_content(
    content: &impl Serialize,
    what: &'static str,
) -> Result<Box<RawValue>, ContentError> {
    let json = serde_json::value::to_raw_value(content)
        .map_err(|error| ContentError::Unwritable { what, reason: error.to_string() })?;
    let size = json.get().len();
    if size > CONTENT_LIMIT {
        return Err(ContentError::TooLarge { what, size });
    }
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_quotes_nothing_of_what_was_read() {
        let error = parse::<u8>("\"a secret\"", "the event").err().map(|error| error.to_string());
        let error = error.unwrap_or_default();
        assert!(error.starts_with("the event: Data error at line 1"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn a_content_that_no_event_could_hold_is_refused() {
        let content = "x".repeat(CONTENT_LIMIT - 2);
        assert!(write_content(&content, "the text").is_ok());
        let size = CONTENT_LIMIT + 1;
        assert_eq!(
            write_content(&format!("{content}x"), "the text").err(),
            Some(ContentError::TooLarge { what: "the text", size })
        );
    }
}
