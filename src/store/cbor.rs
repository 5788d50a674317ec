//! CBOR in and out (RFC 8949), for whatever serde describes.
//!
//! Two libraries, for a phone's sake: `ciborium` writes, and `minicbor` reads what it has written. A decoder is
//! made anew for every type that is stored, and ciborium's took a tenth of the whole library that way
//! (docs/decisions/005). Floating-point numbers are not read: nothing that is stored has any.

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, IgnoredAny},
};

/// What could not be written or read. What is wrong with a value of ours interests nobody: it is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a value is no CBOR of its type")]
pub(crate) struct CborError;

/// Appends a value.
pub(crate) fn write<T: Serialize + ?Sized>(
    value: &T,
    to: impl std::io::Write,
) -> Result<(), CborError> {
    ciborium::into_writer(value, to).map_err(|_| CborError)
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

/// That there is a record, which says nothing else. In CBOR null.
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
    use std::collections::BTreeMap;

    use super::*;

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

    #[test]
    fn one_library_reads_what_the_other_wrote() {
        let mut bytes = Vec::new();
        write(&all(), &mut bytes).unwrap();
        assert_eq!(read::<All>(&bytes), Ok(all()));
        write(&Mark, &mut bytes).unwrap();
        write(&7_u8, &mut bytes).unwrap();
        let mut rest = &*bytes;
        assert_eq!(next::<All>(&mut rest), Ok(all()));
        assert_eq!(next::<Mark>(&mut rest), Ok(Mark));
        assert_eq!(next::<u8>(&mut rest), Ok(7));
        assert_eq!(next::<u8>(&mut rest), Err(CborError));
    }

    #[test]
    fn what_is_cut_off_is_no_value() {
        let mut bytes = Vec::new();
        write(&all(), &mut bytes).unwrap();
        for end in 0..bytes.len() {
            assert_eq!(read::<All>(&bytes[..end]), Err(CborError));
        }
    }
}
