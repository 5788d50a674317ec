//! Epochs in a file that is sealed with a passphrase: for moving them without a server.
//!
//! The file is text, framed as the Matrix spec frames exported Megolm sessions ("Key exports"),
//! with another first and last line:
//!
//! ```text
//! -----BEGIN MLS EPOCH EXPORT-----
//! base64 of: 0x01 | salt, 16 bytes | IV, 16 bytes | rounds, 4 bytes | ciphertext | HMAC, 32 bytes
//! -----END MLS EPOCH EXPORT-----
//! ```
//!
//! PBKDF2-HMAC-SHA-512 of the passphrase gives 64 bytes: the AES-256-CTR key and the HMAC-SHA-256
//! key. The HMAC covers everything before it. The plaintext is a JSON array of sessions, in the
//! form that a backup has.

use openmls_traits::{
    crypto::OpenMlsCrypto,
    random::OpenMlsRand,
    types::{CryptoError, HashType},
};
use sha2_010::Sha512;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{
    key::{MOST_ROUNDS, ROUNDS},
    seal::{SealedError, apply_keystream},
    session::{Sessions, read_array},
};
use crate::{
    history::restored::Source,
    protocol::{decode_base64, encode_base64},
};

const BEGIN: &str = "-----BEGIN MLS EPOCH EXPORT-----";
const END: &str = "-----END MLS EPOCH EXPORT-----";
const VERSION: u8 = 1;
const SALT: usize = 16;
const IV: usize = 16;
const HEADER: usize = 1 + SALT + IV + 4;
const MAC: usize = 32;
const LINE: usize = 96;

/// Why a file could not be made or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FileError {
    /// The passphrase is empty.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// The text lacks the first or last line of such a file, or is cut short.
    #[error("the text is not a file of exported epochs, or not the whole of one")]
    Form,
    /// The file has a newer form.
    #[error("the file has a form that this version does not know")]
    Version,
    /// The number of rounds is out of range.
    #[error("the file asks for {0} rounds of stretching, which is out of range")]
    Rounds(u32),
    /// The passphrase is another, or the file is damaged.
    #[error("the passphrase is not that of this file, or the file is damaged")]
    WrongPassphrase,
    /// The decrypted contents are not a JSON array.
    #[error("the contents of the file cannot be read")]
    Contents,
    /// The cipher failed.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// The provider failed.
    #[error("cryptography failed: {0}")]
    Crypto(#[from] CryptoError),
    /// The provider gave no randomness.
    #[error("no randomness")]
    Random,
}

/// Seals a file's contents. Stretching the passphrase takes long, so this must run in no
/// transaction.
pub(crate) fn seal_file(
    crypto: &(impl OpenMlsCrypto + OpenMlsRand),
    plaintext: &[u8],
    passphrase: &str,
) -> Result<String, FileError> {
    if passphrase.is_empty() {
        return Err(FileError::EmptyPassphrase);
    }
    let salt: [u8; SALT] = crypto.random_array().map_err(|_| FileError::Random)?;
    let mut iv: [u8; IV] = crypto.random_array().map_err(|_| FileError::Random)?;
    iv[8] &= 0x7F;
    let keys = stretch(passphrase, &salt, ROUNDS);
    let (encryption, mac) = keys.split_at(32);
    let mut bytes = Vec::with_capacity(HEADER + plaintext.len() + MAC);
    bytes.push(VERSION);
    bytes.extend_from_slice(&salt);
    bytes.extend_from_slice(&iv);
    bytes.extend_from_slice(&ROUNDS.to_be_bytes());
    bytes.extend_from_slice(plaintext);
    if let Some(body) = bytes.get_mut(HEADER..) {
        apply_keystream(encryption, &iv, body)?;
    }
    let mac = crypto.hmac(HashType::Sha2_256, mac, &bytes)?;
    bytes.extend_from_slice(mac.as_slice());
    Ok(frame(&encode_base64(&bytes)))
}

/// Puts base64 into lines between the first and the last line of a file.
fn frame(base64: &str) -> String {
    let mut text = String::with_capacity(base64.len() * 65 / 64 + BEGIN.len() + END.len() + 8);
    text.push_str(BEGIN);
    text.push('\n');
    let mut rest = base64;
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(END);
    text.push('\n');
    text
}

/// The bytes between the first and the last line of a file.
fn unframe(text: &str) -> Result<Vec<u8>, FileError> {
    let (_, rest) = text.split_once(BEGIN).ok_or(FileError::Form)?;
    let (body, _) = rest.split_once(END).ok_or(FileError::Form)?;
    decode_base64(&body.split_whitespace().collect::<String>()).ok_or(FileError::Form)
}

