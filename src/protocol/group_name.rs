//! Which of a room's groups an epoch is of: the first, or one with which the room was started anew.
//!
//! The MLS group id of the first group is the room's id. That of a later one has behind it a zero
//! byte, which no room id has, the restart's number in eight bytes, and 16 random bytes. So no two
//! groups share an id (RFC 9420 §11), and whoever signs a GroupInfo signs the number as well.

use ruma::RoomId;
use serde::{Deserialize, Serialize};

/// How many random bytes a group id ends with.
const NONCE: usize = 16;

/// Which of a room's groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum GroupName {
    /// The one that the room began with.
    #[default]
    First,
    /// One with which the room was started anew.
    Restarted { number: u64, nonce: [u8; NONCE] },
}

impl GroupName {
    /// The group that an MLS group id names, if it is one of the room's.
    pub(crate) fn of(room: &RoomId, group_id: &[u8]) -> Option<Self> {
        let rest = group_id.strip_prefix(room.as_bytes())?;
        if rest.is_empty() {
            return Some(Self::First);
        }
        let (number, nonce) = rest.strip_prefix(&[0])?.split_first_chunk()?;
        let (number, nonce) = (u64::from_be_bytes(*number), nonce.try_into().ok()?);
        (number > 0).then_some(Self::Restarted { number, nonce })
    }

    /// The MLS group id.
    pub(crate) fn group_id(&self, room: &RoomId) -> Vec<u8> {
        match self {
            Self::First => room.as_bytes().to_vec(),
            Self::Restarted { number, nonce } => {
                [room.as_bytes(), &[0], &number.to_be_bytes(), nonce].concat()
            }
        }
    }

    /// The number of the restart; 0 for the first group.
    pub(crate) fn number(&self) -> u64 {
        match self {
            Self::First => 0,
            Self::Restarted { number, .. } => *number,
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::room_id;

    use super::*;

    #[test]
    fn a_group_id_names_its_group_and_no_other_rooms() {
        let (room, other) = (room_id!("!room:a"), room_id!("!room:ab"));
        for name in [GroupName::First, GroupName::Restarted { number: 7, nonce: [9; NONCE] }] {
            assert_eq!(GroupName::of(room, &name.group_id(room)), Some(name));
            assert_eq!(GroupName::of(other, &name.group_id(room)), None);
            assert_eq!(GroupName::of(room, &name.group_id(other)), None);
        }
    }

    #[test]
    fn what_is_no_group_id_names_nothing() {
        let room = room_id!("!room:a");
        let right = GroupName::Restarted { number: 1, nonce: [0; NONCE] }.group_id(room);
        let (cut, longer) = (&right[..right.len() - 1], [&right[..], &[0]].concat());
        let zeroth = GroupName::Restarted { number: 0, nonce: [0; NONCE] }.group_id(room);
        for bytes in [b"", cut, &longer, &zeroth, b"!room:a\0", b"!room"] {
            assert_eq!(GroupName::of(room, bytes), None, "{bytes:?}");
        }
    }
}
