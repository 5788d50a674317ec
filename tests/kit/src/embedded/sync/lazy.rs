//! Which members a lazily loading device has been sent, so that later syncs can leave them out.
//!
//! A member counts as sent if the device has come back with the token of that answer or a later
//! one. A request with an older token forgets what was sent after it, and one without a token
//! everything.

use std::collections::HashMap;

/// The members that a device has been sent.
#[derive(Clone, Default)]
pub(in super::super) struct SentMembers {
    /// By the id of the membership event: the position of the answer that brought it.
    sent: HashMap<String, u64>,
}

impl SentMembers {
    /// Forgets what came in answers that the device may not have seen.
    pub fn forget_after(&mut self, since: Option<u64>) {
        self.sent.retain(|_, at| since.is_some_and(|since| *at <= since));
    }

    pub fn has(&self, event_id: &str) -> bool {
        self.sent.contains_key(event_id)
    }

    pub fn mark(&mut self, event_id: &str, position: u64) {
        self.sent.insert(event_id.to_owned(), position);
    }
}
