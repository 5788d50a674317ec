//! OpenMLS at the other end, in groups of several sizes: what it seals opens from exports taken at
//! creation, at a merge of an own commit, at the merge of another's and at a join; what is sealed
//! from those exports OpenMLS opens.

use std::ops::Range;

use super::*;
use crate::history::{ContentType, Header, peek};

const SIZES: [usize; 7] = [1, 2, 3, 5, 8, 9, 33];

/// Messages of `sender`, by OpenMLS and from its export, open for `readers` and, where it is
/// another device, for OpenMLS at `peer`.
fn converse(
    sender: &mut Device,
    name: &str,
    own: &Epoch,
    readers: &[&Epoch],
    peer: Option<&mut Device>,
) -> Outcome {
    let leaf = sender.group()?.own_leaf_index().u32();
    assert_eq!(own.keys.own_leaf(), Some(leaf));
    let by_openmls =
        (0u8..3).map(|n| sender.send(b"aad", &[n; 100])).collect::<Outcome<Vec<_>>>()?;
    for reader in readers {
        // Backwards, and twice: opening consumes nothing.
        for n in [2u8, 0, 1, 1] {
            let message = &by_openmls[usize::from(n)];
            let generation = assert_opens(reader, message, leaf, name, &[n; 100])?;
            assert_eq!(generation, u32::from(n));
            let opened = reader.open(message)?;
            assert_eq!(opened.authenticated_data, b"aad");
        }
    }
    // Some in order, some skipped, one late but within OpenMLS's tolerance of five, one far ahead.
    let order = [3u32, 4, 9, 7, 6, 10, 300];
    let seal = |n: &u32| own.seal(&sender.signer, *n, format!("number {n}").as_bytes());
    let sealed = order.iter().map(seal).collect::<Outcome<Vec<_>>>()?;
    for (n, message) in order.iter().zip(&sealed) {
        let text = format!("number {n}");
        for reader in readers {
            let generation = assert_opens(reader, message, leaf, name, text.as_bytes())?;
            assert_eq!(generation, *n);
        }
    }
    if let Some(peer) = peer {
        for (n, message) in order.iter().zip(&sealed) {
            let text = peer.process(message)?;
            assert_eq!(text, Some(format!("number {n}").into_bytes()));
        }
    }
    Ok(())
}

/// So many devices, and a key package of each.
fn devices(numbers: Range<usize>) -> Outcome<(Vec<Device>, Vec<KeyPackage>)> {
    let mut devices = Vec::new();
    let mut packages = Vec::new();
    for number in numbers {
        let device = Device::new(&format!("{number}"))?;
        packages.push(device.key_package(SUITE)?.key_package().clone());
        devices.push(device);
    }
    Ok((devices, packages))
}

#[test]
fn exports_open_and_seal_in_groups_of_all_sizes() -> Outcome {
    for size in SIZES {
        let mut alice = Device::new("alice")?;
        alice.create_group(SUITE)?;
        let created = alice.export()?;
        assert_eq!(created.keys.tree_size(), 1);
        converse(&mut alice, "alice", &created, &[&created], None)?;
        if size == 1 {
            continue;
        }

        let (mut others, packages) = devices(1..size)?;
        let (_, welcome) = alice.add(&packages)?;
        let merged = alice.export()?;
        assert_eq!(merged.keys.tree_size() as usize, size.next_power_of_two());
        assert_eq!(merged.keys.epoch(), 1);

        // The last leaf lies on the other side of the tree, and in most sizes on a short branch.
        let mut last = others.pop().ok_or("nobody else is there")?;
        let last_name = format!("{}", size - 1);
        last.join(&welcome)?;
        let joined = last.export()?;
        assert_eq!(joined.keys.group_context(), merged.keys.group_context());
        let both = [&merged, &joined];
        converse(&mut alice, "alice", &merged, &both, Some(&mut last))?;
        converse(&mut last, &last_name, &joined, &both, Some(&mut alice))?;

        let commit = last.update()?;
        let by_own_commit = last.export()?;
        assert_eq!(merged.open(&commit).unwrap_err(), OpenError::NotApplication);
        assert_eq!(alice.process(&commit)?, None);
        let by_others_commit = alice.export()?;
        let both = [&by_own_commit, &by_others_commit];
        converse(&mut alice, "alice", &by_others_commit, &both, Some(&mut last))?;
        converse(&mut last, &last_name, &by_own_commit, &both, Some(&mut alice))?;

        // An export opens nothing of the next epoch, nor of the one before.
        let message = alice.send(b"", b"new")?;
        let refused = merged.open(&message).unwrap_err();
        let other = OpenError::OtherEpoch { expected: 1, found: 2 };
        assert_eq!(refused, other);
    }
    Ok(())
}

