//! Ratchet trees that nobody can fetch any more: a server has deleted a value, or never had it.
//!
//! Many commits name one base, so its loss would keep newcomers out until a whole tree is published
//! again. A device that would join, and cannot have the tree, asks one device of the room's users
//! after the other for it (`wanted`): whoever made the commit first, and then as the hash of the
//! commit with its name says. Whoever is asked uploads the whole tree and says where it is (`given`). That is done for
//! devices that may be in the group, by the first few members in the order of those hashes, and a few
//! times a day; so asking everybody makes no storm of uploads.
//!
//! A tree that is given is as good as any: the tree hash of the GroupInfo says whether it is right.
//! Whoever joins by it publishes a whole tree, and all members build on that.

mod given;
mod wanted;

use ruma::{OwnedEventId, OwnedRoomId, UserId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub(crate) use self::{
    given::{answer, asked, uploaded},
    wanted::{ask, came, offered, want},
};
use crate::{
    protocol::{DeviceName, MediaReference, credential},
    rejection::Rejection,
};

/// How many devices are asked, and how many members give.
const MOST_ASKED: usize = 6;
/// How many members of a group give, of those that come first in its order: whoever asks may know
/// of devices that are no members.
const MOST_GIVING: usize = 8;
/// How long names may be, in bytes, as all identifiers of Matrix.
const LONGEST_NAME: usize = 255;

/// The content of a to-device event that asks for a ratchet tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TreeRequest {
    algorithm: String,
    pub(crate) room_id: OwnedRoomId,
    /// Who asks.
    sender: DeviceName,
    /// The commit whose tree is asked for.
    commit_event: OwnedEventId,
}

/// The content of a to-device event that says where a ratchet tree is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TreeOffer {
    algorithm: String,
    pub(crate) room_id: OwnedRoomId,
    /// Who offers it.
    sender: DeviceName,
    /// The commit whose tree it is.
    commit_event: OwnedEventId,
    ratchet_tree: MediaReference,
}

/// Checks who says to have sent an event.
fn check_sender(named: &DeviceName, sender: &UserId) -> Result<(), Rejection> {
    if named.user_id != sender || named.device_id.as_str().len() > LONGEST_NAME {
        let reason = "the event names another user as sender";
        return Err(Rejection::SenderMismatch(reason));
    }
    Ok(())
}

/// Where a device stands in the order in which devices are asked for a commit's tree: whoever made
/// the commit comes first, as it is in the group and was there of late.
fn order(commit_event: &OwnedEventId, maker: &DeviceName, device: &DeviceName) -> [u8; 32] {
    if device == maker {
        return [0; 32];
    }
    let hash = Sha256::new().chain_update(commit_event.as_bytes());
    hash.chain_update(credential::encode(device)).finalize().into()
}
