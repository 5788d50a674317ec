//! Damaged, forged and random messages: a typed error, never a panic, never another plaintext.

use openmls_traits::{crypto::OpenMlsCrypto, signatures::Signer};
use proptest::prelude::*;
use tls_codec::{Serialize as _, VLByteSlice};

use super::*;
use crate::history::{
    ContentType, Malformed, RatchetError,
    framing::{
        ApplicationContent, PrivateContentAad, PrivateMessage, SenderData, SenderDataAad,
        signed_bytes,
    },
    peek,
    secret_tree::sender_data_key,
};

const TEXT: &[u8] = b"the one and only plaintext";

fn room() -> Outcome<(Device, Epoch)> {
    let mut alice = Device::new("alice")?;
    alice.create_group(SUITE)?;
    let package = |n| -> Outcome<KeyPackage> {
        Ok(Device::new(&format!("{n}"))?.key_package(SUITE)?.key_package().clone())
    };
    alice.add(&(1..5).map(package).collect::<Outcome<Vec<_>>>()?)?;
    let epoch = alice.export()?;
    Ok((alice, epoch))
}

/// Neither call may panic; and what is not the message does not open.
fn assert_refused(epoch: &Epoch, cache: &mut RatchetCache, damaged: &[u8]) {
    let _ = peek(damaged);
    let outcome = epoch.open_with(cache, damaged);
    assert!(outcome.is_err(), "{outcome:?} from {damaged:02x?}");
}

#[test]
fn no_damaged_message_opens() -> Outcome {
    let (alice, epoch) = room()?;
    let message = epoch.seal(&alice.signer, 3, TEXT)?;
    let cache = &mut RatchetCache::default();
    for length in 0..message.len() {
        assert_refused(&epoch, cache, &message[..length]);
    }
    for at in 0..message.len() {
        for bit in 0..8 {
            let mut damaged = message.clone();
            damaged[at] ^= 1 << bit;
            assert_refused(&epoch, cache, &damaged);
        }
        for value in [0, 0x3f, 0x40, 0x80, 0xc0, 0xff] {
            let mut damaged = message.clone();
            damaged[at] = value;
            if damaged != message {
                assert_refused(&epoch, cache, &damaged);
            }
        }
        let mut longer = message.clone();
        longer.insert(at, 0);
        assert_refused(&epoch, cache, &longer);
        let mut shorter = message.clone();
        shorter.remove(at);
        assert_refused(&epoch, cache, &shorter);
        for other in at + 1..message.len() {
            let mut swapped = message.clone();
            swapped.swap(at, other);
            // Two thirds of the pairs add nothing but time.
            if (at + other).is_multiple_of(3) && swapped != message {
                assert_refused(&epoch, cache, &swapped);
            }
        }
    }
    let mut longer = message.clone();
    longer.push(0);
    let refused = epoch.open_with(cache, &longer).unwrap_err();
    assert_eq!(refused, OpenError::Malformed(Malformed));
    // Through all of it the message itself still opens.
    let opened = epoch.open_with(cache, &message)?;
    assert_eq!(*opened.plaintext, TEXT);
    Ok(())
}

#[test]
fn parts_of_two_messages_do_not_mix() -> Outcome {
    let (alice, epoch) = room()?;
    let one = epoch.seal(&alice.signer, 0, TEXT)?;
    let two = epoch.seal(&alice.signer, 1, TEXT)?;
    assert_eq!(one.len(), two.len());
    let cache = &mut RatchetCache::default();
    for at in 1..one.len() {
        let spliced = [&one[..at], &two[at..]].concat();
        if spliced != one && spliced != two {
            assert_refused(&epoch, cache, &spliced);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn random_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), start in 0u8..6) {
        // With and without a start that leads further in.
        let _ = peek(&bytes);
        let started = [&[0, 1, 0, start][..], &bytes].concat();
        let _ = peek(&started);
        EPOCH.with(|epoch| {
            let epoch = epoch.as_ref().map_err(|error| TestCaseError::fail(error.to_string()))?;
            for message in [&bytes, &started] {
                prop_assert!(epoch.open(message).is_err());
            }
            let for_us = [&[0, 1, 0, 2, 17][..], b"!room:example.org", &[0; 7], &[1, 1], &bytes];
            prop_assert!(epoch.open(&for_us.concat()).is_err());
            Ok(())
        })?;
    }

    #[test]
    fn random_records_are_no_export(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(capture(&bytes).is_err());
        prop_assert!(ciborium::from_reader::<EpochKeys, _>(bytes.as_slice()).is_err());
    }
}

thread_local! {
    static EPOCH: Outcome<Epoch> = room().map(|(_, epoch)| epoch);
}

/// A message as a member who keeps to no rule could make it.
struct Forgery<'a> {
    epoch: &'a Epoch,
    signer: &'a SignatureKeyPair,
    /// The leaf and generation whose key encrypts.
    key_of: (u32, u32),
    /// The leaf and generation that the sender data name.
    named: (u32, u32),
}

