//! What is sent to ask for a tree and to offer it, and in which order devices are asked.

use ruma::{OwnedEventId, OwnedRoomId, UserId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    protocol::{DeviceName, MediaReference, credential},
    rejection::Rejection,
};

/// How many devices are asked, and how many members give.
pub(super) const MOST_ASKED: usize = 6;
/// How many members of a group give, of those that come first in its order: whoever asks may know
/// of devices that are no members.
pub(super) const MOST_GIVING: usize = 8;
/// How long names may be, in bytes, as all identifiers of Matrix.
const LONGEST_NAME: usize = 255;

/// The content of a to-device event that asks for a ratchet tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TreeRequest {
    pub(super) algorithm: String,
    pub(crate) room_id: OwnedRoomId,
    /// Who asks.
    pub(super) sender: DeviceName,
    /// The commit whose tree is asked for.
    pub(super) commit_event: OwnedEventId,
}

/// The content of a to-device event that says where a ratchet tree is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TreeOffer {
    pub(super) algorithm: String,
    pub(crate) room_id: OwnedRoomId,
    /// Who offers it.
    pub(super) sender: DeviceName,
    /// The commit whose tree it is.
    pub(super) commit_event: OwnedEventId,
    pub(super) ratchet_tree: MediaReference,
}

/// Checks who says to have sent an event.
pub(super) fn check_sender(named: &DeviceName, sender: &UserId) -> Result<(), Rejection> {
    if named.user_id != sender || named.device_id.as_str().len() > LONGEST_NAME {
        let reason = "the event names another user as sender";
        return Err(Rejection::SenderMismatch(reason));
    }
    Ok(())
}

/// Where a device stands in the order in which devices are asked for a commit's tree: whoever made
/// the commit comes first, as it is in the group and was there of late.
pub(super) fn order(
    commit_event: &OwnedEventId,
    maker: &DeviceName,
    device: &DeviceName,
) -> [u8; 32] {
    if device == maker {
        return [0; 32];
    }
    let hash = Sha256::new().chain_update(commit_event.as_bytes());
    hash.chain_update(credential::encode(device)).finalize().into()
}
