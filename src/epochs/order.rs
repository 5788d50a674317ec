//! The order among the epochs that a device keeps: the head is the first of it that the room does
//! not refuse.
//!
//! Six things decide, in this order:
//!
//! 1. **With which of the room's groups it is** (`restarts`). The last one with which the room was
//!    started anew comes first.
//! 2. **Whether this device was removed from it, or cannot trust what it knows of it.** Then
//!    anything else of its group comes before it.
//! 3. **In which tree the others are** (`trees`). What somebody merely claims takes no place.
//! 4. **Whether the others can come there** (`numbers`). A tree with a number that nobody takes
//!    comes behind the one that its devices can all be had in.
//! 5. **Whether a removed leaf made it beside its removal** ([`made_beside`]). Such an epoch
//!    comes after every other of its tree, however long its branch is.
//! 6. **Its [`Rank`]**: the highest number, then the smallest id.
//!
//! It is a function of the epochs, of where each user was last heard, and of who has no place in
//! the room. Devices for which these are the same send on the same epoch.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use ruma::RoomId;

use super::{
    graph, numbers,
    outsiders::{self, Maker},
    record::EpochRecord,
    trees::{self, Support},
};
use crate::{
    protocol::{EpochId, GroupRank, Rank},
    room::Room,
    store::{StoreError, Tx},
    turn::Turn,
};

/// How many epochs behind the kept ones are looked at for the place where two branches part.
const MOST_STEPS: usize = 256;

/// The place of an epoch among others; the smallest comes first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    group: Reverse<GroupRank>,
    left: bool,
    support: Reverse<usize>,
    out_of_reach: bool,
    by_outsider: bool,
    rank: Rank,
}

/// What there is to know of an epoch to tell on which side of a removal it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) parent: Option<EpochId>,
    pub(super) maker: Maker,
}

/// A leaf that an epoch's commit has removed, and that has no place in the room.
#[derive(Debug, Clone)]
pub(super) struct Removal {
    pub(super) epoch: EpochId,
    pub(super) of: Maker,
}

/// The kept epochs of a room, in the order in which they come as the head.
pub(super) fn kept(turn: &Turn<'_>, room: &Room) -> Result<Vec<EpochRecord>, StoreError> {
    let mut kept = graph::kept(turn.tx, room)?;
    sort(turn, room, &mut kept)?;
    Ok(kept)
}

/// Sorts kept epochs, first the one that comes first.
pub(super) fn sort(
    turn: &Turn<'_>,
    room: &Room,
    kept: &mut [EpochRecord],
) -> Result<(), StoreError> {
    let led = on_outsiders_commits(turn.tx, room, kept)?;
    let support = trees::support(turn, room, kept)?.unwrap_or_default();
    sort_by(kept, &support, &led);
    Ok(())
}

/// Sorts epochs by what is known: where the others are, and which were made beside a removal.
pub(super) fn sort_by(kept: &mut [EpochRecord], support: &Support, led: &BTreeSet<EpochId>) {
    let out_of_reach = numbers::out_of_reach(kept);
    let mut places = HashMap::with_capacity(kept.len());
    for epoch in kept.iter() {
        let place = Place {
            group: Reverse(epoch.group_rank),
            left: epoch.left || epoch.distrusted,
            support: Reverse(support.get(&epoch.root).copied().unwrap_or_default()),
            out_of_reach: out_of_reach.contains(&numbers::tree(epoch)),
            by_outsider: led.contains(&epoch.id),
            rank: epoch.rank(),
        };
        places.insert(epoch.id, place);
    }
    kept.sort_by(|one, other| places.get(&one.id).cmp(&places.get(&other.id)));
}

