//! What a homeserver does for a hostile user of its own.
//!
//! An event goes out whether its sender is in the room or not, and to the servers of the sender's
//! choice: the others hear of it when the world heals. Others judge it as they do the events of
//! honest servers.

use std::sync::Arc;

use matrix_mls::OutgoingRequest;
use serde_json::Value;

use super::{Cargo, Event, Name, SERVERS, USERS, World, event::Draft, user_id};
use crate::sim::dice::Dice;

impl World {
    /// A hostile user's event, for these servers; its id.
    pub(in crate::sim) fn forge(
        &mut self,
        user: usize,
        content: &str,
        transaction: &str,
        to: &[usize],
        dice: &mut Dice,
    ) -> String {
        let (server, sender) = (USERS[user].1, user_id(user));
        let tick = self.tick();
        let here = &self.servers[server];
        // With the last event that let it in, whatever came after that.
        let joined = here.timeline.iter().rev().map(|(_, event)| event);
        let mut own = joined.filter(|event| event.member() == Some(&sender));
        let auth = own.find(|event| event.membership.as_deref() == Some("join")).cloned();
        let draft = Draft {
            sender: &sender,
            kind: "m.room.encrypted",
            state_key: None,
            content,
            transaction: Some(transaction),
            sent_by: None,
        };
        let event = Arc::new(Event::new(&draft, tick, here.depth + 1, self.now_ms, auth));
        self.events.insert(event.id.clone(), event.clone());
        for other in 0..SERVERS.len() {
            if !to.contains(&other) {
                self.withheld.push((other, event.clone()));
            } else if other == server {
                self.take_event(other, &event);
            } else {
                self.ship(server, other, Cargo::Event(event.clone()), dice);
            }
        }
        event.id.clone()
    }

    /// What was kept from servers reaches them.
    pub(super) fn tell_withheld(&mut self) {
        for (server, event) in std::mem::take(&mut self.withheld) {
            self.take_event(server, &event);
        }
    }

    /// A request that no machine makes, and that counts for nobody's traffic; the answer.
    pub(in crate::sim) fn ask(
        &mut self,
        from: &Name,
        method: &str,
        path: &str,
        body: &Value,
        dice: &mut Dice,
    ) -> Value {
        let traffic = self.traffic;
        let request = OutgoingRequest {
            id: String::new(),
            method: method.to_owned(),
            path: path.to_owned(),
            content_type: "application/json".to_owned(),
            body: body.to_string().into_bytes(),
        };
        let reply = self.handle(from, &request, dice);
        self.traffic = traffic;
        serde_json::from_slice(&reply.body).unwrap_or_default()
    }

    /// An upload that no machine makes; its URI.
    pub(in crate::sim) fn upload_for(&mut self, from: &Name, bytes: &[u8]) -> String {
        let reply = self.upload_media(from, bytes);
        let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        answer["content_uri"].as_str().unwrap_or_default().to_owned()
    }

    /// What waits in a device's inbox; it waits no longer.
    pub(in crate::sim) fn take_inbox(&mut self, name: &Name) -> Vec<Arc<str>> {
        let device = self.servers[name.server()].devices.get_mut(name);
        let inbox = device.map(|device| std::mem::take(&mut device.inbox)).unwrap_or_default();
        inbox.into_iter().map(|(_, json)| json).collect()
    }
}
