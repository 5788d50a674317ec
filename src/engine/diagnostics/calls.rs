//! What has happened since a machine was opened: how long calls took, and why events could not be
//! read. It is kept in memory alone.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

/// The calls whose time is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    /// Taking in a sync.
    ReceiveSync,
    /// A step before a message.
    Prepare,
    /// Sealing a message.
    Encrypt,
    /// Opening a message.
    Decrypt,
    /// Taking in an answer.
    Answer,
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Self::ReceiveSync => "receive_sync",
            Self::Prepare => "prepare_to_send",
            Self::Encrypt => "encrypt",
            Self::Decrypt => "decrypt",
            Self::Answer => "mark_request_as_sent",
        }
    }
}

/// How long the calls of one kind took, with the wait for others.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Times {
    pub(super) count: u64,
    pub(super) failed: u64,
    pub(super) total_ms: u64,
    pub(super) longest_ms: u64,
}

/// What has happened since a machine was opened.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Calls {
    pub(super) times: BTreeMap<&'static str, Times>,
    /// How often an event could not be read, by cause. An event that is tried again counts again.
    pub(super) unreadable: BTreeMap<String, u64>,
}

impl Calls {
    /// Notes that a call has ended.
    pub(crate) fn note(&mut self, call: Call, took: Duration, failed: bool) {
        let times = self.times.entry(call.name()).or_default();
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        times.count += 1;
        times.failed += u64::from(failed);
        times.total_ms = times.total_ms.saturating_add(took_ms);
        times.longest_ms = times.longest_ms.max(took_ms);
    }

    /// Notes that an event could not be read.
    pub(crate) fn note_unreadable(&mut self, cause: String) {
        *self.unreadable.entry(cause).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_add_up() {
        let mut calls = Calls::default();
        calls.note(Call::Decrypt, Duration::from_millis(3), false);
        calls.note(Call::Decrypt, Duration::from_millis(5), true);
        calls.note_unreadable("lost".to_owned());
        calls.note_unreadable("lost".to_owned());
        let times = &calls.times["decrypt"];
        let found = (times.count, times.failed, times.total_ms, times.longest_ms);
        assert_eq!(found, (2, 1, 8, 5));
        assert_eq!(calls.unreadable["lost"], 2);
    }
}
