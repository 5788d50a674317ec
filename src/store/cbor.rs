//! CBOR in and out (RFC 8949), for whatever serde describes.
//!
//! `minicbor` does both. ciborium makes the library larger (docs/decisions/005) and writes a
//! ratchet tree more slowly (docs/decisions/010). The bytes written are exactly those that ciborium
//! wrote: otherwise new epochs would share no pieces with the epochs of earlier versions. A test
//! compares the two. The comparison leaves out floating-point numbers and single characters, which
//! no stored value has.

use minicbor::encode::Write;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, IgnoredAny},
};

/// A value could not be written or read. There are no details: a value of ours that does not decode
/// is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a value is no CBOR of its type")]
pub(crate) struct CborError;

/// Appends a value.
pub(crate) fn write<T, W>(value: &T, to: W) -> Result<(), CborError>
where
    T: Serialize + ?Sized,
    W: Write,
    W::Error: std::error::Error + 'static,
{
    let mut serializer = minicbor_serde::Serializer::new(to);
    serializer.serialize_unit_as_null(true);
    value.serialize(&mut serializer).map_err(|_| CborError)
}

/// Reads a value from the beginning of these bytes.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CborError> {
    minicbor_serde::from_slice(bytes).map_err(|_| CborError)
}

/// Reads one value of a sequence, and moves past it.
pub(crate) fn next<T: DeserializeOwned>(rest: &mut &[u8]) -> Result<T, CborError> {
    let mut decoder = minicbor_serde::Deserializer::new(rest);
    let value = T::deserialize(&mut decoder).map_err(|_| CborError)?;
    *rest = rest.get(decoder.decoder().position()..).ok_or(CborError)?;
    Ok(value)
}

/// A record that only says that it exists. In CBOR null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark;

impl Serialize for Mark {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Mark {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, error::Error};

    use super::*;

    type Outcome = Result<(), Box<dyn Error>>;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Kind {
        Unit,
        New(u64),
        Pair(i64, String),
        Named { bytes: serde_bytes::ByteBuf, list: Vec<u8> },
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct All {
        kinds: Vec<Kind>,
        maybe: Option<Option<u8>>,
        map: BTreeMap<String, (bool, i32)>,
        mark: bool,
        array: [u8; 32],
        large: u64,
    }

    fn all() -> All {
        All {
            kinds: vec![
                Kind::Unit,
                Kind::New(u64::MAX),
                Kind::Pair(i64::MIN, "é".into()),
                Kind::Named { bytes: vec![0; 300].into(), list: vec![1, 200] },
            ],
            maybe: Some(Some(3)),
            map: BTreeMap::from([("a".into(), (true, -70_000))]),
            mark: false,
            array: [9; 32],
            large: 1 << 40,
        }
    }

    /// One of each kind of value that serde knows and this writes.
    #[derive(Serialize)]
    struct Others<'a> {
        nothing: (),
        none: Option<u8>,
        unit: Unit,
        newtype: Newtype,
        pair: Pair,
        tuple: (i8, u16, i64, bool),
        bytes: &'a serde_bytes::Bytes,
        numbers: Vec<u64>,
        below_zero: Vec<i64>,
        lengths: Vec<String>,
        unknown_length: Unknown,
    }

    #[derive(Serialize)]
    struct Unit;

    #[derive(Serialize)]
    struct Newtype(Vec<Option<()>>);

    #[derive(Serialize)]
    struct Pair(u8, String);

    struct Unknown;

    impl Serialize for Unknown {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            // A filter knows no length.
            serializer.collect_seq((0..50_u8).filter(|number| number % 2 == 0))
        }
    }

    #[test]
    fn what_is_written_is_what_ciborium_writes() -> Outcome {
        let edges = [0, 23, 24, 255, 256, 65_535, 65_536, u64::from(u32::MAX), 1 << 32, u64::MAX];
        let others = Others {
            nothing: (),
            none: None,
            unit: Unit,
            newtype: Newtype(vec![None, Some(())]),
            pair: Pair(255, "x".into()),
            tuple: (-1, 24, i64::MIN, true),
            bytes: serde_bytes::Bytes::new(&[7; 24]),
            numbers: edges.to_vec(),
            below_zero: edges.iter().map(|edge| !(edge >> 1) as i64).collect(),
            lengths: [0, 23, 24, 255, 256, 70_000].map(|length| "a".repeat(length)).to_vec(),
            unknown_length: Unknown,
        };
        fn both<T: Serialize>(value: &T) -> Outcome {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            write(value, &mut ours)?;
            ciborium::into_writer(value, &mut theirs)?;
            assert!(ours == theirs);
            Ok(())
        }
        both(&all())?;
        both(&others)?;
        both(&Mark)
    }

    #[test]
    fn one_library_reads_what_the_other_wrote() -> Outcome {
        let mut bytes = Vec::new();
        write(&all(), &mut bytes)?;
        assert_eq!(read::<All>(&bytes), Ok(all()));
        write(&Mark, &mut bytes)?;
        write(&7_u8, &mut bytes)?;
        let mut rest = &*bytes;
        assert_eq!(next::<All>(&mut rest), Ok(all()));
        assert_eq!(next::<Mark>(&mut rest), Ok(Mark));
        assert_eq!(next::<u8>(&mut rest), Ok(7));
        assert_eq!(next::<u8>(&mut rest), Err(CborError));
        Ok(())
    }

    #[test]
    fn what_is_cut_off_is_no_value() -> Outcome {
        let mut bytes = Vec::new();
        write(&all(), &mut bytes)?;
        for end in 0..bytes.len() {
            assert_eq!(read::<All>(&bytes[..end]), Err(CborError));
        }
        Ok(())
    }
}
