//! How the backup seals what it stores, after MSC3270 (symmetric key backup), and how a key is
//! proved.
//!
//! Each session has keys of its own, derived from the backup's key and the session's id. So a
//! session that a server shows under another id does not open. The cipher is AES-256 in counter
//! mode, then HMAC-SHA-256 over the ciphertext. The HMAC is checked before a byte is decrypted.

use aes::{
    Aes256,
    cipher::{KeyIvInit, StreamCipher},
};
use ctr::Ctr128BE;
use openmls_traits::{
    crypto::OpenMlsCrypto,
    random::OpenMlsRand,
    types::{CryptoError, HashType},
};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tls_codec::SecretVLBytes;
use zeroize::Zeroizing;

use super::key::BackupKey;
use crate::protocol::{decode_base64, encode_base64};

const KEY: usize = 32;
const IV: usize = 16;
/// The byte whose highest bit is bit 63 of the IV. The bit is cleared, because some implementations
/// count in 64 bits and must not overflow.
const BIT_63: usize = 8;
/// The plaintext that is sealed to prove a key (MSC3270, "auth_data").
const PROOF: [u8; 32] = [0; 32];
/// The label that derives the MLS key from a Megolm backup's key, so that no key serves both.
const BESIDE_MEGOLM: &[u8] = b"org.matrix.msc4038.v0.aes-hmac-sha2";

/// Why something could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SealedError {
    /// A field is not base64, or does not have the right length.
    #[error("it is not in the sealed form")]
    Form,
    /// The value is damaged, of another session, or sealed with another key.
    #[error("it was not sealed with this key for this place")]
    Mac,
    /// The provider failed.
    #[error("cryptography failed: {0}")]
    Crypto(#[from] CryptoError),
    /// The provider gave no randomness.
    #[error("no randomness")]
    Random,
}

/// `session_data`: a sealed session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionData {
    iv: String,
    ciphertext: String,
    mac: String,
}

impl SessionData {
    /// How long it is, in characters.
    pub(crate) fn length(&self) -> usize {
        self.iv.len() + self.ciphertext.len() + self.mac.len()
    }
}

/// `auth_data` of a backup of this library's kind: what proves its key, and how a passphrase makes
/// it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AuthData {
    pub(crate) iv: String,
    pub(crate) mac: String,
    #[serde(flatten)]
    pub(crate) passphrase: PassphraseInfo,
}

/// How a passphrase makes the key, in the fields that Megolm backups use for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PassphraseInfo {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) private_key_salt: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) private_key_iterations: Option<u32>,
}

/// The two keys of one session.
struct Keys {
    encryption: SecretVLBytes,
    mac: SecretVLBytes,
}

impl Keys {
    fn derive(
        crypto: &impl OpenMlsCrypto,
        key: &BackupKey,
        info: &[u8],
    ) -> Result<Self, CryptoError> {
        // HMAC pads its key with zeros, so any number of them up to a block is the same salt.
        let extracted = crypto.hkdf_extract(HashType::Sha2_256, &[0; 8], key.bytes())?;
        let both = crypto.hkdf_expand(HashType::Sha2_256, extracted.as_slice(), info, 2 * KEY)?;
        let (encryption, mac) =
            both.as_slice().split_at_checked(KEY).ok_or(CryptoError::InvalidLength)?;
        Ok(Self { encryption: encryption.into(), mac: mac.into() })
    }

    fn mac(
        &self,
        crypto: &impl OpenMlsCrypto,
        ciphertext: &[u8],
    ) -> Result<SecretVLBytes, CryptoError> {
        crypto.hmac(HashType::Sha2_256, self.mac.as_slice(), ciphertext)
    }
}

/// Encrypts or decrypts in place with AES-256 in counter mode.
pub(super) fn apply_keystream(
    key: &[u8],
    iv: &[u8; IV],
    bytes: &mut [u8],
) -> Result<(), SealedError> {
    let mut cipher = Ctr128BE::<Aes256>::new_from_slices(key, iv).map_err(|_| SealedError::Form)?;
    cipher.try_apply_keystream(bytes).map_err(|_| SealedError::Form)
}

