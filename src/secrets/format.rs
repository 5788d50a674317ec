//! The form of secrets in the account data (Matrix spec, "Storage").
//!
//! One event names the default key. An event of each key says how it is checked, and how a
//! passphrase makes it. An event of each secret has the secret under each key that it was sealed
//! with. Sealing is that of `sessions::seal`, with the secret's name in place of a session's id.

use openmls_traits::{crypto::OpenMlsCrypto, random::OpenMlsRand};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::{
    exported::PassphraseParameters,
    protocol::{decode_base64, encode_base64},
    sessions::{AuthData, BackupKey, PassphraseInfo, SealedError, SessionData, seal},
};

/// Which key is the default one.
pub(super) const DEFAULT_KEY: &str = "m.secret_storage.default_key";
/// What the type of a key's event begins with.
const KEY_PREFIX: &str = "m.secret_storage.key.";
/// How a key seals.
const ALGORITHM: &str = "m.secret_storage.v1.aes-hmac-sha2";
/// How a passphrase makes a key.
const PASSPHRASE: &str = "m.pbkdf2";
/// How many bits a key has.
const BITS: u32 = 256;
/// The longest id of a key that is taken for one.
const LONGEST_ID: usize = 255;

/// The secrets that this library reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secret {
    Master,
    SelfSigning,
    UserSigning,
    /// The key of a backup of this library's kind.
    OwnBackup,
    MegolmBackup,
}

pub(super) const SECRETS: [Secret; 5] = [
    Secret::Master,
    Secret::SelfSigning,
    Secret::UserSigning,
    Secret::OwnBackup,
    Secret::MegolmBackup,
];

impl Secret {
    /// Its name, which is the type of its event.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Master => "m.cross_signing.master",
            Self::SelfSigning => "m.cross_signing.self_signing",
            Self::UserSigning => "m.cross_signing.user_signing",
            Self::OwnBackup => crate::backup::OWN_SECRET,
            Self::MegolmBackup => crate::backup::MEGOLM_SECRET,
        }
    }
}

/// The type of a key's event.
pub(super) fn key_type(id: &str) -> String {
    format!("{KEY_PREFIX}{id}")
}

/// The id of the default key, as its event names it.
pub(super) fn default_key_id(content: &Value) -> Option<&str> {
    content["key"].as_str().filter(|id| !id.is_empty() && id.len() <= LONGEST_ID)
}

/// What a key's event says of the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeyDescription {
    pub(super) algorithm: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) passphrase: Option<Passphrase>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iv: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Passphrase {
    algorithm: String,
    salt: String,
    iterations: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bits: Option<u32>,
}

impl KeyDescription {
    /// What an event says; nothing where it says nothing of a key.
    pub(super) fn read(content: &Value) -> Option<Self> {
        let text = |name: &str| content[name].as_str().map(str::to_owned);
        Some(Self {
            algorithm: text("algorithm")?,
            // A passphrase that cannot be read leaves the key itself.
            passphrase: serde_json::from_value(content["passphrase"].clone()).ok(),
            iv: text("iv"),
            mac: text("mac"),
        })
    }

    /// The description of a new key.
    pub(super) fn of_new(
        crypto: &(impl OpenMlsCrypto + OpenMlsRand),
        key: &BackupKey,
        passphrase: &PassphraseInfo,
    ) -> Result<Self, SealedError> {
        let AuthData { iv, mac, .. } = seal::auth_data(crypto, key, PassphraseInfo::default())?;
        let passphrase =
            passphrase.private_key_salt.clone().zip(passphrase.private_key_iterations).map(
                |(salt, iterations)| Passphrase {
                    algorithm: PASSPHRASE.to_owned(),
                    salt,
                    iterations,
                    bits: Some(BITS),
                },
            );
        Ok(Self { algorithm: ALGORITHM.to_owned(), passphrase, iv: Some(iv), mac: Some(mac) })
    }

