//! Ed25519 signatures over canonical JSON, verified in the one strict way.
//!
//! Under a key of small order, such as 32 bytes of zero, one signature fits about every fourth
//! text, and implementations disagree about which. So such keys, and signatures with such a point
//! in them, verify nothing here. OpenMLS's cryptography and vodozemac are as strict: devices that
//! disagreed on one signature would disagree on who is in a group.

use ed25519_dalek::{Signature, VerifyingKey};

/// Whether this key has signed the text. A key or a signature of another length has not.
pub(crate) fn is_signed(text: &str, key: &[u8], signature: &[u8]) -> bool {
    let key = key.try_into().ok().and_then(|key| VerifyingKey::from_bytes(key).ok());
    let signature = Signature::from_slice(signature).ok();
    key.zip(signature)
        .is_some_and(|(key, signature)| key.verify_strict(text.as_bytes(), &signature).is_ok())
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;

    #[test]
    fn a_key_has_signed_what_it_signed_and_nothing_else() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let public = key.verifying_key().to_bytes();
        let signature = key.sign(b"text").to_bytes();
        assert!(is_signed("text", &public, &signature));
        assert!(!is_signed("texts", &public, &signature));
        assert!(!is_signed("text", &public[1..], &signature));
        assert!(!is_signed("text", &public, &signature[1..]));
        assert!(!is_signed("text", &[], &[]));
    }

    #[test]
    fn a_key_of_small_order_has_signed_nothing() {
        // Points of the orders 4, 4, 1 and 2.
        let mut one = [0; 32];
        one[0] = 1;
        let mut minus_one = [0xff; 32];
        (minus_one[0], minus_one[31]) = (0xec, 0x7f);
        let mut zero_with_sign = [0; 32];
        zero_with_sign[31] = 0x80;
        let keys = [[0; 32], zero_with_sign, one, minus_one];
        for text in (0..64).map(|number| format!("text {number}")) {
            for key in keys {
                for first_half in keys {
                    let signature = [first_half, [0; 32]].concat();
                    assert!(!is_signed(&text, &key, &signature), "{key:?} {text}");
                }
            }
        }
    }
}
