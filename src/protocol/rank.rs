//! The head rule's order of epochs, on which all devices have to agree (docs/protocol.md, "The
//! rules").

use std::{
    cmp::{Ordering, Reverse},
    fmt,
};

use ruma::EventId;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, SeqAccess, Visitor},
};

use super::epoch_id::EpochId;

/// How an epoch's group stands among the groups of its room. The last comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum GroupRank {
    /// Somebody has made it, and the room's state does not name it.
    Unnamed,
    /// The one that the room began with.
    #[default]
    First,
    /// The room was started anew with it, for so many times.
    Restart(u64),
}

/// The rank of an epoch among all epochs of its room. The smallest rank comes first: the last
/// group, in it the highest number, and among equal numbers the smallest id. Only the epoch itself
/// and its group decide its rank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Rank(Reverse<u64>, [u8; 32], GroupRank);

impl Rank {
    /// The rank of an epoch, whether or not this device is in it. The commit's event counts only in
    /// a simulator, which can choose event ids but not keys.
    pub(crate) fn of(
        group: GroupRank,
        number: u64,
        id: EpochId,
        _commit_event: Option<&EventId>,
    ) -> Self {
        #[cfg(feature = "test-hooks")]
        if let (true, Some(event)) = (crate::store::hooks::ranks_by_event(), _commit_event) {
            use sha2::{Digest, Sha256};
            return Self(Reverse(number), Sha256::digest(event.as_bytes()).into(), group);
        }
        Self(Reverse(number), *id.as_bytes(), group)
    }
}

impl Rank {
    /// The epoch's number.
    pub(crate) fn number(&self) -> u64 {
        self.0.0
    }

    /// How its group stands.
    pub(crate) fn group(&self) -> GroupRank {
        self.2
    }
}

/// Rows of earlier versions have no group: theirs is the first.
impl<'de> Deserialize<'de> for Rank {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts;

        impl<'de> Visitor<'de> for Parts {
            type Value = Rank;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a rank")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Rank, A::Error> {
                let missing = || A::Error::custom("a rank has a number and an id");
                let number = parts.next_element()?.ok_or_else(missing)?;
                let id = parts.next_element()?.ok_or_else(missing)?;
                Ok(Rank(number, id, parts.next_element()?.unwrap_or_default()))
            }
        }

        deserializer.deserialize_seq(Parts)
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |rank: &Self| (Reverse(rank.2), rank.0, rank.1);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(group: GroupRank, number: u64, byte: u8) -> Rank {
        Rank::of(group, number, EpochId::from_bytes([byte; 32]), None)
    }

    #[test]
    fn the_last_group_comes_first_then_the_highest_number_then_the_smallest_id() {
        let in_order = [
            rank(GroupRank::Restart(2), 0, 9),
            rank(GroupRank::Restart(1), 3, 9),
            rank(GroupRank::First, 500, 1),
            rank(GroupRank::First, 500, 2),
            rank(GroupRank::First, 4, 0),
            rank(GroupRank::Unnamed, 1 << 40, 0),
        ];
        assert!(in_order.is_sorted());
    }

    #[test]
    fn a_rank_of_an_earlier_version_is_one_of_the_rooms_first_group() {
        let row = minicbor_serde::to_vec((7_u64, [3_u8; 32])).unwrap_or_default();
        let read: Result<Rank, _> = minicbor_serde::from_slice(&row);
        assert_eq!(read.ok(), Some(rank(GroupRank::First, 7, 3)));
        for group in [GroupRank::Unnamed, GroupRank::First, GroupRank::Restart(2)] {
            let written = rank(group, 7, 3);
            let row = minicbor_serde::to_vec(&written).unwrap_or_default();
            let read: Result<Rank, _> = minicbor_serde::from_slice(&row);
            assert_eq!(read.ok(), Some(written));
        }
    }
}
