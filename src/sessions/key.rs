//! The key of a backup: 32 random bytes, the text that a person writes down, and the passphrase
//! form.
//!
//! The text is the Matrix spec's ("Cryptographic key representation"): base58 of two prefix bytes,
//! the key, and a byte that makes the XOR of all bytes zero, in groups of four. A text that gives
//! no key has an error that says why, so that an app can tell the user: a character that cannot
//! occur, a missing or extra character, another kind of key, or a mistyped character, which the
//! parity shows.

use std::fmt;

use bs58::decode;
use openmls_traits::random::OpenMlsRand;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use sha2_010::Sha512;
use zeroize::{Zeroize, Zeroizing};

const PREFIX: [u8; 2] = [0x8B, 0x01];
const KEY_LENGTH: usize = 32;
/// The prefix, the key and the parity.
const TEXT_BYTES: usize = PREFIX.len() + KEY_LENGTH + 1;
/// The number of characters that so many bytes with this prefix have.
const TEXT_LENGTH: usize = 48;

/// The rounds with which this library stretches a passphrase.
pub(crate) const ROUNDS: u32 = 500_000;
/// The fewest rounds of a passphrase's key. Clients stretch with 500,000. Whoever describes the key
/// is the homeserver, and could have the user make one that is guessed in no time.
pub(super) const LEAST_ROUNDS: u32 = 100_000;
/// The most rounds that somebody else's file or backup can ask for: some seconds on a phone.
pub(super) const MOST_ROUNDS: u32 = 10_000_000;

/// Why a text or a passphrase gives no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    /// A character is not in base58, which leaves out 0, O, I and l because they look alike. The
    /// number is the character's position, from 1, without whitespace.
    #[error(
        "character {0} cannot occur in a recovery key: have the user check it (0, O, I and l do not occur)"
    )]
    Alphabet(usize),
    /// Characters are missing or too many.
    #[error(
        "a recovery key has 48 characters, this has {0}: have the user check that none is missing or doubled"
    )]
    Length(usize),
    /// The length is right, but it is another kind of key.
    #[error(
        "this is another kind of key: a recovery key begins with Es; have the user look for that one"
    )]
    Prefix,
    /// A character is wrong, or two are swapped.
    #[error(
        "a character is mistyped, or two are swapped: have the user compare the key with what was written down"
    )]
    Parity,
    /// A key does not have 32 bytes.
    #[error("a backup key has 32 bytes, this has {0}")]
    Bytes(usize),
    /// The passphrase is empty.
    #[error("the passphrase is empty: have the user type it")]
    EmptyPassphrase,
    /// The number of rounds is fewer than is safe, or more than anybody should ask for.
    #[error("a passphrase cannot be stretched with {0} rounds")]
    Rounds(u32),
}

/// A backup's secret key. It is wiped on drop, and `Debug` never shows it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct BackupKey(Zeroizing<[u8; KEY_LENGTH]>);

impl BackupKey {
    /// A new random key.
    pub(crate) fn generate<R: OpenMlsRand>(random: &R) -> Result<Self, R::Error> {
        Ok(Self(Zeroizing::new(random.random_array()?)))
    }

