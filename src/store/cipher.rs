//! Encryption at rest: the store cipher, how the cipher itself is sealed, and how rows are sealed.
//!
//! A random store cipher seals every value (XChaCha20-Poly1305) and hashes every lookup key (keyed
//! BLAKE3). The cipher lies in the `meta` table, sealed under the app's key or passphrase, so
//! changing the key rewrites that one row. Each sealed value starts with a tag of its place (table,
//! lookup columns). Opening checks the tag, so a row copied over another row is detected. A row
//! that was deleted, or replaced by an older version of itself, is not detected.

use std::convert::Infallible;

use matrix_sdk_store_encryption::{EncryptedValue, Error as CipherError, StoreCipher};
use minicbor::encode::Write;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use super::{
    StoreError, cbor,
    packed::{self, Lists},
};

/// Length of hashes that stand for lookup keys, and of the tags of places.
pub(super) const HASH_LEN: usize = 16;

/// Length of the checksum before a sealed store cipher.
const CHECKSUM_LEN: usize = 8;

/// A keyed, truncated hash.
pub(super) type Hash = [u8; HASH_LEN];

/// The secret that opens a store.
#[derive(Clone, Copy)]
pub enum StoreKeyMaterial<'a> {
    /// A random key, as kept in the platform's key store.
    Raw(&'a [u8; 32]),
    /// A passphrase, stretched with PBKDF2 each time the store is opened.
    Passphrase(&'a str),
    /// No secret: the cipher is sealed under an all-zero key and marked as such. Protects nothing.
    None,
}

impl StoreKeyMaterial<'_> {
    /// The mark in the `meta` table.
    pub(super) fn mode(&self) -> &'static str {
        match self {
            Self::Raw(_) => "raw",
            Self::Passphrase(_) => "passphrase",
            Self::None => "none",
        }
    }
}

/// The tag of the row that a value belongs to.
#[derive(Clone, Copy)]
pub(super) struct Place(Hash);

/// An opened value; zeroized on drop.
pub(super) struct OpenedValue(Zeroizing<Vec<u8>>);

impl OpenedValue {
    /// The bytes that were sealed, without the tag.
    pub(super) fn payload(&self) -> &[u8] {
        self.0.get(HASH_LEN..).unwrap_or_default()
    }

    /// An empty value that grows to `len` bytes without moving.
    pub(super) fn with_room_for(len: usize) -> Self {
        let mut bytes = Vec::with_capacity(HASH_LEN.saturating_add(len));
        bytes.resize(HASH_LEN, 0);
        Self(Zeroizing::new(bytes))
    }

    /// Adds another value's payload at the end of this one's.
    pub(super) fn append(&mut self, other: &Self) {
        self.0.extend_from_slice(other.payload());
    }

    /// Decodes the payload from CBOR.
    pub(super) fn decode<T: DeserializeOwned>(&self) -> Result<T, StoreError> {
        decode(self.payload())
    }

    /// Decodes the payload from the packed form, or from CBOR.
    pub(super) fn unpack<T: DeserializeOwned>(&self) -> Result<T, StoreError> {
        packed::read(self.payload())
            .map_err(|_| StoreError::Damaged("a sealed value does not decode".to_owned()))
    }
}

/// Decodes a payload from CBOR.
pub(super) fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, StoreError> {
    cbor::read(payload)
        .map_err(|_| StoreError::Damaged("a sealed value does not decode".to_owned()))
}

/// A value that is being written, before it is sealed: the tag of its place, then its payload.
///
/// The bytes are wiped on drop and whenever the buffer grows. A plain `Vec` would leave copies in
/// freed memory.
pub(super) struct Plaintext(Vec<u8>);

impl Plaintext {
    /// An empty value for this place.
    pub(super) fn new(place: &Place) -> Self {
        let mut bytes = Vec::with_capacity(1024);
        bytes.extend_from_slice(&place.0);
        Self(bytes)
    }

    /// The bytes after the tag.
    pub(super) fn payload(&self) -> &[u8] {
        self.0.get(HASH_LEN..).unwrap_or_default()
    }

    /// Appends `value` in CBOR.
    pub(super) fn encode<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), StoreError> {
        cbor::write(value, self)
            .map_err(|error| StoreError::Damaged(format!("a value does not encode: {error}")))
    }

    /// A value in the packed form, for this place.
    pub(super) fn packed<T: Serialize + ?Sized>(
        place: &Place,
        value: &T,
    ) -> Result<Self, StoreError> {
        let write = |lists| {
            let mut plaintext = Self::new(place);
            packed::write(value, lists, &mut plaintext).map(|()| plaintext)
        };
        // A list of various items that begins with a small number is rare, but no error.
        write(Lists::Packed)
            .or_else(|_| write(Lists::Plain))
            .map_err(|error| StoreError::Damaged(format!("a value does not encode: {error}")))
    }

    /// Appends bytes as they are.
    #[inline]
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        // A tree is written a byte or two at a time, so growing is a function of its own.
        if bytes.len() > self.0.capacity() - self.0.len() {
            self.grow(bytes.len());
        }
        self.0.extend_from_slice(bytes);
    }

    /// Moves to a larger buffer and wipes the old one.
    #[cold]
    fn grow(&mut self, more: usize) {
        let needed = self.0.len().saturating_add(more);
        let mut grown = Vec::with_capacity(needed.saturating_mul(2));
        grown.extend_from_slice(&self.0);
        self.0.zeroize();
        self.0 = grown;
    }
}