/// Opens a file: the JSON of its sessions.
pub(super) fn open(
    crypto: &impl OpenMlsCrypto,
    text: &str,
    passphrase: &str,
) -> Result<Zeroizing<Vec<u8>>, FileError> {
    if passphrase.is_empty() {
        return Err(FileError::EmptyPassphrase);
    }
    let bytes = unframe(text)?;
    let (signed, mac) = bytes
        .len()
        .checked_sub(MAC)
        .and_then(|at| bytes.split_at_checked(at))
        .ok_or(FileError::Form)?;
    let (header, ciphertext) = signed.split_at_checked(HEADER).ok_or(FileError::Form)?;
    let Some((&VERSION, header)) = header.split_first() else { return Err(FileError::Version) };
    let (salt, header) = header.split_at(SALT);
    let (iv, rounds) = header.split_at(IV);
    let iv: &[u8; IV] = iv.try_into().map_err(|_| FileError::Form)?;
    let rounds = u32::from_be_bytes(rounds.try_into().map_err(|_| FileError::Form)?);
    if rounds == 0 || rounds > MOST_ROUNDS {
        return Err(FileError::Rounds(rounds));
    }
    let keys = stretch(passphrase, salt, rounds);
    let (encryption, mac_key) = keys.split_at(32);
    let expected = crypto.hmac(HashType::Sha2_256, mac_key, signed)?;
    if !bool::from(expected.as_slice().ct_eq(mac)) {
        return Err(FileError::WrongPassphrase);
    }
    let mut plaintext = Zeroizing::new(ciphertext.to_vec());
    apply_keystream(encryption, iv, &mut plaintext)?;
    Ok(plaintext)
}

fn stretch(passphrase: &str, salt: &[u8], rounds: u32) -> Zeroizing<[u8; 64]> {
    let mut keys = Zeroizing::new([0; 64]);
    pbkdf2::pbkdf2_hmac::<Sha512>(passphrase.as_bytes(), salt, rounds, &mut *keys);
    keys
}

/// Reads a file's sessions: for each, the session or what is wrong with it.
pub(crate) fn import_file(
    crypto: &impl OpenMlsCrypto,
    text: &str,
    passphrase: &str,
) -> Result<Sessions, FileError> {
    let json = open(crypto, text, passphrase)?;
    read_array(&json, &Source::File).ok_or(FileError::Contents)
}

#[cfg(test)]
mod tests {
    use openmls_rust_crypto::RustCrypto;

    use super::*;

    #[test]
    fn a_file_opens_with_its_passphrase_alone() -> Result<(), FileError> {
        let crypto = RustCrypto::default();
        let text = seal_file(&crypto, b"[]", "correct horse")?;
        assert!(text.starts_with(BEGIN) && text.trim_end().ends_with(END));
        assert_eq!(*open(&crypto, &text, "correct horse")?, b"[]");
        let mail = format!("Here it is:\r\n{}\r\nBye", text.replace('\n', "\r\n"));
        assert_eq!(*open(&crypto, &mail, "correct horse")?, b"[]");
        assert_eq!(open(&crypto, &text, "battery staple"), Err(FileError::WrongPassphrase));
        assert_eq!(open(&crypto, &text, ""), Err(FileError::EmptyPassphrase));
        assert_eq!(seal_file(&crypto, b"[]", ""), Err(FileError::EmptyPassphrase));
        Ok(())
    }

    #[test]
    fn what_is_no_such_file_says_so() {
        let crypto = RustCrypto::default();
        let frame = |bytes: &[u8]| format!("{BEGIN}\n{}\n{END}", encode_base64(bytes));
        for text in ["", BEGIN, &format!("{END}{BEGIN}"), &frame(&[1; 68]), &frame(b"")] {
            assert_eq!(open(&crypto, text, "a"), Err(FileError::Form), "{text}");
        }
        assert_eq!(open(&crypto, &frame(&[2; 200]), "a"), Err(FileError::Version));
        let mut bytes = [0xFF; 200];
        bytes[0] = VERSION;
        assert_eq!(open(&crypto, &frame(&bytes), "a"), Err(FileError::Rounds(u32::MAX)));
        bytes[33..37].copy_from_slice(&[0; 4]);
        assert_eq!(open(&crypto, &frame(&bytes), "a"), Err(FileError::Rounds(0)));
        assert!(read_array(b"{}", &Source::File).is_none());
        let json = b"[1, {}, {\"room_id\":\"!r:x\",\"algorithm\":\"x\"}]";
        let read = read_array(json, &Source::File).unwrap_or_default();
        let errors: Vec<_> = read.into_iter().filter_map(Result::err).collect();
        use super::super::session::SessionError::*;
        assert_eq!(errors, [Malformed, Malformed, Unsupported]);
    }
}
