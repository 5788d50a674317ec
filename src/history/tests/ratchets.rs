//! The order of reading, what it costs, and its bounds.

use proptest::prelude::*;

use super::{counting::Counting, *};
use crate::history::{
    MAX_CACHED_RATCHETS, MAX_GENERATION, RatchetError, SealError,
    secret_tree::{MARK_STRIDE, Ratchet},
};

/// An export of a tree of any size, with made-up secrets.
fn made_up(tree_size: u32, own_leaf: u32, seed: u8) -> Outcome<EpochKeys> {
    let mut alice = Device::new("alice")?;
    alice.create_group(SUITE)?;
    let context = alice.export()?.keys.group_context().to_vec();
    let secret = |n| vec![seed ^ n; 32].into();
    Ok(EpochKeys::new(context, secret(0), secret(255), tree_size, Some(own_leaf))?)
}

fn signed_leaf() -> Outcome<(SignatureKeyPair, Leaf)> {
    let signer = SignatureKeyPair::new(SUITE.signature_algorithm())?;
    let credential = BasicCredential::new(b"someone".to_vec()).into();
    let leaf = Leaf::new(&credential, signer.to_public_vec())?;
    Ok((signer, leaf))
}

fn draft(generation: u32) -> MessageDraft<'static> {
    MessageDraft { generation, authenticated_data: b"", plaintext: b"text", padding: 0 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_order_gives_the_same_keys(order in prop::collection::vec(0u32..1_200, 1..12)) {
        let keys = made_up(8, 0, 1).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let crypto = RustCrypto::default();
        let mut used = Ratchet::application(&keys, &crypto, 5)?;
        for generation in order {
            let mut fresh = Ratchet::application(&keys, &crypto, 5)?;
            let expected = fresh.message_key(&crypto, generation)?;
            let found = used.message_key(&crypto, generation)?;
            prop_assert_eq!(expected.key.as_slice(), found.key.as_slice());
            prop_assert_eq!(expected.nonce.as_slice(), found.nonce.as_slice());
        }
    }
}

#[test]
fn cost_does_not_grow_with_the_room_nor_with_how_far_it_was_read() -> Outcome {
    let crypto = Counting::default();
    let (signer, leaf) = signed_leaf()?;
    let mut cache = RatchetCache::default();
    // A tree of 16,384 leaves, as 10,000 members have it.
    let keys = made_up(1 << 14, 9_999, 1)?;
    let messages: Vec<_> = (0..600)
        .map(|n| seal(&keys, &mut cache, &crypto, &signer, &draft(n)))
        .collect::<Result<_, _>>()?;
    let mut cache = RatchetCache::default();
    let mut asked = 0;
    let mut cost = |generation: usize| -> Result<usize, OpenError> {
        crypto.take_expansions();
        let message = &messages[generation];
        let opened = open(&keys, &mut cache, &crypto, message, |n| {
            asked += 1;
            assert_eq!(n, 9_999);
            Ok::<_, OpenError>(Some(leaf.clone()))
        });
        assert_eq!(opened?.generation as usize, generation);
        Ok(crypto.take_expansions())
    };
    // The key and nonce of the sender data, and those of the content.
    let base = 4;
    // The first time down the tree and to the ratchet.
    assert_eq!(cost(0)?, base + 14 + 1);
    assert_eq!(cost(0)?, base);
    // On from there: one step each.
    for generation in 1..600 {
        assert_eq!(cost(generation)?, base + 1);
    }
    // Back: never more than from the mark before.
    let stride = MARK_STRIDE as usize;
    for generation in (0..599).rev() {
        assert_eq!(cost(generation)?, base + generation % stride);
    }
    assert_eq!(asked, 1 + 1 + 599 + 599);
    Ok(())
}

#[test]
fn sealing_costs_the_same_in_rooms_of_any_size() -> Outcome {
    let crypto = Counting::default();
    let (signer, _) = signed_leaf()?;
    for tree_size in [1, 2, 1 << 14, 1 << 31] {
        let keys = made_up(tree_size, tree_size - 1, 1)?;
        let mut cache = RatchetCache::default();
        seal(&keys, &mut cache, &crypto, &signer, &draft(0))?;
        let depth = tree_size.trailing_zeros() as usize;
        assert_eq!(crypto.take_expansions(), 4 + depth + 1);
        for generation in 1..20 {
            seal(&keys, &mut cache, &crypto, &signer, &draft(generation))?;
            assert_eq!(crypto.take_expansions(), 4 + 1);
        }
    }
    Ok(())
}

