//! The specification's test vectors (`docs/spec/vectors`): where their files are, and those of
//! names, ids, bindings and references. `cargo xtask vectors` has them written; otherwise they are
//! checked.

pub(crate) mod mls;

use std::{env, error::Error, fs, path::PathBuf};

use openmls::prelude::{KeyPackageIn, ProtocolVersion};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::RustCrypto;
use openmls_traits::{signatures::Signer, types::SignatureScheme};
use ruma::{RoomId, UserId};
use serde_json::{Value, json};
use tls_codec::{DeserializeBytes as _, Serialize as _, TlsSerialize, TlsSize, VLBytes};

use super::{DeviceName, EpochId, GroupName, MediaReference, binding, credential, encode_base64};

/// What a test gives, and what a helper of one gives: a failure goes up to the test.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// If this is set, the files are written anew.
const WRITE: &str = "MATRIX_MLS_WRITE_VECTORS";

/// The vectors of a file, made anew first if that is asked for.
pub(crate) fn file(name: &str, make: impl FnOnce() -> Outcome<Value>) -> Outcome<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("docs/spec/vectors")
        .join(format!("{name}.json"));
    if env::var_os(WRITE).is_some() {
        fs::write(&path, lines(&make()?)?)?;
    }
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(serde_json::from_str(&text)?)
}

/// JSON with a line for each case, so that a change of one case is a change of one line.
fn lines(vectors: &Value) -> Outcome<String> {
    let mut text = String::from("{");
    for (name, cases) in vectors.as_object().into_iter().flatten() {
        let comma = if text.ends_with('{') { "" } else { "," };
        text.push_str(&format!("{comma}\n  {}: [", serde_json::to_string(name)?));
        for (at, case) in cases.as_array().into_iter().flatten().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            text.push_str(&format!("{comma}\n    {}", serde_json::to_string(case)?));
        }
        text.push_str("\n  ]");
    }
    text.push_str("\n}\n");
    Ok(text)
}

/// The cases of a list, of which there is at least one.
pub(crate) fn cases<'a>(vectors: &'a Value, list: &str) -> Outcome<&'a Vec<Value>> {
    let cases = vectors[list].as_array().filter(|cases| !cases.is_empty());
    Ok(cases.ok_or_else(|| format!("there are no vectors of {list}"))?)
}

/// A text field.
pub(crate) fn text<'a>(case: &'a Value, field: &str) -> Outcome<&'a str> {
    Ok(case[field].as_str().ok_or_else(|| format!("{field} is no text in {case}"))?)
}

/// A field of bytes in hexadecimal.
pub(crate) fn bytes(case: &Value, field: &str) -> Outcome<Vec<u8>> {
    let digits = text(case, field)?;
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?);
    pairs.map(byte).collect()
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn device(user: &str, device: &str) -> Outcome<DeviceName> {
    Ok(DeviceName::new(UserId::parse(user)?, device.into()))
}

#[derive(TlsSerialize, TlsSize)]
struct Context {
    version: u16,
    suite: u16,
    group_id: VLBytes,
    epoch: u64,
    tree_hash: VLBytes,
    transcript: VLBytes,
    extensions: VLBytes,
}

fn make_identifiers() -> Outcome<Value> {
    let names = [
        ("@alice:example.org", "DEVICE"),
        ("@b:x", "D|E \u{e9}"),
        ("@long:example.org", &*"L".repeat(100)),
    ];
    let identities = names
        .iter()
        .map(|(user, id)| {
            let identity = hex(&credential::encode(&device(user, id)?));
            Ok(json!({ "user_id": user, "device_id": id, "identity": identity }))
        })
        .collect::<Outcome<Vec<_>>>()?;
    let room: &RoomId = "!room:example.org".try_into()?;
    let named = [(0, [0; 16]), (1, [7; 16]), (u64::MAX, [0xFF; 16])].map(|(number, nonce)| {
        let group = match number {
            0 => GroupName::First,
            number => GroupName::Restarted { number, nonce },
        };
        json!({ "room_id": room, "number": number.to_string(), "random": hex(&nonce),
                "group_id": hex(&group.group_id(room)) })
    });
    let refused = [
        b"!other:example.org".to_vec(),
        b"!room:example.orgs".to_vec(),
        [room.as_bytes(), &[0], &[0; 8], &[1; 16]].concat(),
        [room.as_bytes(), &[0], &[0, 0, 0, 0, 0, 0, 0, 1], &[1; 15]].concat(),
        [room.as_bytes(), &[1], &[0, 0, 0, 0, 0, 0, 0, 1], &[1; 16]].concat(),
    ]
    .map(|id| json!({ "room_id": room, "group_id": hex(&id) }));
    let epochs = [(0_u64, 1_u8), (1, 2), (u64::from(u32::MAX) + 5, 3)].map(|(epoch, byte)| {
        let context = Context {
            version: 1,
            suite: 1,
            group_id: room.as_bytes().to_vec().into(),
            epoch,
            tree_hash: vec![byte; 32].into(),
            transcript: vec![byte; if epoch == 0 { 0 } else { 32 }].into(),
            extensions: Vec::new().into(),
        };
        let context = context.tls_serialize_detached().unwrap_or_default();
        let id = hex(EpochId::of_tls(&context).as_bytes());
        json!({ "group_context": hex(&context), "epoch_id": id })
    });
    let media = [&b""[..], b"abc", &[0x5A; 1_000]].map(|content| {
        let MediaReference { size, sha256, .. } = MediaReference::to(content);
        json!({ "content": hex(content), "size": size, "sha256": sha256 })
    });
    let packages = ["PHONE", "LAPTOP"].map(|id| -> Outcome<Value> {
        let (package, id) = mls::Member::alone("@alice:example.org", id, b"none")?.key_package()?;
        let package = package.tls_serialize_detached()?;
        Ok(json!({ "key_package": hex(&package), "key_id": encode_base64(&id) }))
    });
    let packages = packages.into_iter().collect::<Outcome<Vec<_>>>()?;
    Ok(json!({
        "identities": identities, "group_ids": named, "refused_group_ids": refused,
        "epoch_ids": epochs, "key_ids": packages, "media_references": media,
    }))
}