    /// The key of these bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let key = bytes.try_into().map_err(|_| KeyError::Bytes(bytes.len()))?;
        Ok(Self(Zeroizing::new(key)))
    }

    /// The key that a passphrase stands for (`m.pbkdf2` of the Matrix spec).
    pub(crate) fn from_passphrase(
        passphrase: &str,
        salt: &str,
        rounds: u32,
    ) -> Result<Self, KeyError> {
        if passphrase.is_empty() {
            return Err(KeyError::EmptyPassphrase);
        }
        if !(LEAST_ROUNDS..=MOST_ROUNDS).contains(&rounds) {
            return Err(KeyError::Rounds(rounds));
        }
        Ok(Self::stretched(passphrase, salt, rounds))
    }

    /// The same, whatever the rounds: [`from_passphrase`](Self::from_passphrase) has looked at
    /// them.
    pub(crate) fn stretched(passphrase: &str, salt: &str, rounds: u32) -> Self {
        let mut key = Zeroizing::new([0; KEY_LENGTH]);
        pbkdf2::pbkdf2_hmac::<Sha512>(passphrase.as_bytes(), salt.as_bytes(), rounds, &mut *key);
        Self(key)
    }

    /// Reads the text form. Whitespace is ignored.
    pub(crate) fn parse(text: &str) -> Result<Self, KeyError> {
        let length = text.chars().filter(|c| !c.is_whitespace()).count();
        if length != TEXT_LENGTH {
            return Err(KeyError::Length(length));
        }
        let mut characters = Zeroizing::new([0; TEXT_LENGTH]);
        let written = text.chars().filter(|c| !c.is_whitespace()).enumerate();
        for (place, (at, character)) in characters.iter_mut().zip(written) {
            *place = u8::try_from(character).map_err(|_| KeyError::Alphabet(at + 1))?;
        }
        // As long as the text: each leading 1 is a byte of its own.
        let mut bytes = Zeroizing::new([0; TEXT_LENGTH]);
        let length = bs58::decode(&*characters).onto(&mut *bytes).map_err(|error| match error {
            decode::Error::InvalidCharacter { index, .. }
            | decode::Error::NonAsciiCharacter { index } => KeyError::Alphabet(index + 1),
            _ => KeyError::Prefix,
        })?;
        // A key with fewer or more bytes begins with another number too.
        let bytes = bytes.get(..length).filter(|bytes| bytes.len() == TEXT_BYTES);
        let rest = bytes.and_then(|bytes| bytes.strip_prefix(&PREFIX)).ok_or(KeyError::Prefix)?;
        let parity = PREFIX.iter().chain(rest).fold(0, |parity, byte| parity ^ byte);
        if parity != 0 {
            return Err(KeyError::Parity);
        }
        Self::from_bytes(rest.get(..KEY_LENGTH).unwrap_or_default())
    }

    /// The text form, in groups of four.
    pub(crate) fn text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(TEXT_BYTES));
        bytes.extend_from_slice(&PREFIX);
        bytes.extend_from_slice(&*self.0);
        let parity = bytes.iter().fold(0, |parity, byte| parity ^ byte);
        bytes.push(parity);
        let mut characters = Zeroizing::new([0; TEXT_LENGTH]);
        // The buffer always suffices: 35 bytes that begin with 0x8B have 48 characters.
        let length = bs58::encode(&*bytes).onto(characters.as_mut_slice()).unwrap_or_default();
        // The whole size at once: growing would leave copies behind.
        let mut text = Zeroizing::new(String::with_capacity(TEXT_LENGTH * 5 / 4));
        for (at, character) in characters.iter().take(length).enumerate() {
            if at > 0 && at % 4 == 0 {
                text.push(' ');
            }
            text.push(char::from(*character));
        }
        text
    }

    /// The key's 32 bytes.
    pub(crate) fn bytes(&self) -> &[u8; KEY_LENGTH] {
        &self.0
    }
}

impl fmt::Debug for BackupKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("BackupKey(..)")
    }
}

impl Serialize for BackupKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&*self.0)
    }
}

impl<'de> Deserialize<'de> for BackupKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut bytes = ByteBuf::deserialize(deserializer)?;
        let key = Self::from_bytes(&bytes).map_err(serde::de::Error::custom);
        bytes.zeroize();
        key
    }
}

#[cfg(test)]
mod tests {
    use openmls_rust_crypto::{RandError, RustCrypto};
    use proptest::prelude::*;

    use super::*;

    const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

    /// The key of the Matrix spec's and of other clients' tests.
    const KNOWN: &str = "EsTcLW2KPGiFwKEA3As5g5c4BXwkqeeJZJV8Q9fugUMNUE4d";
    const KNOWN_BYTES: &str = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a";

