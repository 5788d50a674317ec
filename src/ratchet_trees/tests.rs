//! Differences of real trees, and what is refused.

use std::error::Error;

use proptest::prelude::*;
use serde_bytes::ByteBuf;

use super::{
    difference::{Changes, put_together},
    fingerprint::Fingerprint,
    nodes::{MOST_NODES, Nodes},
};
use crate::store::cbor;

type Outcome = Result<(), Box<dyn Error>>;

/// A parent node with this key, and as many unmerged leaves.
fn parent(key: u8, unmerged: usize) -> Vec<u8> {
    let mut bytes = vec![2, 32];
    bytes.extend([key; 32]);
    bytes.push(0);
    bytes.push(u8::try_from(4 * unmerged).unwrap_or_default());
    bytes.extend([key].repeat(4 * unmerged));
    bytes
}

/// A leaf of a commit with this key.
fn leaf(key: u8) -> Vec<u8> {
    let mut bytes = vec![1, 1, key, 1, key, 0, 1, 2, key, key];
    bytes.extend([2, 0, 1, 2, 0, 1, 0, 0, 2, 0, 1]);
    bytes.extend([3, 1, key, 0, 1, key]);
    bytes
}

fn write(nodes: &[Option<Vec<u8>>]) -> Result<Vec<u8>, Box<dyn Error>> {
    Ok(Nodes(nodes.iter().map(Option::as_deref).collect()).write()?)
}

fn difference(from: &[u8], to: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let (from, to) = (Nodes::read(from)?, Nodes::read(to)?);
    let changes = Changes::new(&Fingerprint::of(&from), &Fingerprint::of(&to), &to);
    let bytes = changes.write(&to)?;
    assert!(bytes.len() <= changes.size, "{} > {}", bytes.len(), changes.size);
    Ok(bytes)
}

/// What a difference would be with these nodes.
fn made_up(nodes: u64, changed: &[(u64, Option<Vec<u8>>)]) -> Result<Vec<u8>, Box<dyn Error>> {
    let changed: Vec<_> =
        changed.iter().map(|(place, node)| (*place, node.clone().map(ByteBuf::from))).collect();
    #[derive(serde::Serialize)]
    struct MadeUp {
        nodes: u64,
        changed: Vec<(u64, Option<ByteBuf>)>,
    }
    let mut bytes = Vec::new();
    cbor::write(&MadeUp { nodes, changed }, &mut bytes)?;
    Ok(bytes)
}

fn node() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        Just(None),
        any::<u8>().prop_map(|key| Some(leaf(key))),
        (any::<u8>(), 0..5_usize).prop_map(|(key, unmerged)| Some(parent(key, unmerged))),
    ]
}

fn tree() -> impl Strategy<Value = Vec<Option<Vec<u8>>>> {
    (proptest::collection::vec(node(), 0..40), any::<u8>()).prop_map(|(mut nodes, key)| {
        nodes.push(Some(leaf(key)));
        nodes
    })
}

proptest! {
    #[test]
    fn a_difference_leads_from_any_tree_to_any_other(one in tree(), two in tree(), three in tree()) {
        let check = || -> Outcome {
            let (one, two, three) = (write(&one)?, write(&two)?, write(&three)?);
            let steps = [difference(&one, &two)?, difference(&two, &three)?];
            assert_eq!(put_together(one.clone(), &steps)?, three);
            assert_eq!(put_together(one.clone(), &[difference(&one, &one)?])?, one);
            Ok(())
        };
        prop_assert!(check().is_ok());
    }

    #[test]
    fn whatever_is_read_makes_no_panic(tree in any::<Vec<u8>>(), nodes in any::<Vec<u8>>()) {
        let good = write(&[Some(leaf(1))]).unwrap_or_default();
        for tree in [tree, good] {
            // What is taken is a tree.
            if let Ok(tree) = put_together(tree, std::slice::from_ref(&nodes)) {
                prop_assert!(Nodes::read(&tree).is_ok());
            }
        }
    }
}

#[test]
fn only_what_differs_is_written() -> Outcome {
    let mut nodes: Vec<_> = (0..101).map(|_| Some(leaf(1))).collect();
    let before = write(&nodes)?;
    nodes[40] = None;
    nodes[42] = Some(parent(9, 2));
    let expected = made_up(101, &[(40, None), (42, Some(parent(9, 2)))])?;
    assert_eq!(difference(&before, &write(&nodes)?)?, expected);
    // A tree that shrinks says so by its number of nodes alone.
    let shorter = write(&nodes[..99])?;
    assert_eq!(difference(&write(&nodes)?, &shorter)?, made_up(99, &[])?);
    Ok(())
}

#[test]
fn what_is_no_difference_is_refused() -> Outcome {
    let tree = write(&[Some(leaf(1)), None, Some(leaf(2))])?;
    let refused = |difference: Vec<u8>, reason: &str| {
        let refused = put_together(tree.clone(), &[difference]);
        assert!(refused.is_err_and(|error| error.to_string().contains(reason)), "{reason}");
    };
    let good = (1, Some(parent(3, 0)));
    assert!(put_together(tree.clone(), &[made_up(3, std::slice::from_ref(&good))?]).is_ok());
    refused(made_up(3, &[(3, Some(leaf(3)))])?, "outside of the tree");
    refused(made_up(3, &[(u64::from(u32::MAX), None)])?, "outside of the tree");
    refused(made_up(3, &[good.clone(), good.clone()])?, "not in order");
    refused(made_up(3, &[(2, Some(leaf(3))), good.clone()])?, "not in order");
    refused(made_up(3, &[(1, Some(vec![7; 40]))])?, "no node");
    refused(made_up(3, &[(1, Some([leaf(3), leaf(4)].concat()))])?, "no node");
    refused(made_up(3, &[(1, Some(Vec::new()))])?, "no node");
    refused(made_up(5, &[])?, "ends with a blank");
    refused(made_up(0, &[])?, "ends with a blank");
    refused(made_up(MOST_NODES as u64 + 1, &[])?, "larger than any room needs");
    refused(made_up(u64::MAX, &[])?, "larger than any room needs");
    refused(vec![0xff; 30], "does not parse");
    // An array that says to have more than there is costs nothing.
    let mut giant = made_up(3, &[])?;
    giant.pop();
    giant.extend([0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    refused(giant, "does not parse");
    refused(vec![0; super::MOST_MIDDLE + 1], "larger than any tree needs");
    Ok(())
}

#[test]
fn what_is_no_tree_is_refused() -> Outcome {
    let tree = write(&[Some(leaf(1)), None, Some(leaf(2))])?;
    for end in 0..tree.len() {
        assert!(Nodes::read(&tree[..end]).is_err(), "{end}");
    }
    assert!(Nodes::read(&[&*tree, &[0]].concat()).is_err());
    assert!(Nodes::read(&write(&[Some(leaf(1)), None])?).is_err());
    Ok(())
}
