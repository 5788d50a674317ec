use std::{collections::BTreeMap, error::Error};

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::*;
use crate::store::cbor;

type Outcome = Result<(), Box<dyn Error>>;

/// Something of each kind of value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct All {
    node: Option<Leaf>,
    kinds: Vec<Kind>,
    maybe: Option<Option<u8>>,
    map: BTreeMap<String, (bool, i32)>,
    tuple: (u8, String),
    array: [u8; 32],
    below_zero: Vec<i64>,
    above: Vec<u64>,
    nested: Vec<Vec<u8>>,
    bytes: ByteBuf,
    nothing: Vec<u8>,
    unit: (),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Leaf {
    encryption_key: Wrapped,
    value: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Wrapped(Vec<u8>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Kind {
    Update,
    Other,
    Commit(Vec<u8>),
    Pair(u16, Vec<u8>),
    Named { vec: Vec<u8>, wanted: bool },
}

/// As OpenMLS has one: what is stored decides which it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u64),
    Bytes(Vec<u8>),
    Kind(Kind),
    Leaf(Leaf),
}

fn all(bytes: Vec<u8>, numbers: Vec<i64>, text: String) -> All {
    All {
        node: Some(Leaf { encryption_key: Wrapped(bytes.clone()), value: vec![255] }),
        kinds: vec![
            Kind::Update,
            Kind::Other,
            Kind::Commit(bytes.clone()),
            Kind::Pair(300, bytes.clone()),
            Kind::Named { vec: bytes.clone(), wanted: true },
        ],
        maybe: Some(Some(3)),
        map: BTreeMap::from([("node".into(), (true, -70_000)), (text.clone(), (false, 7))]),
        tuple: (200, text),
        array: [9; 32],
        above: numbers.iter().map(|number| number.unsigned_abs()).collect(),
        below_zero: numbers,
        nested: vec![Vec::new(), bytes.clone(), vec![0]],
        bytes: bytes.into(),
        nothing: Vec::new(),
        unit: (),
    }
}

fn packed<T: Serialize>(value: &T) -> Result<Vec<u8>, PackedError> {
    let mut bytes = Vec::new();
    write(value, Lists::Packed, &mut bytes).map(|()| bytes)
}

fn in_cbor<T: Serialize>(value: &T) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut bytes = Vec::new();
    cbor::write(value, &mut bytes)?;
    Ok(bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_was_written_is_read(
        bytes in prop::collection::vec(any::<u8>(), 0..700),
        numbers in prop::collection::vec(any::<i64>(), 0..6),
        text in ".{0,40}",
    ) {
        let value = all(bytes, numbers, text);
        let mut plain = Vec::new();
        prop_assert!(write(&value, Lists::Plain, &mut plain).is_ok());
        let old = in_cbor(&value).map_err(|error| TestCaseError::fail(error.to_string()))?;
        for bytes in [packed(&value)?, plain, old.clone()] {
            prop_assert_eq!(read::<All>(&bytes)?, value.clone());
        }
        // Whoever knows no type is told the same of both forms.
        let described = read::<ciborium::Value>(&packed(&value)?)?;
        prop_assert_eq!(Ok(described), read::<ciborium::Value>(&old));
    }

    /// Nothing makes it panic, and nothing is read from what is cut off.
    #[test]
    fn what_is_damaged_is_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..60), at in any::<prop::sample::Index>(),
        noise in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let whole = packed(&all(bytes, vec![-1], "text".into()))?;
        prop_assert_eq!(read::<All>(&whole[..at.index(whole.len())]), Err(PackedError));
        prop_assert_eq!(read::<All>(&[&whole[..], &[0]].concat()), Err(PackedError));
        let mut altered = whole;
        let place = at.index(altered.len());
        altered[place] ^= 0x41;
        let _ = read::<All>(&altered);
        let _ = read::<All>(&noise);
        let _ = read::<serde::de::IgnoredAny>(&noise);
    }
}

#[test]
fn names_and_byte_lists_are_short() -> Outcome {
    let leaf = Leaf { encryption_key: Wrapped(vec![200; 32]), value: vec![201; 64] };
    let bytes = packed(&leaf)?;
    // The version, a map of two: a name and its bytes, each with its length.
    assert_eq!(bytes.len(), 1 + 1 + (1 + 2 + 32) + (1 + 2 + 64));
    assert_eq!(bytes[..5], [VERSION, 0xa2, 0xc2, 0x58, 32]);
    Ok(())
}

#[test]
fn a_type_that_is_found_by_trying_is_found() -> Outcome {
    let leaf = Leaf { encryption_key: Wrapped(vec![1, 2]), value: Vec::new() };
    for value in [
        Untagged::Number(u64::MAX),
        Untagged::Bytes(vec![3, 200]),
        Untagged::Kind(Kind::Update),
        Untagged::Kind(Kind::Commit(vec![7; 40])),
        Untagged::Leaf(leaf),
    ] {
        assert_eq!(read::<Untagged>(&packed(&value)?)?, value);
    }
    Ok(())
}

#[test]
fn a_list_of_various_items_is_written_plain() -> Outcome {
    let various = vec![Untagged::Kind(Kind::Update), Untagged::Number(1)];
    assert_eq!(read::<Vec<Untagged>>(&packed(&various)?)?, various);

    /// A list of a small number and a text.
    struct Various;
    impl Serialize for Various {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeSeq;
            let mut list = serializer.serialize_seq(Some(2))?;
            list.serialize_element(&7_u8)?;
            list.serialize_element("text")?;
            list.end()
        }
    }
    assert_eq!(packed(&Various), Err(PackedError));
    let mut plain = Vec::new();
    write(&Various, Lists::Plain, &mut plain)?;
    assert_eq!(read::<(u8, String)>(&plain)?, (7, "text".to_owned()));
    Ok(())
}

/// Names of another order would be read as other names.
#[test]
fn the_names_are_those_of_the_format() {
    use sha2::{Digest, Sha256};
    let hash = hex::encode(Sha256::digest(names::NAMES.join(" ")));
    assert_eq!((names::NAMES.len(), &hash[..16]), (35, "9b863f41085806d7"));
    for (code, name) in (0..).zip(names::NAMES) {
        assert_eq!(names::code_of(name), Some(code));
        assert_eq!(names::name_of(code.into()), Some(*name));
    }
}
