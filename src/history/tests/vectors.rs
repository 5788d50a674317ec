//! The MLS working group's vectors (tests/vectors), for whatever ciphersuite they name.

use openmls::prelude::SignatureScheme;
use openmls_traits::types::Ciphersuite;
use tls_codec::{SecretVLBytes, TlsSerialize, TlsSize, VLBytes};

use super::*;
use crate::history::{
    ContentType, Header, peek,
    secret_tree::{MessageKey, Ratchet, sender_data_key},
};

const SECRET_TREE: &str = include_str!("../../../tests/vectors/secret-tree.json");
const MESSAGE_PROTECTION: &str = include_str!("../../../tests/vectors/message-protection.json");

#[derive(Deserialize)]
struct SecretTreeVector {
    cipher_suite: u16,
    encryption_secret: String,
    sender_data: SenderDataVector,
    leaves: Vec<Vec<GenerationVector>>,
}

#[derive(Deserialize)]
struct SenderDataVector {
    sender_data_secret: String,
    ciphertext: String,
    key: String,
    nonce: String,
}

#[derive(Deserialize)]
struct GenerationVector {
    generation: u32,
    application_key: String,
    application_nonce: String,
    handshake_key: String,
    handshake_nonce: String,
}

#[derive(Deserialize)]
struct MessageProtectionVector {
    cipher_suite: u16,
    group_id: String,
    epoch: u64,
    tree_hash: String,
    confirmed_transcript_hash: String,
    signature_priv: String,
    signature_pub: String,
    encryption_secret: String,
    sender_data_secret: String,
    proposal_priv: String,
    proposal_pub: String,
    commit_priv: String,
    commit_pub: String,
    application: String,
    application_priv: String,
}

#[derive(TlsSerialize, TlsSize)]
struct Context {
    version: u16,
    cipher_suite: u16,
    group_id: VLBytes,
    epoch: u64,
    tree_hash: VLBytes,
    confirmed_transcript_hash: VLBytes,
    extensions: VLBytes,
}

fn bytes(text: &str) -> Outcome<Vec<u8>> {
    Ok(hex::decode(text)?)
}

fn assert_key(found: &MessageKey, key: &str, nonce: &str) -> Outcome {
    assert_eq!(found.key.as_slice(), bytes(key)?);
    assert_eq!(found.nonce.as_slice(), bytes(nonce)?);
    Ok(())
}

#[test]
fn secret_tree() -> Outcome {
    let vectors: Vec<SecretTreeVector> = serde_json::from_str(SECRET_TREE)?;
    let crypto = RustCrypto::default();
    let mut checked = 0;
    for vector in vectors {
        let context = Context {
            version: 1,
            cipher_suite: vector.cipher_suite,
            group_id: b"any".into(),
            epoch: 0,
            tree_hash: b"any".into(),
            confirmed_transcript_hash: b"any".into(),
            extensions: b"".into(),
        };
        let keys = EpochKeys::new(
            tls_codec::Serialize::tls_serialize_detached(&context)?,
            bytes(&vector.sender_data.sender_data_secret)?.into(),
            bytes(&vector.encryption_secret)?.into(),
            vector.leaves.len() as u32,
            Some(0),
        )?;
        let ciphertext = bytes(&vector.sender_data.ciphertext)?;
        let sender_data = sender_data_key(&keys, &crypto, &ciphertext)?;
        assert_key(&sender_data, &vector.sender_data.key, &vector.sender_data.nonce)?;

        for (leaf, generations) in (0..).zip(&vector.leaves) {
            let mut application = Ratchet::application(&keys, &crypto, leaf)?;
            let mut handshake = Ratchet::new(&keys, &crypto, leaf, "handshake")?;
            // Forwards and backwards.
            for vector in generations.iter().chain(generations.iter().rev()) {
                let generation = vector.generation;
                let key = application.message_key(&crypto, generation)?;
                assert_key(&key, &vector.application_key, &vector.application_nonce)?;
                let key = handshake.message_key(&crypto, generation)?;
                assert_key(&key, &vector.handshake_key, &vector.handshake_nonce)?;
                checked += 1;
            }
        }
    }
    // One tree of one leaf and one of eight, two generations each, each looked at twice.
    assert_eq!(checked, (1 + 8) * 2 * 2);
    Ok(())
}

