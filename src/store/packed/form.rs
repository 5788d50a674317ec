//! What writing and reading agree on.

/// What a packed value begins with. CBOR reserves this byte for what is never to begin an item.
/// Other names, or another form, are another byte.
pub(super) const VERSION: u8 = 0x1c;

// The major types of CBOR, in the upper three bits of an item's first byte.
pub(super) const POSITIVE: u8 = 0;
pub(super) const NEGATIVE: u8 = 1;
/// Also a list of `u8`, where it is packed.
pub(super) const BYTES: u8 = 2;
pub(super) const TEXT: u8 = 3;
pub(super) const LIST: u8 = 4;
pub(super) const MAP: u8 = 5;
/// CBOR's tags: here a name in the table.
pub(super) const NAME: u8 = 6;

pub(super) const FALSE: u8 = 0xf4;
pub(super) const TRUE: u8 = 0xf5;
pub(super) const NULL: u8 = 0xf6;
/// A list, or a map, of a length that is known at its end.
pub(super) const LIST_TO_END: u8 = 0x9f;
pub(super) const MAP_TO_END: u8 = 0xbf;
pub(super) const END: u8 = 0xff;

/// A value could not be written or read. There are no details: a value of ours that does not decode
/// is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a value is not in the packed form of its type")]
pub(crate) struct PackedError;

impl serde::ser::Error for PackedError {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self
    }
}

impl serde::de::Error for PackedError {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self
    }
}

/// How lists are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lists {
    /// A list whose first item is a `u8` is a byte string. Writing fails where an item of another
    /// type follows.
    Packed,
    /// Each list is a list.
    Plain,
}