/// Seals a session under its id.
pub(crate) fn seal(
    crypto: &(impl OpenMlsCrypto + OpenMlsRand),
    key: &BackupKey,
    session_id: &str,
    plaintext: &[u8],
) -> Result<SessionData, SealedError> {
    let mut iv: [u8; IV] = crypto.random_array().map_err(|_| SealedError::Random)?;
    iv[BIT_63] &= 0x7F;
    let keys = Keys::derive(crypto, key, session_id.as_bytes())?;
    let mut ciphertext = plaintext.to_vec();
    apply_keystream(keys.encryption.as_slice(), &iv, &mut ciphertext)?;
    let mac = keys.mac(crypto, &ciphertext)?;
    Ok(SessionData {
        iv: encode_base64(&iv),
        mac: encode_base64(mac.as_slice()),
        ciphertext: encode_base64(&ciphertext),
    })
}

/// Opens a session that was sealed under this id.
pub(crate) fn open(
    crypto: &impl OpenMlsCrypto,
    key: &BackupKey,
    session_id: &str,
    sealed: &SessionData,
) -> Result<Zeroizing<Vec<u8>>, SealedError> {
    let decode = |text| decode_base64(text).ok_or(SealedError::Form);
    let iv: [u8; IV] = decode(&sealed.iv)?.try_into().map_err(|_| SealedError::Form)?;
    let mac = decode(&sealed.mac)?;
    let mut bytes = Zeroizing::new(decode(&sealed.ciphertext)?);
    let keys = Keys::derive(crypto, key, session_id.as_bytes())?;
    if !equal_in_constant_time(keys.mac(crypto, &bytes)?.as_slice(), &mac) {
        return Err(SealedError::Mac);
    }
    apply_keystream(keys.encryption.as_slice(), &iv, &mut bytes)?;
    Ok(bytes)
}

/// The `auth_data` that proves a key.
pub(crate) fn auth_data(
    crypto: &(impl OpenMlsCrypto + OpenMlsRand),
    key: &BackupKey,
    passphrase: PassphraseInfo,
) -> Result<AuthData, SealedError> {
    let SessionData { iv, mac, .. } = seal(crypto, key, "", &PROOF)?;
    Ok(AuthData { iv, mac, passphrase })
}

/// Whether a key is that of the backup with this `auth_data`.
pub(crate) fn proves(
    crypto: &impl OpenMlsCrypto,
    key: &BackupKey,
    auth_data: &AuthData,
) -> Result<bool, SealedError> {
    let decode = |text| decode_base64(text).ok_or(SealedError::Form);
    let iv: [u8; IV] = decode(&auth_data.iv)?.try_into().map_err(|_| SealedError::Form)?;
    let keys = Keys::derive(crypto, key, b"")?;
    let mut proof = PROOF;
    apply_keystream(keys.encryption.as_slice(), &iv, &mut proof)?;
    let mac = keys.mac(crypto, &proof)?;
    Ok(equal_in_constant_time(mac.as_slice(), &decode(&auth_data.mac)?))
}

/// Whether a key is that of a Megolm backup (`m.megolm_backup.v1.curve25519-aes-sha2`) with this
/// public key.
pub(crate) fn proves_megolm(key: &BackupKey, public_key: &str) -> bool {
    let own = x25519_dalek::x25519(*key.bytes(), x25519_dalek::X25519_BASEPOINT_BYTES);
    decode_base64(public_key).is_some_and(|public_key| equal_in_constant_time(&own, &public_key))
}

/// The key that seals MLS sessions in a Megolm backup with this key.
pub(crate) fn beside_megolm(
    crypto: &impl OpenMlsCrypto,
    key: &BackupKey,
) -> Result<BackupKey, SealedError> {
    let extracted = crypto.hkdf_extract(HashType::Sha2_256, &[], key.bytes())?;
    let derived =
        crypto.hkdf_expand(HashType::Sha2_256, extracted.as_slice(), BESIDE_MEGOLM, KEY)?;
    BackupKey::from_bytes(derived.as_slice()).map_err(|_| SealedError::Form)
}

