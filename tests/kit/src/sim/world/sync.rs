//! What a sync shows a device.

use std::{collections::BTreeMap, sync::Arc};

use matrix_mls::{DeviceListChanges, FollowedRooms, RoomChanges, SyncChanges, SyncStart};

use super::{Event, Name, ROOM, World, server::Server, user_id};

/// How many to-device messages one sync brings at the most, as Synapse has it.
const INBOX_LIMIT: usize = 100;

impl World {
    /// What has happened for a device since a position of its server; and the position now.
    pub(in crate::sim) fn sync(&mut self, name: &Name, since: Option<u64>) -> (SyncChanges, u64) {
        let limit = usize::from(self.weather.timeline_limit);
        let now_ms = self.now_ms;
        let here = &mut self.servers[name.server()];
        let next = here.position;
        let mut changes = SyncChanges {
            start: match since {
                Some(since) => SyncStart::After { since: since.to_string() },
                None => SyncStart::Anew,
            },
            next_batch: next.to_string(),
            followed_rooms: FollowedRooms::All,
            ..SyncChanges::default()
        };
        if let Some(device) = here.devices.get_mut(name) {
            // What an earlier sync brought and its token acknowledges.
            device.inbox.retain(|(position, _)| since.is_none_or(|since| *position > since));
            let inbox = device.inbox.iter().take(INBOX_LIMIT);
            changes.to_device = inbox.map(|(_, json)| json.to_string()).collect();
            changes.one_time_key_counts = Some(device.counts().into_iter().collect());
            changes.unused_fallback_key_types = Some(device.unused_fallback_types());
        }
        changes.device_lists = Some(match since {
            Some(since) => here.device_lists(name.user, since),
            None => DeviceListChanges::default(),
        });
        changes.rooms.extend(here.room(name, since.unwrap_or(0), limit, now_ms));
        self.bend_sync(name, &mut changes, next);
        (changes, next)
    }
}

impl Server {
    /// Whose devices have changed for a user since a position.
    pub(super) fn device_lists(&self, user: usize, since: u64) -> DeviceListChanges {
        let mut changes = DeviceListChanges::default();
        let shares = |other: usize| {
            other == user || (self.is_joined(&user_id(user)) && self.is_joined(&user_id(other)))
        };
        let newer = self.changes.iter().filter(|change| change.position > since);
        for change in newer.filter(|change| change.audience.is_none_or(|only| only == user)) {
            let id = user_id(change.user);
            let list = match change.left && !shares(change.user) {
                true if change.user != user => &mut changes.left,
                _ if shares(change.user) => &mut changes.changed,
                _ => continue,
            };
            if !list.contains(&id) {
                list.push(id);
            }
        }
        changes
    }

    /// The room, if there is news of it for the user of this device.
    fn room(&self, to: &Name, since: u64, limit: usize, now_ms: u64) -> Option<RoomChanges> {
        let id = to.user_id();
        let own = |event: &Event| event.state_key.as_deref() == Some(&id);
        let mut own_history = self.timeline.iter().filter(|(_, event)| own(event));
        let before = own_history.clone().take_while(|(position, _)| *position <= since).last();
        let was_joined = before.is_some_and(|(_, event)| event.is_membership("join"));
        let until = match self.membership(&id) {
            Some("join") => self.position,
            // Up to the leave; whoever came and went between two syncs hears of it as well. A first
            // sync has no rooms that were left.
            Some("leave") if since > 0 => {
                let joined_since = own_history
                    .any(|(position, event)| *position > since && event.is_membership("join"));
                let (left, _) = self.timeline.iter().rev().find(|(_, event)| own(event))?;
                if *left <= since || !(was_joined || joined_since) {
                    return None;
                }
                *left
            }
            _ => return None,
        };
        let from = if was_joined { since } else { 0 };
        let news: Vec<&(u64, Arc<Event>)> = self
            .timeline
            .iter()
            .filter(|(position, _)| *position > from && *position <= until)
            .collect();
        let shown = &news[news.len().saturating_sub(limit)..];
        let (start, _) = shown.first()?;
        let state = self.state_before(*start, from);
        Some(RoomChanges {
            room_id: ROOM.to_owned(),
            state: state.iter().map(|event| event.shown_to(to, now_ms)).collect(),
            timeline: shown.iter().map(|(_, event)| event.shown_to(to, now_ms)).collect(),
            limited: shown.len() < news.len(),
            ..RoomChanges::default()
        })
    }

    /// The state before a position, as far as it is newer than another.
    fn state_before(&self, end: u64, after: u64) -> Vec<Arc<Event>> {
        let mut state = BTreeMap::new();
        for (position, event) in self.timeline.iter().take_while(|(position, _)| *position < end) {
            if let Some(key) = &event.state_key {
                state.insert((&event.kind, key), (*position, event));
            }
        }
        let newer = state.into_values().filter(|(position, _)| *position > after);
        newer.map(|(_, event)| event.clone()).collect()
    }
}