#[test]
fn an_export_from_elsewhere_seals_nothing() -> Outcome {
    let crypto = RustCrypto::default();
    let (signer, _) = signed_leaf()?;
    let keys = made_up(2, 1, 1)?.without_own_leaf();
    let mut cache = RatchetCache::default();
    let refused = seal(&keys, &mut cache, &crypto, &signer, &draft(0)).unwrap_err();
    assert_eq!(refused, SealError::NoOwnLeaf);
    Ok(())
}

#[test]
fn generations_are_bounded() -> Outcome {
    let crypto = RustCrypto::default();
    let (signer, leaf) = signed_leaf()?;
    let keys = made_up(2, 1, 1)?;
    let mut cache = RatchetCache::default();
    let last = seal(&keys, &mut cache, &crypto, &signer, &draft(MAX_GENERATION))?;
    let opened =
        open(&keys, &mut cache, &crypto, &last, |_| Ok::<_, OpenError>(Some(leaf.clone())));
    assert_eq!(opened?.generation, MAX_GENERATION);
    for beyond in [MAX_GENERATION + 1, u32::MAX] {
        let refused = seal(&keys, &mut cache, &crypto, &signer, &draft(beyond)).unwrap_err();
        let too_high = RatchetError::GenerationTooHigh(beyond);
        assert_eq!(refused, SealError::Ratchet(too_high));
    }
    Ok(())
}

#[test]
fn the_cache_is_bounded_and_tells_epochs_apart() -> Outcome {
    let crypto = Counting::default();
    let leaves = MAX_CACHED_RATCHETS as u32;
    let first = made_up(1 << 14, 0, 1)?;
    let second = made_up(1 << 14, 0, 2)?;
    let mut cache = RatchetCache::default();
    let key = |cache: &mut RatchetCache, keys: &EpochKeys, leaf| -> Result<_, RatchetError> {
        let ratchet = cache.ratchet(keys, &crypto, leaf)?;
        Ok(ratchet.message_key(&crypto, 0)?.key)
    };
    assert!(key(&mut cache, &first, 0)? != key(&mut cache, &second, 0)?);
    // From the root to a key and nonce; from the cache only these two.
    let (from_root, cached) = (14 + 1 + 2, 2);
    assert_eq!(crypto.take_expansions(), 2 * from_root);
    for leaf in 1..leaves + 50 {
        key(&mut cache, &first, leaf)?;
        assert_eq!(crypto.take_expansions(), from_root);
        // In use all along, so it stays.
        key(&mut cache, &second, 0)?;
        assert_eq!(crypto.take_expansions(), cached);
        assert!(cache.len() <= MAX_CACHED_RATCHETS);
    }
    assert_eq!(cache.len(), MAX_CACHED_RATCHETS);
    // The newest are there, the oldest are not.
    key(&mut cache, &first, leaves + 49)?;
    assert_eq!(crypto.take_expansions(), cached);
    key(&mut cache, &first, 0)?;
    assert_eq!(crypto.take_expansions(), from_root);
    Ok(())
}

#[test]
fn a_signer_of_another_scheme_is_refused() -> Outcome {
    let crypto = RustCrypto::default();
    let p256 = Ciphersuite::MLS_128_DHKEMP256_AES128GCM_SHA256_P256;
    let signer = SignatureKeyPair::new(p256.signature_algorithm())?;
    let keys = made_up(2, 1, 1)?;
    let mut cache = RatchetCache::default();
    let refused = seal(&keys, &mut cache, &crypto, &signer, &draft(0)).unwrap_err();
    assert_eq!(refused, SealError::SignatureScheme);
    Ok(())
}

#[test]
fn padding_hides_the_length_and_guards_vary() -> Outcome {
    let crypto = RustCrypto::default();
    let (signer, leaf) = signed_leaf()?;
    let keys = made_up(2, 1, 1)?;
    let mut cache = RatchetCache::default();
    let mut length_of = |text: &[u8], padding| -> Outcome<usize> {
        let draft = MessageDraft { plaintext: text, padding, ..draft(0) };
        let sealed = seal(&keys, &mut cache, &crypto, &signer, &draft)?;
        let again = seal(&keys, &mut cache, &crypto, &signer, &draft)?;
        assert_ne!(sealed, again, "the reuse guard is random");
        let opened =
            open(&keys, &mut cache, &crypto, &sealed, |_| Ok::<_, OpenError>(Some(leaf.clone())));
        assert_eq!(*opened?.plaintext, text);
        Ok(sealed.len())
    };
    // 1 + 0 bytes of text, 2 + 64 of signature and 16 of tag make 83, so up to 45 more fit 128.
    assert_eq!(length_of(b"", 128)?, length_of(&[7; 45], 128)?);
    assert_eq!(length_of(&[7; 45], 128)? + 128, length_of(&[7; 46], 128)?);
    assert_eq!(length_of(b"", 0)? + 45, length_of(&[7; 45], 0)?);
    Ok(())
}