#[test]
fn the_other_suites_of_the_provider_work() -> Outcome {
    for suite in [
        Ciphersuite::MLS_128_DHKEMP256_AES128GCM_SHA256_P256,
        Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519,
    ] {
        let mut alice = Device::with_suite("alice", suite)?;
        let mut bob = Device::with_suite("bob", suite)?;
        alice.create_group(suite)?;
        let (_, welcome) = alice.add(&[bob.key_package(suite)?.key_package().clone()])?;
        let merged = alice.export()?;
        bob.join(&welcome)?;
        let joined = bob.export()?;
        assert_eq!(joined.keys.ciphersuite(), suite);
        let both = [&merged, &joined];
        converse(&mut alice, "alice", &merged, &both, Some(&mut bob))?;
        converse(&mut bob, "bob", &joined, &both, Some(&mut alice))?;
    }
    Ok(())
}

#[test]
fn a_branch_with_the_same_number_is_told_apart() -> Outcome {
    let mut alice = Device::new("alice")?;
    let mut bob = Device::new("bob")?;
    alice.create_group(SUITE)?;
    let (_, welcome) = alice.add(&[bob.key_package(SUITE)?.key_package().clone()])?;
    bob.join(&welcome)?;
    // Both commit on the same epoch.
    alice.update()?;
    bob.update()?;
    let (hers, his) = (alice.export()?, bob.export()?);
    assert_eq!(hers.keys.epoch(), his.keys.epoch());
    let message = bob.send(b"", b"on his branch")?;
    assert_opens(&his, &message, 1, "bob", b"on his branch")?;
    assert_eq!(hers.open(&message).unwrap_err(), OpenError::SenderData);
    Ok(())
}

#[test]
fn a_message_is_bound_to_its_leaf_and_group_context() -> Outcome {
    let mut alice = Device::new("alice")?;
    let bob = Device::new("bob")?;
    alice.create_group(SUITE)?;
    alice.add(&[bob.key_package(SUITE)?.key_package().clone()])?;
    let epoch = alice.export()?;
    // Bob knows the keys of Alice's ratchet, as every member does, but not her signature key.
    let forged = epoch.seal(&bob.signer, 0, b"I owe bob ten")?;
    assert_eq!(epoch.open(&forged).unwrap_err(), OpenError::Signature);
    let genuine = epoch.seal(&alice.signer, 0, b"hello")?;
    assert_opens(&epoch, &genuine, 0, "alice", b"hello")?;
    // The same epoch number in a room of another name, as long as the first.
    let at = genuine.windows(5).position(|w| w == b"!room").ok_or("no room id")?;
    let mut elsewhere = genuine.clone();
    elsewhere[at + 1] = b'z';
    assert_eq!(epoch.open(&elsewhere).unwrap_err(), OpenError::OtherGroup);
    let blank = open(&epoch.keys, &mut RatchetCache::default(), alice.crypto(), &genuine, |_| {
        Ok::<_, OpenError>(None)
    });
    assert_eq!(blank.unwrap_err(), OpenError::BlankLeaf(0));
    // The same secrets beside another context of the same group and epoch: the last byte is that of
    // an empty extension list, the one before it is in the transcript hash.
    let mut record = ciborium::Value::serialized(&epoch.keys)?;
    let fields = record.as_map_mut().ok_or("the keys are no map")?;
    let context = fields.iter_mut().find(|(key, _)| key.as_text() == Some("group_context"));
    let (_, context) = context.ok_or("no group context")?;
    let context = context.as_bytes_mut().ok_or("the group context is no bytes")?;
    let hash_end = context.len() - 2;
    context[hash_end] ^= 1;
    let other = Epoch { keys: record.deserialized()?, leaves: epoch.leaves.clone() };
    assert_eq!(other.open(&genuine).unwrap_err(), OpenError::Signature);
    Ok(())
}

