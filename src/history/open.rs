//! Opening an application message, any number of times, in any order, one's own included.

use std::collections::VecDeque;

use openmls_traits::crypto::OpenMlsCrypto;
use zeroize::Zeroizing;

use super::{
    EpochKeys, HistoryError, Leaf,
    framing::{
        APPLICATION, ApplicationContent, PrivateMessage, SenderData, guarded_nonce,
        sender_data_key, to_be_signed,
    },
    secret_tree::Ratchet,
};

/// How many senders of one epoch keep their ratchets.
const MAX_SENDERS: usize = 64;

/// A message that was opened; its sender's signature was checked.
pub(crate) struct Opened {
    pub(crate) leaf: u32,
    pub(crate) generation: u32,
    pub(crate) leaf_data: Leaf,
    pub(crate) plaintext: Zeroizing<Vec<u8>>,
    pub(crate) authenticated_data: Vec<u8>,
}

/// Why a message was not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError<E> {
    /// The message is at fault.
    #[error(transparent)]
    Message(#[from] HistoryError),
    /// The sender's leaf could not be looked up.
    #[error(transparent)]
    Lookup(E),
}

/// Where the ratchets of one epoch's senders stand, the least recently used last. Going on costs one
/// step, going back starts over from the sender's first secret.
#[derive(Default)]
pub(crate) struct RatchetCache(VecDeque<Sender>);

struct Sender {
    leaf: u32,
    first: Ratchet,
    furthest: Ratchet,
}

impl RatchetCache {
    fn sender(
        &mut self,
        leaf: u32,
        make: impl FnOnce() -> Result<Ratchet, HistoryError>,
    ) -> Result<&mut Sender, HistoryError> {
        let sender = match self.0.iter().position(|sender| sender.leaf == leaf) {
            Some(at) => self.0.remove(at),
            None => None,
        };
        let sender = match sender {
            Some(sender) => sender,
            None => {
                let first = make()?;
                Sender { leaf, furthest: first.clone(), first }
            }
        };
        self.0.truncate(MAX_SENDERS - 1);
        self.0.push_front(sender);
        self.0.front_mut().ok_or(HistoryError::UnknownSender)
    }
}

/// Opens an MLSMessage with the keys of its epoch. `leaf_of` is asked for the sender's leaf, once,
/// after the message has decrypted.
pub(crate) fn open<E>(
    keys: &EpochKeys,
    ratchets: &mut RatchetCache,
    crypto: &impl OpenMlsCrypto,
    message: &[u8],
    leaf_of: impl FnOnce(u32) -> Result<Option<Leaf>, E>,
) -> Result<Opened, OpenError<E>> {
    let suite = keys.suite()?;
    let message = PrivateMessage::parse(message)?;
    let context = keys.context()?;
    if message.group_id != context.group_id || message.epoch != context.epoch {
        return Err(HistoryError::OtherEpoch.into());
    }
    if message.content_type != APPLICATION {
        return Err(HistoryError::NotApplication.into());
    }

    let aead = suite.aead_algorithm();
    let does_not_open = |_| HistoryError::DoesNotOpen;
    let key = sender_data_key(crypto, suite, keys.sender_data_secret(), &message.ciphertext)?;
    let aad = message.sender_data_aad()?;
    let sender_data = crypto
        .aead_decrypt(aead, &key.key, &message.encrypted_sender_data, &key.nonce, &aad)
        .map_err(does_not_open)?;
    let SenderData { leaf, generation, reuse_guard } = SenderData::parse(&sender_data)?;

    let sender = ratchets.sender(leaf, || Ratchet::of_leaf(crypto, suite, keys, leaf))?;
    let mut ratchet = if sender.furthest.generation() <= generation {
        sender.furthest.clone()
    } else {
        sender.first.clone()
    };
    ratchet.forward(crypto, suite, generation)?;
    let key = ratchet.key(crypto, suite)?;
    let nonce = guarded_nonce(&key.nonce, reuse_guard);
    let aad = message.content_aad()?;
    let content = crypto
        .aead_decrypt(aead, &key.key, &message.ciphertext, &nonce, &aad)
        .map(Zeroizing::new)
        .map_err(does_not_open)?;
    if generation > sender.furthest.generation() {
        sender.furthest = ratchet;
    }

    let content = ApplicationContent::parse(&content)?;
    let leaf_data = leaf_of(leaf).map_err(OpenError::Lookup)?.ok_or(HistoryError::UnknownSender)?;
    let signed = to_be_signed(keys, &message, leaf, &content.data)?;
    crypto
        .verify_signature(
            suite.signature_algorithm(),
            &signed,
            &leaf_data.signature_key,
            &content.signature,
        )
        .map_err(|_| HistoryError::BadSignature)?;
    Ok(Opened {
        leaf,
        generation,
        leaf_data,
        plaintext: content.data,
        authenticated_data: message.authenticated_data,
    })
}
