//! Whose device lists a user has to ask for again, and whose not to follow any more.
//!
//! `/sync` and sliding sync disagree on memberships, as they do in Synapse. To the former every
//! join and invite that it tells is a reason to ask again, even one that is only told as its member
//! is loaded lazily; to the latter only that of somebody who was not there at all.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use axum::{
    Json,
    extract::{Query, State},
};
use serde_json::json;

use super::{
    Shared,
    answer::{Answer, Sender},
    error::Refusal,
    messages::position_of,
    state::{Event, Room, World},
};

/// Who asks.
#[derive(Clone, Copy)]
pub(super) enum Asker<'a> {
    /// `/sync`, which tells these memberships.
    Sync(&'a [(&'a Room, &'a Event)]),
    /// Sliding sync, and `/keys/changes`.
    Changes,
}

/// What of device lists has changed.
#[derive(Default)]
pub(super) struct DeviceLists {
    pub changed: BTreeSet<String>,
    pub left: BTreeSet<String>,
}

impl DeviceLists {
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.left.is_empty()
    }

    /// What has changed for a user since a position.
    pub fn since(world: &World, me: &str, since: u64, asker: Asker<'_>) -> Self {
        let mut lists = Self::default();
        for (position, user_id) in world.device_changes.iter().rev() {
            if *position <= since {
                break;
            }
            if user_id == me || world.share_a_room(me, user_id) {
                lists.changed.insert(user_id.clone());
            }
        }
        let signed = world.signed_users.iter().rev();
        for (_, signer, user_id) in signed.take_while(|(position, ..)| *position > since) {
            if signer == me {
                lists.changed.insert(user_id.clone());
            }
        }
        let mut members = Self::default();
        let mut changes: Vec<(&Room, &Event)> = Vec::new();
        for room in world.rooms.values() {
            if room.membership(me) != Some("join") {
                if room.was_joined_since(me, since) {
                    let here = room.members_with("join");
                    let here: Vec<String> =
                        here.filter_map(|event| event.state_key.clone()).collect();
                    // A sync says so too where the user has come in only since.
                    if matches!(asker, Asker::Sync(_))
                        && room.membership_at(me, since) != Some("join")
                    {
                        lists.changed.extend(here.iter().cloned());
                    }
                    lists.left.extend(here);
                }
                continue;
            }
            if room.newly_joined(me, since) {
                let here = room.members_with("join");
                lists.changed.extend(here.filter_map(|event| event.state_key.clone()));
            }
            if let Asker::Changes = asker {
                let events = room.events_since(since);
                let memberships = events.filter(|event| event.event_type == "m.room.member");
                changes.extend(memberships.map(|event| (room, event)));
            }
        }
        changes.sort_by_key(|(_, event)| event.position);
        changes.iter().for_each(|(room, event)| members.follow(room, event, false));
        if let Asker::Sync(memberships) = asker {
            memberships.iter().for_each(|(room, event)| members.follow(room, event, true));
        }
        lists.changed.extend(members.changed);
        lists.left.extend(members.left);
        lists.left.retain(|user_id| user_id != me && !world.share_a_room(me, user_id));
        lists
    }

    /// Takes a membership event of a room where the user is. To whom every join is news, of the
    /// others only those who were joined count as gone.
    fn follow(&mut self, room: &Room, event: &Event, is_sync: bool) {
        let here = |membership| matches!(membership, Some("join" | "invite" | "knock"));
        let Some(user_id) = &event.state_key else {
            return;
        };
        let replaced = event.replaces.and_then(|index| room.events.get(index));
        let before = replaced.and_then(Event::membership);
        let is_here = here(event.membership());
        if is_here && (is_sync || !here(before)) {
            self.changed.insert(user_id.clone());
            self.left.remove(user_id);
        } else if !is_here {
            let was_here = if is_sync { before == Some("join") } else { here(before) };
            if was_here {
                self.left.insert(user_id.clone());
            }
            self.changed.remove(user_id);
        }
    }
}

/// The same between two tokens of a sync; what follows the second is told too, as in Synapse.
pub(super) async fn changes(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
    sender: Sender,
) -> Answer {
    let from = query.get("from").ok_or_else(|| Refusal::missing("from"))?;
    let since = position_of(from)?;
    let world = shared.world();
    let lists = DeviceLists::since(&world, &sender.user_id, since, Asker::Changes);
    Ok(Json(json!({ "changed": lists.changed, "left": lists.left })))
}
