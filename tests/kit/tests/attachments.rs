//! Files that matrix-sdk-crypto encrypts open with the library, and the other way round.

use std::io::{Cursor, Read as _};

use matrix_mls::{AttachmentKey, EncryptedAttachment, decrypt_attachment, encrypt_attachment};
use matrix_mls_kit::{Fields as _, Result};
use matrix_sdk_crypto::{AttachmentDecryptor, AttachmentEncryptor, MediaEncryptionInfo};
use serde_json::{Value, json};

const SIZES: [usize; 4] = [0, 1, 17, 100_000];

fn text(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at % 251) as u8).collect()
}

#[test]
fn what_matrix_sdk_encrypts_is_opened() -> Result {
    for size in SIZES {
        let plain = text(size);
        let mut reader = Cursor::new(plain.clone());
        let mut encryptor = AttachmentEncryptor::new(&mut reader);
        let mut sealed = Vec::new();
        encryptor.read_to_end(&mut sealed)?;
        let mut file = serde_json::to_value(encryptor.finish())?;
        file["url"] = json!("mxc://example.org/abc");
        let key = AttachmentKey::parse(file.to_string())?;
        assert!(decrypt_attachment(sealed, key)? == plain, "{size} bytes");
    }
    Ok(())
}

#[test]
fn what_is_encrypted_matrix_sdk_opens() -> Result {
    for size in SIZES {
        let plain = text(size);
        let EncryptedAttachment { bytes, key } = encrypt_attachment(plain.clone())?;
        let file: Value =
            serde_json::from_str(&key.encrypted_file("mxc://example.org/abc".to_owned())?)?;
        assert_eq!(file.text("url")?, "mxc://example.org/abc");
        let info: MediaEncryptionInfo = serde_json::from_value(file)?;
        let mut reader = Cursor::new(bytes);
        let mut opened = Vec::new();
        AttachmentDecryptor::new(&mut reader, info)?.read_to_end(&mut opened)?;
        assert!(opened == plain, "{size} bytes");
    }
    Ok(())
}
