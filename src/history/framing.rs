//! The wire format of a PrivateMessage (RFC 9420, sections 6 and 6.3), read and written by hand.

use openmls_traits::{crypto::OpenMlsCrypto, types::Ciphersuite};
use tls_codec::{Deserialize as _, VLByteSlice, VLBytes};
use zeroize::Zeroizing;

use super::{
    EpochKeys, HistoryError,
    secret_tree::{MessageKey, encode, expand_with_label},
};

const MLS10: u16 = 1;
const WIRE_FORMAT_PUBLIC: u16 = 1;
const WIRE_FORMAT_PRIVATE: u16 = 2;
/// The content type of application data.
pub(super) const APPLICATION: u8 = 1;
/// The sender type of a member.
const MEMBER: u8 = 1;

/// Which epoch a message says it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) group_id: Vec<u8>,
    pub(crate) epoch: u64,
}

/// Reads where a PrivateMessage or PublicMessage belongs, without opening it.
pub(crate) fn peek(message: &[u8]) -> Result<Header, HistoryError> {
    let mut reader = Reader(message);
    reader.version()?;
    if !matches!(reader.u16()?, WIRE_FORMAT_PUBLIC | WIRE_FORMAT_PRIVATE) {
        return Err(HistoryError::Malformed("it is another kind of message"));
    }
    Ok(Header { group_id: reader.bytes()?, epoch: reader.u64()? })
}

/// Reads TLS values from bytes.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn short() -> HistoryError {
        HistoryError::Malformed("it ends early")
    }

    fn version(&mut self) -> Result<(), HistoryError> {
        match self.u16()? {
            MLS10 => Ok(()),
            _ => Err(HistoryError::Malformed("it is of another version")),
        }
    }

    fn u8(&mut self) -> Result<u8, HistoryError> {
        u8::tls_deserialize(&mut self.0).map_err(|_| Self::short())
    }

    fn u16(&mut self) -> Result<u16, HistoryError> {
        u16::tls_deserialize(&mut self.0).map_err(|_| Self::short())
    }

    fn u32(&mut self) -> Result<u32, HistoryError> {
        u32::tls_deserialize(&mut self.0).map_err(|_| Self::short())
    }

    fn u64(&mut self) -> Result<u64, HistoryError> {
        u64::tls_deserialize(&mut self.0).map_err(|_| Self::short())
    }

    fn bytes(&mut self) -> Result<Vec<u8>, HistoryError> {
        let bytes = VLBytes::tls_deserialize(&mut self.0).map_err(|_| Self::short())?;
        Ok(bytes.into())
    }

    fn end(&self) -> Result<(), HistoryError> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(HistoryError::Malformed("something follows it"))
    }
}

/// The first fields of a GroupContext.
pub(super) struct GroupContextHead {
    pub(super) suite: u16,
    pub(super) group_id: Vec<u8>,
    pub(super) epoch: u64,
}

impl GroupContextHead {
    pub(super) fn parse(context: &[u8]) -> Result<Self, HistoryError> {
        let mut reader = Reader(context);
        reader.version()?;
        Ok(Self { suite: reader.u16()?, group_id: reader.bytes()?, epoch: reader.u64()? })
    }
}

/// A PrivateMessage, still sealed.
pub(super) struct PrivateMessage {
    pub(super) group_id: Vec<u8>,
    pub(super) epoch: u64,
    pub(super) content_type: u8,
    pub(super) authenticated_data: Vec<u8>,
    pub(super) encrypted_sender_data: Vec<u8>,
    pub(super) ciphertext: Vec<u8>,
}

impl PrivateMessage {
    /// Reads an MLSMessage that is a PrivateMessage.
    pub(super) fn parse(message: &[u8]) -> Result<Self, HistoryError> {
        let mut reader = Reader(message);
        reader.version()?;
        if reader.u16()? != WIRE_FORMAT_PRIVATE {
            return Err(HistoryError::Malformed("it is no PrivateMessage"));
        }
        let message = Self {
            group_id: reader.bytes()?,
            epoch: reader.u64()?,
            content_type: reader.u8()?,
            authenticated_data: reader.bytes()?,
            encrypted_sender_data: reader.bytes()?,
            ciphertext: reader.bytes()?,
        };
        reader.end()?;
        Ok(message)
    }

    /// Writes it as an MLSMessage.
    pub(super) fn encode(&self) -> Result<Vec<u8>, HistoryError> {
        let mut bytes = Vec::with_capacity(
            64 + self.group_id.len() + self.authenticated_data.len() + self.ciphertext.len(),
        );
        encode(&MLS10, &mut bytes)?;
        encode(&WIRE_FORMAT_PRIVATE, &mut bytes)?;
        encode(&VLByteSlice(&self.group_id), &mut bytes)?;
        encode(&self.epoch, &mut bytes)?;
        encode(&self.content_type, &mut bytes)?;
        encode(&VLByteSlice(&self.authenticated_data), &mut bytes)?;
        encode(&VLByteSlice(&self.encrypted_sender_data), &mut bytes)?;
        encode(&VLByteSlice(&self.ciphertext), &mut bytes)?;
        Ok(bytes)
    }

