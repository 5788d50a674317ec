//! What a run found out: for each scenario what was expected, what was seen, and why it failed.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;

/// A step that the client under test has left out, and why.
#[derive(Debug, thiserror::Error)]
#[error("the client leaves out `{step}`: {why}")]
pub struct LeftOut {
    /// The step.
    pub step: String,
    /// What the client says.
    pub why: String,
}

/// How much is shown to people of what held.
const SHOWN: usize = 120;

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Seen {
    /// What was looked at.
    pub what: String,
    /// What the specification has there.
    pub expected: String,
    /// What there was.
    pub seen: String,
    /// Whether it is what was expected.
    pub holds: bool,
}

/// What a scenario has looked at so far.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<Vec<Seen>>>);

impl Log {
    /// Notes something.
    pub fn note(&self, seen: Seen) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    }

    /// All that was noted.
    pub fn all(&self) -> Vec<Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How a scenario went.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Its name.
    pub scenario: &'static str,
    /// The requirements of docs/spec that it shows.
    pub requirements: &'static [&'static str],
    /// What a client has to do in it.
    pub expected: &'static str,
    /// Whether the client did.
    pub passed: bool,
    /// Whether the client leaves out what it needs, and may. Then it has neither passed nor failed.
    pub left_out: bool,
    /// Why not.
    pub reason: Option<String>,
    /// What was looked at.
    pub seen: Vec<Seen>,
    /// How long it took.
    pub milliseconds: u128,
}

impl Outcome {
    /// Some lines for people.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}  {} ({}): {}",
            match (self.passed, self.left_out) {
                (true, _) => "pass",
                (false, true) => "left out",
                (false, false) => "FAIL",
            },
            self.scenario,
            self.requirements.join(", "),
            self.expected,
        );
        if let Some(reason) = &self.reason {
            // Writing to a string does not fail.
            let _ = write!(text, "\n      {reason}");
            for seen in self.seen.iter().filter(|seen| seen.holds) {
                let shown: String = seen.seen.chars().take(SHOWN).collect();
                let _ = write!(text, "\n      before that: {}: {shown}", seen.what);
            }
        }
        text
    }
}

/// A client's run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The client's name.
    pub client: String,
    /// The kind of homeserver.
    pub homeserver: String,
    /// How many scenarios passed.
    pub passed: usize,
    /// How many did not.
    pub failed: usize,
    /// How many need what the client leaves out, and may.
    pub left_out: usize,
    /// The scenarios.
    pub scenarios: Vec<Outcome>,
}
