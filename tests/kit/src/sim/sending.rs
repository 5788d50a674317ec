//! Sealing messages and sending them, as an app does: a message that could not be sent is sent
//! again later, as it was sealed.

use matrix_mls::{EpochInfo, OutgoingRequest};
use serde_json::json;

use super::{
    app::Unsent,
    ledger::{self, Sealed},
    liar,
    run::{Run, Stop},
    transport::Exchange,
    violation::{Invariant, Violation},
    world::{ROOM, user_id},
};

impl Run {
    /// Seals a message and sends it, if the room can be sent to.
    pub(super) async fn send(&mut self, app: usize) -> Result<(), Stop> {
        for _ in 0..3 {
            if !self.prepare(app).await? {
                return Ok(());
            }
            let members = self.members(app).await?;
            let room = self.room(app).await?;
            let epochs = room.epochs().await;
            let epochs = self.fine(app, "epochs", epochs)?.map_err(Violation::simulator)?;
            let is_misled = self.liar.is_some() && is_by_the_liars_word(&epochs);
            let head = epochs.into_iter().find(|epoch| epoch.is_head);
            let number = self.ledger.messages.len();
            let text = format!("m{number}");
            let content = json!({ "msgtype": "m.text", "body": text }).to_string();
            let sealed = room.encrypt("m.room.message".to_owned(), content).await;
            drop(room);
            let Ok(sealed) = self.fine(app, "encrypt", sealed)? else { continue };
            let name = self.apps[app].name.clone();
            let message = Sealed {
                text,
                sender: name.clone(),
                members,
                epoch: head.and_then(|head| head.commit_event).unwrap_or_default(),
                joins: self.apps[app].kept.joined.values().cloned().collect(),
                is_misled,
            };
            self.note(format!("{name}: seals m{number} in the epoch of {}", message.epoch));
            self.seals_for_joined(app, &message)?;
            self.seals_for_no_ghost(app, &message)?;
            self.ledger.add(message);
            let request = OutgoingRequest {
                id: format!("app-{number}"),
                method: "PUT".to_owned(),
                path: format!(
                    "/_matrix/client/v3/rooms/{ROOM}/send/m.room.encrypted/{}",
                    ledger::transaction(number)
                ),
                content_type: "application/json".to_owned(),
                body: sealed.into_bytes(),
            };
            self.apps[app].outbox.push(Unsent { message: number, request });
            return self.post(app);
        }
        Ok(())
    }

    /// Sends the app's own messages, in order.
    pub(super) fn post(&mut self, app: usize) -> Result<(), Stop> {
        while let Some(unsent) = self.apps[app].outbox.first().cloned() {
            let exchange = self.exchange(app, &unsent.request)?;
            // To a message, a late answer is a lost one: the app sends it again.
            let Exchange::Answered(reply) = exchange else {
                self.apps[app].held.retain(|held| held.id != unsent.request.id);
                break;
            };
            let name = self.apps[app].name.clone();
            match (reply.status, reply.event_id()) {
                (200, Some(event)) => {
                    self.note(format!("{name}: message {} is {event}", unsent.message));
                }
                // Out of the room, or logged out: it is given up.
                (401 | 403, _) => self.note(format!("{name}: may not send {}", unsent.message)),
                _ => break,
            }
            self.apps[app].outbox.remove(0);
        }
        Ok(())
    }

    /// Nobody seals for a device that does not exist, unless their server lists it.
    fn seals_for_no_ghost(&self, app: usize, message: &Sealed) -> Result<(), Violation> {
        let (server, since) = (message.sender.server(), self.apps[app].kept.since);
        let mut members = message.members.iter();
        match members.find(|member| self.world.is_known_ghost(member, server, since)) {
            Some(ghost) => {
                let detail = format!("{} seals {} for {ghost}", message.sender, message.text);
                Err(Violation::new(Invariant::Secret, detail))
            }
            None => Ok(()),
        }
    }

    /// Nobody seals for a user whom their own view of the room does not have as joined.
    fn seals_for_joined(&self, app: usize, message: &Sealed) -> Result<(), Violation> {
        let joined = &self.apps[app].kept.joined;
        match message.members.iter().find(|member| !joined.contains_key(&member.user_id())) {
            Some(member) => {
                let detail = format!("{} seals {} for {member}", message.sender, message.text);
                Err(Violation::new(Invariant::SealsForJoined, detail))
            }
            None => Ok(()),
        }
    }
}

/// Whether a device came to its head from an epoch that the hostile member welcomed it to.
fn is_by_the_liars_word(epochs: &[EpochInfo]) -> bool {
    let mut at = epochs.iter().find(|epoch| epoch.is_head);
    while let Some(epoch) = at {
        let Some(parent) = &epoch.parent else {
            return epoch.creator_user_id == user_id(liar::USER);
        };
        at = epochs.iter().find(|other| other.id == *parent);
    }
    false
}
