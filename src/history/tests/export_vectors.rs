//! The specification's vectors of exports and of messages opened from them (`docs/spec/vectors`).

use serde_json::{Value, json};

use super::*;
use crate::{
    history::{ChunkId, transfer},
    protocol::vectors::{bytes, cases, file, hex, text},
};

/// An epoch of a group of three devices, what OpenMLS seals in it, and what the export seals.
fn make() -> Outcome<Value> {
    let mut devices =
        ["first", "second", "third"].into_iter().map(Device::new).collect::<Outcome<Vec<_>>>()?;
    let packages = devices
        .iter()
        .skip(1)
        .map(|device| Ok(device.key_package(SUITE)?.key_package().clone()))
        .collect::<Outcome<Vec<_>>>()?;
    let (first, others) = devices.split_first_mut().ok_or(NO_GROUP)?;
    first.create_group(SUITE)?;
    let (_, welcome) = first.add(&packages)?;
    let own = first.export()?;
    for other in others.iter_mut() {
        other.join(&welcome)?;
    }
    let names: Vec<_> = own.leaves.iter().map(LeafChunk::to_cbor).collect::<Result<_, _>>()?;
    let ids: Vec<_> = names.iter().map(|cbor| ChunkId::of(cbor)).collect();
    let export = transfer::write(&own.keys, &ids)?;
    let mut messages = Vec::new();
    let mut note = |sealed: Vec<u8>, leaf: u32, generation: u32, plaintext: &[u8]| {
        messages.push(json!({
            "message": hex(&sealed), "leaf": leaf, "generation": generation,
            "plaintext": hex(plaintext),
        }));
    };
    let plaintext = br#"{"type":"m.room.message","content":{},"room_id":"!room:example.org"}"#;
    for (leaf, other) in (1..).zip(others.iter_mut()) {
        for generation in 0..3 {
            note(other.send(b"", plaintext)?, leaf, generation, plaintext);
        }
    }
    for generation in [0, 5, 300] {
        note(own.seal(&first.signer, generation, plaintext)?, 0, generation, plaintext);
    }
    let epoch = json!({
        "group_export": hex(&export),
        "chunks": names.iter().map(|cbor| hex(cbor)).collect::<Vec<_>>(),
        "messages": messages,
    });
    Ok(json!({ "epochs": [epoch] }))
}

#[test]
fn exports() -> Outcome {
    let vectors = file("exports", make)?;
    for case in cases(&vectors, "epochs")? {
        let (keys, ids) = transfer::read(&bytes(case, "group_export")?)?;
        let chunks = case["chunks"].as_array().ok_or("no chunks")?;
        assert_eq!(chunks.len(), ids.len());
        let mut leaves = Vec::new();
        for (id, chunk) in ids.iter().zip(chunks) {
            let cbor = bytes(&json!({ "chunk": chunk }), "chunk")?;
            assert_eq!(ChunkId::of(&cbor), *id);
            leaves.push(LeafChunk::from_cbor(&cbor, *id)?);
        }
        assert_eq!(*transfer::write(&keys, &ids)?, bytes(case, "group_export")?);
        let epoch = Epoch { keys, leaves };
        for message in cases(case, "messages")? {
            let opened = epoch.open(&bytes(message, "message")?)?;
            assert_eq!(hex(&opened.plaintext), text(message, "plaintext")?);
            assert_eq!(json!(opened.leaf), message["leaf"]);
            assert_eq!(json!(opened.generation), message["generation"]);
        }
    }
    Ok(())
}