    /// The additional data of its ciphertext: `PrivateContentAAD`.
    pub(super) fn content_aad(&self) -> Result<Vec<u8>, HistoryError> {
        let mut aad = self.sender_data_aad()?;
        encode(&VLByteSlice(&self.authenticated_data), &mut aad)?;
        Ok(aad)
    }

    /// The additional data of its sender data: `SenderDataAAD`.
    pub(super) fn sender_data_aad(&self) -> Result<Vec<u8>, HistoryError> {
        let mut aad = Vec::with_capacity(16 + self.group_id.len());
        encode(&VLByteSlice(&self.group_id), &mut aad)?;
        encode(&self.epoch, &mut aad)?;
        encode(&self.content_type, &mut aad)?;
        Ok(aad)
    }
}

/// Who sealed a message, and with which key.
pub(super) struct SenderData {
    pub(super) leaf: u32,
    pub(super) generation: u32,
    pub(super) reuse_guard: [u8; 4],
}

impl SenderData {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, HistoryError> {
        let mut reader = Reader(bytes);
        let (leaf, generation) = (reader.u32()?, reader.u32()?);
        let reuse_guard = reader.u32()?.to_be_bytes();
        reader.end()?;
        Ok(Self { leaf, generation, reuse_guard })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        [self.leaf.to_be_bytes(), self.generation.to_be_bytes(), self.reuse_guard].concat()
    }
}

/// The key and nonce of the sender data, which depend on the ciphertext.
pub(super) fn sender_data_key(
    crypto: &impl OpenMlsCrypto,
    suite: Ciphersuite,
    sender_data_secret: &[u8],
    ciphertext: &[u8],
) -> Result<MessageKey, HistoryError> {
    let sample = ciphertext.get(..suite.hash_length()).unwrap_or(ciphertext);
    let derive =
        |label, length| expand_with_label(crypto, suite, sender_data_secret, label, sample, length);
    Ok(MessageKey {
        key: derive("key", suite.aead_key_length())?,
        nonce: derive("nonce", suite.aead_nonce_length())?,
    })
}

/// The nonce of a message: its ratchet's, with the reuse guard.
pub(super) fn guarded_nonce(nonce: &[u8], reuse_guard: [u8; 4]) -> Zeroizing<Vec<u8>> {
    let mut nonce = Zeroizing::new(nonce.to_vec());
    for (byte, guard) in nonce.iter_mut().zip(reuse_guard) {
        *byte ^= guard;
    }
    nonce
}

/// Application data and its signature, as they are inside the ciphertext.
pub(super) struct ApplicationContent {
    pub(super) data: Zeroizing<Vec<u8>>,
    pub(super) signature: Vec<u8>,
}

impl ApplicationContent {
    /// Reads `PrivateMessageContent`; what follows it must be zeros.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, HistoryError> {
        let mut reader = Reader(bytes);
        let data = Zeroizing::new(reader.bytes()?);
        let signature = reader.bytes()?;
        if reader.0.iter().any(|byte| *byte != 0) {
            return Err(HistoryError::Malformed("its padding is not zero"));
        }
        Ok(Self { data, signature })
    }

    pub(super) fn encode(
        data: &[u8],
        signature: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, HistoryError> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(16 + data.len() + signature.len()));
        encode(&VLByteSlice(data), &mut bytes)?;
        encode(&VLByteSlice(signature), &mut bytes)?;
        Ok(bytes)
    }
}

/// What a member signs: `SignContent` over `FramedContentTBS` (sections 5.1.2 and 6.1).
pub(super) fn to_be_signed(
    keys: &EpochKeys,
    message: &PrivateMessage,
    leaf: u32,
    data: &[u8],
) -> Result<Zeroizing<Vec<u8>>, HistoryError> {
    let mut content = Zeroizing::new(Vec::with_capacity(
        64 + message.group_id.len() + data.len() + keys.group_context().len(),
    ));
    encode(&MLS10, &mut content)?;
    encode(&WIRE_FORMAT_PRIVATE, &mut content)?;
    encode(&VLByteSlice(&message.group_id), &mut content)?;
    encode(&message.epoch, &mut content)?;
    encode(&MEMBER, &mut content)?;
    encode(&leaf, &mut content)?;
    encode(&VLByteSlice(&message.authenticated_data), &mut content)?;
    encode(&message.content_type, &mut content)?;
    encode(&VLByteSlice(data), &mut content)?;
    content.extend_from_slice(keys.group_context());

    let mut signed = Zeroizing::new(Vec::with_capacity(32 + content.len()));
    encode(&VLByteSlice(b"MLS 1.0 FramedContentTBS"), &mut signed)?;
    encode(&VLByteSlice(&content), &mut signed)?;
    Ok(signed)
}