impl Write for Plaintext {
    type Error = Infallible;

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.extend(bytes);
        Ok(())
    }
}

impl Drop for Plaintext {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The store cipher of an open store.
pub(super) struct Cipher(StoreCipher);

impl Cipher {
    /// A fresh random cipher.
    pub(super) fn generate() -> Result<Self, StoreError> {
        StoreCipher::new().map(Self).map_err(|error| StoreError::Io(error.to_string()))
    }

    /// Seals the cipher under the app's key, for the `meta` table.
    ///
    /// The checksum in front tells a damaged blob from a wrong key, and keeps a damaged PBKDF2
    /// round count from being tried.
    pub(super) fn export(&self, key: StoreKeyMaterial<'_>) -> Result<Vec<u8>, StoreError> {
        let sealed = match key {
            StoreKeyMaterial::Raw(key) => self.0.export_with_key(key),
            StoreKeyMaterial::Passphrase(passphrase) => self.0.export(passphrase),
            StoreKeyMaterial::None => self.0.export_with_key(&[0; 32]),
        }
        .map_err(|error| StoreError::Io(error.to_string()))?;
        let mut blob = checksum(&sealed).to_vec();
        blob.extend_from_slice(&sealed);
        Ok(blob)
    }

    /// Opens a blob that [`Cipher::export`] made.
    pub(super) fn import(key: StoreKeyMaterial<'_>, blob: &[u8]) -> Result<Self, StoreError> {
        let damaged = || StoreError::Damaged("the sealed store cipher is damaged".to_owned());
        let (sum, sealed) = blob.split_at_checked(CHECKSUM_LEN).ok_or_else(damaged)?;
        if sum != checksum(sealed) {
            return Err(damaged());
        }
        match key {
            StoreKeyMaterial::Raw(key) => StoreCipher::import_with_key(key, sealed),
            StoreKeyMaterial::Passphrase(passphrase) => StoreCipher::import(passphrase, sealed),
            StoreKeyMaterial::None => StoreCipher::import_with_key(&[0; 32], sealed),
        }
        .map(Self)
        .map_err(|error| match error {
            CipherError::Encryption(_) | CipherError::KdfMismatch => StoreError::WrongKey,
            _ => damaged(),
        })
    }

    /// The hash that stands for `key` in a lookup column; `domain` keeps tables apart.
    pub(super) fn hash(&self, domain: &str, key: &[u8]) -> Hash {
        let full = self.0.hash_key(domain, key);
        let mut hash = Hash::default();
        hash.iter_mut().zip(full).for_each(|(to, from)| *to = from);
        hash
    }

    /// The tag of the row of `table` whose lookup columns are `columns`.
    pub(super) fn place(&self, table: &str, columns: &[&[u8]]) -> Place {
        let mut bytes = Vec::with_capacity(64);
        for column in columns {
            bytes.extend_from_slice(&(column.len() as u64).to_be_bytes());
            bytes.extend_from_slice(column);
        }
        Place(self.hash(&format!("place of {table}"), &bytes))
    }

    /// Seals a value for a row, in CBOR.
    pub(super) fn seal<T: Serialize + ?Sized>(
        &self,
        place: &Place,
        value: &T,
    ) -> Result<Vec<u8>, StoreError> {
        let mut plaintext = Plaintext::new(place);
        plaintext.encode(value)?;
        self.seal_plaintext(plaintext)
    }

    /// Seals a finished plaintext.
    pub(super) fn seal_plaintext(&self, mut plaintext: Plaintext) -> Result<Vec<u8>, StoreError> {
        let unsealable =
            |text: String| StoreError::Damaged(format!("a value does not seal: {text}"));
        // The cipher wipes the plaintext it is given.
        let sealed = self
            .0
            .encrypt_value_data(std::mem::take(&mut plaintext.0))
            .map_err(|error| unsealable(error.to_string()))?;
        postcard::to_allocvec(&sealed).map_err(|error| unsealable(error.to_string()))
    }

    /// Opens a sealed value, which must belong to this place.
    pub(super) fn open(&self, place: &Place, sealed: &[u8]) -> Result<OpenedValue, StoreError> {
        let damaged = |text: &str| StoreError::Damaged(text.to_owned());
        let (sealed, rest) = postcard::take_from_bytes::<EncryptedValue>(sealed)
            .map_err(|_| damaged("a value is not in the sealed form"))?;
        if !rest.is_empty() {
            return Err(damaged("a sealed value has bytes after its end"));
        }
        let opened = self
            .0
            .decrypt_value_data(sealed)
            .map(|bytes| OpenedValue(Zeroizing::new(bytes)))
            .map_err(|_| damaged("a sealed value does not open"))?;
        if opened.0.get(..HASH_LEN) != Some(&place.0[..]) {
            return Err(damaged("a sealed value is in another row's place"));
        }
        Ok(opened)
    }
}

/// A checksum without a key: it finds accidents, not attacks, so it is short.
fn checksum(sealed: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut sum = [0; CHECKSUM_LEN];
    sum.iter_mut().zip(Sha256::digest(sealed)).for_each(|(to, from)| *to = from);
    sum
}
