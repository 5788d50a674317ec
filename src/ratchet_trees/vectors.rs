//! The specification's vectors of ratchet trees that are published as differences
//! (`docs/spec/vectors`).

use openmls::{
    group::{ProposalStore, PublicGroup},
    prelude::{MlsMessageBodyIn, MlsMessageIn, OpenMlsProvider as _, RatchetTreeIn},
};
use openmls_rust_crypto::OpenMlsRustCrypto;
use serde_json::{Value, json};
use tls_codec::DeserializeBytes as _;

use super::{
    difference::{Changes, put_together},
    fingerprint::Fingerprint,
    nodes::{MOST_NODES, Nodes},
};
use crate::protocol::{
    MediaReference, TreeDifference, decode_base64, encode_base64,
    vectors::{Outcome, bytes, cases, file, hex, mls::Member, text},
};

/// A tree of a group, and the public group state of its epoch.
struct Epoch {
    tree: Vec<u8>,
    state: Vec<u8>,
}

/// The epochs of a group that grows, changes and shrinks.
fn epochs() -> Outcome<Vec<Epoch>> {
    let group_id = b"!room:example.org";
    let mut founder = Member::alone("@alice:example.org", "PHONE", group_id)?;
    let mut packages = Vec::new();
    for number in 1..=8 {
        let user = format!("@user{number}:example.org");
        packages.push(Member::alone(&user, "PHONE", group_id)?.key_package()?.0);
    }
    let mut epochs = Vec::new();
    let mut note = |founder: &Member| -> Outcome {
        epochs.push(Epoch { tree: founder.tree()?, state: founder.group_info()? });
        Ok(())
    };
    note(&founder)?;
    founder.add(&packages[..4], true)?;
    note(&founder)?;
    drop(founder.renew()?);
    note(&founder)?;
    // These are unmerged leaves of the parents above them.
    founder.add(&packages[4..], false)?;
    note(&founder)?;
    founder.remove(&[2, 5])?;
    note(&founder)?;
    founder.remove(&[6, 7, 8])?;
    note(&founder)?;
    Ok(epochs)
}

/// What leads from one tree to another.
fn difference(from: &[u8], to: &[u8]) -> Outcome<Vec<u8>> {
    let (from, to) = (Nodes::read(from)?, Nodes::read(to)?);
    let changes = Changes::new(&Fingerprint::of(&from), &Fingerprint::of(&to), &to);
    Ok(changes.write(&to)?)
}

/// A value in the media repository.
fn upload(media: &mut Value, name: &str, value: &[u8]) -> MediaReference {
    let url = format!("mxc://example.org/{name}");
    media[&url] = json!(hex(value));
    MediaReference { url, ..MediaReference::to(value) }
}

/// A commit's `tree_difference` and what it names: through these trees, the last step in the event
/// or in the media repository.
fn published(way: &[&Epoch], is_inline: bool, of: &Epoch) -> Outcome<Value> {
    let [whole, rest @ ..] = way else { return Err("no whole tree".into()) };
    let mut media = json!({});
    let mut content = TreeDifference {
        whole: upload(&mut media, "whole", &whole.tree),
        middle: None,
        nodes: None,
    };
    let mut at = whole;
    for (step, epoch) in rest.iter().enumerate() {
        let leads = difference(&at.tree, &epoch.tree)?;
        if is_inline && step + 1 == rest.len() {
            content.nodes = Some(encode_base64(&leads));
        } else {
            content.middle = Some(upload(&mut media, "middle", &leads));
        }
        at = epoch;
    }
    Ok(json!({
        "tree_difference": content, "media": media, "ratchet_tree": hex(&at.tree),
        "public_group_state": hex(&of.state), "fits": at.tree == of.tree,
    }))
}

/// A CBOR head of the shortest form.
fn head(kind: u8, value: u64) -> Vec<u8> {
    let small = u8::try_from(value).unwrap_or(u8::MAX);
    match value {
        0..24 => vec![kind << 5 | small],
        24..0x100 => vec![kind << 5 | 24, small],
        _ => [vec![kind << 5 | 27], value.to_be_bytes().to_vec()].concat(),
    }
}

/// A difference with these parts. A number above 255 takes eight bytes.
fn made_up(nodes: u64, changed: &[(u64, Option<&[u8]>)]) -> Vec<u8> {
    let text = |text: &str| [head(3, text.len() as u64), text.as_bytes().to_vec()].concat();
    let count = head(4, changed.len() as u64);
    let mut made = [head(5, 2), text("nodes"), head(0, nodes), text("changed"), count].concat();
    for (place, node) in changed {
        made.extend([head(4, 2), head(0, *place)].concat());
        match node {
            Some(node) => made.extend([head(2, node.len() as u64), node.to_vec()].concat()),
            None => made.push(0xF6),
        }
    }
    made
}

