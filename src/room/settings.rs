//! A room's settings, as the store keeps them. `api::settings` is the exported form, with the
//! meaning of each.

use serde::{Deserialize, Serialize};

/// How a room uses MLS on this device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    pub(crate) rotate_after_messages: u32,
    pub(crate) rotate_after_ms: u64,
    pub(crate) include_invited: bool,
    pub(crate) kept_epochs: u32,
    pub(crate) kept_for_ms: u64,
    pub(crate) allow_external_joins: bool,
    pub(crate) refuse_unfit_commits: bool,
    pub(crate) history: Retention,
    pub(crate) share_history: bool,
    pub(crate) catch_up_events: u32,
    pub(crate) refuse_late_messages: bool,
}

/// For how long a room's past is kept readable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Retention {
    #[default]
    Keep,
    /// For so many milliseconds after the epoch has ended.
    KeepFor(u64),
    /// Not at all: a message is read once.
    ReadOnce,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rotate_after_messages: 100,
            rotate_after_ms: 7 * 24 * 60 * 60 * 1000,
            include_invited: true,
            kept_epochs: 16,
            kept_for_ms: 7 * 24 * 60 * 60 * 1000,
            allow_external_joins: true,
            refuse_unfit_commits: false,
            history: Retention::Keep,
            share_history: false,
            catch_up_events: 100_000,
            refuse_late_messages: false,
        }
    }
}
