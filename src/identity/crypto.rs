//! The cryptography of the one ciphersuite that rooms use.
//!
//! RustCrypto knows a dozen algorithms, and a number that arrives in a message selects one. This
//! file refuses every other number before it reaches any code. So what is not used cannot be
//! attacked and is not in the library: three elliptic curves with their arithmetic would be 0.17 MB
//! that a phone need not carry (docs/decisions/005). A second suite is added here and in
//! `protocol::identifiers`.

use hpke_rs::{Hpke, HpkeError, Mode};
use hpke_rs_crypto::{
    HpkeCrypto,
    error::Error as HpkeCryptoError,
    types::{AeadAlgorithm, KdfAlgorithm, KemAlgorithm},
};
use hpke_rs_rust_crypto::HpkeRustCrypto;
use openmls_rust_crypto::RustCrypto;
use openmls_traits::{
    crypto::OpenMlsCrypto,
    random::OpenMlsRand,
    types::{
        AeadType, Ciphersuite, CryptoError, ExporterSecret, HashType, HpkeAeadType, HpkeCiphertext,
        HpkeConfig, HpkeKdfType, HpkeKemType, HpkeKeyPair, SignatureScheme,
    },
};
use tls_codec::SecretVLBytes;
use x25519_dalek::{PublicKey, StaticSecret};

use super::{usable::is_usable_key, verified::Verified};

/// MLS ciphersuite 1 (RFC 9420, section 17.1).
pub(crate) const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;

/// Crypto and randomness for [`SUITE`].
#[derive(Debug, Default)]
pub(crate) struct Crypto(RustCrypto, Verified);

fn check_hash(hash: HashType) -> Result<(), CryptoError> {
    if hash == HashType::Sha2_256 { Ok(()) } else { Err(CryptoError::UnsupportedHashAlgorithm) }
}

fn check_aead(aead: AeadType) -> Result<(), CryptoError> {
    if aead == AeadType::Aes128Gcm { Ok(()) } else { Err(CryptoError::UnsupportedAeadAlgorithm) }
}

fn check_signature_scheme(scheme: SignatureScheme) -> Result<(), CryptoError> {
    if scheme == SignatureScheme::ED25519 {
        Ok(())
    } else {
        Err(CryptoError::UnsupportedSignatureScheme)
    }
}

/// HPKE in the suite's configuration (RFC 9180, mode Base).
fn hpke(config: HpkeConfig) -> Result<Hpke<SuiteHpke>, CryptoError> {
    let HpkeConfig(HpkeKemType::DhKem25519, HpkeKdfType::HkdfSha256, HpkeAeadType::AesGcm128) =
        config
    else {
        return Err(CryptoError::UnsupportedCiphersuite);
    };
    let (kem, kdf) = (KemAlgorithm::DhKem25519, KdfAlgorithm::HkdfSha256);
    Ok(Hpke::new(Mode::Base, kem, kdf, AeadAlgorithm::Aes128Gcm))
}

impl Crypto {
    /// Lets go of what is remembered.
    pub(crate) fn release_memory(&self) {
        self.1.forget();
    }

    /// A public key whose private key nobody has ever had: any 32 bytes are one.
    fn throwaway(&self) -> Result<[u8; 32], CryptoError> {
        self.0.random_array().map_err(|_| CryptoError::InsufficientRandomness)
    }
}

impl OpenMlsCrypto for Crypto {
    fn supports(&self, ciphersuite: Ciphersuite) -> Result<(), CryptoError> {
        if ciphersuite == SUITE { Ok(()) } else { Err(CryptoError::UnsupportedCiphersuite) }
    }

    fn supported_ciphersuites(&self) -> Vec<Ciphersuite> {
        vec![SUITE]
    }

    fn hkdf_extract(
        &self,
        hash: HashType,
        salt: &[u8],
        ikm: &[u8],
    ) -> Result<SecretVLBytes, CryptoError> {
        check_hash(hash)?;
        self.0.hkdf_extract(HashType::Sha2_256, salt, ikm)
    }

    fn hmac(
        &self,
        hash: HashType,
        key: &[u8],
        message: &[u8],
    ) -> Result<SecretVLBytes, CryptoError> {
        check_hash(hash)?;
        self.0.hmac(HashType::Sha2_256, key, message)
    }

