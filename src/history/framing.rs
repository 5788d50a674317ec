//! The structs of RFC 9420 §6 that message protection needs, in TLS presentation language: what is
//! sent, what is authenticated beside it, and what is signed.
//!
//! Reading borrows from the message, allocates nothing and never panics: all of it faces what peers
//! and servers send. (Reading uses `std::io::Read` on purpose, since tls_codec's slice readers
//! assert in debug builds that an opaque value is whole.) Vector lengths must be in their shortest
//! form, as §2.1.2 requires, so that a message has one encoding.

use tls_codec::{
    Deserialize, Serialize, TlsDeserialize, TlsSerialize, TlsSize, TlsVarInt, VLByteSlice,
};
use zeroize::Zeroizing;

/// `mls10`, the only protocol version there is.
pub(super) const VERSION: u16 = 1;

/// The values of `WireFormat`.
pub(super) mod wire_format {
    pub const PUBLIC_MESSAGE: u16 = 1;
    pub const PRIVATE_MESSAGE: u16 = 2;
    pub const WELCOME: u16 = 3;
    pub const GROUP_INFO: u16 = 4;
    pub const KEY_PACKAGE: u16 = 5;
}

/// `SenderType.member`.
pub(super) const SENDER_MEMBER: u8 = 1;

/// The bytes are not the struct that they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a well-formed MLS message")]
pub struct Malformed;

impl From<tls_codec::Error> for Malformed {
    fn from(_: tls_codec::Error) -> Self {
        Malformed
    }
}

/// What a framed message carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, TlsSerialize, TlsDeserialize, TlsSize)]
#[repr(u8)]
pub enum ContentType {
    /// An application message.
    Application = 1,
    /// A proposal.
    Proposal = 2,
    /// A commit.
    Commit = 3,
}

/// Reads one integer or enum.
pub(super) fn read<T: Deserialize>(input: &mut &[u8]) -> Result<T, Malformed> {
    Ok(T::tls_deserialize(input)?)
}

/// Reads an `opaque <V>` without copying it.
pub(super) fn read_opaque<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let length = usize::try_from(read::<TlsVarInt>(input)?.value()).map_err(|_| Malformed)?;
    input.split_off(..length).ok_or(Malformed)
}

/// Reads the version of an MLSMessage and gives its wire format.
pub(super) fn read_message_start(input: &mut &[u8]) -> Result<u16, Malformed> {
    if read::<u16>(input)? != VERSION {
        return Err(Malformed);
    }
    read(input)
}

/// The parts of a GroupContext (§8.1) that are needed here.
pub(super) struct GroupContext<'a> {
    pub ciphersuite: u16,
    pub group_id: &'a [u8],
    pub epoch: u64,
}

impl<'a> GroupContext<'a> {
    pub fn read(input: &mut &'a [u8]) -> Result<Self, Malformed> {
        if read::<u16>(input)? != VERSION {
            return Err(Malformed);
        }
        let context =
            Self { ciphersuite: read(input)?, group_id: read_opaque(input)?, epoch: read(input)? };
        let _tree_hash = read_opaque(input)?;
        let _confirmed_transcript_hash = read_opaque(input)?;
        let _extensions = read_opaque(input)?;
        Ok(context)
    }

    pub fn read_exact(mut bytes: &'a [u8]) -> Result<Self, Malformed> {
        let context = Self::read(&mut bytes)?;
        if bytes.is_empty() { Ok(context) } else { Err(Malformed) }
    }
}

/// An MLSMessage that is a PrivateMessage (§6.3).
#[derive(TlsSerialize, TlsSize)]
pub(super) struct PrivateMessage<'a> {
    version: u16,
    wire_format: u16,
    pub group_id: VLByteSlice<'a>,
    pub epoch: u64,
    pub content_type: ContentType,
    pub authenticated_data: VLByteSlice<'a>,
    pub encrypted_sender_data: VLByteSlice<'a>,
    pub ciphertext: VLByteSlice<'a>,
}

impl<'a> PrivateMessage<'a> {
    /// A PrivateMessage that carries application data.
    pub fn application(
        group_id: &'a [u8],
        epoch: u64,
        authenticated_data: &'a [u8],
        encrypted_sender_data: &'a [u8],
        ciphertext: &'a [u8],
    ) -> Self {
        Self {
            version: VERSION,
            wire_format: wire_format::PRIVATE_MESSAGE,
            group_id: VLByteSlice(group_id),
            epoch,
            content_type: ContentType::Application,
            authenticated_data: VLByteSlice(authenticated_data),
            encrypted_sender_data: VLByteSlice(encrypted_sender_data),
            ciphertext: VLByteSlice(ciphertext),
        }
    }

