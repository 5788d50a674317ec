//! The head rule (docs/spec/4-epochs.md): the order of the epochs that a device is in.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

/// The id of an epoch.
pub type EpochId = [u8; 32];
/// A user id and a device id.
pub type Device = (String, String);

/// No number above this counts.
pub const HIGHEST: u64 = 1 << 48;
/// How far above others a number may be.
pub const AHEAD: u64 = 1 << 20;

/// Which group of the room; in the order of comparison 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The last restart that counts, or an earlier one.
    Restart(Reverse<u64>),
    /// The room's first group.
    First,
    /// None of these.
    Unnamed,
}

/// Votes for a tree; a lasting tree has more than any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Votes {
    /// So many users.
    Some(u64),
    /// More than any number.
    Lasting,
}

/// Whose leaf makes commits: a device's, or an impostor's with its name (D5).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Maker {
    /// The name that the leaf has.
    pub device: Device,
    /// Whether it is an impostor's.
    pub is_impostor: bool,
}

/// What the rule looks at.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its id.
    pub id: EpochId,
    /// Its number.
    pub number: u64,
    /// Whose leaf made it.
    pub maker: Maker,
    /// Its base, if its commit was followed.
    pub parent: Option<EpochId>,
    /// Its group.
    pub group: Place,
    /// Comparison 2.
    pub left: bool,
    /// Whom its commit removes.
    pub removes: Vec<Maker>,
    /// Whether its commit is the external join of a device that was an outsider when it came.
    pub joined_as_outsider: bool,
}

/// Epochs by id.
pub type Graph = BTreeMap<EpochId, Node>;

/// The way back to the root, from the epoch itself.
fn way_back(graph: &Graph, from: EpochId) -> impl Iterator<Item = &Node> {
    std::iter::successors(graph.get(&from), |node| graph.get(&node.parent?))
}

/// The root of an epoch's tree.
pub fn root(graph: &Graph, of: EpochId) -> EpochId {
    way_back(graph, of).last().map_or(of, |node| node.id)
}

/// Comparison 5.
fn led_by_outsiders(graph: &Graph, outsiders: &BTreeSet<Maker>) -> BTreeSet<EpochId> {
    let is_out = |node: &Node| outsiders.contains(&node.maker);
    let is_before = |a: EpochId, b: EpochId| way_back(graph, b).any(|node| node.id == a);
    let honest = graph.values().filter(|node| !is_out(node));
    let counts: BTreeSet<EpochId> =
        honest.flat_map(|node| way_back(graph, node.id).map(|before| before.id)).collect();
    let mut led = BTreeSet::new();
    for removal in graph.values().filter(|node| counts.contains(&node.id)) {
        for removed in removal.removes.iter().filter(|removed| outsiders.contains(*removed)) {
            for node in graph.values().filter(|node| node.maker == *removed) {
                if !is_before(removal.id, node.id) && !is_before(node.id, removal.id) {
                    led.insert(node.id);
                }
            }
        }
    }
    led.extend(
        graph.values().filter(|node| node.joined_as_outsider && is_out(node)).map(|node| node.id),
    );
    let follows = |node: &&Node| {
        way_back(graph, node.id)
            .take_while(|before| is_out(before))
            .any(|before| led.contains(&before.id))
    };
    graph.values().filter(follows).map(|node| node.id).collect()
}

/// Comparison 4: the trees that are out of reach, by group and root.
fn out_of_reach(graph: &Graph) -> BTreeSet<(Place, EpochId)> {
    let mut tips: BTreeMap<(Place, EpochId), u64> = BTreeMap::new();
    for node in graph.values() {
        let tip = tips.entry((node.group, root(graph, node.id))).or_default();
        *tip = node.number.max(*tip);
    }
    let mut rising: Vec<_> =
        tips.into_iter().map(|((group, root), tip)| (group, tip, root)).collect();
    rising.sort();
    let mut found = BTreeSet::new();
    let mut reached: Option<(Place, u64)> = None;
    for (group, tip, root) in rising {
        match reached {
            Some((of, highest)) if of == group && tip > HIGHEST.min(highest + AHEAD) => {
                found.insert((group, root));
            }
            _ => reached = Some((group, tip)),
        }
    }
    found
}

/// The ids in the order of the six comparisons. The first is the head.
pub fn order(
    graph: &Graph,
    votes: &BTreeMap<EpochId, Votes>,
    outsiders: &BTreeSet<Maker>,
) -> Vec<EpochId> {
    let led = led_by_outsiders(graph, outsiders);
    let far = out_of_reach(graph);
    let place = |node: &&Node| {
        let root = root(graph, node.id);
        let votes = votes.get(&root).copied().unwrap_or(Votes::Some(0));
        (
            node.group,
            node.left,
            Reverse(votes),
            far.contains(&(node.group, root)),
            led.contains(&node.id),
            Reverse(node.number),
            node.id,
        )
    };
    let mut nodes: Vec<&Node> = graph.values().collect();
    nodes.sort_by_key(place);
    nodes.into_iter().map(|node| node.id).collect()
}