    #[test]
    fn a_known_key_has_its_known_text() -> Result<(), KeyError> {
        let key = BackupKey::parse(KNOWN)?;
        let text = key.text();
        assert_eq!(text.replace(' ', ""), KNOWN);
        assert!(text.split(' ').all(|group| group.len() == 4), "{}", &*text);
        assert_eq!(
            BackupKey::parse("  EsTc LW2K\nPGiF wKEA 3As5 g5c4 BXwk qeeJ ZJV8 Q9fu gUMN UE4d "),
            Ok(key)
        );
        assert_eq!(hex::encode(BackupKey::parse(KNOWN)?.bytes()), KNOWN_BYTES);
        Ok(())
    }

    #[test]
    fn a_wrong_text_says_what_is_wrong() {
        let parse = |text: &str| BackupKey::parse(text).unwrap_err();
        assert_eq!(parse(""), KeyError::Length(0));
        assert_eq!(parse(&KNOWN[..47]), KeyError::Length(47));
        assert_eq!(parse(&format!("{KNOWN}d")), KeyError::Length(49));
        assert_eq!(parse(&"z".repeat(100_000)), KeyError::Length(100_000));
        assert_eq!(parse(&KNOWN.replacen('T', "0", 1)), KeyError::Alphabet(3));
        assert_eq!(parse(&KNOWN.replacen('T', "é", 1)), KeyError::Alphabet(3));
        assert_eq!(parse(&KNOWN.replacen("Es", "Et", 1)), KeyError::Prefix);
        assert_eq!(parse(&KNOWN.replacen("E4d", "E4e", 1)), KeyError::Parity);
        assert_eq!(BackupKey::from_bytes(&[0; 31]), Err(KeyError::Bytes(31)));
    }

    #[test]
    fn nothing_shows_a_key() -> Result<(), KeyError> {
        let key = BackupKey::parse(KNOWN)?;
        assert_eq!(format!("{key:?}"), "BackupKey(..)");
        Ok(())
    }

    #[test]
    fn a_passphrase_makes_the_key_that_others_make() -> Result<(), KeyError> {
        // PBKDF2-HMAC-SHA-512 of Python's hashlib.
        let key = BackupKey::from_passphrase("It's a secret to everybody", "salt", LEAST_ROUNDS)?;
        assert_eq!(hex::encode(key.bytes()), PBKDF2);
        assert_eq!(BackupKey::from_passphrase("", "salt", ROUNDS), Err(KeyError::EmptyPassphrase));
        for rounds in [0, 1, LEAST_ROUNDS - 1, MOST_ROUNDS + 1, u32::MAX] {
            let refused = BackupKey::from_passphrase("a", "salt", rounds);
            assert_eq!(refused, Err(KeyError::Rounds(rounds)));
        }
        Ok(())
    }

    const PBKDF2: &str = "6189f90d3f486972ed7a953b8fef9b84b1c6464d0cbc970b766c632435b9879f";

    proptest! {
        #[test]
        fn every_key_survives_its_text(bytes: [u8; 32]) {
            let key = BackupKey::from_bytes(&bytes)?;
            prop_assert_eq!(BackupKey::parse(&key.text()), Ok(key));
        }

        #[test]
        fn one_wrong_character_never_passes(bytes: [u8; 32], at in 0..48_usize, with in 0..58_usize) {
            let key = BackupKey::from_bytes(&bytes)?;
            let mut text: Vec<u8> = key.text().bytes().filter(|b| *b != b' ').collect();
            prop_assume!(text[at] != ALPHABET[with]);
            text[at] = ALPHABET[with];
            let read = BackupKey::parse(std::str::from_utf8(&text)?);
            prop_assert_ne!(read.ok(), Some(key));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}") {
            let _ = BackupKey::parse(&text);
        }
    }

    #[test]
    fn keys_are_random() -> Result<(), RandError> {
        let crypto = RustCrypto::default();
        assert_ne!(BackupKey::generate(&crypto)?, BackupKey::generate(&crypto)?);
        Ok(())
    }
}
