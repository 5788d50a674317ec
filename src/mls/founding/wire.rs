//! The structs of RFC 9420 that a founding writes and OpenMLS keeps to itself, in their encoding.

use tls_codec::{Error, Serialize as _, VLByteSlice};

/// `ProtocolVersion mls10`.
const MLS_10: u16 = 1;
/// `WireFormat`s (section 17.2).
const PRIVATE_MESSAGE: u16 = 2;
const WELCOME: u16 = 3;

/// Bytes that are being written.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(super) fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// Bytes as they are.
    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// `opaque value<V>`.
    pub(super) fn opaque(mut self, bytes: &[u8]) -> Result<Self, Error> {
        VLByteSlice(bytes).tls_serialize(&mut self.0)?;
        Ok(self)
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// The content that a label goes with: `SignContent`, `EncryptContext` (sections 5.1.2 and 5.1.3).
pub(super) fn labeled(label: &str, content: &[u8]) -> Result<Vec<u8>, Error> {
    let label = ["MLS 1.0 ", label].concat();
    Ok(Writer::default().opaque(label.as_bytes())?.opaque(content)?.finish())
}

/// `KDFLabel` (section 8).
pub(super) fn kdf_label(length: u16, label: &str, context: &[u8]) -> Result<Vec<u8>, Error> {
    Ok(Writer::default().u16(length).raw(&labeled(label, context)?).finish())
}

/// `GroupContext` without extensions (section 8.1).
pub(super) fn group_context(
    suite: u16,
    group_id: &[u8],
    epoch: u64,
    tree_hash: &[u8],
    transcript_hash: &[u8],
) -> Result<Vec<u8>, Error> {
    let context = Writer::default().u16(MLS_10).u16(suite).opaque(group_id)?.u64(epoch);
    Ok(context.opaque(tree_hash)?.opaque(transcript_hash)?.opaque(&[])?.finish())
}

/// `FramedContent` with a commit of the first leaf on epoch 0 that adds these key packages by value
/// and has no path (sections 6 and 12.4).
pub(super) fn adding_commit(group_id: &[u8], packages: &[Vec<u8>]) -> Result<Vec<u8>, Error> {
    const PROPOSAL: u8 = 1;
    const ADD: u16 = 1;
    let mut proposals = Writer::default();
    for package in packages {
        proposals = proposals.u8(PROPOSAL).u16(ADD).raw(package);
    }
    const MEMBER: u8 = 1;
    const COMMIT: u8 = 3;
    let content = Writer::default().opaque(group_id)?.u64(0).u8(MEMBER).u32(0).opaque(&[])?;
    let (no_path, proposals) = (0, proposals.finish());
    Ok(content.u8(COMMIT).opaque(&proposals)?.u8(no_path).finish())
}

/// What the signature of a member's message covers: `FramedContentTBS` (section 6.1).
pub(super) fn framed_content_tbs(content: &[u8], context: &[u8]) -> Vec<u8> {
    Writer::default().u16(MLS_10).u16(PRIVATE_MESSAGE).raw(content).raw(context).finish()
}

/// `ConfirmedTranscriptHashInput` behind the interim hash that it is hashed with (section 8.2).
pub(super) fn transcript_input(
    interim: &[u8],
    content: &[u8],
    signature: &[u8],
) -> Result<Vec<u8>, Error> {
    let input = Writer::default().raw(interim).u16(PRIVATE_MESSAGE).raw(content);
    Ok(input.opaque(signature)?.finish())
}

/// What the signature of a GroupInfo covers: `GroupInfoTBS` of the first leaf (section 12.4.3).
pub(super) fn group_info_tbs(
    context: &[u8],
    extensions: &[u8],
    confirmation_tag: &[u8],
) -> Result<Vec<u8>, Error> {
    let info = Writer::default().raw(context).opaque(extensions)?;
    Ok(info.opaque(confirmation_tag)?.u32(0).finish())
}

/// The extension `ratchet_tree` (section 12.4.3.3).
pub(super) fn tree_extension(tree: &[u8]) -> Result<Vec<u8>, Error> {
    const RATCHET_TREE: u16 = 2;
    Ok(Writer::default().u16(RATCHET_TREE).opaque(tree)?.finish())
}

/// `GroupSecrets` without a path and without PSKs (section 12.4.3.1).
pub(super) fn group_secrets(joiner_secret: &[u8]) -> Result<Vec<u8>, Error> {
    Ok(Writer::default().opaque(joiner_secret)?.u8(0).opaque(&[])?.finish())
}

/// `EncryptedGroupSecrets` (section 12.4.3.1).
pub(super) fn encrypted_secrets(
    reference: &[u8],
    kem_output: &[u8],
    ciphertext: &[u8],
) -> Result<Vec<u8>, Error> {
    let secrets = Writer::default().opaque(reference)?.opaque(kem_output)?;
    Ok(secrets.opaque(ciphertext)?.finish())
}

/// `MLSMessage` with a Welcome (section 12.4.3.1).
pub(super) fn welcome(suite: u16, secrets: &[u8], group_info: &[u8]) -> Result<Vec<u8>, Error> {
    let message = Writer::default().u16(MLS_10).u16(WELCOME).u16(suite);
    Ok(message.opaque(secrets)?.opaque(group_info)?.finish())
}
