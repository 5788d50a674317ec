//! Which X25519 keys one can seal to (RFC 9180, section 7.1.4).

/// The keys of small order, and how else they are written: 0, 1 and -1, the two of order 8, and 0
/// and 1 with the prime added. The highest bit of a key does not count (RFC 7748, section 5).
const SMALL_ORDER: [[u8; 32]; 7] = [
    [0; 32],
    between(0x01, 0x00, 0x00),
    between(0xec, 0xff, 0x7f),
    between(0xed, 0xff, 0x7f),
    between(0xee, 0xff, 0x7f),
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef,
        0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f,
        0x11, 0x57,
    ],
];

/// A key with these bytes first, between and last.
const fn between(first: u8, rest: u8, last: u8) -> [u8; 32] {
    let mut key = [rest; 32];
    key[0] = first;
    key[31] = last;
    key
}

/// Whether bytes are an X25519 key that one can seal to. Under a key of small order the secret
/// would be one that everybody knows (RFC 9180, section 7.1.4).
pub(crate) fn is_usable_key(key: &[u8]) -> bool {
    let Ok(mut key) = <[u8; 32]>::try_from(key) else { return false };
    key[31] &= 0x7f;
    !SMALL_ORDER.contains(&key)
}

#[cfg(test)]
mod tests {
    use x25519_dalek::{PublicKey, StaticSecret};

    use super::*;

    #[test]
    fn keys_of_small_order_are_none_to_seal_to() {
        let secret = StaticSecret::from([7; 32]);
        for key in SMALL_ORDER {
            for last in [key[31], key[31] | 0x80] {
                let mut key = key;
                key[31] = last;
                assert!(!secret.diffie_hellman(&PublicKey::from(key)).was_contributory());
                assert!(!is_usable_key(&key));
            }
        }
        assert!(is_usable_key(PublicKey::from(&secret).as_bytes()));
        assert!(!is_usable_key(&[9; 31]) && !is_usable_key(&[9; 33]) && !is_usable_key(&[]));
    }
}