/// Of the kept epochs, those that stand on a commit of a device that has no place in the room: made
/// beside the removal of that device, or made when it had none already.
pub(crate) fn on_outsiders_commits(
    tx: &Tx<'_>,
    room: &Room,
    kept: &[EpochRecord],
) -> Result<BTreeSet<EpochId>, StoreError> {
    let mut found = BTreeSet::new();
    for epoch in kept.iter().filter(|epoch| epoch.by_outsider) {
        if !epoch.maker().has_place(tx, room)? {
            found.insert(epoch.id);
        }
    }
    if forks(kept) {
        let nodes = branches(tx, &room.id, kept)?;
        let outsiders = makers_outside(tx, room, &nodes)?;
        if !outsiders.is_empty() {
            let removals = removals(tx, room, &nodes, &outsiders)?;
            found.extend(made_beside(&nodes, &removals, &outsiders));
        }
    }
    Ok(found)
}

/// Whether two of the epochs may be on two branches.
fn forks(kept: &[EpochRecord]) -> bool {
    let ids: BTreeSet<_> = kept.iter().map(|epoch| epoch.id).collect();
    let (mut parents, mut ends) = (BTreeSet::new(), 0);
    for epoch in kept {
        match epoch.parent {
            Some(parent) if ids.contains(&parent) => {
                if !parents.insert(parent) {
                    return true;
                }
            }
            _ => ends += 1,
        }
    }
    ends > 1
}

/// The kept epochs, and those behind them as far as the place where their branches part.
fn branches(
    tx: &Tx<'_>,
    room: &RoomId,
    kept: &[EpochRecord],
) -> Result<BTreeMap<EpochId, Node>, StoreError> {
    let mut nodes = BTreeMap::new();
    // The ends of the branches, by number: the highest is followed to its parent first.
    let mut ends: BTreeSet<(u64, EpochId)> = BTreeSet::new();
    let add = |nodes: &mut BTreeMap<EpochId, Node>,
               ends: &mut BTreeSet<(u64, EpochId)>,
               epoch: &EpochRecord| {
        let node = Node { parent: epoch.parent, maker: epoch.maker() };
        // A tree's first epoch has nothing behind it.
        if nodes.insert(epoch.id, node).is_none() && epoch.parent.is_some() {
            ends.insert((epoch.number, epoch.id));
        }
    };
    for epoch in kept {
        add(&mut nodes, &mut ends, epoch);
    }
    for _ in 0..MOST_STEPS {
        if ends.len() < 2 {
            break;
        }
        let Some((_, id)) = ends.pop_last() else { break };
        let parent = nodes.get(&id).and_then(|node| node.parent);
        let Some(parent) = parent.filter(|parent| !nodes.contains_key(parent)) else { continue };
        if let Some(parent) = graph::find(tx, room, parent)? {
            add(&mut nodes, &mut ends, &parent);
        }
    }
    Ok(nodes)
}

/// Of those that made these epochs, who has no place in the room.
fn makers_outside(
    tx: &Tx<'_>,
    room: &Room,
    nodes: &BTreeMap<EpochId, Node>,
) -> Result<BTreeSet<Maker>, StoreError> {
    let makers: BTreeSet<_> = nodes.values().map(|node| &node.maker).collect();
    let mut outside = BTreeSet::new();
    for maker in makers {
        if !maker.has_place(tx, room)? {
            outside.insert(maker.clone());
        }
    }
    Ok(outside)
}

/// The removals that count. One that somebody without a place made counts if somebody who has a
/// place went on with it.
fn removals(
    tx: &Tx<'_>,
    room: &Room,
    nodes: &BTreeMap<EpochId, Node>,
    outside: &BTreeSet<Maker>,
) -> Result<Vec<Removal>, StoreError> {
    let mut gone_on_with = BTreeSet::new();
    for (id, _) in nodes.iter().filter(|(_, node)| !outside.contains(&node.maker)) {
        gone_on_with.extend(way_back(nodes, *id));
    }
    let mut removals = Vec::new();
    for epoch in gone_on_with {
        // Whoever has made no commit here has made none beside the removal.
        let removed = outsiders::removed_in(tx, &room.id, epoch, outside)?;
        removals.extend(removed.into_iter().map(|of| Removal { epoch, of }));
    }
    Ok(removals)
}