    /// Reads what follows the wire format. Nothing may follow the message.
    pub fn read_exact(mut input: &'a [u8]) -> Result<Self, Malformed> {
        let message = Self {
            version: VERSION,
            wire_format: wire_format::PRIVATE_MESSAGE,
            group_id: VLByteSlice(read_opaque(&mut input)?),
            epoch: read(&mut input)?,
            content_type: read(&mut input)?,
            authenticated_data: VLByteSlice(read_opaque(&mut input)?),
            encrypted_sender_data: VLByteSlice(read_opaque(&mut input)?),
            ciphertext: VLByteSlice(read_opaque(&mut input)?),
        };
        if input.is_empty() { Ok(message) } else { Err(Malformed) }
    }
}

/// SenderData (§6.3.2), which travels encrypted.
#[derive(TlsSerialize, TlsDeserialize, TlsSize)]
pub(super) struct SenderData {
    pub leaf_index: u32,
    pub generation: u32,
    pub reuse_guard: [u8; 4],
}

/// SenderDataAAD (§6.3.2).
#[derive(TlsSerialize, TlsSize)]
pub(super) struct SenderDataAad<'a> {
    pub group_id: VLByteSlice<'a>,
    pub epoch: u64,
    pub content_type: ContentType,
}

/// PrivateContentAAD (§6.3.1).
#[derive(TlsSerialize, TlsSize)]
pub(super) struct PrivateContentAad<'a> {
    pub group_id: VLByteSlice<'a>,
    pub epoch: u64,
    pub content_type: ContentType,
    pub authenticated_data: VLByteSlice<'a>,
}

/// PrivateMessageContent (§6.3.1) of an application message.
pub(super) struct ApplicationContent<'a> {
    pub application_data: &'a [u8],
    pub signature: &'a [u8],
    pub padding: &'a [u8],
}

impl<'a> ApplicationContent<'a> {
    pub fn read(mut input: &'a [u8]) -> Result<Self, Malformed> {
        Ok(Self {
            application_data: read_opaque(&mut input)?,
            signature: read_opaque(&mut input)?,
            padding: input,
        })
    }

    /// Writes the content, padded so that content and AEAD tag are a multiple of `block` bytes.
    pub fn write(
        application_data: &[u8],
        signature: &[u8],
        block: u16,
        tag_size: usize,
    ) -> Result<Zeroizing<Vec<u8>>, Malformed> {
        #[derive(TlsSerialize, TlsSize)]
        struct Written<'a> {
            application_data: VLByteSlice<'a>,
            signature: VLByteSlice<'a>,
        }
        let written = Written {
            application_data: VLByteSlice(application_data),
            signature: VLByteSlice(signature),
        };
        let length = tls_codec::Size::tls_serialized_len(&written);
        let padding = match block {
            0 => 0,
            block => (length + tag_size).next_multiple_of(block.into()) - (length + tag_size),
        };
        // The whole size at once: growing would leave copies of the plaintext behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(length + padding));
        written.tls_serialize(&mut *bytes)?;
        bytes.resize(length + padding, 0);
        Ok(bytes)
    }
}

/// FramedContentTBS (§6.1) of an application message that a member sent in a PrivateMessage,
/// without the GroupContext that follows it.
#[derive(TlsSerialize, TlsSize)]
pub(super) struct ApplicationTbs<'a> {
    version: u16,
    wire_format: u16,
    group_id: VLByteSlice<'a>,
    epoch: u64,
    sender_type: u8,
    leaf_index: u32,
    authenticated_data: VLByteSlice<'a>,
    content_type: ContentType,
    application_data: VLByteSlice<'a>,
}

/// The bytes that an application message's signature covers: SignContent (§5.1.2) of
/// FramedContentTBS.
pub(super) fn signed_bytes(
    group_context: &[u8],
    message: &PrivateContentAad<'_>,
    leaf_index: u32,
    application_data: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Malformed> {
    #[derive(TlsSerialize, TlsSize)]
    struct SignContent<'a> {
        label: VLByteSlice<'a>,
        content: VLByteSlice<'a>,
    }
    let tbs = ApplicationTbs {
        version: VERSION,
        wire_format: wire_format::PRIVATE_MESSAGE,
        group_id: VLByteSlice(message.group_id.as_slice()),
        epoch: message.epoch,
        sender_type: SENDER_MEMBER,
        leaf_index,
        authenticated_data: VLByteSlice(message.authenticated_data.as_slice()),
        content_type: message.content_type,
        application_data: VLByteSlice(application_data),
    };
    let length = tls_codec::Size::tls_serialized_len(&tbs) + group_context.len();
    let mut content = Zeroizing::new(Vec::with_capacity(length));
    tbs.tls_serialize(&mut *content)?;
    content.extend_from_slice(group_context);
    let signed = SignContent {
        label: VLByteSlice(b"MLS 1.0 FramedContentTBS"),
        content: VLByteSlice(&content),
    };
    Ok(Zeroizing::new(signed.tls_serialize_detached()?))
}
