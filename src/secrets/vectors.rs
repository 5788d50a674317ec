//! The specification's vectors of the keys by which one device hands its user's secrets to another
//! (`docs/spec/vectors`).

use openmls_rust_crypto::RustCrypto;
use openmls_traits::{crypto::OpenMlsCrypto as _, types::HashType};
use ruma::UserId;
use serde_json::{Value, json};
use vodozemac::{Curve25519PublicKey, Curve25519SecretKey, sas::Sas};

use super::handover::{Contents, HandoverContent};
use crate::{
    protocol::{
        encode_base64,
        identifiers::SECRETS_ALGORITHM,
        vectors::{Outcome, bytes, cases, file, hex, text},
    },
    sessions::{BackupKey, SessionData, seal},
    verification::handover::info,
};

/// The key of one direction, as the specification has it.
fn key_of(shared: &[u8], info: &str) -> Outcome<Vec<u8>> {
    let crypto = RustCrypto::default();
    let extracted = crypto.hkdf_extract(HashType::Sha2_256, &[], shared)?;
    let made = crypto.hkdf_expand(HashType::Sha2_256, extracted.as_slice(), info.as_bytes(), 32)?;
    Ok(made.as_slice().to_vec())
}

/// What the key of a case's direction is for, and that of the other direction.
fn directions(case: &Value) -> Outcome<[String; 2]> {
    let user = <&UserId>::try_from(text(case, "user_id")?)?;
    let device = |field: &str| -> Outcome<(&str, &str)> {
        Ok((text(&case[field], "device_id")?, text(&case[field], "ed25519")?))
    };
    let (from, to) = (device("from")?, device("to")?);
    let transaction = text(case, "transaction_id")?;
    Ok([info(user, from, to, transaction), info(user, to, from, transaction)])
}

/// The secret of a case's exchange, as the device of the private key computes it.
fn shared(case: &Value) -> Outcome<Vec<u8>> {
    let private: [u8; 32] = bytes(case, "private_key")?.try_into().map_err(|_| "32 bytes")?;
    let public: [u8; 32] = bytes(case, "public_key")?.try_into().map_err(|_| "32 bytes")?;
    let private = Curve25519SecretKey::from_slice(&private);
    let shared = private.diffie_hellman(&Curve25519PublicKey::from_bytes(public));
    Ok(shared.ok_or("a key of small order")?.as_bytes().to_vec())
}

fn make() -> Outcome<Value> {
    let crypto = RustCrypto::default();
    let device =
        |id: &str, byte: u8| json!({ "device_id": id, "ed25519": encode_base64(&[byte; 32]) });
    let (phone, laptop) = (device("PHONE", 1), device("LAPTOP", 2));
    let mut made = Vec::new();
    for (user, from, to, transaction) in [
        ("@alice:example.org", &phone, &laptop, "transaction"),
        ("@alice:example.org", &laptop, &phone, "transaction"),
        // Nothing in an id ends its part; lengths are in bytes.
        ("@alice:example.org", &device("A|43:B", 3), &device("\u{e9}", 4), "$event|1:x"),
    ] {
        let (private, sas) = (Curve25519SecretKey::new(), Sas::new());
        let mut case = json!({
            "private_key": hex(&*private.to_bytes()),
            "public_key": hex(sas.public_key().as_bytes()),
            "user_id": user, "from": from, "to": to, "transaction_id": transaction,
        });
        // The device with the other private key derives it as the library does.
        let [info, _] = directions(&case)?;
        let key = sas.diffie_hellman((&private).into())?.bytes_raw(&info, 32)?;
        let plaintext = json!({ "secrets": {
            "m.cross_signing.master": encode_base64(&[5; 32]),
            "m.cross_signing.self_signing": encode_base64(&[6; 32]),
            "m.cross_signing.user_signing": encode_base64(&[7; 32]),
        } });
        let sealed: SessionData = seal::seal(
            &crypto,
            &BackupKey::from_bytes(&key)?,
            SECRETS_ALGORITHM,
            plaintext.to_string().as_bytes(),
        )?;
        let sender = json!([user, from["device_id"]]);
        case["info"] = json!(info);
        case["key"] = json!(hex(&key));
        case["plaintext"] = plaintext;
        case["content"] = json!({
            "algorithm": SECRETS_ALGORITHM, "sender": sender, "transaction_id": transaction,
            "sealed": sealed,
        });
        made.push(case);
    }
    Ok(json!({ "handovers": made }))
}

#[test]
fn handovers() -> Outcome {
    let crypto = RustCrypto::default();
    let vectors = file("handovers", make)?;
    for case in cases(&vectors, "handovers")? {
        let [this, other] = directions(case)?;
        let shared = shared(case)?;
        assert_eq!(this, text(case, "info")?);
        assert_eq!(hex(&key_of(&shared, &this)?), text(case, "key")?);
        let content: HandoverContent = serde_json::from_value(case["content"].clone())?;
        assert_eq!(content.algorithm, SECRETS_ALGORITHM);
        let key = BackupKey::from_bytes(&bytes(case, "key")?)?;
        let opened = seal::open(&crypto, &key, SECRETS_ALGORITHM, &content.sealed)?;
        let contents: Contents = serde_json::from_slice(&opened)?;
        assert_eq!(json!(contents), case["plaintext"]);
        let key = BackupKey::from_bytes(&key_of(&shared, &other)?)?;
        assert!(seal::open(&crypto, &key, SECRETS_ALGORITHM, &content.sealed).is_err());
    }
    Ok(())
}

/// What vodozemac derives from an exchange is what the vectors say of one.
#[test]
fn keys_come_from_the_exchange_as_the_vectors_say() -> Outcome {
    let (private, sas) = (Curve25519SecretKey::new(), Sas::new());
    let shared = private.diffie_hellman(&sas.public_key()).ok_or("a key of small order")?;
    let derived = sas.diffie_hellman((&private).into())?.bytes_raw("any|3:use", 32)?;
    assert_eq!(key_of(shared.as_bytes(), "any|3:use")?, derived);
    Ok(())
}
