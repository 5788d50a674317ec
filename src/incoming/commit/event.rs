//! A commit with the event that carries it, and what that event turned out to be.

use ruma::{EventId, OwnedEventId, UserId};

use crate::{
    incoming::error::EventError,
    protocol::{CommitContent, DeviceName},
    rejection::Rejection,
};

/// What a commit's event turned out to be.
pub(crate) enum Processed {
    /// The group moved on.
    Entered { number: u64, added: Vec<DeviceName>, removed: Vec<DeviceName> },
    /// Seen before, or this device's own coming back.
    Known,
    /// Somebody made a group for the room; this device is not in it.
    Announced,
    /// The group moved on where this device cannot follow.
    NotFollowed(EventError),
    /// This device may get to the epoch by something that is still to come.
    TooEarly(EventError),
}

/// A commit, with the event that carries it.
#[derive(Clone, Copy)]
pub(super) struct CommitEvent<'a> {
    pub(super) id: &'a EventId,
    pub(super) sender: &'a UserId,
    pub(super) content: &'a CommitContent,
    /// When it was said, if that says where its maker is now (`trees::said_ms`).
    pub(super) said_ms: Option<u64>,
}

/// Whether the public group state of a commit that is not followed counts at once, or only when
/// another user is seen to go on with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Confirmation {
    NotNeeded,
    Needed,
}

/// The id of an event that must have one.
pub(crate) fn event_id(id: Option<&OwnedEventId>) -> Result<&EventId, Rejection> {
    id.map(|id| &**id).ok_or(Rejection::NoEventId)
}
