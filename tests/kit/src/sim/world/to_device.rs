//! To-device messages: into each device's inbox, once a transaction; and how Welcomes get lost.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Cargo, Name, Reply, USERS, World, user_id};
use crate::sim::dice::Dice;

impl World {
    pub(super) fn send_to_device(
        &mut self,
        from: &Name,
        kind: &str,
        body: &[u8],
        dice: &mut Dice,
    ) -> Reply {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let Some(messages) = body["messages"].as_object() else { return Reply::bad("M_BAD_JSON") };
        for (user, devices) in messages {
            let Some(number) = (0..USERS.len()).find(|number| user_id(*number) == *user) else {
                continue;
            };
            for (device, content) in devices.as_object().into_iter().flatten() {
                let to = Name { user: number, device: device.clone() };
                if self.loses(&to) {
                    self.note_loss(&to, content);
                    continue;
                }
                let json: Arc<str> =
                    json!({ "type": kind, "sender": from.user_id(), "content": content })
                        .to_string()
                        .into();
                if to.server() == from.server() {
                    self.put_in_inbox(to.server(), &to, json);
                } else {
                    let home = to.server();
                    self.ship(from.server(), home, Cargo::ToDevice { to, json }, dice);
                }
            }
        }
        Reply::ok(&json!({}))
    }

    fn loses(&mut self, to: &Name) -> bool {
        let Some(times) = self.losing.get_mut(to) else { return false };
        *times -= 1;
        if *times == 0 {
            self.losing.remove(to);
        }
        true
    }

    /// The Welcome for this device is lost: what its commit let it read, it may never read.
    fn note_loss(&mut self, to: &Name, content: &Value) {
        if let Some(commit) = content["commit_event"].as_str() {
            self.lost.insert((to.clone(), commit.to_owned()));
        }
    }

    pub(super) fn put_in_inbox(&mut self, server: usize, to: &Name, json: Arc<str>) {
        let here = &mut self.servers[server];
        let position = here.position + 1;
        if let Some(device) = here.devices.get_mut(to) {
            device.inbox.push((position, json));
            here.position = position;
        }
    }

    /// What waits for a device is lost, and so is the next Welcome for it.
    pub(in crate::sim) fn lose_welcomes(&mut self, to: &Name) {
        let Some(device) = self.servers[to.server()].devices.get_mut(to) else { return };
        for (_, json) in std::mem::take(&mut device.inbox) {
            let event: Value = serde_json::from_str(&json).unwrap_or_default();
            self.note_loss(to, &event["content"]);
        }
        self.losing.insert(to.clone(), 1);
    }
}
