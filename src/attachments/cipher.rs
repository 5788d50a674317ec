//! The cipher of a file, piece by piece.

use aes::{
    Aes256,
    cipher::{KeyIvInit, StreamCipher},
};
use ctr::Ctr128BE;
use openmls_traits::random::OpenMlsRand;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::description::AttachmentKey;

/// Why bytes could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AttachmentError {
    /// The bytes are not those that the description is of.
    #[error("the file is not the one that was sent: its hash differs")]
    Changed,
    /// The file is longer than the cipher can be used for.
    #[error("the file is too long to be encrypted")]
    TooLong,
    /// The provider gave no randomness.
    #[error("no randomness")]
    Random,
}

/// Seals a file: what goes in comes out encrypted, and is hashed.
pub(super) struct Sealing {
    key: Zeroizing<[u8; 32]>,
    iv: [u8; 16],
    cipher: Ctr128BE<Aes256>,
    hash: Sha256,
}

impl Sealing {
    /// Begins with a new key.
    pub(super) fn new(random: &impl OpenMlsRand) -> Result<Self, AttachmentError> {
        let key = random.random_array().map_err(|_| AttachmentError::Random)?;
        let key = Zeroizing::new(key);
        // The counter begins at zero, so that implementations with one of 64 bits read it too.
        let half: [u8; 8] = random.random_array().map_err(|_| AttachmentError::Random)?;
        let mut iv = [0; 16];
        iv[..8].copy_from_slice(&half);
        let cipher = Ctr128BE::<Aes256>::new((&*key).into(), (&iv).into());
        Ok(Self { key, iv, cipher, hash: Sha256::new() })
    }

    /// Encrypts the next piece in place.
    pub(super) fn piece(&mut self, bytes: &mut [u8]) -> Result<(), AttachmentError> {
        self.cipher.try_apply_keystream(bytes).map_err(|_| AttachmentError::TooLong)?;
        self.hash.update(&*bytes);
        Ok(())
    }

    /// What opens it.
    pub(super) fn finish(self) -> AttachmentKey {
        AttachmentKey { key: self.key, iv: self.iv, sha256: self.hash.finalize().into() }
    }
}

/// Opens a file. Its plaintext counts only when [`finish`](Self::finish) says so.
pub(super) struct Opening {
    cipher: Ctr128BE<Aes256>,
    hash: Sha256,
    sha256: [u8; 32],
}

impl Opening {
    pub(super) fn new(key: &AttachmentKey) -> Self {
        let cipher = Ctr128BE::<Aes256>::new((&*key.key).into(), (&key.iv).into());
        Self { cipher, hash: Sha256::new(), sha256: key.sha256 }
    }

    /// Decrypts the next piece in place.
    pub(super) fn piece(&mut self, bytes: &mut [u8]) -> Result<(), AttachmentError> {
        self.hash.update(&*bytes);
        self.cipher.try_apply_keystream(bytes).map_err(|_| AttachmentError::TooLong)
    }

    /// Whether the pieces were the file that was sent.
    pub(super) fn finish(self) -> Result<(), AttachmentError> {
        let is_right: bool = self.hash.finalize().as_slice().ct_eq(&self.sha256).into();
        if is_right { Ok(()) } else { Err(AttachmentError::Changed) }
    }
}

/// Seals bytes in place.
pub(crate) fn seal(
    random: &impl OpenMlsRand,
    bytes: &mut [u8],
) -> Result<AttachmentKey, AttachmentError> {
    let mut sealing = Sealing::new(random)?;
    sealing.piece(bytes)?;
    Ok(sealing.finish())
}

/// Opens bytes. None come out where the hash differs.
pub(crate) fn open(key: &AttachmentKey, mut bytes: Vec<u8>) -> Result<Vec<u8>, AttachmentError> {
    let mut opening = Opening::new(key);
    opening.piece(&mut bytes)?;
    opening.finish()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use openmls_rust_crypto::RustCrypto;

    use super::*;

    #[test]
    fn what_is_sealed_opens_and_nothing_else_does() -> Result<(), AttachmentError> {
        let random = RustCrypto::default();
        for length in [0, 1, 15, 16, 17, 100_000] {
            let text: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let mut sealed = text.clone();
            let key = seal(&random, &mut sealed)?;
            assert!(length < 16 || sealed != text);
            assert_eq!(open(&key, sealed.clone())?, text);
            let mut altered = sealed.clone();
            match altered.first_mut() {
                Some(byte) => *byte ^= 1,
                None => altered.push(0),
            }
            assert_eq!(open(&key, altered), Err(AttachmentError::Changed));
            if length > 0 {
                let cut = sealed.get(..length - 1).unwrap_or_default().to_vec();
                assert_eq!(open(&key, cut), Err(AttachmentError::Changed));
            }
            assert_eq!(open(&key, [sealed, vec![0]].concat()), Err(AttachmentError::Changed));
        }
        Ok(())
    }

    /// Computed by OpenSSL: the key, the counter and the plaintext are 0, 1, 2, …
    #[test]
    fn it_is_the_cipher_that_others_use() {
        let key = AttachmentKey {
            key: Zeroizing::new(std::array::from_fn(|at| at as u8)),
            iv: [0xF0, 0xF1, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0, 0, 0, 0, 0, 0, 0, 0],
            sha256: [0; 32],
        };
        let mut bytes: Vec<u8> = (0..20).collect();
        assert_eq!(Opening::new(&key).piece(&mut bytes), Ok(()));
        assert_eq!(bytes, EXPECTED);
    }

    const EXPECTED: [u8; 20] = [
        0xDB, 0x0D, 0xB8, 0xB1, 0x54, 0xD4, 0xC4, 0xF8, 0x66, 0xD4, 0x13, 0xD0, 0xE4, 0xE6, 0x20,
        0xEA, 0x61, 0x49, 0x84, 0xDC,
    ];

    #[test]
    fn two_files_have_two_keys() -> Result<(), AttachmentError> {
        let random = RustCrypto::default();
        let [one, other] = [seal(&random, &mut [])?, seal(&random, &mut [])?];
        assert!(one.key != other.key && one.iv != other.iv);
        Ok(())
    }
}
