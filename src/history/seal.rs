//! Sealing an application message as this device's leaf.
//!
//! The caller says which generation to use and answers for never saying one twice (see
//! `group::message`).

use openmls_traits::{crypto::OpenMlsCrypto, random::OpenMlsRand, signatures::Signer};

use super::{
    EpochKeys, HistoryError,
    framing::{
        APPLICATION, ApplicationContent, PrivateMessage, SenderData, guarded_nonce,
        sender_data_key, to_be_signed,
    },
    secret_tree::Ratchet,
};

/// Where this device's ratchet of one epoch stands.
#[derive(Default)]
pub(crate) struct SenderRatchet(Option<Ratchet>);

impl SenderRatchet {
    fn at(
        &mut self,
        keys: &EpochKeys,
        crypto: &impl OpenMlsCrypto,
        generation: u32,
    ) -> Result<&Ratchet, HistoryError> {
        let suite = keys.suite()?;
        let ratchet = match self.0.take() {
            Some(ratchet) if ratchet.generation() <= generation => ratchet,
            _ => Ratchet::of_leaf(crypto, suite, keys, keys.own_leaf())?,
        };
        let ratchet = self.0.insert(ratchet);
        ratchet.forward(crypto, suite, generation)?;
        Ok(ratchet)
    }
}

/// Seals a message; gives the MLSMessage.
pub(crate) fn seal<P>(
    keys: &EpochKeys,
    ratchet: &mut SenderRatchet,
    generation: u32,
    provider: &P,
    signer: &impl Signer,
    plaintext: &[u8],
) -> Result<Vec<u8>, HistoryError>
where
    P: OpenMlsCrypto + OpenMlsRand,
{
    let suite = keys.suite()?;
    let aead = suite.aead_algorithm();
    let context = keys.context()?;
    let leaf = keys.own_leaf();
    let mut message = PrivateMessage {
        group_id: context.group_id,
        epoch: context.epoch,
        content_type: APPLICATION,
        authenticated_data: Vec::new(),
        encrypted_sender_data: Vec::new(),
        ciphertext: Vec::new(),
    };
    let crypto_error = |error: &dyn std::fmt::Debug| HistoryError::Crypto(format!("{error:?}"));
    let signature = signer
        .sign(&to_be_signed(keys, &message, leaf, plaintext)?)
        .map_err(|error| crypto_error(&error))?;
    let content = ApplicationContent::encode(plaintext, &signature)?;

    let key = ratchet.at(keys, provider, generation)?.key(provider, suite)?;
    let reuse_guard = provider.random_array().map_err(|error| crypto_error(&error))?;
    let nonce = guarded_nonce(&key.nonce, reuse_guard);
    let aad = message.content_aad()?;
    message.ciphertext = provider.aead_encrypt(aead, &key.key, &content, &nonce, &aad)?;

    let sender_data = SenderData { leaf, generation, reuse_guard }.encode();
    let key = sender_data_key(provider, suite, keys.sender_data_secret(), &message.ciphertext)?;
    let aad = message.sender_data_aad()?;
    message.encrypted_sender_data =
        provider.aead_encrypt(aead, &key.key, &sender_data, &key.nonce, &aad)?;
    message.encode()
}