    fn hkdf_expand(
        &self,
        hash: HashType,
        prk: &[u8],
        info: &[u8],
        length: usize,
    ) -> Result<SecretVLBytes, CryptoError> {
        check_hash(hash)?;
        self.0.hkdf_expand(HashType::Sha2_256, prk, info, length)
    }

    fn hash(&self, hash: HashType, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        check_hash(hash)?;
        self.0.hash(HashType::Sha2_256, data)
    }

    fn aead_encrypt(
        &self,
        aead: AeadType,
        key: &[u8],
        data: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        check_aead(aead)?;
        self.0.aead_encrypt(AeadType::Aes128Gcm, key, data, nonce, aad)
    }

    fn aead_decrypt(
        &self,
        aead: AeadType,
        key: &[u8],
        ciphertext: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        check_aead(aead)?;
        self.0.aead_decrypt(AeadType::Aes128Gcm, key, ciphertext, nonce, aad)
    }

    fn signature_key_gen(
        &self,
        scheme: SignatureScheme,
    ) -> Result<(Vec<u8>, Vec<u8>), CryptoError> {
        check_signature_scheme(scheme)?;
        self.0.signature_key_gen(SignatureScheme::ED25519)
    }

    fn verify_signature(
        &self,
        scheme: SignatureScheme,
        data: &[u8],
        key: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        check_signature_scheme(scheme)?;
        self.1.or_verify((data, key, signature), || {
            self.0.verify_signature(SignatureScheme::ED25519, data, key, signature)
        })
    }

    fn sign(
        &self,
        scheme: SignatureScheme,
        data: &[u8],
        key: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        check_signature_scheme(scheme)?;
        self.0.sign(SignatureScheme::ED25519, data, key)
    }

    fn hpke_seal(
        &self,
        config: HpkeConfig,
        public_key: &[u8],
        info: &[u8],
        aad: &[u8],
        plaintext: &[u8],
    ) -> Result<HpkeCiphertext, CryptoError> {
        let seal = |key: &[u8]| {
            hpke(config)?
                .seal(&key.into(), info, aad, plaintext, None, None, None)
                .map_err(|error| crypto_error(&error))
        };
        // MLS seals to the keys of a tree, in which each member puts its own: one that nobody can
        // seal to would end all commits. Whoever is behind such a key gets what nobody can open.
        let (kem_output, ciphertext) =
            if is_usable_key(public_key) { seal(public_key)? } else { seal(&self.throwaway()?)? };
        Ok(HpkeCiphertext { kem_output: kem_output.into(), ciphertext: ciphertext.into() })
    }

    fn hpke_open(
        &self,
        config: HpkeConfig,
        input: &HpkeCiphertext,
        private_key: &[u8],
        info: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        let (output, ciphertext) = (input.kem_output.as_slice(), input.ciphertext.as_slice());
        hpke(config)?
            .open(output, &private_key.into(), info, aad, ciphertext, None, None, None)
            .map_err(|_| CryptoError::HpkeDecryptionError)
    }

    fn hpke_setup_sender_and_export(
        &self,
        config: HpkeConfig,
        public_key: &[u8],
        info: &[u8],
        exporter_context: &[u8],
        exporter_length: usize,
    ) -> Result<(Vec<u8>, ExporterSecret), CryptoError> {
        let (kem_output, context) = hpke(config)?
            .setup_sender(&public_key.into(), info, None, None, None)
            .map_err(|_| CryptoError::SenderSetupError)?;
        let secret = context
            .export(exporter_context, exporter_length)
            .map_err(|_| CryptoError::ExporterError)?;
        Ok((kem_output, secret.into()))
    }

    fn hpke_setup_receiver_and_export(
        &self,
        config: HpkeConfig,
        kem_output: &[u8],
        private_key: &[u8],
        info: &[u8],
        exporter_context: &[u8],
        exporter_length: usize,
    ) -> Result<ExporterSecret, CryptoError> {
        let context = hpke(config)?
            .setup_receiver(kem_output, &private_key.into(), info, None, None, None)
            .map_err(|_| CryptoError::ReceiverSetupError)?;
        let secret = context.export(exporter_context, exporter_length);
        Ok(secret.map_err(|_| CryptoError::ExporterError)?.into())
    }

