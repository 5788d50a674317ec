//! Epoch numbers are claims: anybody who makes a group chooses the number it has.
//!
//! An epoch that a device is told of may be so far ahead of what the device has, and no farther
//! ([`check`]). A device without a group has nothing to compare with, so it can be led to a number
//! that nobody else takes. It would wait there for ever for others who must not follow. So what is
//! **out of reach** of the lowest tree that a device is in comes behind it ([`out_of_reach`]):
//! those who are there cannot come, and whoever is in both goes to them.

use std::collections::{BTreeMap, BTreeSet};

use super::{graph, record::EpochRecord};
use crate::{
    protocol::{EpochId, GroupRank, Rank},
    rejection::{InputError, Rejection},
    room::Room,
    store::{StoreError, Tx},
};

/// No group that grows by honest commits gets here.
const HIGHEST_NUMBER: u64 = 1 << 48;
/// How far from where this device is an epoch can be that it is told of. A room of a thousand
/// devices makes 140 commits a day, and takes twenty years for this.
const MOST_AHEAD: u64 = 1 << 20;

/// A group's epochs that hang together: the group's place among the room's groups, and their root.
pub(super) type Tree = (GroupRank, Option<EpochId>);

/// The tree of an epoch.
pub(super) fn tree(epoch: &EpochRecord) -> Tree {
    (epoch.group_rank, epoch.root)
}

/// Refuses an epoch that a Welcome leads to, if its number is made up: no group gets there by
/// commits.
pub(crate) fn check(tx: &Tx<'_>, room: &Room, number: u64) -> Result<(), InputError> {
    if number <= highest(tx, room)? { Ok(()) } else { Err(Rejection::EpochNumber.into()) }
}

/// Refuses a public group state by which nobody gets to an epoch of a number that [`check`] allows.
pub(crate) fn check_claim(tx: &Tx<'_>, room: &Room, number: u64) -> Result<(), InputError> {
    if number <= highest_claim(tx, room)? { Ok(()) } else { Err(Rejection::EpochNumber.into()) }
}

/// The highest number that a public group state can have. Whoever joins by it makes the next epoch,
/// and that must be one that the others in the lowest tree can come to.
pub(crate) fn highest_claim(tx: &Tx<'_>, room: &Room) -> Result<u64, StoreError> {
    Ok(highest(tx, room)? - 1)
}

/// The highest number that an epoch can have that this device is told of. While it is in no group,
/// it has nothing to compare with. A tree that is out of reach is none that it goes back to.
fn highest(tx: &Tx<'_>, room: &Room) -> Result<u64, StoreError> {
    let kept = graph::kept(tx, room)?;
    let out_of_reach = out_of_reach(&kept);
    let in_reach = kept.iter().filter(|epoch| !out_of_reach.contains(&tree(epoch)));
    let reached = in_reach.map(|epoch| epoch.number).max();
    let most = reached.map_or(HIGHEST_NUMBER, |reached| reached.saturating_add(MOST_AHEAD));
    Ok(most.min(HIGHEST_NUMBER))
}

/// As far as a device has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reach {
    /// The first of its epochs by rank.
    first: Rank,
    /// How far it has come in the lowest tree of that epoch's group.
    lowest: u64,
}

impl Reach {
    /// A device that has this epoch and no other.
    pub(crate) fn at(rank: Rank) -> Self {
        Self { lowest: rank.number(), first: rank }
    }

    /// A device whose first epoch has this rank, and that has kept these besides.
    pub(super) fn among(first: Rank, kept: &[EpochRecord]) -> Self {
        let mut tips: BTreeMap<Tree, u64> = BTreeMap::new();
        for epoch in kept.iter().filter(|epoch| epoch.group_rank == first.group()) {
            let tip = tips.entry(tree(epoch)).or_default();
            *tip = epoch.number.max(*tip);
        }
        let lowest = tips.into_values().min().unwrap_or(first.number());
        Self { first, lowest }
    }

    /// Whether an epoch that is claimed comes before what the device has reached: by its rank, or
    /// because it is so far behind that whoever is there cannot come here. Only the distance
    /// counts: a claim right behind a device that is above all numbers is no other place to go to.
    /// Nor is one near a tree that the device is in besides.
    pub(super) fn is_behind(&self, claim: &Rank) -> bool {
        let is_far = self.lowest > claim.number().saturating_add(MOST_AHEAD);
        *claim < self.first || (claim.group() == self.first.group() && is_far)
    }
}

/// Whether devices that have come to one number can come to another.
fn is_in_reach(from: u64, number: u64) -> bool {
    number <= from.saturating_add(MOST_AHEAD).min(HIGHEST_NUMBER)
}

