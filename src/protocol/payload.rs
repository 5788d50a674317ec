//! A value inside an event: the bytes themselves, or a reference to the media repository.
//!
//! MLS messages are sent as unpadded standard base64. A value that is too large for an event is in
//! the media repository instead, and the field names it by URL, size and hash. Bytes fetched from
//! there are accepted only if size and hash match.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Writes no padding; reads with and without it, because other clients pad.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Unpadded standard base64.
pub(crate) fn encode_base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Standard base64, padded or not.
pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}

/// A value that is in the event or that the event points to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Payload {
    /// Base64 of the value.
    Inline(String),
    /// The value is in the media repository.
    Media(MediaReference),
}

/// A large value in the media repository: where it is, and what it must hash to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MediaReference {
    /// An `mxc://` URL.
    pub(crate) url: String,
    /// The length in bytes.
    pub(crate) size: u64,
    /// Unpadded base64 of the SHA-256 of the bytes.
    pub(crate) sha256: String,
}

/// Why a payload could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PayloadError {
    /// The text is not base64.
    #[error("the value is not base64")]
    NotBase64,
    /// The value is in the media repository, and was not fetched.
    #[error("the value is in the media repository, where nobody looked for it")]
    InMedia,
}

impl MediaReference {
    /// A reference to bytes that are about to be uploaded. Its URL is set after the upload.
    pub(crate) fn to(bytes: &[u8]) -> Self {
        let sha256 = encode_base64(&Sha256::digest(bytes));
        Self { url: String::new(), size: bytes.len() as u64, sha256 }
    }

    /// The hash, if the field holds a SHA-256.
    pub(crate) fn hash(&self) -> Option<[u8; 32]> {
        decode_base64(&self.sha256)?.try_into().ok()
    }

    /// Whether these are the bytes that it refers to.
    pub(crate) fn fits(&self, bytes: &[u8]) -> bool {
        self.size == bytes.len() as u64 && self.hash() == Some(Sha256::digest(bytes).into())
    }
}

impl Payload {
    /// Puts bytes into an event.
    pub(crate) fn inline(bytes: &[u8]) -> Self {
        Self::Inline(encode_base64(bytes))
    }

    /// The bytes of a value that is in the event.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>, PayloadError> {
        match self {
            Self::Inline(text) => decode_base64(text).ok_or(PayloadError::NotBase64),
            Self::Media(_) => Err(PayloadError::InMedia),
        }
    }

    /// Whether the value is empty, as in the announcement of a new group.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Inline(text) if text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_is_unpadded_and_read_either_way() {
        assert_eq!(Payload::inline(b"a"), Payload::Inline("YQ".to_owned()));
        for text in ["YQ", "YQ=="] {
            assert_eq!(Payload::Inline(text.to_owned()).bytes(), Ok(b"a".to_vec()));
        }
        assert_eq!(Payload::Inline("*".to_owned()).bytes(), Err(PayloadError::NotBase64));
    }

    #[test]
    fn a_media_reference_fits_its_bytes_and_no_others() {
        let reference = MediaReference::to(b"abc");
        assert!(reference.fits(b"abc"));
        for other in [&b"abd"[..], b"ab", b"abcd", b""] {
            assert!(!reference.fits(other));
        }
        assert!(!MediaReference { sha256: "YQ".into(), ..reference.clone() }.fits(b"abc"));
        assert!(!MediaReference { size: 4, ..reference }.fits(b"abc"));
    }

    #[test]
    fn a_media_reference_is_told_from_garbage() -> serde_json::Result<()> {
        let json = r#"{"url":"mxc://example.org/abc","size":70000,"sha256":"AAAA"}"#;
        let payload: Payload = serde_json::from_str(json)?;
        assert_eq!(payload.bytes(), Err(PayloadError::InMedia));
        assert!(serde_json::from_str::<Payload>(r#"{"url":1}"#).is_err());
        assert!(serde_json::from_str::<Payload>("[]").is_err());
        Ok(())
    }
}
