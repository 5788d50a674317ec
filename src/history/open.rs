//! Opening an application message with an epoch's export (RFC 9420 §6.3).
//!
//! The order is the RFC's: sender data, content, then the sender's leaf and its signature. The leaf
//! is looked up only after the content has decrypted, so a stranger's bytes cause no look-up.
//! Nothing is consumed: the same message opens again.

use openmls_traits::{
    crypto::OpenMlsCrypto,
    types::{AeadType, CryptoError},
};
use tls_codec::{Deserialize, Serialize, VLByteSlice};
use zeroize::Zeroizing;

use super::{
    export::EpochKeys,
    framing::{
        ApplicationContent, ContentType, Malformed, PrivateContentAad, PrivateMessage, SenderData,
        SenderDataAad, read_message_start, signed_bytes, wire_format,
    },
    leaves::Leaf,
    ratchet_cache::RatchetCache,
    secret_tree::{MessageKey, RatchetError, sender_data_key},
};

/// Why a message does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The bytes, or what they decrypt to, are not the struct they should be.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// An MLSMessage, but not a PrivateMessage.
    #[error("not a PrivateMessage")]
    NotPrivate,
    /// A proposal or a commit. Those go through the group.
    #[error("not an application message")]
    NotApplication,
    /// The message is for another group.
    #[error("the message is of another group")]
    OtherGroup,
    /// The message is for another epoch than the export's.
    #[error("the message is of epoch {found}, the export of epoch {expected}")]
    OtherEpoch {
        /// The export's epoch.
        expected: u64,
        /// The message's epoch.
        found: u64,
    },
    /// The sender data does not decrypt: it is damaged, or from another branch with this epoch
    /// number.
    #[error("the sender data do not decrypt")]
    SenderData,
    /// The generation is too high, the leaf lies outside the tree, or the provider failed.
    #[error(transparent)]
    Ratchet(#[from] RatchetError),
    /// The content does not decrypt.
    #[error("the content does not decrypt")]
    Content,
    /// The padding is not all zero.
    #[error("the padding is not zero")]
    Padding,
    /// The leaf that the message names as its sender is blank.
    #[error("leaf {0} is blank")]
    BlankLeaf(u32),
    /// The signature is not that of the leaf.
    #[error("the signature does not verify")]
    Signature,
}