/// Differences that no reader takes, and why.
fn refused(tree: &[u8]) -> Outcome<Vec<Value>> {
    let nodes = Nodes::read(tree)?.0;
    let count = nodes.len() as u64;
    let leaf = nodes.first().copied().flatten().ok_or("no first leaf")?;
    let blank = (2, None);
    let good = made_up(count, &[(0, Some(leaf)), blank]);
    put_together(tree.to_vec(), std::slice::from_ref(&good))?;
    let cut = good.get(..good.len() - 1).unwrap_or_default().to_vec();
    let two = [leaf, leaf].concat();
    let mut longer = leaf.to_vec();
    longer.push(0);
    let mut wrong_type = leaf.to_vec();
    wrong_type[0] = 3;
    let all = [
        ("a place behind the end", made_up(count, &[(count, Some(leaf))])),
        ("a place that no tree has", made_up(count, &[(u64::from(u32::MAX), None)])),
        ("a place twice", made_up(count, &[blank, blank])),
        ("places out of order", made_up(count, &[blank, (0, Some(leaf))])),
        ("a node that is empty", made_up(count, &[(0, Some(b""))])),
        ("a node of no type", made_up(count, &[(0, Some(&wrong_type))])),
        ("a node that ends too early", made_up(count, &[(0, leaf.get(..leaf.len() - 1))])),
        ("a node and a byte", made_up(count, &[(0, Some(&longer))])),
        ("two nodes in one place", made_up(count, &[(0, Some(&two))])),
        ("a last node that is blank", made_up(count, &[(count - 1, None)])),
        ("a tree that grows by blank nodes", made_up(count + 2, &[])),
        ("a tree of no nodes", made_up(0, &[])),
        ("a tree of too many nodes", made_up(MOST_NODES as u64 + 1, &[])),
        ("a difference that ends too early", cut),
        ("no CBOR", vec![0xFF; 30]),
        ("an array of more than there is", {
            let mut made = made_up(count, &[]);
            made.pop();
            made.extend([0x9B, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
            made
        }),
    ];
    Ok(all
        .iter()
        .map(|(why, difference)| {
            json!({ "why": why, "from": hex(tree), "difference": hex(difference) })
        })
        .collect())
}

fn make() -> Outcome<Value> {
    let epochs = epochs()?;
    let [alone, grown, renewed, more, fewer, shrunk] = &epochs[..] else {
        return Err("another number of epochs".into());
    };
    let mut differences = Vec::new();
    for (from, to) in [
        (alone, grown),
        (grown, renewed),
        (renewed, more),
        (more, fewer),
        (fewer, shrunk),
        (shrunk, more),
        (more, more),
    ] {
        differences.push(json!({
            "from": hex(&from.tree), "to": hex(&to.tree),
            "difference": hex(&difference(&from.tree, &to.tree)?),
        }));
    }
    let mut no_tree = hex(&more.tree);
    no_tree.push_str("00");
    let mut refused = refused(&more.tree)?;
    let nothing = hex(&difference(&more.tree, &more.tree)?);
    refused.push(json!({ "why": "no tree to begin with", "from": no_tree, "difference": nothing }));
    Ok(json!({
        "differences": differences,
        "refused_differences": refused,
        "published_trees": [
            published(&[renewed, more], true, more)?,
            published(&[renewed, more, fewer], true, fewer)?,
            published(&[grown, more], false, more)?,
            published(&[more, shrunk], true, shrunk)?,
            // Each is a tree of the group, and none is that of the epoch.
            published(&[grown, more], true, fewer)?,
            published(&[grown, more, fewer], true, renewed)?,
        ],
    }))
}

/// Whether a tree is that of a public group state, as OpenMLS judges it.
fn fits(tree: &[u8], state: &[u8]) -> Outcome<bool> {
    let MlsMessageBodyIn::GroupInfo(info) =
        MlsMessageIn::tls_deserialize_exact_bytes(state)?.extract()
    else {
        return Err("no GroupInfo".into());
    };
    let (provider, store) = (OpenMlsRustCrypto::default(), ProposalStore::new());
    let tree = RatchetTreeIn::tls_deserialize_exact_bytes(tree)?;
    let (crypto, storage) = (provider.crypto(), provider.storage());
    Ok(PublicGroup::from_external(crypto, storage, tree, info, store).is_ok())
}

#[test]
fn trees() -> Outcome {
    let vectors = file("trees", make)?;
    for case in cases(&vectors, "differences")? {
        let (from, to) = (bytes(case, "from")?, bytes(case, "to")?);
        let leads = bytes(case, "difference")?;
        assert_eq!(difference(&from, &to)?, leads);
        assert_eq!(put_together(from, &[leads])?, to);
    }
    for case in cases(&vectors, "refused_differences")? {
        let (from, leads) = (bytes(case, "from")?, bytes(case, "difference")?);
        assert!(put_together(from, &[leads]).is_err(), "{}", case["why"]);
    }
    for case in cases(&vectors, "published_trees")? {
        let named: TreeDifference = serde_json::from_value(case["tree_difference"].clone())?;
        let fetched = |reference: &MediaReference| {
            let value = bytes(&case["media"], &reference.url)?;
            assert!(reference.fits(&value), "{}", reference.url);
            Outcome::Ok(value)
        };
        let mut steps = Vec::new();
        if let Some(middle) = &named.middle {
            steps.push(fetched(middle)?);
        }
        if let Some(nodes) = &named.nodes {
            steps.push(decode_base64(nodes).ok_or("the nodes are no base64")?);
        }
        let tree = put_together(fetched(&named.whole)?, &steps)?;
        assert_eq!(hex(&tree), text(case, "ratchet_tree")?);
        assert_eq!(json!(fits(&tree, &bytes(case, "public_group_state")?)?), case["fits"]);
    }
    Ok(())
}