    /// Whether this library knows how the key seals.
    pub(super) fn is_supported(&self) -> bool {
        self.algorithm == ALGORITHM
    }

    /// Whether a key is this one; nothing where the description does not let that be checked.
    pub(super) fn is_of(&self, crypto: &impl OpenMlsCrypto, key: &BackupKey) -> Option<bool> {
        let (iv, mac) = (self.iv.clone()?, self.mac.clone()?);
        let proof = AuthData { iv, mac, passphrase: PassphraseInfo::default() };
        Some(seal::proves(crypto, key, &proof).unwrap_or(false))
    }

    /// How a passphrase makes the key, if one does.
    pub(super) fn passphrase_parameters(&self) -> Option<PassphraseParameters> {
        let passphrase = self.passphrase.as_ref()?;
        let is_known =
            passphrase.algorithm == PASSPHRASE && passphrase.bits.is_none_or(|bits| bits == BITS);
        is_known.then(|| PassphraseParameters {
            salt: passphrase.salt.clone(),
            rounds: passphrase.iterations,
        })
    }
}

/// Why a secret cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is not stored, or not under this key.
    Missing,
    /// It does not open with this key, or is no key.
    Damaged,
}

/// Opens a secret: 32 bytes.
pub(super) fn open(
    crypto: &impl OpenMlsCrypto,
    key: &BackupKey,
    key_id: &str,
    secret: Secret,
    content: &Value,
) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
    let sealed = content["encrypted"].get(key_id).ok_or(Unreadable::Missing)?;
    let sealed: SessionData =
        serde_json::from_value(sealed.clone()).map_err(|_| Unreadable::Damaged)?;
    let text = seal::open(crypto, key, secret.name(), &sealed).map_err(|_| Unreadable::Damaged)?;
    let text = std::str::from_utf8(&text).map_err(|_| Unreadable::Damaged)?;
    let bytes = Zeroizing::new(decode_base64(text.trim()).ok_or(Unreadable::Damaged)?);
    if bytes.len() == 32 { Ok(bytes) } else { Err(Unreadable::Damaged) }
}