impl Forgery<'_> {
    /// The content, rightly signed, with `change` made to it before encryption.
    fn seal(&self, change: impl FnOnce(&mut Vec<u8>)) -> Outcome<Vec<u8>> {
        let keys = &self.epoch.keys;
        let crypto = RustCrypto::default();
        let aad = PrivateContentAad {
            group_id: VLByteSlice(keys.group_id()),
            epoch: keys.epoch(),
            content_type: ContentType::Application,
            authenticated_data: VLByteSlice(b""),
        };
        let signed = signed_bytes(keys.group_context(), &aad, self.named.0, TEXT)?;
        let signature = self.signer.sign(&signed).map_err(|error| format!("{error:?}"))?;
        let mut content = ApplicationContent::write(TEXT, &signature, 64, 16)?.to_vec();
        change(&mut content);
        let mut cache = RatchetCache::default();
        let (leaf, generation) = self.key_of;
        let key = cache.ratchet(keys, &crypto, leaf)?;
        let key = key.message_key(&crypto, generation)?;
        let aad = aad.tls_serialize_detached()?;
        let aead = keys.ciphersuite().aead_algorithm();
        let encrypt = |key: &[u8], nonce: &[u8], text: &[u8], aad: &[u8]| {
            crypto.aead_encrypt(aead, key, text, nonce, aad)
        };
        let nonce = key.guarded_nonce([1, 2, 3, 4]);
        let ciphertext = encrypt(key.key.as_slice(), &nonce, &content, &aad)?;
        let key = sender_data_key(keys, &crypto, &ciphertext)?;
        let sender_data = SenderData {
            leaf_index: self.named.0,
            generation: self.named.1,
            reuse_guard: [1, 2, 3, 4],
        };
        let aad = SenderDataAad {
            group_id: VLByteSlice(keys.group_id()),
            epoch: keys.epoch(),
            content_type: ContentType::Application,
        };
        let sender_data = sender_data.tls_serialize_detached()?;
        let aad = aad.tls_serialize_detached()?;
        let nonce = key.nonce.as_slice();
        let encrypted_sender_data = encrypt(key.key.as_slice(), nonce, &sender_data, &aad)?;
        let message = PrivateMessage::application(
            keys.group_id(),
            keys.epoch(),
            b"",
            &encrypted_sender_data,
            &ciphertext,
        );
        Ok(message.tls_serialize_detached()?)
    }
}

#[test]
fn hostile_members_get_typed_errors() -> Outcome {
    let (alice, epoch) = room()?;
    let forgery = |named| Forgery { epoch: &epoch, signer: &alice.signer, key_of: (0, 0), named };
    let refused = |message: &[u8]| epoch.open(message).unwrap_err();

    // The tools are right: without a change the message opens.
    let honest = forgery((0, 0)).seal(|_| {})?;
    assert_opens(&epoch, &honest, 0, "alice", TEXT)?;

    let padded = forgery((0, 0)).seal(|content| {
        content.pop();
        content.push(1);
    })?;
    assert_eq!(refused(&padded), OpenError::Padding);
    let first = 1 + TEXT.len() + 2 + 64;
    let padded = forgery((0, 0)).seal(|content| content[first] = 1)?;
    assert_eq!(refused(&padded), OpenError::Padding);
    let changed = forgery((0, 0)).seal(|content| content[5] ^= 1)?;
    assert_eq!(refused(&changed), OpenError::Signature);
    let unsigned = forgery((0, 0)).seal(|content| content.truncate(1 + TEXT.len()))?;
    assert_eq!(refused(&unsigned), OpenError::Malformed(Malformed));
    let empty = forgery((0, 0)).seal(Vec::clear)?;
    assert_eq!(refused(&empty), OpenError::Malformed(Malformed));
    // A length in more bytes than it needs: the same text in another encoding.
    let long_form = forgery((0, 0)).seal(|content| {
        content.splice(0..1, [0x40, TEXT.len() as u8]);
    })?;
    assert_eq!(refused(&long_form), OpenError::Malformed(Malformed));

    let too_high = RatchetError::GenerationTooHigh(u32::MAX);
    let message = forgery((0, u32::MAX)).seal(|_| {})?;
    assert_eq!(refused(&message), OpenError::Ratchet(too_high));
    for outside in [8, u32::MAX] {
        let message = forgery((outside, 0)).seal(|_| {})?;
        let no_leaf = RatchetError::NoSuchLeaf(outside);
        assert_eq!(refused(&message), OpenError::Ratchet(no_leaf));
    }
    // Another generation's key, and another leaf's.
    for named in [(0, 1), (1, 0)] {
        let message = forgery(named).seal(|_| {})?;
        assert_eq!(refused(&message), OpenError::Content);
    }
    // A leaf that has a place in the tree but no member; every member can derive its keys.
    let blank = Forgery { key_of: (6, 0), ..forgery((6, 0)) };
    assert_eq!(refused(&blank.seal(|_| {})?), OpenError::BlankLeaf(6));
    Ok(())
}