/// The epochs that a removed leaf has made beside its removal, with what others who have no place
/// in the room made on them. A commit from before the removal is none of these, nor is one from
/// after. Where somebody who has a place in the room has gone on, the branch is the room's.
pub(super) fn made_beside(
    nodes: &BTreeMap<EpochId, Node>,
    removals: &[Removal],
    outside: &BTreeSet<Maker>,
) -> BTreeSet<EpochId> {
    let mut led = BTreeSet::new();
    for removal in removals {
        let before = way_back(nodes, removal.epoch);
        for (id, _) in nodes.iter().filter(|(_, node)| node.maker == removal.of) {
            if !before.contains(id) && !way_back(nodes, *id).contains(&removal.epoch) {
                led.insert(*id);
            }
        }
    }
    let is_led = |id: &&EpochId| {
        let mut next = Some(**id);
        while let Some(node) = next.and_then(|id| nodes.get(&id))
            && outside.contains(&node.maker)
        {
            if next.is_some_and(|id| led.contains(&id)) {
                return true;
            }
            next = node.parent;
        }
        false
    };
    nodes.keys().filter(is_led).copied().collect()
}

/// An epoch and all before it.
fn way_back(nodes: &BTreeMap<EpochId, Node>, epoch: EpochId) -> BTreeSet<EpochId> {
    let mut way = BTreeSet::new();
    let mut next = Some(epoch);
    while let Some(id) = next.filter(|id| way.insert(*id)) {
        next = nodes.get(&id).and_then(|node| node.parent);
    }
    way
}

#[cfg(test)]
mod tests {
    use ruma::{OwnedUserId, owned_user_id};

    use super::*;
    use crate::protocol::DeviceName;

    /// A room that was started anew goes on there, whatever is the matter with the last group and
    /// however good an older one is; a group that the state does not name comes last.
    #[test]
    fn the_last_group_comes_first_whatever_else_there_is() {
        let place = |group, left, support, by_outsider, number| Place {
            group: Reverse(group),
            left,
            support: Reverse(support),
            out_of_reach: false,
            by_outsider,
            rank: Rank::of(group, number, id(1), None),
        };
        let in_order = [
            place(GroupRank::Restart(2), false, 0, false, 1),
            place(GroupRank::Restart(2), false, 0, false, 0),
            place(GroupRank::Restart(2), false, 0, true, 7),
            place(GroupRank::Restart(2), true, 9, false, 9),
            place(GroupRank::Restart(1), false, usize::MAX, false, 1 << 40),
            place(GroupRank::First, false, usize::MAX, false, 1 << 40),
            place(GroupRank::First, true, 0, false, 1 << 40),
            place(GroupRank::Unnamed, false, usize::MAX, false, 1 << 40),
        ];
        assert!(in_order.is_sorted());
    }

    /// An epoch of a made-up history. The first is the group's first.
    #[derive(Debug, Clone, Copy)]
    struct Made {
        parent: usize,
        by: usize,
        removes: bool,
    }

    /// Mallory's device is removed by whoever removes anybody, and has no place in the room.
    const MALLORY: usize = 2;

    fn maker(number: usize) -> Maker {
        let users: [OwnedUserId; 3] =
            [owned_user_id!("@a:b"), owned_user_id!("@b:b"), owned_user_id!("@m:b")];
        let user = users.into_iter().nth(number).unwrap_or_else(|| owned_user_id!("@x:b"));
        Maker { device: DeviceName::new(user, "D".into()), is_impostor: false }
    }

    fn id(number: usize) -> EpochId {
        EpochId::from_bytes([u8::try_from(number).unwrap_or(u8::MAX); 32])
    }

    fn number(history: &[Made], at: usize) -> u64 {
        match at {
            0 => 0,
            _ => number(history, history.get(at).map_or(0, |made| made.parent)) + 1,
        }
    }

    fn way(history: &[Made], at: usize) -> Vec<usize> {
        let mut way = vec![at];
        let mut at = at;
        while at > 0 {
            at = history.get(at).map_or(0, |made| made.parent);
            way.push(at);
        }
        way
    }