/// An application message that has opened.
pub struct Opened {
    /// The sender's leaf index.
    pub leaf: u32,
    /// The sender's ratchet generation. With the epoch and the leaf it names the message.
    pub generation: u32,
    /// The sender's leaf, under whose key the signature has verified.
    pub leaf_data: Leaf,
    /// The application data.
    pub plaintext: Zeroizing<Vec<u8>>,
    /// The data that was authenticated beside it. Matrix events carry none.
    #[cfg_attr(not(test), expect(dead_code, reason = "no event of ours carries any yet"))]
    pub authenticated_data: Vec<u8>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened")
            .field("leaf", &self.leaf)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// Opens an MLSMessage. `leaf_of` gives a leaf of the epoch by its index, `None` if the leaf is
/// blank. It is called at most once, for the sender's leaf.
pub fn open<E: From<OpenError>>(
    keys: &EpochKeys,
    ratchets: &mut RatchetCache,
    crypto: &impl OpenMlsCrypto,
    message: &[u8],
    leaf_of: impl FnOnce(u32) -> Result<Option<Leaf>, E>,
) -> Result<Opened, E> {
    let message = read_message(keys, message)?;
    let sender = open_sender_data(keys, crypto, &message)?;
    let aad = PrivateContentAad {
        group_id: VLByteSlice(message.group_id.as_slice()),
        epoch: message.epoch,
        content_type: message.content_type,
        authenticated_data: VLByteSlice(message.authenticated_data.as_slice()),
    };
    let content = open_content(keys, ratchets, crypto, &message, &sender, &aad)?;
    let content = ApplicationContent::read(&content).map_err(OpenError::from)?;
    if content.padding.iter().any(|byte| *byte != 0) {
        return Err(OpenError::Padding.into());
    }

    let leaf_data = leaf_of(sender.leaf_index)?.ok_or(OpenError::BlankLeaf(sender.leaf_index))?;
    let signed =
        signed_bytes(keys.group_context(), &aad, sender.leaf_index, content.application_data)
            .map_err(OpenError::from)?;
    crypto
        .verify_signature(
            keys.ciphersuite().signature_algorithm(),
            &signed,
            leaf_data.signature_key(),
            content.signature,
        )
        .map_err(|_| OpenError::Signature)?;

    Ok(Opened {
        leaf: sender.leaf_index,
        generation: sender.generation,
        leaf_data,
        plaintext: Zeroizing::new(content.application_data.to_vec()),
        authenticated_data: message.authenticated_data.as_slice().to_vec(),
    })
}

/// Reads the framing and checks that the message is for these keys.
fn read_message<'a>(
    keys: &EpochKeys,
    mut bytes: &'a [u8],
) -> Result<PrivateMessage<'a>, OpenError> {
    match read_message_start(&mut bytes)? {
        wire_format::PRIVATE_MESSAGE => {}
        wire_format::PUBLIC_MESSAGE
        | wire_format::WELCOME
        | wire_format::GROUP_INFO
        | wire_format::KEY_PACKAGE => return Err(OpenError::NotPrivate),
        _ => return Err(Malformed.into()),
    }
    let message = PrivateMessage::read_exact(bytes)?;
    if message.content_type != ContentType::Application {
        return Err(OpenError::NotApplication);
    }
    if message.group_id.as_slice() != keys.group_id() {
        return Err(OpenError::OtherGroup);
    }
    if message.epoch != keys.epoch() {
        return Err(OpenError::OtherEpoch { expected: keys.epoch(), found: message.epoch });
    }
    Ok(message)
}

fn open_sender_data(
    keys: &EpochKeys,
    crypto: &impl OpenMlsCrypto,
    message: &PrivateMessage<'_>,
) -> Result<SenderData, OpenError> {
    let key =
        sender_data_key(keys, crypto, message.ciphertext.as_slice()).map_err(RatchetError::from)?;
    let aad = SenderDataAad {
        group_id: VLByteSlice(message.group_id.as_slice()),
        epoch: message.epoch,
        content_type: message.content_type,
    };
    let aad = aad.tls_serialize_detached().map_err(Malformed::from)?;
    let aead = keys.ciphersuite().aead_algorithm();
    let bytes = decrypt(crypto, aead, &key, [0; 4], message.encrypted_sender_data.as_slice(), &aad)
        .map_err(|_| OpenError::SenderData)?;
    Ok(SenderData::tls_deserialize_exact(&*bytes).map_err(Malformed::from)?)
}

fn open_content(
    keys: &EpochKeys,
    ratchets: &mut RatchetCache,
    crypto: &impl OpenMlsCrypto,
    message: &PrivateMessage<'_>,
    sender: &SenderData,
    aad: &PrivateContentAad<'_>,
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let key = ratchets
        .ratchet(keys, crypto, sender.leaf_index)?
        .message_key(crypto, sender.generation)?;
    let aad = aad.tls_serialize_detached().map_err(Malformed::from)?;
    let aead = keys.ciphersuite().aead_algorithm();
    decrypt(crypto, aead, &key, sender.reuse_guard, message.ciphertext.as_slice(), &aad)
        .map_err(|_| OpenError::Content)
}

fn decrypt(
    crypto: &impl OpenMlsCrypto,
    aead: AeadType,
    key: &MessageKey,
    reuse_guard: [u8; 4],
    ciphertext: &[u8],
    aad: &[u8],
) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    let nonce = key.guarded_nonce(reuse_guard);
    crypto.aead_decrypt(aead, key.key.as_slice(), ciphertext, &nonce, aad).map(Zeroizing::new)
}
