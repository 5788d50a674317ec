//! Ratchet trees as commits and Welcomes publish them: whole, or as differences. It shares no code
//! with the library, and can make what the library would not.

use ciborium::Value as Cbor;
use eyre::{bail, ensure};
use serde_json::Value;
use tls_codec::{Deserialize as _, Serialize as _, VLBytes};

use crate::{OrMissing as _, Result, peer::from_base64};

/// A tree's nodes in their order, nothing for a blank one.
pub type Nodes = Vec<Option<Vec<u8>>>;

/// The references of a content's tree, in the order in which [`put_together`] wants what they refer
/// to; none where the GroupInfo has the tree.
pub fn values(content: &Value) -> Vec<Value> {
    match content.get("ratchet_tree") {
        Some(whole) => vec![whole.clone()],
        None => {
            let difference = &content["tree_difference"];
            [&difference["whole"], &difference["middle"]]
                .into_iter()
                .filter(|value| !value.is_null())
                .cloned()
                .collect()
        }
    }
}

/// The tree of a content.
pub fn put_together(content: &Value, values: Vec<Vec<u8>>) -> Result<Vec<u8>> {
    let mut values = values.into_iter();
    let mut tree = values.next().or_missing("whole tree")?;
    for middle in values {
        tree = apply(&tree, &middle)?;
    }
    if let Some(nodes) = content["tree_difference"]["nodes"].as_str() {
        tree = apply(&tree, &from_base64(nodes))?;
    }
    Ok(tree)
}

/// The tree to which a difference leads.
pub fn apply(tree: &[u8], difference: &[u8]) -> Result<Vec<u8>> {
    let difference: Cbor = ciborium::from_reader(difference)?;
    let [(count, nodes), (changed, places)] = difference.as_map().or_missing("map")?.as_slice()
    else {
        bail!("a difference has two fields");
    };
    ensure!(count.as_text() == Some("nodes") && changed.as_text() == Some("changed"));
    let count: usize = nodes.as_integer().or_missing("number of nodes")?.try_into()?;
    let mut nodes = cut(tree)?;
    nodes.resize(count, None);
    for change in places.as_array().or_missing("nodes")? {
        let [place, node] = change.as_array().or_missing("pair")?.as_slice() else {
            bail!("a change is a pair");
        };
        let place: usize = place.as_integer().or_missing("place")?.try_into()?;
        *nodes.get_mut(place).or_missing("place in the tree")? = node.as_bytes().cloned();
    }
    join(&nodes)
}

/// A difference with these nodes.
pub fn difference(count: u64, changed: &[(u64, Option<Vec<u8>>)]) -> Result<Vec<u8>> {
    let node = |node: &Option<Vec<u8>>| node.clone().map_or(Cbor::Null, Cbor::Bytes);
    let changes = changed
        .iter()
        .map(|(place, bytes)| Cbor::Array(vec![Cbor::from(*place), node(bytes)]))
        .collect();
    let map = vec![
        (Cbor::from("nodes"), Cbor::from(count)),
        (Cbor::from("changed"), Cbor::Array(changes)),
    ];
    let mut bytes = Vec::new();
    ciborium::into_writer(&Cbor::Map(map), &mut bytes)?;
    Ok(bytes)
}

/// Cuts a tree into its nodes (RFC 9420 §12.4.3.3, §7.2).
pub fn cut(tree: &[u8]) -> Result<Nodes> {
    let tree = VLBytes::tls_deserialize_exact(tree)?;
    let mut rest = tree.as_slice();
    let mut nodes = Vec::new();
    while !rest.is_empty() {
        let present = u8::tls_deserialize(&mut rest)?;
        if present == 0 {
            nodes.push(None);
            continue;
        }
        let start = rest;
        if u8::tls_deserialize(&mut rest)? == 2 {
            pass(&mut rest, 3)?;
        } else {
            pass(&mut rest, 2)?;
            let _credential_type = u16::tls_deserialize(&mut rest)?;
            pass(&mut rest, 6)?;
            match u8::tls_deserialize(&mut rest)? {
                1 => {
                    let _not_before = u64::tls_deserialize(&mut rest)?;
                    let _not_after = u64::tls_deserialize(&mut rest)?;
                }
                3 => pass(&mut rest, 1)?,
                _ => {}
            }
            pass(&mut rest, 2)?;
        }
        nodes.push(start.get(..start.len() - rest.len()).map(<[u8]>::to_vec));
    }
    Ok(nodes)
}

/// The tree with these nodes.
pub fn join(nodes: &Nodes) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for node in nodes {
        bytes.push(u8::from(node.is_some()));
        bytes.extend_from_slice(node.as_deref().unwrap_or_default());
    }
    Ok(VLBytes::new(bytes).tls_serialize_detached()?)
}

fn pass(rest: &mut &[u8], vectors: usize) -> Result {
    for _ in 0..vectors {
        VLBytes::tls_deserialize(rest)?;
    }
    Ok(())
}
