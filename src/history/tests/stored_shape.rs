//! What is read of OpenMLS's stored message secrets. If an OpenMLS update changes their shape, the
//! first test here fails and says how; `capture.rs` is what to change then.

use ciborium::Value;

use super::*;
use crate::history::{CaptureError, ExportError};

fn keys_of(value: &Value) -> Outcome<Vec<&str>> {
    let entries = value.as_map().ok_or("the value is no map")?;
    let keys: Option<_> = entries.iter().map(|(key, _)| key.as_text()).collect();
    Ok(keys.ok_or("a key is no text")?)
}

fn entry<'a>(value: &'a mut Value, path: &[&str]) -> Outcome<&'a mut Value> {
    path.iter().try_fold(value, |value, name| {
        let entries = value.as_map_mut().ok_or("the value is no map")?;
        let found = entries.iter_mut().find(|(key, _)| key.as_text() == Some(name));
        Ok(&mut found.ok_or_else(|| format!("no entry {name}"))?.1)
    })
}

fn remove(value: &mut Value, path: &[&str]) -> Outcome {
    let (name, parents) = path.split_last().ok_or("the path is empty")?;
    let parent = entry(value, parents)?.as_map_mut().ok_or("the parent is no map")?;
    parent.retain(|(key, _)| key.as_text() != Some(name));
    Ok(())
}

fn fresh_pair() -> Outcome<Device> {
    let mut alice = Device::new("alice")?;
    alice.create_group(SUITE)?;
    alice.add(&[Device::new("bob")?.key_package(SUITE)?.key_package().clone()])?;
    Ok(alice)
}

/// What comes of capturing this value is the inner result.
fn capture_value(value: &Value) -> Outcome<Result<EpochKeys, CaptureError>> {
    Ok(capture(&cbor(value)?))
}

#[test]
fn openmls_stores_message_secrets_in_the_known_shape() -> Outcome {
    let mut stored = fresh_pair()?.stored_secrets()?;
    assert_eq!(keys_of(&stored)?, ["max_epochs", "past_epoch_trees", "message_secrets"]);
    let secrets = entry(&mut stored, &["message_secrets"])?;
    assert_eq!(
        keys_of(secrets)?,
        [
            "sender_data_secret",
            "membership_key",
            "confirmation_key",
            "serialized_context",
            "secret_tree",
            "added_at",
        ]
    );
    assert_eq!(keys_of(entry(secrets, &["sender_data_secret"])?)?, ["secret"]);
    let secret = entry(secrets, &["sender_data_secret", "secret"])?;
    assert_eq!(keys_of(secret)?, ["value"]);
    let tree = entry(secrets, &["secret_tree"])?;
    assert_eq!(
        keys_of(tree)?,
        [
            "own_index",
            "leaf_nodes",
            "parent_nodes",
            "handshake_sender_ratchets",
            "application_sender_ratchets",
            "size",
        ]
    );
    // Two leaves, three nodes, of which the middle one is the root and the first parent.
    assert_eq!(entry(tree, &["size"])?.as_integer(), Some(3.into()));
    let nodes = entry(tree, &["parent_nodes"])?.as_array().ok_or("the nodes are no array")?;
    assert_eq!(keys_of(&nodes[0])?, ["secret"]);
    assert!(capture_value(&stored)?.is_ok());
    Ok(())
}

