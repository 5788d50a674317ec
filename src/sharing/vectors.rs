//! The specification's vectors of bundles of history, and of whom to ask for one first
//! (`docs/spec/vectors`).

use openmls_rust_crypto::RustCrypto;
use openmls_traits::{crypto::OpenMlsCrypto, types::HashType};
use ruma::{EventId, UserId};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tls_codec::{Serialize as _, VLBytes};

use super::wanted::rank;
use crate::{
    protocol::{
        DeviceName, MediaReference, credential, encode_base64,
        identifiers::HISTORY_LABEL,
        vectors::{Outcome, bytes, cases, file, hex, text},
    },
    sessions::{BackupKey, open_bundle, seal_bundle},
};

const ROOM: &str = "!room:example.org";
const ALGORITHM: &str = "org.matrix.msc2883.v1.dmls.dhkemx25519-aes128gcm-sha256-ed25519";

/// ExpandWithLabel (RFC 9420 §8) of 32 bytes.
fn expand(secret: &[u8], label: &str, context: &[u8]) -> Outcome<Vec<u8>> {
    let mut info = 32_u16.to_be_bytes().to_vec();
    for part in [format!("MLS 1.0 {label}").as_bytes(), context] {
        VLBytes::new(part.to_vec()).tls_serialize(&mut info)?;
    }
    let made = RustCrypto::default().hkdf_expand(HashType::Sha2_256, secret, &info, 32)?;
    Ok(made.as_slice().to_vec())
}

/// MLS-Exporter (RFC 9420 §8.5), as groups compute a bundle's key.
fn export(exporter_secret: &[u8], bundle_id: &str) -> Outcome<BackupKey> {
    let derived = expand(exporter_secret, HISTORY_LABEL, b"")?;
    Ok(BackupKey::from_bytes(&expand(&derived, "exported", &Sha256::digest(bundle_id))?)?)
}

/// The sessions of the epoch in exports.json.
fn sessions() -> Outcome<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/spec/vectors/exports.json");
    let exports: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let epoch = &cases(&exports, "epochs")?[0];
    let mut sessions = vec![json!({
        "algorithm": ALGORITHM, "room_id": ROOM, "epoch": ["1", ["@alice:example.org", "PHONE"]],
        "group_export": encode_base64(&bytes(epoch, "group_export")?),
        "commit_event": "$commit:example.org", "shared_history": true,
    })];
    for chunk in epoch["chunks"].as_array().into_iter().flatten() {
        let chunk = bytes(&json!({ "chunk": chunk }), "chunk")?;
        sessions.push(json!({
            "algorithm": ALGORITHM, "room_id": ROOM, "leaf_chunk": encode_base64(&chunk),
        }));
    }
    Ok(json!(sessions))
}

fn make() -> Outcome<Value> {
    let crypto = RustCrypto::default();
    let exporter_secret: [u8; 32] = std::array::from_fn(|at| 0xA0 ^ at as u8);
    let sessions = sessions()?;
    let mut bundles = Vec::new();
    for bundle_id in ["x3F4YQk2sV0mN7oRb1aTzQ", "ü"] {
        let key = export(&exporter_secret, bundle_id)?;
        let bundle = seal_bundle(&crypto, &key, bundle_id, sessions.to_string().as_bytes())?;
        let reference = MediaReference::to(&bundle);
        bundles.push(json!({
            "exporter_secret": hex(&exporter_secret), "bundle_id": bundle_id,
            "key": hex(key.bytes()), "bundle": String::from_utf8(bundle)?,
            "size": reference.size, "sha256": reference.sha256, "sessions": sessions,
        }));
    }
    let members: Vec<Value> = (0..9)
        .map(|at| json!([format!("@user{}:example.org", at % 4), format!("DEVICE{at}")]))
        .collect();
    let mut requests = Vec::new();
    for commit_event in ["$one:example.org", "$6Zq9hLDnVvVSY1tnLxhmzFdSZnpWfQZRcSk5XqcnJ1o"] {
        let order = order(commit_event, &members)?;
        requests.push(json!({
            "commit_event": commit_event, "members": members, "order": order,
        }));
    }
    Ok(json!({ "bundles": bundles, "requests": requests }))
}

/// The members in the order in which they are asked.
fn order(commit_event: &str, members: &[Value]) -> Outcome<Vec<Value>> {
    let commit_event = <&EventId>::try_from(commit_event)?;
    let mut ranked = Vec::new();
    for member in members {
        let user = UserId::parse(member[0].as_str().unwrap_or_default())?;
        let name = DeviceName::new(user, member[1].as_str().unwrap_or_default().into());
        ranked.push((rank(commit_event, &credential::encode(&name)), member.clone()));
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    Ok(ranked.into_iter().map(|(_, member)| member).collect())
}

#[test]
fn histories() -> Outcome {
    let crypto = RustCrypto::default();
    let vectors = file("histories", make)?;
    let member = DeviceName::new(UserId::parse("@member:example.org")?, "PHONE".into());
    for case in cases(&vectors, "bundles")? {
        let id = text(case, "bundle_id")?;
        let key = export(&bytes(case, "exporter_secret")?, id)?;
        assert_eq!(hex(key.bytes()), text(case, "key")?);
        let bundle = text(case, "bundle")?.as_bytes();
        let reference = MediaReference::to(bundle);
        assert_eq!(
            json!([reference.size, reference.sha256]),
            json!([case["size"], case["sha256"]])
        );
        let read = open_bundle(&crypto, &key, id, bundle, &member)?;
        let expected = case["sessions"].as_array().map_or(0, Vec::len);
        assert_eq!((read.len(), read.iter().all(Result::is_ok)), (expected, true), "{id}");
        assert!(open_bundle(&crypto, &key, "another", bundle, &member).is_err());
    }
    for case in cases(&vectors, "requests")? {
        let members = case["members"].as_array().map(Vec::as_slice).unwrap_or_default();
        assert_eq!(json!(order(text(case, "commit_event")?, members)?), case["order"]);
    }
    Ok(())
}