/// Of the trees of these kept epochs, those that nobody can come to who is in the lowest tree of
/// the group: a number on the way is farther ahead than one may be told of, or too high for
/// everybody.
pub(super) fn out_of_reach(kept: &[EpochRecord]) -> BTreeSet<Tree> {
    let tips = kept.iter().map(|epoch| (tree(epoch), epoch.number));
    unreachable(tips)
}

fn unreachable(epochs: impl Iterator<Item = (Tree, u64)>) -> BTreeSet<Tree> {
    let mut tips: Vec<(Tree, u64)> = Vec::new();
    for (tree, number) in epochs {
        match tips.iter_mut().find(|(known, _)| *known == tree) {
            Some((_, tip)) => *tip = number.max(*tip),
            None => tips.push((tree, number)),
        }
    }
    tips.sort_by_key(|((group, root), tip)| (*group, *tip, *root));
    let mut out = BTreeSet::new();
    // How far those have come who are in the lowest tree of this group, or can be.
    let mut reached: Option<(GroupRank, u64)> = None;
    for (tree, tip) in tips {
        match reached {
            Some((group, from)) if group == tree.0 => {
                if is_in_reach(from, tip) {
                    reached = Some((group, tip));
                } else {
                    out.insert(tree);
                }
            }
            _ => reached = Some((tree.0, tip)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(tips: &[(u8, u64)]) -> Vec<u8> {
        let tree = |root: u8| (GroupRank::First, Some(EpochId::from_bytes([root; 32])));
        let out = unreachable(tips.iter().map(|(root, tip)| (tree(*root), *tip)));
        tips.iter().map(|(root, _)| *root).filter(|root| out.contains(&tree(*root))).collect()
    }

    #[test]
    fn a_tree_that_nobody_can_come_to_is_out_of_reach() {
        assert_eq!(out(&[(1, 5)]), [0_u8; 0]);
        assert_eq!(out(&[(1, HIGHEST_NUMBER + 8)]), [0_u8; 0]);
        assert_eq!(out(&[(1, 5), (2, 5 + MOST_AHEAD)]), [0_u8; 0]);
        assert_eq!(out(&[(1, 5), (2, 6 + MOST_AHEAD)]), [2]);
        assert_eq!(out(&[(2, HIGHEST_NUMBER + 8), (1, 16)]), [2]);
        // One after the other they can be reached.
        assert_eq!(out(&[(1, 0), (2, MOST_AHEAD), (3, 2 * MOST_AHEAD)]), [0_u8; 0]);
        assert_eq!(out(&[(3, 2 * MOST_AHEAD + 1), (1, 0), (2, MOST_AHEAD)]), [3]);
    }

    #[test]
    fn what_a_tree_has_come_to_counts_and_not_where_it_begins() {
        assert_eq!(out(&[(1, 5), (2, 0), (2, 9 + MOST_AHEAD)]), [2, 2]);
    }

    #[test]
    fn a_claim_far_behind_is_a_place_to_go_to_and_one_right_behind_is_none() {
        let rank = |group, number| Rank::of(group, number, EpochId::from_bytes([1; 32]), None);
        let before = |claim, reached| {
            Reach::at(rank(GroupRank::First, reached)).is_behind(&rank(GroupRank::First, claim))
        };
        assert!(before(6, 5) && !before(5, 5) && !before(4, 5));
        assert!(!before(4, 4 + MOST_AHEAD) && before(4, 5 + MOST_AHEAD));
        assert!(before(16, HIGHEST_NUMBER + 8) && !before(HIGHEST_NUMBER, HIGHEST_NUMBER + 8));
        let restarted = rank(GroupRank::Restart(1), 2 * MOST_AHEAD);
        assert!(!Reach::at(restarted).is_behind(&rank(GroupRank::First, 4)));
    }

    #[test]
    fn a_claim_near_a_tree_that_the_device_is_in_is_no_place_to_go_to() {
        let rank = |number| Rank::of(GroupRank::First, number, EpochId::from_bytes([1; 32]), None);
        let reach = Reach { first: rank(9 + MOST_AHEAD), lowest: 9 };
        assert!(!reach.is_behind(&rank(7)) && !reach.is_behind(&rank(9)));
        assert!(reach.is_behind(&rank(10 + MOST_AHEAD)));
    }

    #[test]
    fn groups_are_counted_apart() {
        let first = (GroupRank::First, Some(EpochId::from_bytes([1; 32])));
        let next = (GroupRank::Restart(1), Some(EpochId::from_bytes([2; 32])));
        assert!(unreachable([(first, 2 * MOST_AHEAD), (next, 0)].into_iter()).is_empty());
    }
}