#[test]
fn headers_are_read_of_every_wire_format() -> Outcome {
    let mut alice = Device::new("alice")?;
    let bob = Device::new("bob")?;
    alice.create_group(SUITE)?;
    let group_id = b"!room:example.org".to_vec();
    let package = bob.key_package(SUITE)?;
    let (commit, welcome) = alice.add(&[package.key_package().clone()])?;
    let epoch = alice.export()?;
    let message = alice.send(b"some aad", b"text")?;
    let private =
        |epoch, content_type| Header::Private { group_id: group_id.clone(), epoch, content_type };
    assert_eq!(peek(&commit), Ok(private(0, ContentType::Commit)));
    assert_eq!(peek(&message), Ok(private(1, ContentType::Application)));
    assert_eq!(peek(&welcome), Ok(Header::Welcome));
    let info = alice.group.as_ref().ok_or(NO_GROUP)?;
    let info = info.export_group_info(alice.crypto(), &alice.signer, true)?.to_bytes()?;
    let group_info = Header::GroupInfo { group_id: group_id.clone(), epoch: 1 };
    assert_eq!(peek(&info), Ok(group_info));
    let package = openmls::prelude::MlsMessageOut::from(package.key_package().clone());
    assert_eq!(peek(&package.to_bytes()?), Ok(Header::KeyPackage));

    let mut joiner = Device::new("carol")?;
    let external = joiner.join_externally(&info)?;
    let public = Header::Public { group_id, epoch: 1, content_type: ContentType::Commit };
    assert_eq!(peek(&external), Ok(public));
    for message in [external, welcome] {
        assert_eq!(epoch.open(&message).unwrap_err(), OpenError::NotPrivate);
    }
    Ok(())
}

#[test]
fn external_joins_and_removals_leave_exports_that_fit() -> Outcome {
    let mut alice = Device::new("alice")?;
    alice.create_group(SUITE)?;
    let (_, packages) = devices(1..5)?;
    alice.add(&packages)?;

    // Leaf 2 leaves a blank, leaf 4 a tree of half the size.
    let gone = [2, 4].map(openmls::prelude::LeafNodeIndex::new);
    let group = alice.group.as_mut().ok_or(NO_GROUP)?;
    group.remove_members(&alice.provider, &alice.signer, &gone)?;
    group.merge_pending_commit(&alice.provider)?;
    let epoch = alice.export()?;
    assert_eq!(epoch.keys.tree_size(), 4);
    let present = (0..5).map(|n| epoch.leaf(n).is_some());
    assert!(present.eq([true, true, false, true, false]));
    converse(&mut alice, "alice", &epoch, &[&epoch], None)?;

    // Whoever joins externally takes the blank.
    let group = alice.group.as_ref().ok_or(NO_GROUP)?;
    let info = group.export_group_info(alice.crypto(), &alice.signer, true);
    let mut carol = Device::new("carol")?;
    let commit = carol.join_externally(&info?.to_bytes()?)?;
    let joined = carol.export()?;
    alice.process(&commit)?;
    let processed = alice.export()?;
    assert_eq!(joined.keys.own_leaf(), Some(2));
    let both = [&joined, &processed];
    converse(&mut carol, "carol", &joined, &both, Some(&mut alice))?;
    converse(&mut alice, "alice", &processed, &both, Some(&mut carol))?;
    Ok(())
}
