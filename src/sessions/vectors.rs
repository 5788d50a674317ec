//! The specification's vectors of recovery keys, sealed sessions, backups and files
//! (`docs/spec/vectors`).

use openmls_rust_crypto::RustCrypto;
use ruma::UserId;
use serde_json::{Value, json};

use super::{
    file::{open as open_file, seal_file},
    key::BackupKey,
    seal::{self, AuthData, PassphraseInfo, SessionData, auth_data, proves},
    session::{
        epoch_session_id, is_leaves_session_id, is_mls_session_id, leaves_session_id,
        session_id_suffix,
    },
};
use crate::{
    history::ChunkId,
    protocol::{
        DeviceName, EpochId,
        vectors::{Outcome, bytes, cases, file, hex, text},
    },
};

/// The fewest that are taken.
const ROUNDS: u32 = 100_000;

fn make() -> Outcome<Value> {
    let crypto = RustCrypto::default();
    let keys = [[0; 32], [0xFF; 32], std::array::from_fn(|at| at as u8)];
    let recovery_keys = keys
        .map(|key| Ok(json!({ "key": hex(&key), "text": &*BackupKey::from_bytes(&key)?.text() })))
        .into_iter()
        .collect::<Outcome<Vec<_>>>()?;
    let passphrase = ("correct horse", "a salt", ROUNDS);
    let stretched = BackupKey::from_passphrase(passphrase.0, passphrase.1, passphrase.2)?;
    let key = BackupKey::from_bytes(&keys[2])?;
    let beside_megolm = seal::beside_megolm(&crypto, &key)?;
    let mut sealed = Vec::new();
    for (id, plaintext) in [("5|QGE6YnxE", "{}"), ("leaves|AAAA", ""), ("", "any text at all")] {
        let data = seal::seal(&crypto, &key, id, plaintext.as_bytes())?;
        sealed.push(json!({
            "key": hex(&keys[2]), "session_id": id, "plaintext": hex(plaintext.as_bytes()),
            "session_data": data,
        }));
    }
    let proof = auth_data(&crypto, &key, PassphraseInfo::default())?;
    let mut session_ids = Vec::new();
    for (number, user, device, epoch_id) in [
        (0, "@alice:example.org", "PHONE", None),
        (u64::from(u32::MAX) + 5, "@b:x", "D|E \u{e9}", None),
        (7, "@alice:example.org", "PHONE", Some([0xC5; 32])),
    ] {
        let creator = DeviceName::new(UserId::parse(user)?, device.into());
        let suffix = epoch_id.map(|id| session_id_suffix(EpochId::from_bytes(id)));
        session_ids.push(json!({
            "epoch": [number.to_string(), creator], "epoch_id": epoch_id.map(|id| hex(&id)),
            "session_id": epoch_session_id(number, &creator, suffix.as_deref()),
        }));
    }
    let chunk = b"\xA1\x66leaves\x80";
    session_ids.push(json!({
        "leaf_chunk": hex(chunk), "session_id": leaves_session_id(ChunkId::of(chunk)),
    }));
    let contents = r#"[{"algorithm":"x","room_id":"!r:x"}]"#;
    Ok(json!({
        "recovery_keys": recovery_keys,
        "wrong_recovery_keys": [
            { "text": "EsTR Vkku fukN" },
            { "text": key.text().chars().rev().collect::<String>() },
        ],
        "passphrases": [{
            "passphrase": passphrase.0, "salt": passphrase.1, "rounds": passphrase.2,
            "key": hex(stretched.bytes()),
        }],
        "beside_megolm": [{ "recovery_key": hex(&keys[2]), "key": hex(beside_megolm.bytes()) }],
        "session_ids": session_ids,
        "sealed": sealed,
        "proofs": [
            { "key": hex(&keys[2]), "auth_data": proof, "proves": true },
            { "key": hex(&keys[0]), "auth_data": proof, "proves": false },
        ],
        "files": [{
            "passphrase": "of the file", "contents": contents,
            "file": seal_file(&crypto, contents.as_bytes(), "of the file")?,
        }],
    }))
}

#[test]
fn backups() -> Outcome {
    let crypto = RustCrypto::default();
    let vectors = file("backups", make)?;
    for case in cases(&vectors, "recovery_keys")? {
        let key = BackupKey::from_bytes(&bytes(case, "key")?)?;
        assert_eq!(&*key.text(), text(case, "text")?);
        assert_eq!(BackupKey::parse(text(case, "text")?)?, key);
    }
    for case in cases(&vectors, "wrong_recovery_keys")? {
        assert!(BackupKey::parse(text(case, "text")?).is_err(), "{case}");
    }
    for case in cases(&vectors, "passphrases")? {
        let rounds = u32::try_from(case["rounds"].as_u64().unwrap_or_default())?;
        let (passphrase, salt) = (text(case, "passphrase")?, text(case, "salt")?);
        let key = BackupKey::from_passphrase(passphrase, salt, rounds)?;
        assert_eq!(hex(key.bytes()), text(case, "key")?);
    }
    for case in cases(&vectors, "beside_megolm")? {
        let key = BackupKey::from_bytes(&bytes(case, "recovery_key")?)?;
        assert_eq!(hex(seal::beside_megolm(&crypto, &key)?.bytes()), text(case, "key")?);
    }
    for case in cases(&vectors, "session_ids")? {
        let id = text(case, "session_id")?;
        assert!(is_mls_session_id(id), "{id}");
        assert_eq!(is_leaves_session_id(id), case["leaf_chunk"].is_string());
        let made = if case["leaf_chunk"].is_string() {
            leaves_session_id(ChunkId::of(&bytes(case, "leaf_chunk")?))
        } else {
            let creator: DeviceName = serde_json::from_value(case["epoch"][1].clone())?;
            let suffix = if case["epoch_id"].is_string() {
                let epoch_id = bytes(case, "epoch_id")?.try_into().map_err(|_| "32 bytes")?;
                Some(session_id_suffix(EpochId::from_bytes(epoch_id)))
            } else {
                None
            };
            let number = case["epoch"][0].as_str().unwrap_or_default().parse()?;
            epoch_session_id(number, &creator, suffix.as_deref())
        };
        assert_eq!(made, id);
    }
    for case in cases(&vectors, "sealed")? {
        let key = BackupKey::from_bytes(&bytes(case, "key")?)?;
        let data: SessionData = serde_json::from_value(case["session_data"].clone())?;
        let opened = seal::open(&crypto, &key, text(case, "session_id")?, &data)?;
        assert_eq!(hex(&opened), text(case, "plaintext")?);
        assert!(seal::open(&crypto, &key, "another", &data).is_err());
    }
    for case in cases(&vectors, "proofs")? {
        let key = BackupKey::from_bytes(&bytes(case, "key")?)?;
        let data: AuthData = serde_json::from_value(case["auth_data"].clone())?;
        assert_eq!(json!(proves(&crypto, &key, &data)?), case["proves"]);
    }
    for case in cases(&vectors, "files")? {
        let opened = open_file(&crypto, text(case, "file")?, text(case, "passphrase")?)?;
        assert_eq!(std::str::from_utf8(&opened)?, text(case, "contents")?);
    }
    Ok(())
}
