//! How old this device's own keys are in the group: the clock and the count of its leaf.
//!
//! A commit of somebody else's makes a new epoch and leaves this device's leaf as it is. So the
//! leaf has a clock of its own, which each epoch hands on to the next. It is kept for each epoch
//! that can still take a commit: a branch that loses takes the renewal that was made on it with it.

use serde::{Deserialize, Serialize};

use crate::protocol::EpochId;

/// This device's leaf in an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OwnLeaf {
    pub(crate) epoch: EpochId,
    /// When its keys were made or, where a key package brought them, came into the group; in
    /// milliseconds since 1970.
    pub(crate) since_ms: u64,
    /// How many messages this device has sent with it in the epochs before this one.
    pub(crate) sent: u32,
    pub(crate) origin: LeafOrigin,
    /// Until when a renewal that is due is put off, in milliseconds since 1970, once it is.
    #[serde(default)]
    pub(crate) put_off_ms: Option<u64>,
}

/// Where the keys of a leaf come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LeafOrigin {
    /// A commit of this device's own made them.
    Commit,
    /// They lay on the homeserver, in a package that was for one group.
    OneTimePackage,
    /// They lay on the homeserver, in the package that anybody gets once the others are used up.
    LastResortPackage,
}

impl OwnLeaf {
    /// A leaf with keys that this device has just made by a commit.
    pub(crate) fn renewed(epoch: EpochId, since_ms: u64) -> Self {
        Self { epoch, since_ms, sent: 0, origin: LeafOrigin::Commit, put_off_ms: None }
    }

    /// The same leaf in an epoch that follows, after so many messages in this one.
    pub(crate) fn handed_on(&self, epoch: EpochId, sent: u32) -> Self {
        Self { epoch, sent: self.sent.saturating_add(sent), ..self.clone() }
    }
}