#[test]
fn a_field_that_is_missing_is_named() -> Outcome {
    let stored = fresh_pair()?.stored_secrets()?;
    let tree = |name| vec!["message_secrets", "secret_tree", name];
    for (path, name) in [
        (vec!["message_secrets"], "message_secrets"),
        (vec!["message_secrets", "sender_data_secret"], "sender_data_secret"),
        (
            vec!["message_secrets", "sender_data_secret", "secret"],
            "sender_data_secret.secret.value",
        ),
        (
            vec!["message_secrets", "sender_data_secret", "secret", "value"],
            "sender_data_secret.secret.value",
        ),
        (vec!["message_secrets", "serialized_context"], "serialized_context"),
        (vec!["message_secrets", "secret_tree"], "secret_tree"),
        (tree("own_index"), "secret_tree.own_index"),
        (tree("size"), "secret_tree.size"),
        (tree("leaf_nodes"), "secret_tree.leaf_nodes"),
        (tree("parent_nodes"), "secret_tree.parent_nodes"),
        (tree("handshake_sender_ratchets"), "secret_tree.handshake_sender_ratchets"),
        (tree("application_sender_ratchets"), "secret_tree.application_sender_ratchets"),
    ] {
        let mut damaged = stored.clone();
        remove(&mut damaged, &path)?;
        let refused = capture_value(&damaged)?.unwrap_err();
        assert_eq!(refused, CaptureError::Missing(name));
    }
    let mut damaged = stored.clone();
    let path = ["message_secrets", "secret_tree", "parent_nodes"];
    let nodes = entry(&mut damaged, &path)?.as_array_mut().ok_or("the nodes are no array")?;
    remove(&mut nodes[0], &["secret"])?;
    let refused = capture_value(&damaged)?.unwrap_err();
    assert_eq!(refused, CaptureError::Missing("secret_tree root's secret.value"));
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() -> Outcome {
    let stored = fresh_pair()?.stored_secrets()?;
    let with = |path: &[&str], value: Value| -> Outcome<CaptureError> {
        let mut damaged = stored.clone();
        *entry(&mut damaged, path)? = value;
        Ok(capture_value(&damaged)?.err().ok_or("what does not fit was captured")?)
    };
    let tree = ["message_secrets", "secret_tree"];
    let in_tree = |name| [tree[0], tree[1], name];
    let text = Value::Text("not a number".into());
    assert_eq!(with(&in_tree("size"), text)?, CaptureError::Unreadable);
    // Another size has its root elsewhere.
    assert_eq!(with(&in_tree("size"), 7.into())?, CaptureError::NotFresh);
    assert_eq!(with(&in_tree("size"), u32::MAX.into())?, CaptureError::NotFresh);
    let outside = CaptureError::Export(ExportError::OwnLeaf(2));
    assert_eq!(with(&in_tree("own_index"), 2.into())?, outside);
    let context = ["message_secrets", "serialized_context"];
    let refused = with(&context, Value::Bytes(vec![0, 1, 0, 1, 9]))?;
    assert_eq!(refused, CaptureError::Export(ExportError::GroupContext));
    let secret = ["message_secrets", "sender_data_secret", "secret", "value"];
    let short = CaptureError::Export(ExportError::SecretLength { expected: 32, found: 31 });
    assert_eq!(with(&secret, Value::Bytes(vec![1; 31]))?, short);
    for garbage in [&b""[..], b"\xff", b"\x80", b"{\"message_secrets\":{}}"] {
        assert_eq!(capture(garbage).unwrap_err(), CaptureError::Unreadable);
    }
    let whole = cbor(&stored)?;
    for length in 0..whole.len() {
        let refused = capture(&whole[..length]).unwrap_err();
        assert_eq!(refused, CaptureError::Unreadable);
    }
    Ok(())
}

#[test]
fn secrets_as_byte_strings_are_read_too() -> Outcome {
    let mut stored = fresh_pair()?.stored_secrets()?;
    let expected = capture_value(&stored)??;
    let context = entry(&mut stored, &["message_secrets", "serialized_context"])?;
    *context = Value::Bytes(expected.group_context().to_vec());
    let path = ["message_secrets", "sender_data_secret", "secret", "value"];
    *entry(&mut stored, &path)? = Value::Bytes(expected.sender_data_secret().to_vec());
    let read = capture_value(&stored)??;
    assert_eq!(cbor(&read)?, cbor(&expected)?);
    Ok(())
}

#[test]
fn a_tree_that_was_used_is_not_taken() -> Outcome {
    let mut alice = fresh_pair()?;
    assert!(capture_value(&alice.stored_secrets()?)?.is_ok());
    alice.send(b"", b"one message")?;
    let refused = capture_value(&alice.stored_secrets()?)?.unwrap_err();
    assert_eq!(refused, CaptureError::NotFresh);

    // Any trace of use is enough, even where the root is still there.
    for name in ["leaf_nodes", "handshake_sender_ratchets", "application_sender_ratchets"] {
        let mut stored = fresh_pair()?.stored_secrets()?;
        let tree = entry(&mut stored, &["message_secrets", "secret_tree"])?;
        let nodes = entry(tree, &["parent_nodes"])?.as_array().ok_or("the nodes are no array")?;
        let node = nodes[0].clone();
        entry(tree, &[name])?.as_array_mut().ok_or("the ratchets are no array")?[1] = node;
        assert_eq!(capture_value(&stored)?.unwrap_err(), CaptureError::NotFresh);
    }

    let mut alone = Device::new("alone")?;
    alone.create_group(SUITE)?;
    alone.send(b"", b"one message")?;
    let refused = capture_value(&alone.stored_secrets()?)?.unwrap_err();
    assert_eq!(refused, CaptureError::NotFresh);
    Ok(())
}

#[test]
fn exports_survive_being_written_and_are_checked_when_read() -> Outcome {
    let epoch = fresh_pair()?.export()?;
    let written = cbor(&epoch.keys)?;
    // Small and of one size: the names, the context and two secrets.
    assert!(written.len() < 400, "{}", written.len());
    let read: EpochKeys = ciborium::from_reader(written.as_slice())?;
    assert_eq!(cbor(&read)?, written);
    assert_eq!(read.epoch(), epoch.keys.epoch());
    assert_eq!(read.group_id(), b"!room:example.org");
    assert_eq!(read.ciphersuite(), SUITE);
    let record = Value::serialized(&epoch.keys)?;
    for (name, value) in [
        ("tree_size", Value::from(3)),
        ("tree_size", Value::from(0)),
        ("own_leaf", Value::from(2)),
        ("encryption_secret", Value::Bytes(vec![0; 16])),
        ("group_context", Value::Bytes(vec![0, 2, 0, 1])),
    ] {
        let mut damaged = record.clone();
        *entry(&mut damaged, &[name])? = value;
        assert!(damaged.deserialized::<EpochKeys>().is_err(), "{name}");
    }
    Ok(())
}
