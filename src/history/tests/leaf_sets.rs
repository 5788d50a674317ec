//! Leaf sets: chunks are found, shared and named by what is in them.

use openmls::prelude::{LeafNodeIndex, Member};

use super::*;
use crate::history::{CHUNK_LEAVES, ChunkId};

fn member(index: u32, key: u8) -> Member {
    let credential = BasicCredential::new(format!("member {index}").into_bytes());
    Member::new(LeafNodeIndex::new(index), vec![0; 32], vec![key; 32], credential.into())
}

fn ids(members: impl IntoIterator<Item = Member>) -> Outcome<Vec<ChunkId>> {
    Ok(chunks(members)?.into_iter().map(|(id, _)| id).collect())
}

#[test]
fn every_leaf_is_found_where_it_was_put() -> Outcome {
    // Every third leaf is blank, and so are all of the second chunk.
    let present = |n: &u32| !n.is_multiple_of(3) && !(64..128).contains(n);
    let chunks = chunks((0..200).filter(present).map(|n| member(n, n as u8)))?;
    assert_eq!(chunks.len(), 4);
    for n in 0..300 {
        let (chunk, offset) = locate(n);
        let leaf = chunks.get(chunk).and_then(|(_, chunk)| chunk.leaf(offset));
        assert_eq!(leaf.is_some(), n < 200 && present(&n), "leaf {n}");
        if let Some(leaf) = leaf {
            assert_eq!(leaf.signature_key(), [n as u8; 32]);
            assert_eq!(name_of(leaf)?, format!("member {n}").into_bytes());
        }
    }
    assert!(chunks[0].1.leaf(CHUNK_LEAVES).is_none());
    Ok(())
}

#[test]
fn epochs_share_what_did_not_change() -> Outcome {
    let before = ids((0..200).map(|n| member(n, 1)))?;
    // One member's key changes.
    let updated = ids((0..200).map(|n| member(n, if n == 70 { 2 } else { 1 })))?;
    assert_ne!(before[1], updated[1]);
    assert_eq!((before[0], &before[2..]), (updated[0], &updated[2..]));
    // One leaves, one joins at the end.
    let moved = ids((0..201).filter(|n| *n != 3).map(|n| member(n, 1)))?;
    assert_ne!((before[0], before[3]), (moved[0], moved[3]));
    assert_eq!(before[1..3], moved[1..3]);
    // Names come from the content alone, not from the order it was given in.
    assert_eq!(before, ids((0..200).rev().map(|n| member(n, 1)))?);
    assert_eq!(before, ids((0..200).map(|n| member(n, 1)))?);
    Ok(())
}

#[test]
fn chunks_and_names_survive_being_written() -> Outcome {
    for (id, chunk) in chunks((0..70).map(|n| member(n, 7)))? {
        let read: LeafChunk = ciborium::from_reader(cbor(&chunk)?.as_slice())?;
        assert_eq!(read, chunk);
        assert_eq!(read.id()?, id);
        let read: ChunkId = ciborium::from_reader(cbor(&id)?.as_slice())?;
        assert_eq!(read, id);
    }
    // A leaf costs what it holds and little beside: 32 bytes of key, 14 of credential.
    let (_, chunk) = chunks((0..64).map(|n| member(n, 7)))?.remove(0);
    assert!(cbor(&chunk)?.len() < 64 * 90, "{}", cbor(&chunk)?.len());
    let wrong = cbor(&ciborium::Value::Bytes(vec![1; 31]))?;
    assert!(ciborium::from_reader::<ChunkId, _>(wrong.as_slice()).is_err());
    Ok(())
}

/// Whoever shares history writes chunks: what is in one is hostile.
#[test]
fn what_nests_without_end_is_no_chunk() {
    for opening in [0x81, 0x9F, 0xA1, 0xBF, 0xC1] {
        let nest = vec![opening; 1_000_000];
        // By itself; as the leaves; and under a name that is not known.
        let leaves = [&[0xA1, 0x66][..], b"leaves", &nest].concat();
        let other = [&[0xA1, 0x65][..], b"other", &nest].concat();
        for bytes in [nest, leaves, other] {
            assert!(LeafChunk::from_cbor(&bytes, ChunkId::of(&bytes)).is_err(), "{opening}");
        }
    }
}

/// The layout that docs/protocol.md gives.
#[test]
fn a_chunk_is_written_as_the_protocol_says() -> Outcome {
    use ciborium::Value;
    let (_, chunk) = chunks([member(1, 7)])?.remove(0);
    // RFC 9420, `struct Credential`: type `basic`, then the identity with its length.
    let credential = [&[0, 1, 8][..], b"member 1"].concat();
    let leaf = Value::Map(vec![
        (Value::Text("credential".to_owned()), Value::Bytes(credential)),
        (Value::Text("signature_key".to_owned()), Value::Bytes(vec![7; 32])),
    ]);
    let leaves = Value::Array(vec![Value::Null, leaf]);
    let expected = Value::Map(vec![(Value::Text("leaves".to_owned()), leaves)]);
    let written: Value = ciborium::from_reader(cbor(&chunk)?.as_slice())?;
    assert_eq!(written, expected);
    assert_eq!(chunk.to_cbor()?, cbor(&expected)?);
    Ok(())
}
