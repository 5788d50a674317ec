//! The secret tree (RFC 9420 §9) as a function: from an epoch's encryption secret to the key and
//! nonce of any message. OpenMLS keeps a tree that forgets what it has given out. Here nothing is
//! consumed, and every key can be derived again.
//!
//! A leaf costs log2(leaves) derivations. A generation costs one derivation for each step from the
//! nearest earlier generation that is remembered: the one asked for last, or one of the marks kept
//! every [`MARK_STRIDE`] generations. So reading forwards costs one step a message. Reading
//! backwards, as scrolling up does, costs at most [`MARK_STRIDE`] steps.

use openmls_traits::{
    crypto::OpenMlsCrypto,
    types::{Ciphersuite, CryptoError},
};
use tls_codec::{SecretVLBytes, Serialize, TlsSerialize, TlsSize, VLByteSlice};
use zeroize::Zeroizing;

use super::export::EpochKeys;

/// The highest generation that is derived, for opening and for sealing. It bounds the work that a
/// hostile member can cause with one message to that many derivations (15 ms on a server core). It
/// is far above what a sender reaches in an epoch, since an epoch is renewed after a number of
/// messages.
pub const MAX_GENERATION: u32 = 65_535;

/// How far apart the generations are whose secrets a [`Ratchet`] remembers for going back. With
/// [`MAX_GENERATION`] this bounds a ratchet to 256 such secrets.
pub(super) const MARK_STRIDE: u32 = 256;

/// Why no message key could be derived.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RatchetError {
    /// The generation is above [`MAX_GENERATION`].
    #[error("generation {0} is above the limit of {MAX_GENERATION}")]
    GenerationTooHigh(u32),
    /// The tree has no such leaf.
    #[error("the tree has no leaf {0}")]
    NoSuchLeaf(u32),
    /// The crypto provider failed.
    #[error("cryptography failed: {0}")]
    Crypto(#[from] CryptoError),
}

/// The key and nonce of one message, before the reuse guard.
pub(super) struct MessageKey {
    pub key: SecretVLBytes,
    pub nonce: SecretVLBytes,
}

impl MessageKey {
    /// The nonce with a reuse guard XORed into its first bytes (§6.3.1).
    pub fn guarded_nonce(&self, reuse_guard: [u8; 4]) -> Zeroizing<Vec<u8>> {
        let mut nonce = Zeroizing::new(self.nonce.as_slice().to_vec());
        for (byte, guard) in nonce.iter_mut().zip(reuse_guard) {
            *byte ^= guard;
        }
        nonce
    }
}

/// ExpandWithLabel (§8).
fn expand_with_label(
    crypto: &impl OpenMlsCrypto,
    ciphersuite: Ciphersuite,
    secret: &[u8],
    label: &str,
    context: &[u8],
    length: usize,
) -> Result<SecretVLBytes, CryptoError> {
    #[derive(TlsSerialize, TlsSize)]
    struct KdfLabel<'a> {
        length: u16,
        label: VLByteSlice<'a>,
        context: VLByteSlice<'a>,
    }
    let label = ["MLS 1.0 ", label].concat();
    let info = KdfLabel {
        length: u16::try_from(length).map_err(|_| CryptoError::KdfLabelTooLarge)?,
        label: VLByteSlice(label.as_bytes()),
        context: VLByteSlice(context),
    }
    .tls_serialize_detached()
    .map_err(|_| CryptoError::KdfSerializationError)?;
    crypto.hkdf_expand(ciphersuite.hash_algorithm(), secret, &info, length)
}

/// The key and nonce of a message's sender data. Both depend on a sample of its ciphertext
/// (§6.3.2).
pub(super) fn sender_data_key(
    keys: &EpochKeys,
    crypto: &impl OpenMlsCrypto,
    ciphertext: &[u8],
) -> Result<MessageKey, CryptoError> {
    let suite = keys.ciphersuite();
    let sample = ciphertext.get(..suite.hash_length()).unwrap_or(ciphertext);
    let derive = |label, length| {
        let secret = keys.sender_data_secret();
        expand_with_label(crypto, suite, secret, label, sample, length)
    };
    Ok(MessageKey {
        key: derive("key", suite.aead_key_length())?,
        nonce: derive("nonce", suite.aead_nonce_length())?,
    })
}

