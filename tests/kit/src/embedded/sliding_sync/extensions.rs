//! What comes beside the rooms: to-device events, keys and device lists, account data and receipts.
//! Nobody types here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{
    super::{
        answer::Sender,
        device_lists::{Asker, DeviceLists},
        keys::{one_time_key_counts, unused_fallback_keys},
        state::World,
        sync::account_data,
    },
    connection::{Rooms, Sent, Told},
    lists::Interest,
    request::{Extensions, OfRooms, ToDevice},
};

/// What a request's extensions are answered from.
pub(super) struct Sources<'a> {
    pub world: &'a World,
    pub sender: &'a Sender,
    pub interest: &'a Interest<'a>,
    /// What is told of the rooms themselves.
    pub rooms: &'a BTreeMap<String, Value>,
    pub since: Option<u64>,
}

/// The answers by extension, and whether a waiting client is woken for any.
pub(super) struct Extended {
    pub shown: Map<String, Value>,
    pub has_news: bool,
}

impl Sources<'_> {
    pub fn answer(&self, extensions: &Extensions, before: &Sent, sent: &mut Sent) -> Extended {
        let mut extended = Extended { shown: Map::new(), has_news: false };
        if let Some(to_device) = extensions.to_device.as_ref().filter(|wanted| wanted.is_on()) {
            let (events, next) = self.to_device(to_device);
            extended.has_news |= !events.is_empty();
            let shown = json!({ "next_batch": next.to_string(), "events": events });
            extended.shown.insert("to_device".to_owned(), shown);
        }
        if extensions.e2ee.as_ref().is_some_and(|wanted| wanted.is_on()) {
            let (shown, has_news) = self.keys();
            extended.has_news |= has_news;
            extended.shown.insert("e2ee".to_owned(), shown);
        }
        if let Some(wanted) = extensions.account_data.as_ref().filter(|wanted| wanted.is_on()) {
            let global = account_data(self.world, &self.sender.user_id, self.since);
            let rooms = self.noted_of_rooms(wanted, before, sent);
            extended.has_news |= !global.is_empty() || !rooms.is_empty();
            let shown = json!({ "global": global, "rooms": rooms });
            extended.shown.insert("account_data".to_owned(), shown);
        }
        if let Some(wanted) = extensions.receipts.as_ref().filter(|wanted| wanted.is_on()) {
            let rooms = self.receipts(wanted, before, sent);
            extended.has_news |= !rooms.is_empty();
            extended.shown.insert("receipts".to_owned(), json!({ "rooms": rooms }));
        }
        if extensions.typing.as_ref().is_some_and(OfRooms::is_on) {
            extended.shown.insert("typing".to_owned(), json!({ "rooms": {} }));
        }
        extended
    }

    /// The events after those that the device has seen, and the position they go up to.
    fn to_device(&self, wanted: &ToDevice) -> (Vec<&Value>, u64) {
        let since = wanted.since().unwrap_or(0);
        let device = self.world.device(&self.sender.user_id, &self.sender.device_id);
        let inbox = device.map(|device| device.inbox.as_slice()).unwrap_or_default();
        let mut events = inbox.iter().filter(|(position, _)| *position > since);
        let page: Vec<&(u64, Value)> = events.by_ref().take(wanted.limit()).collect();
        let next = match (page.last(), events.next()) {
            (Some((position, _)), Some(_)) => *position,
            _ => self.world.position.max(since),
        };
        (page.into_iter().map(|(_, event)| event).collect(), next)
    }

    /// The counts of the device's keys; and the device lists, unless the connection begins.
    fn keys(&self) -> (Value, bool) {
        let Some(device) = self.world.device(&self.sender.user_id, &self.sender.device_id) else {
            return (json!({}), false);
        };
        let mut shown = json!({
            "device_one_time_keys_count": one_time_key_counts(device),
            "device_unused_fallback_key_types": unused_fallback_keys(device),
        });
        let Some(since) = self.since else {
            return (shown, false);
        };
        let me = &self.sender.user_id;
        let lists = DeviceLists::since(self.world, me, since, Asker::Changes);
        shown["device_lists"] = json!({ "changed": lists.changed, "left": lists.left });
        (shown, !lists.is_empty())
    }

    /// The rooms that an extension is about.
    fn rooms_of(&self, wanted: &OfRooms) -> BTreeSet<String> {
        let any = |names: &[String]| names.iter().any(|name| name == "*");
        let mut rooms = BTreeSet::new();
        let named = wanted.rooms.as_deref().unwrap_or_default();
        let within = self.interest.wanted.keys();
        rooms.extend(within.filter(|room_id| any(named) || named.contains(room_id)).cloned());
        let lists = wanted.lists.as_deref().unwrap_or_default();
        for (name, window) in &self.interest.windows {
            if any(lists) || lists.contains(name) {
                rooms.extend(window.iter().cloned());
            }
        }
        rooms
    }

    /// From which position a room's news are told; nothing where all of it is.
    fn from(&self, told: &Rooms, room_id: &str) -> Option<u64> {
        match told.told(room_id)? {
            Told::Live => self.since,
            Told::Until(position) => Some(position),
        }
    }

    fn noted_of_rooms(
        &self,
        wanted: &OfRooms,
        before: &Sent,
        sent: &mut Sent,
    ) -> BTreeMap<String, Vec<Value>> {
        let mut shown = BTreeMap::new();
        let Some(user) = self.world.users.get(&self.sender.user_id) else {
            return shown;
        };
        let rooms = self.rooms_of(wanted);
        for room_id in &rooms {
            let from = self.from(&before.account_data, room_id);
            let noted = user.account_data.since(Some(room_id), from.unwrap_or(0));
            // A room that is new to the connection is there even where nothing is noted of it.
            if !noted.is_empty() || from.is_none() {
                shown.insert(room_id.clone(), noted);
            }
            sent.account_data.sent(room_id);
        }
        if let Some(since) = self.since {
            for room_id in user.account_data.rooms_since(since) {
                if !rooms.contains(room_id) {
                    sent.account_data.passed_over(room_id, since);
                }
            }
        }
        shown
    }

    fn receipts(
        &self,
        wanted: &OfRooms,
        before: &Sent,
        sent: &mut Sent,
    ) -> BTreeMap<String, Value> {
        let me = &self.sender.user_id;
        let rooms = self.rooms_of(wanted);
        let mut shown = BTreeMap::new();
        for room_id in &rooms {
            let Some(room) = self.world.rooms.get(room_id) else {
                continue;
            };
            let told = self.rooms.get(room_id);
            let afresh = told.is_some_and(|told| {
                told.get("initial").is_some() || told.get("unstable_expanded_timeline").is_some()
            });
            let from = self.from(&before.receipts, room_id).filter(|_| !afresh);
            let receipts = match from {
                Some(from) => room.receipts_since(me, from),
                None => room.receipts_for(me, &timeline_ids(told)),
            };
            shown.extend(receipts.map(|receipts| (room_id.clone(), receipts)));
            sent.receipts.sent(room_id);
        }
        if let Some(since) = self.since {
            let live: Vec<&str> = before.receipts.live().collect();
            for room_id in live.into_iter().filter(|room_id| !rooms.contains(*room_id)) {
                let room = self.world.rooms.get(room_id);
                if room.is_some_and(|room| room.receipts_since(me, since).is_some()) {
                    sent.receipts.passed_over(room_id, since);
                }
            }
        }
        shown
    }
}

/// The ids of the events of a timeline.
fn timeline_ids(told: Option<&Value>) -> Vec<String> {
    let events = told.and_then(|told| told.get("timeline")?.as_array()).into_iter().flatten();
    events.filter_map(|event| event["event_id"].as_str().map(str::to_owned)).collect()
}
