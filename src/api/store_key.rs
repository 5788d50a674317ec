//! `StoreKey`: how an app's store is sealed, checked on its way in.

use std::fmt;

use zeroize::Zeroizing;

use super::error::MlsError;
use crate::store::StoreKeyMaterial;

/// The secret that seals the store's random data key.
#[derive(Clone, uniffi::Enum)]
#[uniffi::export(Debug)]
pub enum StoreKey {
    /// 32 bytes from the platform's key store (Android Keystore, iOS Keychain).
    Raw {
        /// The key.
        key: Vec<u8>,
    },
    /// A passphrase, stretched with PBKDF2: opening takes a noticeable time.
    Passphrase {
        /// The passphrase.
        passphrase: String,
    },
    /// No protection beyond the file system's. Only for tests.
    Unprotected,
}

/// Says of which kind it is, and nothing of the secret.
impl fmt::Debug for StoreKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Raw { .. } => "StoreKey.Raw(..)",
            Self::Passphrase { .. } => "StoreKey.Passphrase(..)",
            Self::Unprotected => "StoreKey.Unprotected",
        })
    }
}

/// A store key that was checked. It is wiped on drop.
pub(super) enum CheckedKey {
    Raw(Zeroizing<[u8; 32]>),
    Passphrase(Zeroizing<String>),
    Unprotected,
}

impl StoreKey {
    pub(super) fn checked(self) -> Result<CheckedKey, MlsError> {
        match self {
            Self::Raw { key } => {
                let key = Zeroizing::new(key);
                let key = key.as_slice().try_into().map_err(|_| {
                    MlsError::invalid(
                        "bad_store_key",
                        "store_key: a raw key has 32 bytes: give one from the platform's key store",
                    )
                })?;
                Ok(CheckedKey::Raw(Zeroizing::new(key)))
            }
            Self::Passphrase { passphrase } if passphrase.is_empty() => Err(MlsError::invalid(
                "bad_store_key",
                "store_key: the passphrase is empty: have the user type one",
            )),
            Self::Passphrase { passphrase } => {
                Ok(CheckedKey::Passphrase(Zeroizing::new(passphrase)))
            }
            Self::Unprotected => Ok(CheckedKey::Unprotected),
        }
    }
}

impl CheckedKey {
    pub(super) fn material(&self) -> StoreKeyMaterial<'_> {
        match self {
            Self::Raw(key) => StoreKeyMaterial::Raw(key),
            Self::Passphrase(passphrase) => StoreKeyMaterial::Passphrase(passphrase),
            Self::Unprotected => StoreKeyMaterial::None,
        }
    }
}
