//! The Welcomes of a commit, sent once its event has an id.
//!
//! Each device gets its own secrets alone, so a Welcome's size does not grow with the number of
//! those added.

use std::collections::BTreeMap;

use ruma::{
    OwnedEventId, OwnedUserId, RoomId,
    api::client::to_device::send_event_to_device,
    events::{AnyToDeviceEventContent, ToDeviceEventType},
    serde::Raw,
    to_device::DeviceIdOrAllDevices,
};

use super::staged::StagedCommit;
use crate::{
    failure::Failure,
    messages::SendError,
    mls::split_welcome,
    protocol::{Payload, WelcomeContent, identifiers, write_content},
    requests::{self, Purpose},
    turn::Turn,
};

/// The most that one `/sendToDevice` request carries, in bytes of Welcomes.
const MOST_BYTES: usize = 500_000;

/// Queues the Welcomes of a commit.
pub(super) fn queue_welcomes(
    turn: &Turn<'_>,
    room: &RoomId,
    commit_event: &OwnedEventId,
    staged: &StagedCommit,
) -> Result<(), SendError> {
    if staged.added.is_empty() {
        return Ok(());
    }
    let content = staged.content.as_ref();
    let mut batch = Batch::default();
    let welcomes = split_welcome(&staged.welcome, &staged.references)?;
    for (device, ciphertext) in staged.added.iter().zip(welcomes) {
        let content = WelcomeContent {
            algorithm: identifiers::welcome_algorithm(turn.identity.ciphersuite()),
            ciphertext: Payload::inline(&ciphertext),
            room_id: room.to_owned(),
            sender: turn.identity.name(),
            resolves: content.map(|content| content.resolves.clone()).unwrap_or_default(),
            commit_event: commit_event.clone(),
            ratchet_tree: content.and_then(|content| content.ratchet_tree.clone()),
            tree_difference: content.and_then(|content| content.tree_difference.clone()),
        };
        let content = write_content(&content, "the Welcome")?;
        if batch.bytes + content.get().len() > MOST_BYTES {
            std::mem::take(&mut batch).queue(turn, room)?;
        }
        batch.bytes += content.get().len();
        let to = DeviceIdOrAllDevices::DeviceId(device.device_id.clone());
        let of_user = batch.messages.entry(device.user_id.clone()).or_default();
        of_user.insert(to, Raw::from_json(content));
    }
    Ok(batch.queue(turn, room)?)
}

/// Welcomes that go out together.
#[derive(Default)]
struct Batch {
    bytes: usize,
    messages: BTreeMap<OwnedUserId, BTreeMap<DeviceIdOrAllDevices, Raw<AnyToDeviceEventContent>>>,
}

impl Batch {
    fn queue(self, turn: &Turn<'_>, room: &RoomId) -> Result<(), Failure> {
        if self.messages.is_empty() {
            return Ok(());
        }
        let request = send_event_to_device::v3::Request::new_raw(
            ToDeviceEventType::RoomEncrypted,
            requests::transaction_id(),
            self.messages,
        );
        let purpose = Purpose::Welcome { room_id: room.to_owned() };
        requests::enqueue(turn.tx, room.as_bytes(), turn.now_ms, purpose, request)?;
        Ok(())
    }
}
