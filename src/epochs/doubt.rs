//! What in a commit does not fit the Matrix room.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::protocol::DeviceName;

/// Something in a commit that the room gives no reason for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CommitDoubt {
    /// A device was added whose user is neither in the room nor invited.
    StrangerAdded(DeviceName),
    /// A device was added with another key than was first seen for it.
    ImpostorAdded(DeviceName),
    /// Another user removed a device that may be in the group.
    MemberRemoved(DeviceName),
    /// A device joined externally, which the room's settings forbid.
    JoinedExternally(DeviceName),
    /// This device was invited by a device whose user was not known to be in the room.
    InvitedByStranger(DeviceName),
}

impl CommitDoubt {
    /// Whether the commit is passed over even where the room's settings accept unfit commits.
    pub(super) fn always_counts(&self) -> bool {
        matches!(self, Self::JoinedExternally(_) | Self::InvitedByStranger(_))
    }
}

impl fmt::Display for CommitDoubt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StrangerAdded(device) => {
                write!(formatter, "it adds {device}, whose user is not in the room")
            }
            Self::ImpostorAdded(device) => {
                write!(formatter, "it adds {device} with a key that is not the device's first")
            }
            Self::MemberRemoved(device) => {
                write!(formatter, "it removes {device}, which belongs in the group")
            }
            Self::JoinedExternally(device) => {
                write!(formatter, "{device} joined by itself, which the room does not allow")
            }
            Self::InvitedByStranger(device) => {
                write!(formatter, "{device}, whose user is not in the room, invited this device")
            }
        }
    }
}
