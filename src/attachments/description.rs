//! `EncryptedFile`: what the content of an event says of an encrypted file, and the key in it.

use std::fmt;

use base64::{
    Engine as _,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::protocol::{decode_base64, encode_base64};

/// A JSON Web Key's base64 (RFC 7517): the URL's alphabet, without padding. Others pad.
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const VERSION: &str = "v2";
const ALGORITHM: &str = "A256CTR";
const KEY_TYPE: &str = "oct";

/// Why a description says of no file how it opens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DescriptionError {
    /// It lacks a field, or one does not have its form.
    #[error("it is no `EncryptedFile` of the Matrix specification")]
    Form,
    /// It is of a version that nobody has specified, or its key is for another cipher.
    #[error("the file is encrypted in a way that this version does not know")]
    Unknown,
}

/// What opens one file, and what the file has to hash to.
pub(crate) struct AttachmentKey {
    pub(super) key: Zeroizing<[u8; 32]>,
    pub(super) iv: [u8; 16],
    pub(super) sha256: [u8; 32],
}

/// Shows nothing of the key.
impl fmt::Debug for AttachmentKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AttachmentKey(..)")
    }
}

#[derive(Serialize, Deserialize)]
struct EncryptedFile {
    #[serde(default)]
    url: String,
    key: JsonWebKey,
    iv: String,
    hashes: Hashes,
    v: String,
}

#[derive(Serialize, Deserialize)]
struct JsonWebKey {
    kty: String,
    key_ops: Vec<String>,
    alg: String,
    k: String,
    ext: bool,
}

impl Drop for JsonWebKey {
    fn drop(&mut self) {
        self.k.zeroize();
    }
}

#[derive(Serialize, Deserialize)]
struct Hashes {
    sha256: String,
}

impl AttachmentKey {
    /// Reads an `EncryptedFile`.
    pub(crate) fn parse(json: &str) -> Result<Self, DescriptionError> {
        let file: EncryptedFile = serde_json::from_str(json).map_err(|_| DescriptionError::Form)?;
        if file.v != VERSION || file.key.alg != ALGORITHM || file.key.kty != KEY_TYPE {
            return Err(DescriptionError::Unknown);
        }
        let key = Zeroizing::new(BASE64_URL.decode(&file.key.k).unwrap_or_default());
        let key = key.as_slice().try_into().map_err(|_| DescriptionError::Form)?;
        let bytes = |text: &str| decode_base64(text).ok_or(DescriptionError::Form);
        Ok(Self {
            key: Zeroizing::new(key),
            iv: bytes(&file.iv)?.try_into().map_err(|_| DescriptionError::Form)?,
            sha256: bytes(&file.hashes.sha256)?.try_into().map_err(|_| DescriptionError::Form)?,
        })
    }

    /// The `EncryptedFile` of a file that was uploaded to this URL.
    pub(crate) fn to_json(&self, url: String) -> Result<String, DescriptionError> {
        let file = EncryptedFile {
            url,
            key: JsonWebKey {
                kty: KEY_TYPE.to_owned(),
                key_ops: vec!["encrypt".to_owned(), "decrypt".to_owned()],
                alg: ALGORITHM.to_owned(),
                k: BASE64_URL.encode(self.key.as_slice()),
                ext: true,
            },
            iv: encode_base64(&self.iv),
            hashes: Hashes { sha256: encode_base64(&self.sha256) },
            v: VERSION.to_owned(),
        };
        serde_json::to_string(&file).map_err(|_| DescriptionError::Form)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Matrix specification, with a hash of the right length.
    const EXAMPLE: &str = r#"{
        "hashes": { "sha256": "fdSLu/YkRx3Wyh3KQabP3rd6+SFiKg5lsJZQHtkSAYA" },
        "iv": "w+sE15fzSc0AAAAAAAAAAA",
        "key": {
            "alg": "A256CTR", "ext": true, "k": "aWF6-32KGYaC3A_FEUCk1Bt0JA37zP0wrStgmdCaW-0",
            "key_ops": ["encrypt", "decrypt"], "kty": "oct"
        },
        "url": "mxc://example.org/FHyPlCeYUSFFxlgbQYZmoEoe", "v": "v2"
    }"#;

    #[test]
    fn the_specifications_example_is_read_and_written() -> Result<(), Box<dyn std::error::Error>> {
        let read = AttachmentKey::parse(EXAMPLE)?;
        assert_eq!(read.iv[8..], [0; 8]);
        let written = read.to_json("mxc://example.org/FHyPlCeYUSFFxlgbQYZmoEoe".to_owned())?;
        let [written, example]: [serde_json::Value; 2] =
            [serde_json::from_str(&written)?, serde_json::from_str(EXAMPLE)?];
        assert_eq!(written, example);
        assert!(!format!("{read:?}").contains("aWF6"));
        Ok(())
    }

    #[test]
    fn what_is_no_description_is_refused() {
        for (part, other, error) in [
            ("\"v2\"", "\"v3\"", DescriptionError::Unknown),
            ("A256CTR", "A256GCM", DescriptionError::Unknown),
            ("\"oct\"", "\"RSA\"", DescriptionError::Unknown),
            ("aWF6-", "", DescriptionError::Form),
            ("w+sE", "", DescriptionError::Form),
            ("fdSL", "", DescriptionError::Form),
            ("\"iv\"", "\"no\"", DescriptionError::Form),
        ] {
            let read = AttachmentKey::parse(&EXAMPLE.replace(part, other));
            assert_eq!(read.err(), Some(error), "{part} as {other}");
        }
        for text in ["", "[]", "{}", "null"] {
            assert_eq!(AttachmentKey::parse(text).err(), Some(DescriptionError::Form));
        }
    }
}
