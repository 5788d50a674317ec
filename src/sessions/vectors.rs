//! The specification's vectors of recovery keys, sealed sessions, backups and files
//! (`docs/spec/vectors`).

use openmls_rust_crypto::RustCrypto;
use serde_json::{Value, json};

use super::{
    file::{open as open_file, seal_file},
    key::BackupKey,
    seal::{self, AuthData, PassphraseInfo, SessionData, auth_data, proves},
};
use crate::protocol::vectors::{Outcome, bytes, cases, file, hex, text};

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
