//! The head rule's order of epochs, on which all devices have to agree (docs/protocol.md, "The
//! rules").

use std::cmp::Reverse;

use ruma::EventId;
use serde::{Deserialize, Serialize};

use super::epoch_id::EpochId;

/// The rank of an epoch among all epochs of its room. The smallest rank comes first: the highest
/// number, and among equal numbers the smallest id. Only the epoch itself decides its rank.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Rank(Reverse<u64>, [u8; 32]);

impl Rank {
    /// The rank of an epoch, whether or not this device is in it. The commit's event counts only in
    /// a simulator, which can choose event ids but not keys.
    pub(crate) fn of(number: u64, id: EpochId, _commit_event: Option<&EventId>) -> Self {
        #[cfg(feature = "test-hooks")]
        if let (true, Some(event)) = (crate::store::hooks::ranks_by_event(), _commit_event) {
            use sha2::{Digest, Sha256};
            return Self(Reverse(number), Sha256::digest(event.as_bytes()).into());
        }
        Self(Reverse(number), *id.as_bytes())
    }
}
