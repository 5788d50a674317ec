//! Push rules, and what they make of a room's events: the unread counts of a sync and the list of
//! notifications.
//!
//! The rules and what they match are ruma's. Two of Synapse's default rules are left out there, as
//! the specification has dropped them: mentions are told by `m.mentions` alone, not by a name in
//! the text. `@room` highlights nobody here.

mod notify;
mod rules;

use std::collections::BTreeMap;

use ruma::{UserId, push::Ruleset};
use serde_json::{Value, json};

use self::notify::Walk;
pub(super) use self::notify::{notifications, unread};
pub(super) use self::rules::{all, attribute, delete, get, global, put, set_attribute};

/// A user's push rules, and what they have made of each room's events so far.
#[derive(Default)]
pub(super) struct PushRules {
    rules: Ruleset,
    /// The position of the last change.
    changed: u64,
    /// By room. Events are judged by the rules of their time, so these catch up before a rule
    /// changes.
    walks: BTreeMap<String, Walk>,
}

impl PushRules {
    /// The rules that a new account has.
    pub fn of(user_id: &str) -> Self {
        match UserId::parse(user_id) {
            Ok(user_id) => Self { rules: Ruleset::server_default(&user_id), ..Self::default() },
            Err(_) => Self::default(),
        }
    }

    /// Whether a rule has changed since a position.
    pub fn changed_since(&self, position: u64) -> bool {
        self.changed > position
    }

    /// All rules, as account data and their own endpoint have them. A kind without rules is there
    /// too.
    pub fn shown(&self) -> Value {
        let mut global = json!({
            "override": [], "content": [], "room": [], "sender": [], "underride": [],
        });
        if let (Some(all), Ok(Value::Object(rules))) =
            (global.as_object_mut(), serde_json::to_value(&self.rules))
        {
            all.extend(rules);
        }
        json!({ "global": global })
    }
}
