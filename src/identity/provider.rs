//! The provider that OpenMLS gets for a call: crypto, randomness, and storage in one namespace.

use openmls_traits::OpenMlsProvider;

use super::crypto::Crypto;
use crate::store::MlsStorage;

/// An OpenMLS provider for the length of a transaction.
pub(crate) struct Provider<'a> {
    crypto: &'a Crypto,
    storage: MlsStorage<'a>,
}

impl<'a> Provider<'a> {
    pub(crate) fn new(crypto: &'a Crypto, storage: MlsStorage<'a>) -> Self {
        Self { crypto, storage }
    }
}

impl<'a> OpenMlsProvider for Provider<'a> {
    type CryptoProvider = Crypto;
    type RandProvider = Crypto;
    type StorageProvider = MlsStorage<'a>;

    fn storage(&self) -> &MlsStorage<'a> {
        &self.storage
    }

    fn crypto(&self) -> &Crypto {
        self.crypto
    }

    fn rand(&self) -> &Crypto {
        self.crypto
    }
}
