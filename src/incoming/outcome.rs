//! What an event turned out to be.

use super::error::EventError;
use crate::{messages::Message, protocol::DeviceName};

/// What an event turned out to be.
pub(crate) enum Outcome {
    /// None of this library's.
    Ignored,
    /// State that this library follows.
    State,
    Message(Message),
    /// A commit, by which the group moved on.
    Commit {
        epoch: u64,
        added: Vec<DeviceName>,
        removed: Vec<DeviceName>,
    },
    /// A commit seen before, or this device's own coming back.
    Duplicate,
    /// It is kept until what it needs arrives.
    Waiting(EventError),
    Failed(EventError),
}

/// An event that was taken in.
pub(crate) struct ReceivedEvent {
    /// Its id, where it says one.
    pub(crate) event_id: Option<String>,
    pub(crate) outcome: Outcome,
}