/// A secret's event with the secret sealed under this key too. What is sealed under others stays.
pub(super) fn sealed_into(
    crypto: &(impl OpenMlsCrypto + OpenMlsRand),
    key: &BackupKey,
    key_id: &str,
    secret: Secret,
    bytes: &[u8],
    content: &Value,
) -> Result<Value, SealedError> {
    let text = Zeroizing::new(encode_base64(bytes));
    let sealed = seal::seal(crypto, key, secret.name(), text.as_bytes())?;
    let mut content = content.as_object().cloned().unwrap_or_default();
    let encrypted = content.entry("encrypted").or_insert_with(|| json!({}));
    if !encrypted.is_object() {
        *encrypted = Value::Object(Map::new());
    }
    encrypted[key_id] = json!(sealed);
    Ok(Value::Object(content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Crypto;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn description(json: Value) -> Result<KeyDescription, &'static str> {
        KeyDescription::read(&json).ok_or("it says nothing of a key")
    }

    /// What matrix-sdk's tests of `SecretStorageKey` restore.
    #[test]
    fn keys_of_another_client_are_known_and_others_are_not() -> Outcome {
        let crypto = Crypto::default();
        let by_passphrase = description(json!({
            "algorithm": "m.secret_storage.v1.aes-hmac-sha2",
            "iv": "gH2iNpiETFhApvW6/FFEJQ",
            "mac": "9Lw12m5SKDipNghdQXKjgpfdj1/K7HFI2brO+UWAGoM",
            "passphrase": {
                "algorithm": "m.pbkdf2",
                "salt": "IuLnH7S85YtZmkkBJKwNUKxWF42g9O1H",
                "iterations": 10,
            },
        }))?;
        let parameters = by_passphrase.passphrase_parameters().ok_or("no passphrase")?;
        let PassphraseParameters { salt, rounds } = parameters;
        // Their test has ten rounds, which nobody's key may have.
        assert!(BackupKey::from_passphrase("It's a secret to everybody", &salt, rounds).is_err());
        let key = BackupKey::stretched("It's a secret to everybody", &salt, rounds);
        assert_eq!(by_passphrase.is_of(&crypto, &key), Some(true));
        let other = BackupKey::stretched("It's a secret to nobody", &salt, rounds);
        assert_eq!(by_passphrase.is_of(&crypto, &other), Some(false));

        let by_text = description(json!({
            "algorithm": "m.secret_storage.v1.aes-hmac-sha2",
            "iv": "xv5b6/p3ExEw++wTyfSHEg==",
            "mac": "ujBBbXahnTAMkmPUX2/0+VTfUh63pGyVRuBcDMgmJC8=",
        }))?;
        let key = BackupKey::parse("EsTj 3yST y93F SLpB jJsz eAXc 2XzA ygD3 w69H fGaN TKBj jXEd")?;
        assert_eq!(by_text.is_of(&crypto, &key), Some(true));
        assert_eq!(by_text.is_of(&crypto, &other), Some(false));
        assert_eq!(by_text.passphrase_parameters(), None);
        let unchecked = description(json!({ "algorithm": "m.secret_storage.v1.aes-hmac-sha2" }))?;
        assert_eq!(unchecked.is_of(&crypto, &other), None);
        Ok(())
    }

    /// Sealed by Python's `hmac` and OpenSSL, as the specification says.
    #[test]
    fn a_secret_opens_under_its_own_key_id_and_name_only() -> Outcome {
        let crypto = Crypto::default();
        let bytes: Vec<u8> = (0..32).collect();
        let key = BackupKey::from_bytes(&bytes)?;
        let content = json!({ "encrypted": { "KEY": {
            "iv": "AQEBAQEBAQFBAgICAgICAg==",
            "ciphertext": "KVDR+tuDniexn8YQMTyqagO3bnNr39Ay9NbnVmXwR6hTqL1ffxnvViB24Q==",
            "mac": "PyMvPsuP6s9Rt8kWifzPpOEv1dyMHZCp7LWC4DMHh0k=",
        } } });
        let opened = open(&crypto, &key, "KEY", Secret::Master, &content);
        assert_eq!(opened.map_err(|_| "it does not open")?.as_slice(), [9; 32]);
        let open = |key_id, secret, content| {
            open(&crypto, &key, key_id, secret, content).err().ok_or("it opens")
        };
        assert_eq!(open("OTHER", Secret::Master, &content)?, Unreadable::Missing);
        assert_eq!(open("KEY", Secret::SelfSigning, &content)?, Unreadable::Damaged);
        let bad = json!({ "encrypted": { "KEY": { "iv": "", "ciphertext": 1 } } });
        assert_eq!(open("KEY", Secret::Master, &bad)?, Unreadable::Damaged);
        assert_eq!(open("KEY", Secret::Master, &json!([]))?, Unreadable::Missing);
        Ok(())
    }

    #[test]
    fn a_secret_is_sealed_beside_what_others_have_sealed() -> Outcome {
        let crypto = Crypto::default();
        let key = BackupKey::generate(&crypto).map_err(|_| "no randomness")?;
        let before = json!({ "encrypted": { "OLD": 1 }, "other": 2 });
        let after = sealed_into(&crypto, &key, "NEW", Secret::OwnBackup, &[5; 32], &before)?;
        assert_eq!((&after["encrypted"]["OLD"], &after["other"]), (&json!(1), &json!(2)));
        let opened = open(&crypto, &key, "NEW", Secret::OwnBackup, &after);
        assert_eq!(opened.map_err(|_| "it does not open")?.as_slice(), [5; 32]);
        let odd = json!({ "encrypted": [] });
        let after = sealed_into(&crypto, &key, "NEW", Secret::OwnBackup, &[5; 32], &odd)?;
        assert!(after["encrypted"]["NEW"].is_object());
        Ok(())
    }
}