#[test]
fn identifiers() -> Outcome {
    let vectors = file("identifiers", make_identifiers)?;
    for case in cases(&vectors, "identities")? {
        let name = device(text(case, "user_id")?, text(case, "device_id")?)?;
        assert_eq!(credential::encode(&name), bytes(case, "identity")?);
        assert_eq!(credential::parse(&bytes(case, "identity")?)?, name);
    }
    for case in cases(&vectors, "group_ids")? {
        let room: &RoomId = text(case, "room_id")?.try_into()?;
        let id = bytes(case, "group_id")?;
        let group = GroupName::of(room, &id).ok_or("the group id is refused")?;
        assert_eq!(group.number().to_string(), text(case, "number")?);
        assert_eq!(group.group_id(room), id);
    }
    for case in cases(&vectors, "refused_group_ids")? {
        let room: &RoomId = text(case, "room_id")?.try_into()?;
        assert_eq!(GroupName::of(room, &bytes(case, "group_id")?), None, "{case}");
    }
    for case in cases(&vectors, "epoch_ids")? {
        let id = EpochId::of_tls(&bytes(case, "group_context")?);
        assert_eq!(hex(id.as_bytes()), text(case, "epoch_id")?);
    }
    for case in cases(&vectors, "key_ids")? {
        let package = bytes(case, "key_package")?;
        let (package, crypto) =
            (KeyPackageIn::tls_deserialize_exact_bytes(&package)?, RustCrypto::default());
        let package = package.validate(&crypto, ProtocolVersion::Mls10)?;
        assert_eq!(encode_base64(package.hash_ref(&crypto)?.as_slice()), text(case, "key_id")?);
    }
    for case in cases(&vectors, "media_references")? {
        let reference = MediaReference {
            url: "mxc://example.org/abc".to_owned(),
            size: case["size"].as_u64().ok_or("the size is no number")?,
            sha256: text(case, "sha256")?.to_owned(),
        };
        assert!(reference.fits(&bytes(case, "content")?), "{case}");
    }
    Ok(())
}

fn make_bindings() -> Outcome<Value> {
    let keys = SignatureKeyPair::new(SignatureScheme::ED25519)?;
    let device_key = hex(keys.public());
    let mut cases = Vec::new();
    for (user, id) in [("@alice:example.org", "DEVICE"), ("@b:x", "D\"\\\u{e9}")] {
        for byte in [1, 2] {
            let text = binding::text(&device(user, id)?, &[byte; 32]);
            let signature = keys.sign(text.as_bytes()).map_err(|_| "it does not sign")?;
            cases.push(json!({
                "user_id": user, "device_id": id, "mls_key": hex(&[byte; 32]), "text": text,
                "device_key": device_key, "signature": hex(&signature), "valid": true,
            }));
        }
    }
    for (field, value) in [
        ("user_id", "@mallory:example.org".to_owned()),
        ("device_id", "OTHER".to_owned()),
        ("mls_key", hex(&[9; 32])),
        ("device_key", hex(SignatureKeyPair::new(SignatureScheme::ED25519)?.public())),
        ("signature", hex(&[3; 64])),
    ] {
        let mut worse = cases.first().cloned().unwrap_or_default();
        (worse[field], worse["valid"]) = (json!(value), json!(false));
        if let Some(fields) = worse.as_object_mut() {
            fields.remove("text");
        }
        cases.push(worse);
    }
    Ok(json!({ "bindings": cases }))
}

#[test]
fn bindings() -> Outcome {
    let vectors = file("bindings", make_bindings)?;
    for case in cases(&vectors, "bindings")? {
        let name = device(text(case, "user_id")?, text(case, "device_id")?)?;
        let mls_key = bytes(case, "mls_key")?;
        if case["valid"] == json!(true) {
            assert_eq!(binding::text(&name, &mls_key), text(case, "text")?);
        }
        let (signature, key) = (bytes(case, "signature")?, bytes(case, "device_key")?);
        let valid = binding::is_valid(&name, &mls_key, &signature, &key);
        assert_eq!(json!(valid), case["valid"], "{case}");
        assert_eq!(encode_base64(&mls_key).len(), 43);
    }
    Ok(())
}
