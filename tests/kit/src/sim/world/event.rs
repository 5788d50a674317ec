//! Events of the room, as all servers have them.

use std::sync::Arc;

use serde::Deserialize;

use super::{super::dice::mix, Name};

/// One event. Its JSON is made once.
#[derive(Debug)]
pub(in crate::sim) struct Event {
    pub(in crate::sim) id: String,
    /// The Matrix id of who sent it.
    pub(in crate::sim) sender: String,
    pub(super) kind: String,
    pub(super) state_key: Option<String>,
    /// `content.membership` of a member event.
    pub(super) membership: Option<String>,
    /// One more than that of every event its server knew.
    pub(super) depth: u64,
    /// When it was made, in the world's ticks.
    pub(in crate::sim) tick: u64,
    /// The event of the epoch that the commit in this event is based on, where it is one.
    pub(in crate::sim) base: Option<String>,
    /// When it was made, by the clock.
    pub(in crate::sim) at_ms: u64,
    /// The transaction id it was sent with.
    pub(in crate::sim) transaction: Option<String>,
    /// The device that sent it with that.
    sent_by: Option<Name>,
    /// The device that made the commit, as its content says.
    pub(in crate::sim) committer: Option<(String, String)>,
    /// The member event that let its sender send it: it always arrives first.
    pub(super) auth: Option<Arc<Event>>,
    pub(in crate::sim) json: Arc<str>,
}

/// What a server is asked to make an event of.
pub(super) struct Draft<'a> {
    pub(super) sender: &'a str,
    pub(super) kind: &'a str,
    pub(super) state_key: Option<&'a str>,
    /// JSON.
    pub(super) content: &'a str,
    pub(super) transaction: Option<&'a str>,
    /// The device that sends it with that.
    pub(super) sent_by: Option<&'a Name>,
}

/// What tells a commit from a message.
#[derive(Deserialize)]
struct CommitMark {
    #[serde(default)]
    commit_event: String,
    sender: Option<(String, String)>,
    public_group_state: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct MemberMark {
    membership: String,
}

impl Event {
    pub(super) fn new(
        draft: &Draft<'_>,
        tick: u64,
        depth: u64,
        now_ms: u64,
        auth: Option<Arc<Event>>,
    ) -> Self {
        let id = format!("$e{tick}-{:08x}", mix(tick) as u32);
        let key = match draft.state_key {
            Some(key) => format!(r#","state_key":"{key}""#),
            None => String::new(),
        };
        let json = format!(
            r#"{{"type":"{}","sender":"{}","event_id":"{id}","origin_server_ts":{now_ms},"room_id":"{}"{key},"content":{}}}"#,
            draft.kind,
            draft.sender,
            super::ROOM,
            draft.content
        );
        let mark = (draft.kind == "m.room.encrypted")
            .then(|| serde_json::from_str::<CommitMark>(draft.content).ok())
            .flatten();
        let membership = (draft.kind == "m.room.member")
            .then(|| serde_json::from_str::<MemberMark>(draft.content).ok())
            .flatten();
        let mark = mark.filter(|mark| mark.public_group_state.is_some());
        let (base, committer) = mark.map(|mark| (mark.commit_event, mark.sender)).unzip();
        Self {
            id,
            sender: draft.sender.to_owned(),
            kind: draft.kind.to_owned(),
            state_key: draft.state_key.map(ToOwned::to_owned),
            membership: membership.map(|mark| mark.membership),
            depth,
            tick,
            at_ms: now_ms,
            transaction: draft.transaction.map(ToOwned::to_owned),
            sent_by: draft.sent_by.cloned(),
            base,
            committer: committer.flatten(),
            auth,
            json: json.into(),
        }
    }

    /// Its JSON as a server shows it to a device at a time: with how long ago it was, and to the
    /// device that sent it with the transaction id.
    pub(super) fn shown_to(&self, to: &Name, now_ms: u64) -> String {
        let age = now_ms.saturating_sub(self.at_ms);
        let transaction = match &self.transaction {
            Some(id) if self.sent_by.as_ref() == Some(to) => format!(r#","transaction_id":"{id}""#),
            _ => String::new(),
        };
        let fields = self.json.strip_prefix('{').unwrap_or_default();
        format!(r#"{{"unsigned":{{"age":{age}{transaction}}},{fields}"#)
    }

    /// Whether it belongs to the group: a message, a commit or an announcement.
    pub(in crate::sim) fn is_encrypted(&self) -> bool {
        self.kind == "m.room.encrypted"
    }

    /// Whether it holds a commit or a group's announcement.
    pub(in crate::sim) fn is_commit(&self) -> bool {
        self.base.is_some()
    }

    /// Whether it holds the commit of a device that joined by itself: in MLS that is a
    /// PublicMessage, whose version and wire format stand first (RFC 9420 §6).
    pub(in crate::sim) fn is_external_commit(&self) -> bool {
        self.is_commit() && self.json.contains(r#""ciphertext":"AAEAAQ"#)
    }

    /// The user whose membership it is about, where it is about one's.
    pub(super) fn member(&self) -> Option<&str> {
        self.membership.as_ref()?;
        self.state_key.as_deref()
    }

    /// Whether it makes a user's membership this.
    pub(super) fn is_membership(&self, membership: &str) -> bool {
        self.membership.as_deref() == Some(membership)
    }

    /// Of two events for the same state, the one of the larger rank holds: the later one, and of
    /// two that did not know of each other the one that takes away.
    pub(super) fn rank(&self) -> (u64, bool, &str) {
        (self.depth, self.membership.as_deref() == Some("leave"), &self.id)
    }
}