#[test]
fn message_protection() -> Outcome {
    let vectors: Vec<MessageProtectionVector> = serde_json::from_str(MESSAGE_PROTECTION)?;
    assert!(!vectors.is_empty());
    for vector in vectors {
        let suite = Ciphersuite::try_from(vector.cipher_suite)?;
        let context = Context {
            version: 1,
            cipher_suite: vector.cipher_suite,
            group_id: bytes(&vector.group_id)?.into(),
            epoch: vector.epoch,
            tree_hash: bytes(&vector.tree_hash)?.into(),
            confirmed_transcript_hash: bytes(&vector.confirmed_transcript_hash)?.into(),
            extensions: b"".into(),
        };
        // The format says: two members, and leaf 1 sends.
        let keys = EpochKeys::new(
            tls_codec::Serialize::tls_serialize_detached(&context)?,
            bytes(&vector.sender_data_secret)?.into(),
            bytes(&vector.encryption_secret)?.into(),
            2,
            Some(1),
        )?;
        let credential = BasicCredential::new(b"sender".to_vec()).into();
        let leaf = Leaf::new(&credential, bytes(&vector.signature_pub)?)?;
        let crypto = RustCrypto::default();
        let opens = |message: &[u8]| {
            open(&keys, &mut RatchetCache::default(), &crypto, message, |n| {
                assert_eq!(n, 1);
                Ok::<_, OpenError>(Some(leaf.clone()))
            })
        };

        let application = bytes(&vector.application)?;
        let opened = opens(&bytes(&vector.application_priv)?)?;
        assert_eq!(*opened.plaintext, application);
        for message in [&vector.proposal_priv, &vector.commit_priv] {
            let refused = opens(&bytes(message)?).unwrap_err();
            assert_eq!(refused, OpenError::NotApplication);
        }
        for message in [&vector.proposal_pub, &vector.commit_pub] {
            assert_eq!(opens(&bytes(message)?).unwrap_err(), OpenError::NotPrivate);
        }

        let scheme: SignatureScheme = suite.signature_algorithm();
        let private = bytes(&vector.signature_priv)?;
        let signer = SignatureKeyPair::from_raw(scheme, private, bytes(&vector.signature_pub)?);
        let draft = MessageDraft {
            generation: opened.generation,
            authenticated_data: &opened.authenticated_data,
            plaintext: &application,
            padding: 0,
        };
        let sealed = seal(&keys, &mut RatchetCache::default(), &crypto, &signer, &draft)?;
        let again = opens(&sealed)?;
        assert_eq!(*again.plaintext, application);
        assert_eq!(again.generation, opened.generation);
        assert_eq!(again.authenticated_data, opened.authenticated_data);

        for (message, content_type) in [
            (&vector.proposal_pub, ContentType::Proposal),
            (&vector.commit_pub, ContentType::Commit),
        ] {
            let header = Header::Public {
                group_id: bytes(&vector.group_id)?,
                epoch: vector.epoch,
                content_type,
            };
            assert_eq!(peek(&bytes(message)?), Ok(header));
        }
    }
    Ok(())
}

/// The whole point of [`SecretVLBytes`] here: what is derived does not print.
#[test]
fn exports_do_not_print_their_secrets() -> Outcome {
    let mut alice = Device::new("alice")?;
    alice.create_group(SUITE)?;
    let epoch = alice.export()?;
    let printed = format!("{:?}", epoch.keys);
    for secret in [epoch.keys.encryption_secret(), epoch.keys.sender_data_secret()] {
        assert!(!printed.contains(&hex::encode(secret)));
        assert!(!printed.contains(&format!("{:?}", SecretVLBytes::from(secret))));
        assert!(!printed.contains(&format!("{secret:?}")));
    }
    let message = alice.send(b"", b"a secret text")?;
    let printed = format!("{:?}", epoch.open(&message)?);
    assert!(!printed.contains("a secret text"));
    assert!(!printed.contains(&format!("{:?}", b"a secret text")));
    Ok(())
}
