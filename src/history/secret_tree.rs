//! The secret tree and its ratchets (RFC 9420, sections 8 and 9), from the root down to one key.

use openmls_traits::{
    crypto::OpenMlsCrypto,
    types::{Ciphersuite, CryptoError},
};
use tls_codec::VLByteSlice;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{EpochKeys, HistoryError};

/// Generations that are derived: a bound on what a member who names a high one can make others do.
/// At two derivations each the last one takes some hundred milliseconds, once; epochs are rotated
/// long before.
pub(crate) const MAX_GENERATION: u32 = 65_535;

/// A secret of the key schedule.
pub(super) type Secret = Zeroizing<Vec<u8>>;

impl From<CryptoError> for HistoryError {
    fn from(error: CryptoError) -> Self {
        Self::Crypto(error.to_string())
    }
}

/// `ExpandWithLabel(secret, label, context, length)` (section 8).
pub(super) fn expand_with_label(
    crypto: &impl OpenMlsCrypto,
    suite: Ciphersuite,
    secret: &[u8],
    label: &str,
    context: &[u8],
    length: usize,
) -> Result<Secret, HistoryError> {
    let label = format!("MLS 1.0 {label}");
    let mut info = Vec::with_capacity(2 + 8 + label.len() + context.len());
    let written = u16::try_from(length).map_err(|_| HistoryError::Malformed("length"))?;
    encode(&written, &mut info)?;
    encode(&VLByteSlice(label.as_bytes()), &mut info)?;
    encode(&VLByteSlice(context), &mut info)?;
    let expanded = crypto.hkdf_expand(suite.hash_algorithm(), secret, &info, length)?;
    Ok(Zeroizing::new(expanded.as_slice().to_vec()))
}

/// Appends a value in TLS form.
pub(super) fn encode(
    value: &impl tls_codec::Serialize,
    bytes: &mut Vec<u8>,
) -> Result<(), HistoryError> {
    value.tls_serialize(bytes).map(drop).map_err(|_| HistoryError::Malformed("a value is too long"))
}

/// `DeriveTreeSecret(secret, label, generation, length)` (section 9).
fn derive_tree_secret(
    crypto: &impl OpenMlsCrypto,
    suite: Ciphersuite,
    secret: &[u8],
    label: &str,
    generation: u32,
    length: usize,
) -> Result<Secret, HistoryError> {
    expand_with_label(crypto, suite, secret, label, &generation.to_be_bytes(), length)
}

/// The secret of one leaf: the way down from the root.
pub(super) fn leaf_secret(
    crypto: &impl OpenMlsCrypto,
    suite: Ciphersuite,
    encryption_secret: &[u8],
    leaf_count: u32,
    leaf: u32,
) -> Result<Secret, HistoryError> {
    if leaf >= leaf_count || !leaf_count.is_power_of_two() {
        return Err(HistoryError::UnknownSender);
    }
    let mut secret: Secret = Zeroizing::new(encryption_secret.to_vec());
    for level in (0..leaf_count.trailing_zeros()).rev() {
        let side: &[u8] = if (leaf >> level) & 1 == 0 { b"left" } else { b"right" };
        secret = expand_with_label(crypto, suite, &secret, "tree", side, suite.hash_length())?;
    }
    Ok(secret)
}

/// The key and nonce of one message.
pub(super) struct MessageKey {
    pub(super) key: Secret,
    pub(super) nonce: Secret,
}

/// One sender's ratchet at some generation. It only moves forward.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(super) struct Ratchet {
    secret: Vec<u8>,
    generation: u32,
}

impl Ratchet {
    /// A ratchet at its first generation; `label` is `application` or `handshake`.
    pub(super) fn new(
        crypto: &impl OpenMlsCrypto,
        suite: Ciphersuite,
        leaf_secret: &[u8],
        label: &str,
    ) -> Result<Self, HistoryError> {
        let mut secret =
            expand_with_label(crypto, suite, leaf_secret, label, b"", suite.hash_length())?;
        Ok(Self { secret: std::mem::take(&mut *secret), generation: 0 })
    }

    /// The application ratchet of one leaf of an epoch.
    pub(super) fn of_leaf(
        crypto: &impl OpenMlsCrypto,
        suite: Ciphersuite,
        keys: &EpochKeys,
        leaf: u32,
    ) -> Result<Self, HistoryError> {
        let secret = leaf_secret(crypto, suite, keys.encryption_secret(), keys.leaf_count(), leaf)?;
        Self::new(crypto, suite, &secret, "application")
    }

    /// The generation whose key is next.
    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// Moves forward to a generation.
    pub(super) fn forward(
        &mut self,
        crypto: &impl OpenMlsCrypto,
        suite: Ciphersuite,
        generation: u32,
    ) -> Result<(), HistoryError> {
        if generation > MAX_GENERATION {
            return Err(HistoryError::GenerationOutOfRange(generation));
        }
        while self.generation < generation {
            let mut next = derive_tree_secret(
                crypto,
                suite,
                &self.secret,
                "secret",
                self.generation,
                suite.hash_length(),
            )?;
            self.secret.zeroize();
            self.secret = std::mem::take(&mut *next);
            self.generation += 1;
        }
        Ok(())
    }

    /// The key of the generation it stands at.
    pub(super) fn key(
        &self,
        crypto: &impl OpenMlsCrypto,
        suite: Ciphersuite,
    ) -> Result<MessageKey, HistoryError> {
        let derive = |label, length| {
            derive_tree_secret(crypto, suite, &self.secret, label, self.generation, length)
        };
        Ok(MessageKey {
            key: derive("key", suite.aead_key_length())?,
            nonce: derive("nonce", suite.aead_nonce_length())?,
        })
    }
}
