//! The cryptography of mls-rs, with a note of the two secrets of an epoch that its export needs.
//!
//! mls-rs gives neither `encryption_secret` nor `sender_data_secret`. Both are made with the KDF of
//! RFC 9420 §8, and the KDF is what an application brings: [`Crypto`] keeps what it last made under
//! these two labels.

use std::sync::{Arc, Mutex, PoisonError};

use mls_rs::{
    CipherSuite, CipherSuiteProvider, CryptoProvider,
    crypto::{
        HpkeCiphertext, HpkePsk, HpkePublicKey, HpkeSecretKey, SignaturePublicKey,
        SignatureSecretKey,
    },
};
use mls_rs_crypto_rustcrypto::RustCryptoProvider;
use zeroize::Zeroizing;

/// What RustCrypto does for suite 1.
pub type Inner = <RustCryptoProvider as CryptoProvider>::CipherSuiteProvider;
type Made<T> = Result<T, <Inner as CipherSuiteProvider>::Error>;

/// The secrets of the epoch whose key schedule ran last.
#[derive(Clone, Default)]
pub struct Secrets {
    /// `sender_data_secret`.
    pub sender_data: Vec<u8>,
    /// `encryption_secret`.
    pub encryption: Vec<u8>,
}

/// A crypto provider that takes notes.
#[derive(Clone, Default)]
pub struct Crypto {
    inner: RustCryptoProvider,
    noted: Arc<Mutex<Secrets>>,
}

