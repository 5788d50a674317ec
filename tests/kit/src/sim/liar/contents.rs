//! What stands in the liar's events.

use serde_json::{Value, json};

use super::{Liar, client::Place};
use crate::{
    Result,
    peer::{ALGORITHM, Peer, WELCOME_ALGORITHM, base64},
    sim::world::ROOM,
};

/// A base that no server has.
pub(super) const NOWHERE: &str = "$nowhere:three";

/// Where the number of its epoch stands in a message.
fn number_at(message: &[u8]) -> Option<std::ops::Range<usize>> {
    // An MLSMessage's four bytes, then the group's id, whose length is one byte.
    let at = 5 + usize::from(*message.get(4)?);
    Some(at..at + 8)
}

/// The number of the epoch in which a message says that it was sealed.
pub(super) fn number(message: &[u8]) -> Option<u64> {
    let bytes = message.get(number_at(message)?)?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

/// The commit in these bytes says that it was sealed in the epoch of another number.
pub(super) fn forge_header(commit: &mut [u8], number: u64) {
    if let Some(at) = number_at(commit)
        && let Some(place) = commit.get_mut(at)
    {
        place.copy_from_slice(&number.to_be_bytes());
    }
}

impl Liar {
    /// `[user_id, device_id]`.
    pub(super) fn tag(&self) -> Value {
        json!([self.name.user_id(), self.name.device])
    }

    /// A commit on an epoch, with a public group state.
    pub(super) fn commit(&self, commit: &[u8], on: &Place, state: &[u8]) -> Value {
        json!({
            "algorithm": ALGORITHM, "ciphertext": base64(commit), "epoch_creator": on.creator,
            "sender": self.tag(), "resolves": [], "commit_event": on.event,
            "public_group_state": base64(state),
        })
    }

    /// The announcement of the epoch that it is in.
    pub(super) fn announcement(&self, state: &[u8]) -> Value {
        json!({
            "algorithm": ALGORITHM, "ciphertext": "", "epoch_creator": self.tag(),
            "sender": self.tag(), "resolves": [], "commit_event": "",
            "public_group_state": base64(state),
        })
    }

    /// A message in an epoch that says this; it may name the generation that it says it has.
    pub(super) fn message(
        &mut self,
        text: &str,
        generation: Option<u32>,
        on: &Place,
    ) -> Result<Value> {
        let mut plain: Value = serde_json::from_slice(&Peer::plaintext(ROOM, text))?;
        if let Some(generation) = generation {
            plain["generation"] = generation.into();
        }
        let sealed = self.client.seal(plain.to_string().as_bytes())?;
        Ok(json!({
            "algorithm": ALGORITHM, "ciphertext": base64(&sealed),
            "epoch_creator": on.creator, "commit_event": on.event,
        }))
    }

    /// A Welcome, as if by the commit of this event.
    pub(super) fn welcome(&self, welcome: &[u8], room: &str, event: &str) -> Value {
        json!({
            "algorithm": WELCOME_ALGORITHM, "ciphertext": base64(welcome), "room_id": room,
            "sender": self.tag(), "resolves": [], "commit_event": event,
        })
    }

    /// An offer of history.
    pub(super) fn offer(&self, event: &str, url: &str, bytes: usize, sha256: &[u8]) -> Value {
        json!({
            "algorithm": ALGORITHM.replace("dmls.", "dmls.history."), "room_id": ROOM,
            "sender": self.tag(), "commit_event": event, "bundle_id": base64(&[7; 16]),
            "bundle": { "url": url, "size": bytes, "sha256": base64(sha256) },
        })
    }
}