    fn derive_hpke_keypair(
        &self,
        config: HpkeConfig,
        ikm: &[u8],
    ) -> Result<HpkeKeyPair, CryptoError> {
        let pair = hpke(config)?.derive_key_pair(ikm).map_err(|error| crypto_error(&error))?;
        let (private, public) = pair.into_keys();
        Ok(HpkeKeyPair { private: private.as_slice().into(), public: public.as_slice().into() })
    }
}

fn crypto_error(error: &HpkeError) -> CryptoError {
    match error {
        HpkeError::InvalidInput => CryptoError::InvalidLength,
        _ => CryptoError::CryptoLibraryError,
    }
}

impl OpenMlsRand for Crypto {
    type Error = <RustCrypto as OpenMlsRand>::Error;

    fn random_array<const N: usize>(&self) -> Result<[u8; N], Self::Error> {
        self.0.random_array()
    }

    fn random_vec(&self, length: usize) -> Result<Vec<u8>, Self::Error> {
        self.0.random_vec(length)
    }
}

/// HPKE's provider, with the suite's algorithms alone.
#[derive(Debug)]
struct SuiteHpke;

const KEM: KemAlgorithm = KemAlgorithm::DhKem25519;
const KDF: KdfAlgorithm = KdfAlgorithm::HkdfSha256;
const AEAD: AeadAlgorithm = AeadAlgorithm::Aes128Gcm;

fn x25519_secret(key: &[u8]) -> Result<StaticSecret, HpkeCryptoError> {
    let key: [u8; 32] = key.try_into().map_err(|_| HpkeCryptoError::KemInvalidSecretKey)?;
    Ok(StaticSecret::from(key))
}

type Bytes = Result<Vec<u8>, HpkeCryptoError>;
type TwoBytes = Result<(Vec<u8>, Vec<u8>), HpkeCryptoError>;

impl HpkeCrypto for SuiteHpke {
    type HpkePrng = <HpkeRustCrypto as HpkeCrypto>::HpkePrng;

    fn name() -> String {
        HpkeRustCrypto::name()
    }

    fn supports_kdf(kdf: KdfAlgorithm) -> Result<(), HpkeCryptoError> {
        if kdf == KDF { Ok(()) } else { Err(HpkeCryptoError::UnknownKdfAlgorithm) }
    }

    fn supports_kem(kem: KemAlgorithm) -> Result<(), HpkeCryptoError> {
        if kem == KEM { Ok(()) } else { Err(HpkeCryptoError::UnknownKemAlgorithm) }
    }

    fn supports_aead(aead: AeadAlgorithm) -> Result<(), HpkeCryptoError> {
        if aead == AEAD { Ok(()) } else { Err(HpkeCryptoError::UnknownAeadAlgorithm) }
    }

    fn prng() -> Self::HpkePrng {
        HpkeRustCrypto::prng()
    }

    fn kdf_extract(kdf: KdfAlgorithm, salt: &[u8], ikm: &[u8]) -> Bytes {
        Self::supports_kdf(kdf)?;
        HpkeRustCrypto::kdf_extract(KDF, salt, ikm)
    }

    fn kdf_expand(kdf: KdfAlgorithm, prk: &[u8], info: &[u8], length: usize) -> Bytes {
        Self::supports_kdf(kdf)?;
        HpkeRustCrypto::kdf_expand(KDF, prk, info, length)
    }

    fn dh(kem: KemAlgorithm, public_key: &[u8], private_key: &[u8]) -> Bytes {
        Self::supports_kem(kem)?;
        let public_key: [u8; 32] =
            public_key.try_into().map_err(|_| HpkeCryptoError::KemInvalidPublicKey)?;
        let shared = x25519_secret(private_key)?.diffie_hellman(&PublicKey::from(public_key));
        // A point of small order makes a secret that everybody knows (RFC 9180, section 7.1.4).
        if !shared.was_contributory() {
            return Err(HpkeCryptoError::KemInvalidPublicKey);
        }
        Ok(shared.as_bytes().to_vec())
    }

    fn secret_to_public(kem: KemAlgorithm, private_key: &[u8]) -> Bytes {
        Self::supports_kem(kem)?;
        Ok(PublicKey::from(&x25519_secret(private_key)?).as_bytes().to_vec())
    }

    // The remaining functions are for other kinds of KEM. For a KEM by Diffie-Hellman, HPKE itself
    // makes keys of random bytes, and every X25519 key is valid.

    fn kem_key_gen(_: KemAlgorithm, _: &mut Self::HpkePrng) -> TwoBytes {
        Err(HpkeCryptoError::UnsupportedKemOperation)
    }

