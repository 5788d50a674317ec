//! Bytes as RFC 9420 §2 writes them, and base64 as the specification's I2 has it.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use matrix_mls_kit::{OrMissing as _, Result, eyre};

/// Unpadded base64.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD_NO_PAD.encode(bytes)
}

/// The reverse, with padding or without (I2).
pub fn from_base64(text: &str) -> Result<Vec<u8>> {
    let engine =
        if text.ends_with('=') { STANDARD.decode(text) } else { STANDARD_NO_PAD.decode(text) };
    engine.map_err(|error| eyre!("no base64: {error}"))
}

/// Appends a vector with its length as in RFC 9000.
pub fn vector(to: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    match length {
        0..0x40 => to.push(length.to_be_bytes()[3]),
        0x40..0x4000 => to.extend(&(length | 0x4000).to_be_bytes()[2..]),
        _ => to.extend(&(length | 0x8000_0000).to_be_bytes()),
    }
    to.extend(bytes);
}

/// Reads from the front of bytes.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// So many bytes.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).or_missing("bytes at the end")?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of so many bytes, at most eight.
    pub fn number(&mut self, length: usize) -> Result<u64> {
        Ok(self.take(length)?.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }

    /// A vector after its length.
    pub fn vector(&mut self) -> Result<&'a [u8]> {
        let first = *self.0.first().or_missing("length of a vector")?;
        let size = 1_usize << (first >> 6);
        let number = self.number(size)? & ((1 << (8 * size - 2)) - 1);
        self.take(usize::try_from(number)?)
    }

    /// That nothing follows.
    pub fn end(&self) -> Result {
        if self.0.is_empty() { Ok(()) } else { Err(eyre!("{} bytes are left over", self.0.len())) }
    }
}
