//! The vectors of docs/spec that need no homeserver, checked with this implementation.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use matrix_mls_kit::{Fields as _, OrMissing as _, Result};
use serde_json::Value;

use crate::{
    head::{EpochId, Graph, Maker, Node, Place, Votes, order, root},
    opening::{Export, Opened, sha256},
};

fn vectors(name: &str, list: &str) -> Result<Vec<Value>> {
    let path = Path::new("docs/spec/vectors").join(name);
    let file: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
    file[list].as_array().cloned().or_missing(list)
}

fn id(value: &Value) -> Result<EpochId> {
    let bytes = hex::decode(value.as_str().or_missing("id")?)?;
    bytes.try_into().ok().or_missing("id of 32 bytes")
}

fn maker(value: &Value) -> Result<Maker> {
    let name: Vec<String> = serde_json::from_value(value.clone())?;
    let (user, device) = (name.first().or_missing("user")?, name.get(1).or_missing("device")?);
    let is_impostor = name.get(2).is_some_and(|what| what == "impostor");
    Ok(Maker { device: (user.clone(), device.clone()), is_impostor })
}

fn makers(value: &Value) -> Result<Vec<Maker>> {
    value.as_array().or_missing("devices")?.iter().map(maker).collect()
}

fn node(epoch: &Value) -> Result<Node> {
    let group = match &epoch["group"] {
        Value::String(name) if name == "first" => Place::First,
        Value::String(_) => Place::Unnamed,
        number => Place::Restart(Reverse(number.as_u64().or_missing("number of a restart")?)),
    };
    Ok(Node {
        id: id(&epoch["id"])?,
        number: epoch.text("number")?.parse()?,
        maker: maker(&epoch["creator"])?,
        parent: if epoch["parent"].is_null() { None } else { Some(id(&epoch["parent"])?) },
        group,
        left: epoch["left"].as_bool().or_missing("left")?,
        removes: makers(&epoch["removes"])?,
        joined_as_outsider: false,
    })
}

#[test]
fn heads_are_those_of_the_vectors() -> Result {
    let graphs = vectors("heads.json", "graphs")?;
    assert!(graphs.len() > 10, "{} graphs", graphs.len());
    for case in graphs {
        let name = case.text("name")?;
        let mut graph = Graph::new();
        for epoch in case["epochs"].as_array().or_missing("epochs")? {
            let node = node(epoch)?;
            graph.insert(node.id, node);
        }
        for epoch in case["epochs"].as_array().or_missing("epochs")? {
            let (of, is) = (id(&epoch["id"])?, id(&epoch["root"])?);
            assert_eq!(root(&graph, of), is, "{name}: the root");
        }
        let mut votes = BTreeMap::new();
        for (root, number) in case.object("votes")? {
            let number = number.as_u64().map_or(Votes::Lasting, Votes::Some);
            votes.insert(id(&Value::String(root.clone()))?, number);
        }
        let outsiders: BTreeSet<Maker> = makers(&case["outsiders"])?.into_iter().collect();
        let expected = case["order"].as_array().or_missing("order")?.iter().map(id);
        let expected = expected.collect::<Result<Vec<_>>>()?;
        assert_eq!(order(&graph, &votes, &outsiders), expected, "{name}");
    }
    Ok(())
}

#[test]
fn exports_open_their_messages_and_nothing_else() -> Result {
    let mut opened = 0;
    for case in vectors("exports.json", "epochs")? {
        let bytes = |value: &Value| -> Result<Vec<u8>> {
            Ok(hex::decode(value.as_str().or_missing("hexadecimal")?)?)
        };
        let chunks = case["chunks"].as_array().or_missing("chunks")?;
        let chunks = chunks.iter().map(bytes).collect::<Result<Vec<_>>>()?;
        let written = bytes(&case["group_export"])?;
        let of_name = |name: &[u8]| chunks.iter().find(|chunk| sha256(chunk) == name).cloned();
        let export = Export::read(&written, of_name)?;
        assert_eq!(export.write(), (written.clone(), chunks.clone()));
        assert!(
            Export::read(&written, |_| Some(chunks[0].iter().rev().copied().collect())).is_err()
        );
        for message in case["messages"].as_array().or_missing("messages")? {
            let mut sealed = bytes(&message["message"])?;
            let number = |field: &str| {
                u32::try_from(message[field].as_u64().or_missing(field)?).map_err(Into::into)
            };
            let number = |field: &str| -> Result<u32> { number(field) };
            let expected = Opened {
                plaintext: bytes(&message["plaintext"])?,
                leaf: number("leaf")?,
                generation: number("generation")?,
            };
            assert_eq!(export.open(&sealed)?, expected);
            opened += 1;
            if let Some(last) = sealed.last_mut() {
                *last ^= 1;
            }
            assert!(export.open(&sealed).is_err());
        }
    }
    assert!(opened > 2, "{opened} messages");
    Ok(())
}