impl Crypto {
    /// What was noted last.
    pub fn noted(&self) -> Secrets {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl CryptoProvider for Crypto {
    type CipherSuiteProvider = Suite;

    fn supported_cipher_suites(&self) -> Vec<CipherSuite> {
        vec![CipherSuite::CURVE25519_AES128]
    }

    fn cipher_suite_provider(&self, suite: CipherSuite) -> Option<Suite> {
        let inner = self.inner.cipher_suite_provider(suite)?;
        Some(Suite { inner, noted: self.noted.clone() })
    }
}

/// A ciphersuite that takes notes.
#[derive(Clone)]
pub struct Suite {
    inner: Inner,
    noted: Arc<Mutex<Secrets>>,
}

/// Whether `info` is the KDFLabel of RFC 9420 §8 with this label.
fn is_label(info: &[u8], label: &str) -> bool {
    info.get(2).map(|length| usize::from(*length)) == Some(label.len())
        && info[3..].starts_with(label.as_bytes())
}

impl CipherSuiteProvider for Suite {
    type Error = <Inner as CipherSuiteProvider>::Error;
    type HpkeContextS = <Inner as CipherSuiteProvider>::HpkeContextS;
    type HpkeContextR = <Inner as CipherSuiteProvider>::HpkeContextR;

    fn kdf_expand(&self, prk: &[u8], info: &[u8], len: usize) -> Made<Zeroizing<Vec<u8>>> {
        let made = self.inner.kdf_expand(prk, info, len)?;
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if is_label(info, "MLS 1.0 encryption") {
            noted.encryption = made.to_vec();
        } else if is_label(info, "MLS 1.0 sender data") {
            noted.sender_data = made.to_vec();
        }
        Ok(made)
    }

    fn cipher_suite(&self) -> CipherSuite {
        self.inner.cipher_suite()
    }

    fn hash(&self, data: &[u8]) -> Made<Vec<u8>> {
        self.inner.hash(data)
    }

    fn mac(&self, key: &[u8], data: &[u8]) -> Made<Vec<u8>> {
        self.inner.mac(key, data)
    }

    fn aead_seal(
        &self,
        key: &[u8],
        data: &[u8],
        aad: Option<&[u8]>,
        nonce: &[u8],
    ) -> Made<Vec<u8>> {
        self.inner.aead_seal(key, data, aad, nonce)
    }

    fn aead_open(
        &self,
        key: &[u8],
        ciphertext: &[u8],
        aad: Option<&[u8]>,
        nonce: &[u8],
    ) -> Made<Zeroizing<Vec<u8>>> {
        self.inner.aead_open(key, ciphertext, aad, nonce)
    }

    fn aead_key_size(&self) -> usize {
        self.inner.aead_key_size()
    }

    fn aead_nonce_size(&self) -> usize {
        self.inner.aead_nonce_size()
    }

    fn kdf_extract(&self, salt: &[u8], ikm: &[u8]) -> Made<Zeroizing<Vec<u8>>> {
        self.inner.kdf_extract(salt, ikm)
    }

    fn kdf_extract_size(&self) -> usize {
        self.inner.kdf_extract_size()
    }

    fn hpke_seal(
        &self,
        remote_key: &HpkePublicKey,
        info: &[u8],
        aad: Option<&[u8]>,
        pt: &[u8],
    ) -> Made<HpkeCiphertext> {
        self.inner.hpke_seal(remote_key, info, aad, pt)
    }

    fn hpke_seal_psk(
        &self,
        remote_key: &HpkePublicKey,
        info: &[u8],
        aad: Option<&[u8]>,
        pt: &[u8],
        psk: HpkePsk<'_>,
    ) -> Made<HpkeCiphertext> {
        self.inner.hpke_seal_psk(remote_key, info, aad, pt, psk)
    }

    fn hpke_open(
        &self,
        ciphertext: &HpkeCiphertext,
        local_secret: &HpkeSecretKey,
        local_public: &HpkePublicKey,
        info: &[u8],
        aad: Option<&[u8]>,
    ) -> Made<Zeroizing<Vec<u8>>> {
        self.inner.hpke_open(ciphertext, local_secret, local_public, info, aad)
    }

    fn hpke_open_psk(
        &self,
        ciphertext: &HpkeCiphertext,
        local_secret: &HpkeSecretKey,
        local_public: &HpkePublicKey,
        info: &[u8],
        aad: Option<&[u8]>,
        psk: HpkePsk<'_>,
    ) -> Made<Zeroizing<Vec<u8>>> {
        self.inner.hpke_open_psk(ciphertext, local_secret, local_public, info, aad, psk)
    }

    fn hpke_setup_s(
        &self,
        remote_key: &HpkePublicKey,
        info: &[u8],
    ) -> Made<(Vec<u8>, Self::HpkeContextS)> {
        self.inner.hpke_setup_s(remote_key, info)
    }

    fn hpke_setup_r(
        &self,
        kem_output: &[u8],
        local_secret: &HpkeSecretKey,
        local_public: &HpkePublicKey,
        info: &[u8],
    ) -> Made<Self::HpkeContextR> {
        self.inner.hpke_setup_r(kem_output, local_secret, local_public, info)
    }

    fn kem_derive(&self, ikm: &[u8]) -> Made<(HpkeSecretKey, HpkePublicKey)> {
        self.inner.kem_derive(ikm)
    }

    fn kem_generate(&self) -> Made<(HpkeSecretKey, HpkePublicKey)> {
        self.inner.kem_generate()
    }

    fn kem_public_key_validate(&self, key: &HpkePublicKey) -> Made<()> {
        self.inner.kem_public_key_validate(key)
    }

    fn random_bytes(&self, out: &mut [u8]) -> Made<()> {
        CipherSuiteProvider::random_bytes(&self.inner, out)
    }

    fn signature_key_generate(&self) -> Made<(SignatureSecretKey, SignaturePublicKey)> {
        self.inner.signature_key_generate()
    }

    fn signature_key_derive_public(
        &self,
        secret_key: &SignatureSecretKey,
    ) -> Made<SignaturePublicKey> {
        self.inner.signature_key_derive_public(secret_key)
    }

    fn sign(&self, secret_key: &SignatureSecretKey, data: &[u8]) -> Made<Vec<u8>> {
        self.inner.sign(secret_key, data)
    }

    fn verify(&self, key: &SignaturePublicKey, signature: &[u8], data: &[u8]) -> Made<()> {
        self.inner.verify(key, signature, data)
    }
}