    fn kem_key_gen_derand(_: KemAlgorithm, _: &[u8]) -> TwoBytes {
        Err(HpkeCryptoError::UnsupportedKemOperation)
    }

    fn kem_encaps(_: KemAlgorithm, _: &[u8], _: &mut Self::HpkePrng) -> TwoBytes {
        Err(HpkeCryptoError::UnsupportedKemOperation)
    }

    fn kem_decaps(_: KemAlgorithm, _: &[u8], _: &[u8]) -> Bytes {
        Err(HpkeCryptoError::UnsupportedKemOperation)
    }

    fn dh_validate_sk(_: KemAlgorithm, _: &[u8]) -> Bytes {
        Err(HpkeCryptoError::UnsupportedKemOperation)
    }

    fn aead_seal(
        aead: AeadAlgorithm,
        key: &[u8],
        nonce: &[u8],
        aad: &[u8],
        message: &[u8],
    ) -> Bytes {
        Self::supports_aead(aead)?;
        HpkeRustCrypto::aead_seal(AEAD, key, nonce, aad, message)
    }

    fn aead_open(
        aead: AeadAlgorithm,
        key: &[u8],
        nonce: &[u8],
        aad: &[u8],
        message: &[u8],
    ) -> Bytes {
        Self::supports_aead(aead)?;
        HpkeRustCrypto::aead_open(AEAD, key, nonce, aad, message)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    type Outcome = Result<(), Box<dyn Error>>;

    #[test]
    fn another_algorithm_is_refused() -> Outcome {
        let crypto = Crypto::default();
        for id in 1..=7_u16 {
            let suite = Ciphersuite::try_from(id)?;
            let supported = crypto.supports(suite).is_ok();
            assert_eq!(supported, suite == SUITE);
            assert_eq!(
                crypto.signature_key_gen(suite.signature_algorithm()).is_ok(),
                suite.signature_algorithm() == SignatureScheme::ED25519
            );
            assert_eq!(
                crypto.derive_hpke_keypair(suite.hpke_config(), &[7; 32]).is_ok(),
                supported
            );
            assert_eq!(
                crypto.hash(suite.hash_algorithm(), b"").is_ok(),
                suite.hash_algorithm() == HashType::Sha2_256
            );
        }
        assert!(crypto.aead_encrypt(AeadType::Aes256Gcm, &[0; 32], b"", &[0; 12], b"").is_err());
        Ok(())
    }

    #[test]
    fn it_is_the_same_cryptography() -> Outcome {
        let (ours, theirs) = (Crypto::default(), RustCrypto::default());
        let config = || SUITE.hpke_config();
        let pair = ours.derive_hpke_keypair(config(), &[7; 32])?;
        assert_eq!(pair.public, theirs.derive_hpke_keypair(config(), &[7; 32])?.public);
        let sealed = ours.hpke_seal(config(), &pair.public, b"info", b"aad", b"text")?;
        let opened = theirs.hpke_open(config(), &sealed, &pair.private, b"info", b"aad")?;
        assert_eq!(opened, b"text");
        let sealed = theirs.hpke_seal(config(), &pair.public, b"info", b"aad", b"text")?;
        let opened = ours.hpke_open(config(), &sealed, &pair.private, b"info", b"aad")?;
        assert_eq!(opened, b"text");
        let (output, secret) =
            ours.hpke_setup_sender_and_export(config(), &pair.public, b"i", b"c", 32)?;
        let private = &pair.private;
        let received =
            theirs.hpke_setup_receiver_and_export(config(), &output, private, b"i", b"c", 32);
        assert_eq!(*secret, *received?);
        Ok(())
    }

    #[test]
    fn sealing_to_no_usable_key_gives_what_nobody_opens() -> Outcome {
        let crypto = Crypto::default();
        let seal =
            |key: &[u8]| crypto.hpke_seal(SUITE.hpke_config(), key, b"info", b"aad", b"text");
        for key in [vec![0; 32], vec![9; 31], Vec::new()] {
            let (one, other) = (seal(&key)?, seal(&key)?);
            assert_eq!(one.ciphertext.as_slice().len(), b"text".len() + 16);
            assert_ne!(one.kem_output.as_slice(), other.kem_output.as_slice());
            assert!(is_usable_key(one.kem_output.as_slice()));
        }
        Ok(())
    }
}
