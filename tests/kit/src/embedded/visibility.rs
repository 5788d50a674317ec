//! Which events of a room a user may see, by the room's history visibility and the user's
//! membership when each was sent. These are Synapse's rules; where they are kinder than the
//! specification (one's own leave event, both sides of a change of visibility), so are these.

use serde_json::Value;

use super::state::{Event, Room};

/// From the most open to the least.
const VISIBILITIES: [&str; 4] = ["world_readable", "shared", "invited", "joined"];
/// From the most joined to the least.
const MEMBERSHIPS: [&str; 5] = ["join", "invite", "knock", "leave", "ban"];

/// An event as a user sees it.
#[derive(Clone, Copy)]
pub(super) struct Sight<'a> {
    pub visible: bool,
    /// The user's membership with the event.
    pub membership: &'a str,
}

impl Room {
    /// Whether anybody may read the room as it is now.
    pub fn is_world_readable(&self) -> bool {
        self.state_content("m.room.history_visibility", "").map(visibility)
            == Some("world_readable")
    }

    /// For each event, in order, whether this user may see it. A user who is not joined now is
    /// `peeking`: shared history is not for them, except where they were joined.
    pub fn seen_by(&self, user_id: &str, peeking: bool) -> Vec<Sight<'_>> {
        let mut now = ("shared", None);
        let seen = self.events.iter().map(|event| {
            let before = now;
            let is_state = event.state_key.is_some();
            if is_state && event.event_type == "m.room.history_visibility" {
                now.0 = visibility(&event.content);
            }
            if event.is_membership_of(user_id) {
                now.1 = Some(membership(&event.content));
            }
            let visible = may_see(event, user_id, before, now, peeking);
            Sight { visible, membership: now.1.unwrap_or("leave") }
        });
        seen.collect()
    }
}

/// `before` and `after` the event: the room's visibility and the user's membership.
fn may_see<'a>(
    event: &Event,
    user_id: &str,
    before: (&'a str, Option<&'a str>),
    after: (&'a str, Option<&'a str>),
    peeking: bool,
) -> bool {
    let changes_visibility = event.event_type == "m.room.history_visibility";
    let open = if changes_visibility { first(&VISIBILITIES, before.0, after.0) } else { after.0 };
    if open == "world_readable" || (open == "shared" && !peeking) {
        return true;
    }
    let membership = match (event.is_membership_of(user_id), before.1, after.1) {
        (true, Some("join" | "invite"), Some("leave")) => return true,
        (true, before, Some(after)) => first(&MEMBERSHIPS, before.unwrap_or("leave"), after),
        (_, _, after) => after.unwrap_or("leave"),
    };
    match (membership, after.0) {
        ("join", _) => true,
        (_, "joined") => false,
        (membership, "invited") => membership == "invite",
        (_, "shared") => !peeking,
        _ => true,
    }
}

/// The one of two that comes first in a list.
fn first<'a>(order: &[&str], one: &'a str, other: &'a str) -> &'a str {
    let place = |name| order.iter().position(|known| *known == name);
    if place(one) < place(other) { one } else { other }
}

fn visibility(content: &Value) -> &str {
    known(&VISIBILITIES, content, "history_visibility").unwrap_or("shared")
}

fn membership(content: &Value) -> &str {
    known(&MEMBERSHIPS, content, "membership").unwrap_or("leave")
}

fn known<'a>(names: &[&str], content: &'a Value, field: &str) -> Option<&'a str> {
    content.get(field)?.as_str().filter(|name| names.contains(name))
}
