//! `MemberPolicy`: which devices an app lets into its groups.

use serde::{Deserialize, Serialize};

/// Which devices of the people in a room become members of its group.
///
/// Whatever the policy says, a device's published keys must be signed by the device itself, and be
/// those that were seen first. All devices of a room should have the same policy, as a group is
/// shared: who has a stricter one removes what others have added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, uniffi::Enum)]
pub enum MemberPolicy {
    /// Devices that their owner has signed, with the self-signing key of the owner's cross-signing
    /// identity. Nobody else has a device in the group.
    CrossSigned,
    /// Devices that their owner has signed, and all devices of people who have never had a
    /// cross-signing identity.
    CrossSignedOrUserHasNoIdentity,
    /// All devices, signed by their owner or not. For bots, and where the homeserver may be
    /// trusted with who is in a group.
    AnySigned,
}
