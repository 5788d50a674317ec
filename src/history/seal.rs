//! Sealing an application message with an epoch's export (RFC 9420 §6.3): the mirror of opening.
//!
//! Sealing reads no group and writes nothing, so its cost does not grow with the room. In return
//! the caller has one rule to keep: a generation is used once. The caller takes it from a counter
//! that is on disk before the message leaves, and nothing else may draw from the same ratchet. If
//! the rule is broken, the random reuse guard is the last protection, as §6.3.1 intends.

use openmls_traits::{
    crypto::OpenMlsCrypto,
    random::OpenMlsRand,
    signatures::{Signer, SignerError},
    types::CryptoError,
};
use tls_codec::{Serialize, VLByteSlice};

use super::{
    export::EpochKeys,
    framing::{
        ApplicationContent, ContentType, Malformed, PrivateContentAad, PrivateMessage, SenderData,
        SenderDataAad, signed_bytes,
    },
    ratchet_cache::RatchetCache,
    secret_tree::{RatchetError, sender_data_key},
};

/// Why a message could not be sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The generation is above the limit, so the epoch must be renewed; or the provider failed.
    #[error(transparent)]
    Ratchet(#[from] RatchetError),
    /// The export came from elsewhere: it has no leaf of this device.
    #[error("the export has no leaf of this device")]
    NoOwnLeaf,
    /// The signer's scheme is not the ciphersuite's.
    #[error("the signer's scheme is not the ciphersuite's")]
    SignatureScheme,
    /// The signer failed.
    #[error("signing failed: {0:?}")]
    Sign(SignerError),
    /// No randomness could be had.
    #[error("no randomness")]
    Random,
    /// The message is longer than MLS can frame.
    #[error("the message is too long")]
    TooLong,
}

impl From<Malformed> for SealError {
    fn from(_: Malformed) -> Self {
        // Writing fails only if a length does not fit.
        Self::TooLong
    }
}

impl From<tls_codec::Error> for SealError {
    fn from(_: tls_codec::Error) -> Self {
        Self::TooLong
    }
}

impl From<CryptoError> for SealError {
    fn from(error: CryptoError) -> Self {
        RatchetError::from(error).into()
    }
}

/// A message to seal.
pub struct MessageDraft<'a> {
    /// The generation, never used before in this epoch.
    pub generation: u32,
    /// Data that is authenticated and sent in the clear.
    pub authenticated_data: &'a [u8],
    /// The application data.
    pub plaintext: &'a [u8],
    /// The ciphertext is padded to a multiple of this many bytes; 0 pads nothing.
    pub padding: u16,
}

/// Seals a message from the export's own leaf. Gives the MLSMessage.
pub fn seal(
    keys: &EpochKeys,
    ratchets: &mut RatchetCache,
    crypto: &(impl OpenMlsCrypto + OpenMlsRand),
    signer: &impl Signer,
    draft: &MessageDraft<'_>,
) -> Result<Vec<u8>, SealError> {
    let suite = keys.ciphersuite();
    if signer.signature_scheme() != suite.signature_algorithm() {
        return Err(SealError::SignatureScheme);
    }
    let own_leaf = keys.own_leaf().ok_or(SealError::NoOwnLeaf)?;
    let key = ratchets.ratchet(keys, crypto, own_leaf)?.message_key(crypto, draft.generation)?;

    let content_aad = PrivateContentAad {
        group_id: VLByteSlice(keys.group_id()),
        epoch: keys.epoch(),
        content_type: ContentType::Application,
        authenticated_data: VLByteSlice(draft.authenticated_data),
    };
    let signed = signed_bytes(keys.group_context(), &content_aad, own_leaf, draft.plaintext)?;
    let signature = signer.sign(&signed).map_err(SealError::Sign)?;
    let aead = suite.aead_algorithm();
    let content =
        ApplicationContent::write(draft.plaintext, &signature, draft.padding, aead.tag_size())?;

    let reuse_guard: [u8; 4] = crypto.random_array().map_err(|_| SealError::Random)?;
    let ciphertext = crypto.aead_encrypt(
        aead,
        key.key.as_slice(),
        &content,
        &key.guarded_nonce(reuse_guard),
        &content_aad.tls_serialize_detached()?,
    )?;
    let sender = SenderData { leaf_index: own_leaf, generation: draft.generation, reuse_guard };
    let encrypted_sender_data = seal_sender_data(keys, crypto, &sender, &ciphertext)?;

    let message = PrivateMessage::application(
        keys.group_id(),
        keys.epoch(),
        draft.authenticated_data,
        &encrypted_sender_data,
        &ciphertext,
    );
    Ok(message.tls_serialize_detached()?)
}

/// Encrypts the sender data of a message with this ciphertext (§6.3.2).
fn seal_sender_data(
    keys: &EpochKeys,
    crypto: &impl OpenMlsCrypto,
    sender: &SenderData,
    ciphertext: &[u8],
) -> Result<Vec<u8>, SealError> {
    let aad = SenderDataAad {
        group_id: VLByteSlice(keys.group_id()),
        epoch: keys.epoch(),
        content_type: ContentType::Application,
    };
    let key = sender_data_key(keys, crypto, ciphertext)?;
    Ok(crypto.aead_encrypt(
        keys.ciphersuite().aead_algorithm(),
        key.key.as_slice(),
        &sender.tls_serialize_detached()?,
        key.nonce.as_slice(),
        &aad.tls_serialize_detached()?,
    )?)
}
