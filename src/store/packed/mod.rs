//! The form in which OpenMLS's values are stored: CBOR (RFC 8949) with two changes that a ratchet
//! tree makes worthwhile.
//!
//! - A list of numbers below 256 whose type is `u8` is a byte string. OpenMLS's keys and signatures
//!   describe themselves to serde as such lists, which take nearly two bytes a byte in CBOR.
//! - A name of a field or variant that is in the table (`names`) is one or two bytes.
//!
//! A packed value begins with a byte of its own, which begins no CBOR. Values that earlier versions
//! wrote are CBOR as it is, and [`read`] reads both with one decoder: the two changes use what that
//! CBOR does not have. So the form describes itself, as OpenMLS needs it to: a reader that knows no
//! type is given lists as lists and names as texts.

mod form;
mod names;
mod reader;
mod writer;

use minicbor::encode::Write;
use serde::{Serialize, de::DeserializeOwned};

pub(crate) use self::form::{Lists, PackedError};
use self::{form::VERSION, reader::Reader, writer::Writer};

/// Appends a value.
pub(crate) fn write<T, W>(value: &T, lists: Lists, to: &mut W) -> Result<(), PackedError>
where
    T: Serialize + ?Sized,
    W: Write,
{
    to.write_all(&[VERSION]).map_err(|_| PackedError)?;
    value.serialize(&mut Writer::new(to, lists))
}

/// Reads a value that [`write`] has written, or that is CBOR.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, PackedError> {
    let mut reader = Reader::new(bytes.strip_prefix(&[VERSION]).unwrap_or(bytes));
    let value = T::deserialize(&mut reader)?;
    if reader.is_at_end() { Ok(value) } else { Err(PackedError) }
}

#[cfg(test)]
mod tests;