/// One leaf's ratchet.
pub(super) struct Ratchet {
    ciphersuite: Ciphersuite,
    /// The ratchet secrets of generation 0 and of every [`MARK_STRIDE`]th generation walked so far.
    marks: Vec<SecretVLBytes>,
    /// The generation asked for last, and its ratchet secret.
    cursor: (u32, SecretVLBytes),
}

impl Ratchet {
    /// The ratchet of `leaf` for application messages, at its beginning.
    pub fn application(
        keys: &EpochKeys,
        crypto: &impl OpenMlsCrypto,
        leaf: u32,
    ) -> Result<Self, RatchetError> {
        Self::new(keys, crypto, leaf, "application")
    }

    /// The ratchet of `leaf` that §9.1 derives with `label`, at its beginning.
    pub fn new(
        keys: &EpochKeys,
        crypto: &impl OpenMlsCrypto,
        leaf: u32,
        label: &str,
    ) -> Result<Self, RatchetError> {
        if leaf >= keys.tree_size() {
            return Err(RatchetError::NoSuchLeaf(leaf));
        }
        let ciphersuite = keys.ciphersuite();
        let expand = |secret: &[u8], label, context: &[u8]| {
            let length = ciphersuite.hash_length();
            expand_with_label(crypto, ciphersuite, secret, label, context, length)
        };
        // The tree is full, so each bit of the leaf index is one step down from the root.
        let mut secret = SecretVLBytes::from(keys.encryption_secret());
        let mut half = keys.tree_size() / 2;
        while half > 0 {
            let side: &[u8] = if leaf & half == 0 { b"left" } else { b"right" };
            secret = expand(secret.as_slice(), "tree", side)?;
            half /= 2;
        }
        let first = expand(secret.as_slice(), label, b"")?;
        Ok(Self { ciphersuite, marks: vec![first.clone()], cursor: (0, first) })
    }

    /// The key and nonce of a generation.
    pub fn message_key(
        &mut self,
        crypto: &impl OpenMlsCrypto,
        generation: u32,
    ) -> Result<MessageKey, RatchetError> {
        if generation > MAX_GENERATION {
            return Err(RatchetError::GenerationTooHigh(generation));
        }
        let suite = self.ciphersuite;
        // DeriveTreeSecret (§9).
        let derive = |secret: &SecretVLBytes, label, generation: u32, length| {
            let context = generation.to_be_bytes();
            expand_with_label(crypto, suite, secret.as_slice(), label, &context, length)
        };
        if let Some(nearer) = self.nearest_mark(generation) {
            self.cursor = nearer;
        }
        let (at, secret) = &mut self.cursor;
        while *at < generation {
            *secret = derive(secret, "secret", *at, suite.hash_length())?;
            *at += 1;
            if at.is_multiple_of(MARK_STRIDE) && (*at / MARK_STRIDE) as usize == self.marks.len() {
                self.marks.push(secret.clone());
            }
        }
        Ok(MessageKey {
            key: derive(secret, "key", generation, suite.aead_key_length())?,
            nonce: derive(secret, "nonce", generation, suite.aead_nonce_length())?,
        })
    }

    /// The last mark at or before `generation`, if it is a better start than the cursor.
    fn nearest_mark(&self, generation: u32) -> Option<(u32, SecretVLBytes)> {
        let marks = (0..=generation).step_by(MARK_STRIDE as usize).zip(&self.marks);
        let (at, mark) = marks.last()?;
        let better = self.cursor.0 > generation || self.cursor.0 < at;
        better.then(|| (at, mark.clone()))
    }
}