    /// The head of these epochs, taken in in this order.
    fn head(history: &[Made], arrival: &[usize]) -> usize {
        let nodes: BTreeMap<EpochId, Node> = arrival
            .iter()
            .filter_map(|at| Some((*at, history.get(*at)?)))
            .map(|(at, made)| {
                let parent = (at > 0).then(|| id(made.parent));
                (id(at), Node { parent, maker: maker(made.by) })
            })
            .collect();
        let outside = BTreeSet::from([maker(MALLORY)]);
        let gone_on_with = |epoch: usize| {
            (0..history.len()).any(|at| {
                history.get(at).is_some_and(|made| made.by != MALLORY)
                    && way(history, at).contains(&epoch)
            })
        };
        let removals: Vec<Removal> = (1..history.len())
            .filter(|at| history.get(*at).is_some_and(|made| made.removes) && gone_on_with(*at))
            .map(|at| Removal { epoch: id(at), of: maker(MALLORY) })
            .collect();
        let led = made_beside(&nodes, &removals, &outside);
        let place = |at: &usize| {
            (
                led.contains(&id(*at)),
                Rank::of(GroupRank::First, number(history, *at), id(*at), None),
            )
        };
        arrival.iter().copied().min_by_key(place).unwrap_or_default()
    }

    /// Every history of so many commits: three devices, one of them Mallory's.
    fn every_history(commits: usize, work: &mut impl FnMut(&[Made])) {
        fn grow(history: &mut Vec<Made>, more: usize, work: &mut impl FnMut(&[Made])) {
            work(history);
            if more == 0 {
                return;
            }
            for parent in 0..history.len() {
                let is_in =
                    |history: &[Made]| way(history, parent).iter().all(|at| !history[*at].removes);
                for by in 0..3 {
                    if by == MALLORY && !is_in(history) {
                        continue;
                    }
                    for removes in [false, true] {
                        if removes && (by == MALLORY || !is_in(history)) {
                            continue;
                        }
                        history.push(Made { parent, by, removes });
                        grow(history, more - 1, work);
                        history.pop();
                    }
                }
            }
        }
        let first = Made { parent: 0, by: 0, removes: false };
        grow(&mut vec![first], commits, work);
    }

    fn every_order(of: &[usize], work: &mut impl FnMut(&[usize])) {
        fn permute(at: usize, order: &mut Vec<usize>, work: &mut impl FnMut(&[usize])) {
            if at == order.len() {
                return work(order);
            }
            for other in at..order.len() {
                order.swap(at, other);
                permute(at + 1, order, work);
                order.swap(at, other);
            }
        }
        permute(0, &mut of.to_vec(), work);
    }

    #[test]
    fn in_whatever_order_commits_arrive_there_is_one_head() {
        let mut histories = 0_u32;
        every_history(4, &mut |history| {
            histories += 1;
            let all: Vec<usize> = (0..history.len()).collect();
            let one = head(history, &all);
            every_order(&all, &mut |order| assert_eq!(head(history, order), one, "{history:?}"));
        });
        assert!(histories > 9_000, "{histories}");
    }

    #[test]
    fn whoever_was_removed_leads_nobody_away_by_going_on() {
        every_history(4, &mut |history| {
            let all: Vec<usize> = (0..history.len()).collect();
            let before = head(history, &all);
            if !way(history, before).iter().any(|at| history[*at].removes) {
                return;
            }
            // She goes on wherever she still is, twice.
            for parent in 0..history.len() {
                if way(history, parent).iter().any(|at| history[*at].removes) {
                    continue;
                }
                let mut longer = history.to_vec();
                longer.push(Made { parent, by: MALLORY, removes: false });
                longer.push(Made { parent: history.len(), by: MALLORY, removes: false });
                let all: Vec<usize> = (0..longer.len()).collect();
                assert_eq!(head(&longer, &all), before, "{history:?} and then on {parent}");
            }
        });
    }
}
