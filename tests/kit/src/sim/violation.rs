//! What a schedule can break.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What must hold for every schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Invariant {
    /// The world comes to rest within a bounded number of rounds and commits after it has healed.
    Settles,
    /// All live devices of joined users have the same head with the same members.
    OneHead,
    /// The members of the head are the live devices of the joined users.
    Target,
    /// A message is readable for every device that was a member when it was sealed, as its sender
    /// saw it. Excused are devices that could not have what it takes (see `ledger`).
    Readable,
    /// Nobody else reads it.
    Secret,
    /// No device seals for a user whom its own view of the room does not have as joined.
    SealsForJoined,
    /// No call panics or returns `Internal` or `StoreDamaged`.
    NoDefect,
    /// No two messages have the same epoch, leaf and generation.
    Generations,
    /// What is read is what was sent, by the device that sent it.
    Authentic,
    /// Whoever lies keeps nobody from sending for longer than a stated time.
    Sends,
    /// A store, and what one turn does, stay below a stated size.
    Bounded,
    /// The simulation itself went wrong.
    Simulator,
}

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// How, in a sentence.
    pub detail: String,
}

impl Violation {
    pub(super) fn new(invariant: Invariant, detail: impl Into<String>) -> Self {
        Self { invariant, detail: detail.into() }
    }

    /// For errors of the file system and of the runtime.
    pub(super) fn simulator(what: impl fmt::Display) -> Self {
        Self::new(Invariant::Simulator, what.to_string())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {}", self.invariant, self.detail)
    }
}