fn equal_in_constant_time(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use openmls_rust_crypto::RustCrypto;

    use super::*;
    use crate::sessions::key::KeyError;

    type Outcome = Result<(), Box<dyn Error>>;

    fn key(byte: u8) -> Result<BackupKey, KeyError> {
        BackupKey::from_bytes(&[byte; 32])
    }

    fn tampered(sealed: &SessionData, change: impl Fn(&mut SessionData)) -> SessionData {
        let mut sealed = sealed.clone();
        change(&mut sealed);
        sealed
    }

    #[test]
    fn what_is_sealed_opens_and_nothing_else_does() -> Outcome {
        let crypto = RustCrypto::default();
        let sealed = seal(&crypto, &key(1)?, "1|a", b"an export")?;
        assert_eq!(*open(&crypto, &key(1)?, "1|a", &sealed)?, b"an export");
        assert_eq!(open(&crypto, &key(2)?, "1|a", &sealed), Err(SealedError::Mac));
        assert_eq!(open(&crypto, &key(1)?, "2|a", &sealed), Err(SealedError::Mac));
        let other = seal(&crypto, &key(1)?, "1|a", b"other")?;
        let swapped = tampered(&sealed, |sealed| sealed.ciphertext = other.ciphertext.clone());
        assert_eq!(open(&crypto, &key(1)?, "1|a", &swapped), Err(SealedError::Mac));
        let cut = tampered(&sealed, |sealed| sealed.ciphertext.truncate(4));
        assert_eq!(open(&crypto, &key(1)?, "1|a", &cut), Err(SealedError::Mac));
        for change in [
            |sealed: &mut SessionData| sealed.mac.clear(),
            |sealed: &mut SessionData| sealed.mac.truncate(8),
        ] {
            let changed = tampered(&sealed, change);
            assert_eq!(open(&crypto, &key(1)?, "1|a", &changed), Err(SealedError::Mac));
        }
        for change in [
            |sealed: &mut SessionData| sealed.iv.truncate(4),
            |sealed: &mut SessionData| sealed.iv = "%".to_owned(),
            |sealed: &mut SessionData| sealed.ciphertext.push('%'),
        ] {
            let changed = tampered(&sealed, change);
            assert_eq!(open(&crypto, &key(1)?, "1|a", &changed), Err(SealedError::Form));
        }
        Ok(())
    }

    /// Made with Python: HKDF and HMAC of hmac/hashlib, AES-256-CTR of `cryptography` (OpenSSL).
    #[test]
    fn what_others_seal_opens() -> Outcome {
        let crypto = RustCrypto::default();
        let sealed: SessionData = serde_json::from_str(SEALED_ELSEWHERE)?;
        let opened = open(&crypto, &key(7)?, "5|QGE6eHxE", &sealed)?;
        assert_eq!(*opened, b"{\"room_id\":\"!r:x\"}");
        let auth_data: AuthData = serde_json::from_str(PROOF_ELSEWHERE)?;
        assert!(proves(&crypto, &key(7)?, &auth_data)?);
        Ok(())
    }

    const SEALED_ELSEWHERE: &str = r#"{"iv": "AAECAwQFBgcICQoLDA0ODw==", "ciphertext": "RYUL0UnnbumZGnKZxV0oDdK7", "mac": "EsRkaii93Rwt+AjGFoHasTlVLOAtnEdSOzTk3o09SNU="}"#;
    const PROOF_ELSEWHERE: &str = r#"{"iv": "AAECAwQFBgcICQoLDA0ODw==", "mac": "UwI5XfskZ4zn+HeOGdNN3dgdanRxyeIlmGE9kwuNS7g="}"#;

    #[test]
    fn only_the_key_proves_itself() -> Outcome {
        let crypto = RustCrypto::default();
        let auth_data = auth_data(&crypto, &key(1)?, PassphraseInfo::default())?;
        assert!(proves(&crypto, &key(1)?, &auth_data)?);
        assert!(!proves(&crypto, &key(2)?, &auth_data)?);
        let json = serde_json::to_string(&auth_data)?;
        assert!(!json.contains("private_key"), "{json}");
        Ok(())
    }

    #[test]
    fn the_iv_leaves_room_for_a_counter_of_64_bits() -> Outcome {
        let crypto = RustCrypto::default();
        for _ in 0..64 {
            let sealed = seal(&crypto, &key(1)?, "1|a", b"")?;
            let iv = decode_base64(&sealed.iv).ok_or("the iv is no base64")?;
            assert_eq!(iv[8] & 0x80, 0);
        }
        Ok(())
    }

    /// RFC 7748, section 6.1: Alice's keys, which are the Matrix spec's example too.
    #[test]
    fn a_megolm_backup_is_proved_by_its_public_key() -> Outcome {
        let key = BackupKey::parse("EsTcLW2KPGiFwKEA3As5g5c4BXwkqeeJZJV8Q9fugUMNUE4d")?;
        let public =
            hex::decode("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
        let public = encode_base64(&public?);
        assert!(proves_megolm(&key, &public));
        assert!(!proves_megolm(&key, &public[..42]));
        assert!(!proves_megolm(&BackupKey::from_bytes(&[1; 32])?, &public));
        let crypto = RustCrypto::default();
        assert_ne!(beside_megolm(&crypto, &key)?, key);
        Ok(())
    }
}
