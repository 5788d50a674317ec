//! The room on each server: making events, taking others' in, and who is in it.
//!
//! State that did not know of each other is resolved by [`Event::rank`]; what loses is not shown to
//! clients, so what they see last is what holds. A message of a user who is out of the room by the
//! time it arrives is shown, or hidden for good if the weather says so.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Cargo, Event, Name, ROOM, SERVERS, USERS, World, event::Draft, server::Known, user_id,
};
use crate::sim::dice::Dice;

/// The room's algorithm.
pub(super) const ALGORITHM: &str =
    "org.matrix.msc2883.v1.dmls.dhkemx25519-aes128gcm-sha256-ed25519";

impl World {
    /// Makes the room: its first user creates it, and says at its birth that it uses MLS.
    pub(in crate::sim) fn create_room(&mut self, dice: &mut Dice) {
        let creator = user_id(0);
        let content = format!(r#"{{"encryption":{{"algorithm":"{ALGORITHM}"}}}}"#);
        self.state_event(0, &creator, "m.room.create", "", &content, dice);
        self.set_membership(0, &creator, 0, "join", dice);
    }

    fn state_event(
        &mut self,
        server: usize,
        sender: &str,
        kind: &str,
        key: &str,
        content: &str,
        dice: &mut Dice,
    ) -> Arc<Event> {
        self.make(
            server,
            &Draft {
                sender,
                kind,
                state_key: Some(key),
                content,
                transaction: None,
                sent_by: None,
            },
            dice,
        )
    }

    fn set_membership(
        &mut self,
        server: usize,
        sender: &str,
        user: usize,
        membership: &str,
        dice: &mut Dice,
    ) {
        let content = format!(r#"{{"membership":"{membership}"}}"#);
        self.state_event(server, sender, "m.room.member", &user_id(user), &content, dice);
    }

    /// A server makes an event for one of its users and sends it to the others.
    pub(super) fn make(&mut self, server: usize, draft: &Draft<'_>, dice: &mut Dice) -> Arc<Event> {
        let tick = self.tick();
        let here = &self.servers[server];
        let auth = here.state.get(&("m.room.member".to_owned(), draft.sender.to_owned())).cloned();
        let event = Event::new(draft, tick, here.depth + 1, self.now_ms, auth);
        if event.is_commit() {
            self.traffic.commits += 1;
        }
        let event = Arc::new(event);
        self.events.insert(event.id.clone(), event.clone());
        self.take_event(server, &event);
        self.broadcast(server, &Cargo::Event(event.clone()), dice);
        event
    }

    /// A server takes in an event.
    pub(super) fn take_event(&mut self, server: usize, event: &Arc<Event>) {
        if self.servers[server].known.contains_key(&event.id) {
            return;
        }
        if let Some(auth) = &event.auth {
            self.take_event(server, auth);
        }
        let hides = self.weather.hides;
        let here = &mut self.servers[server];
        here.depth = here.depth.max(event.depth);
        let shown = match &event.state_key {
            Some(key) => {
                let key = (event.kind.clone(), key.clone());
                let holds = here.state.get(&key).is_none_or(|now| now.rank() < event.rank());
                if holds {
                    here.state.insert(key, event.clone());
                }
                holds
            }
            None => !hides || here.is_joined(&event.sender),
        };
        here.known.insert(event.id.clone(), Known { shown, at_ms: self.now_ms });
        if !shown {
            return;
        }
        let position = here.next_position();
        here.timeline.push((position, event.clone()));
        if let (Some(membership), Some(key)) = (&event.membership, &event.state_key)
            && let Some(user) = (0..USERS.len()).find(|user| user_id(*user) == *key)
        {
            let (user, joins) = (user, membership == "join");
            self.membership_changed(server, user, joins);
        }
    }

    /// Whose device lists a server's users follow depends on who is in the room.
    fn membership_changed(&mut self, server: usize, user: usize, joins: bool) {
        let here = &mut self.servers[server];
        if USERS[user].1 != server {
            // While no room is shared, changes are not told.
            here.stale.insert(user);
        }
        here.list_changed(user, None, !joins);
        let others: Vec<usize> = (0..USERS.len())
            .filter(|other| *other != user && here.is_joined(&user_id(*other)))
            .collect();
        for other in others {
            here.list_changed(other, Some(user), !joins);
        }
    }

    /// What a user's own server says of the room's joined users.
    pub(in crate::sim) fn joined(&self, server: usize) -> BTreeSet<usize> {
        (0..USERS.len()).filter(|user| self.servers[server].is_joined(&user_id(*user))).collect()
    }

    /// Whether a user is joined, as the user's own server sees it.
    pub(in crate::sim) fn is_joined(&self, user: usize) -> bool {
        self.servers[USERS[user].1].is_joined(&user_id(user))
    }

    /// Whether all servers agree on who is joined.
    pub(in crate::sim) fn agrees(&self) -> bool {
        (1..SERVERS.len()).all(|server| self.joined(server) == self.joined(0))
    }

    /// A joined user invites one who is not; tells whether that was possible.
    pub(in crate::sim) fn invite(&mut self, by: usize, user: usize, dice: &mut Dice) -> bool {
        let server = USERS[by].1;
        let here = &self.servers[server];
        let may = here.is_joined(&user_id(by))
            && !matches!(here.membership(&user_id(user)), Some("join" | "invite"));
        if may {
            self.set_membership(server, &user_id(by), user, "invite", dice);
            self.accept_invitations(dice);
        }
        may
    }

    /// A joined user removes another, or leaves; tells whether that was possible. The last user
    /// stays.
    pub(in crate::sim) fn remove(&mut self, by: usize, user: usize, dice: &mut Dice) -> bool {
        let server = USERS[by].1;
        let here = &self.servers[server];
        let may = here.is_joined(&user_id(by))
            && here.is_joined(&user_id(user))
            && (0..SERVERS.len()).all(|server| self.joined(server).len() > 1);
        if may {
            self.set_membership(server, &user_id(by), user, "leave", dice);
        }
        may
    }

    /// Invited users join as soon as their server shows the invitation.
    pub(super) fn accept_invitations(&mut self, dice: &mut Dice) {
        for (user, (_, server)) in USERS.into_iter().enumerate() {
            if self.servers[server].membership(&user_id(user)) == Some("invite") {
                self.set_membership(server, &user_id(user), user, "join", dice);
            }
        }
    }

    /// Whether clients of a server see an event.
    pub(in crate::sim) fn is_shown(&self, server: usize, event: &Event) -> bool {
        self.servers[server].known.get(&event.id).is_some_and(|known| known.shown)
    }

    /// How long after another commit a commit came to a device of a server, that other one being
    /// newer than their base.
    pub(in crate::sim) fn late_ms(&self, server: usize, commit: &Event, took_ms: u64) -> u64 {
        let here = &self.servers[server];
        let base = commit.base.as_ref().and_then(|base| self.events.get(base));
        let since = base.map_or(0, |base| base.tick);
        let others = self
            .events
            .values()
            .filter(|event| event.is_commit() && event.tick > since && event.id != commit.id);
        let first = others.filter_map(|event| Some(here.known.get(&event.id)?.at_ms)).min();
        first.map_or(0, |first| (commit.at_ms + took_ms).saturating_sub(first))
    }

    /// Whether a device made a later commit that does not stand on this one.
    pub(in crate::sim) fn went_on_elsewhere(&self, device: &Name, commit: &Event) -> bool {
        let by_device = |event: &Event| {
            event
                .committer
                .as_ref()
                .is_some_and(|(user, id)| Name::parse(user, id).as_ref() == Some(device))
        };
        let later = self.events().filter(|event| event.tick > commit.tick && by_device(event));
        later
            .map(|event| self.lineage(&event.id))
            .any(|line| line.iter().all(|step| step.id != commit.id))
    }

    /// Every event there is, on whichever server.
    pub(in crate::sim) fn events(&self) -> impl Iterator<Item = &Arc<Event>> {
        self.events.values()
    }

    /// An event, on whichever server it is.
    pub(in crate::sim) fn event(&self, event_id: &str) -> Option<&Arc<Event>> {
        self.events.get(event_id)
    }

    /// What clients of a server see of the room.
    pub(in crate::sim) fn timeline(&self, server: usize) -> impl Iterator<Item = &Arc<Event>> {
        self.servers[server].timeline.iter().map(|(_, event)| event)
    }

    /// The events of the commits that lead to an epoch, newest first, that of the epoch included.
    pub(in crate::sim) fn lineage(&self, commit_event: &str) -> Vec<Arc<Event>> {
        let mut lineage = Vec::new();
        let mut next = Some(commit_event.to_owned());
        while let Some(event) = next.and_then(|id| self.events.get(&id)) {
            if !event.is_commit() {
                break;
            }
            lineage.push(event.clone());
            next = event.base.clone();
        }
        lineage
    }

    /// Whether a device may do this in the room, as its server sees it.
    pub(super) fn may_send(&self, from: &Name, room_id: &str) -> bool {
        room_id == ROOM && self.servers[from.server()].is_joined(&from.user_id())
    }
}
