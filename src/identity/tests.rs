//! The device's keys over time: what is uploaded when, and what is kept.

mod device_keys;
mod joining;
mod uploads;
mod validation;

use std::collections::HashMap;

use openmls::prelude::{
    BasicCredential, Capabilities, Ciphersuite, CredentialWithKey, KeyPackageIn, ProtocolVersion,
    tls_codec::Deserialize as _,
};
use openmls_basic_credential::SignatureKeyPair;
use openmls_traits::{OpenMlsProvider, storage::StorageProvider};
use ruma::{
    CanonicalJsonObject, SigningKeyAlgorithm, api::client::keys::upload_keys, device_id,
    signatures::verify_canonical_json_bytes, user_id,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{crypto::SUITE, *};
use crate::{
    devices,
    protocol::{DeviceName, credential, decode_base64, identifiers},
    store::{MlsStorage, Namespace, Store, StoreError, StoreKeyMaterial, Tx},
};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// Any moment after 1970 by more than the skew of lifetimes.
const NOW_MS: u64 = 1_800_000_000_000;

struct Scene {
    store: Store,
    crypto: Crypto,
    identity: Identity,
    _directory: TempDir,
}

impl Scene {
    fn new(publishing: Publishing) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), StoreKeyMaterial::None).unwrap();
        let crypto = Crypto::default();
        let (user, device) = (user_id!("@a:b").to_owned(), device_id!("D").to_owned());
        let identity = store
            .write(|tx| Identity::load_or_create(tx, &crypto, &user, &device, publishing))
            .unwrap();
        Self { store, crypto, identity, _directory: directory }
    }

    fn write<T>(&self, work: impl FnOnce(&Tx<'_>) -> T) -> T {
        self.store.write(|tx| Ok::<_, StoreError>(work(tx))).unwrap()
    }

    fn plan(&self, now_ms: u64) -> Option<(UploadPlan, upload_keys::v3::Request)> {
        self.write(|tx| plan_upload(tx, &self.crypto, &self.identity, now_ms).unwrap())
    }

    /// Plans an upload, and has a homeserver that then holds so many take it.
    fn upload(&self, now_ms: u64, count: u64) -> upload_keys::v3::Request {
        let (plan, request) = self.plan(now_ms).expect("something to upload");
        let algorithm = identifiers::key_package_algorithm(SUITE);
        let body = json!({ "one_time_key_counts": { algorithm: count } }).to_string();
        self.write(|tx| mark_uploaded(tx, &plan, body.as_bytes(), now_ms).unwrap());
        request
    }

    fn counts(&self, one_time: u64, fallback: bool) {
        let algorithm = identifiers::key_package_algorithm(SUITE);
        let counts = HashMap::from([(algorithm.clone(), one_time), ("other".into(), 7)]);
        let unused = if fallback { vec![algorithm] } else { vec!["other".to_owned()] };
        self.write(|tx| note_counts(tx, SUITE, Some(&counts), Some(&unused)).unwrap());
    }

    /// How many of these packages still have their private keys.
    fn kept(&self, packages: &[String]) -> usize {
        self.write(|tx| {
            let provider = Provider::new(&self.crypto, MlsStorage::new(tx, Namespace::GLOBAL));
            packages
                .iter()
                .filter(|text| {
                    let package = self.parse(text);
                    let reference = package.hash_ref(provider.crypto()).unwrap();
                    let bundle: Option<openmls::prelude::KeyPackageBundle> =
                        provider.storage().key_package(&reference).unwrap();
                    bundle.is_some()
                })
                .count()
        })
    }

    fn parse(&self, text: &str) -> openmls::prelude::KeyPackage {
        let bytes = decode_base64(text).unwrap();
        let package = KeyPackageIn::tls_deserialize_exact(&bytes).unwrap();
        package.validate(&self.crypto, ProtocolVersion::Mls10).unwrap()
    }
}

fn values<'a>(
    keys: impl IntoIterator<Item = &'a ruma::serde::Raw<ruma::encryption::OneTimeKey>>,
) -> Vec<String> {
    keys.into_iter().map(|key| serde_json::from_str(key.json().get()).unwrap()).collect()
}

/// The real time: validation in OpenMLS looks at the clock.
fn real_now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

#[test]
fn the_first_upload_brings_everything_and_the_second_nothing() {
    let scene = Scene::new(Publishing::Alone);
    let request = scene.upload(NOW_MS, 50);
    assert!(request.device_keys.is_some());
    assert_eq!(request.one_time_keys.len(), 50);
    assert_eq!(request.fallback_keys.len(), 1);
    let prefix = identifiers::key_package_algorithm(SUITE);
    assert!(request.one_time_keys.keys().all(|id| id.as_str().starts_with(&prefix)));
    assert!(scene.plan(NOW_MS).is_none());
    scene.counts(50, true);
    assert!(scene.plan(NOW_MS).is_none());
}

#[test]
fn what_the_homeserver_gave_away_is_replaced() {
    let scene = Scene::new(Publishing::Alone);
    scene.upload(NOW_MS, 50);
    scene.counts(47, true);
    let request = scene.upload(NOW_MS, 50);
    assert!(request.device_keys.is_none());
    assert_eq!((request.one_time_keys.len(), request.fallback_keys.len()), (3, 0));
    scene.counts(50, false);
    let request = scene.upload(NOW_MS, 50);
    assert_eq!((request.one_time_keys.len(), request.fallback_keys.len()), (0, 1));
}

#[test]
fn a_sync_that_says_nothing_of_keys_changes_nothing() {
    let scene = Scene::new(Publishing::Alone);
    scene.upload(NOW_MS, 50);
    scene.write(|tx| note_counts(tx, SUITE, None, None).unwrap());
    assert!(scene.plan(NOW_MS).is_none());
    // An algorithm that is not named has none left.
    scene.write(|tx| note_counts(tx, SUITE, Some(&HashMap::new()), None).unwrap());
    assert_eq!(scene.upload(NOW_MS, 50).one_time_keys.len(), 50);
}

#[test]
fn an_answer_that_cannot_be_read_leaves_the_upload_undone() {
    let scene = Scene::new(Publishing::Alone);
    let (plan, _) = scene.plan(NOW_MS).unwrap();
    for body in ["", "{}", "[]", r#"{"one_time_key_counts":{"a":-1}}"#] {
        scene.write(|tx| mark_uploaded(tx, &plan, body.as_bytes(), NOW_MS).unwrap_err());
    }
    assert!(scene.plan(NOW_MS).unwrap().1.device_keys.is_some());
}

#[test]
fn expired_packages_go_with_their_private_keys_and_are_replaced_before() {
    let scene = Scene::new(Publishing::Alone);
    let now = real_now_ms();
    let first = scene.upload(now, 50);
    let first = values(first.one_time_keys.values());
    assert_eq!(scene.kept(&first), 50);
    assert!(scene.plan(now + 30 * DAY_MS).is_none());
    // Soon they expire: others take their place while they are still good.
    let next = scene.upload(now + 75 * DAY_MS, 50);
    assert_eq!((next.one_time_keys.len(), next.fallback_keys.len()), (50, 1));
    assert_eq!(scene.kept(&first), 50);
    scene.plan(now + 81 * DAY_MS);
    assert_eq!(scene.kept(&first), 0);
}

#[test]
fn a_replaced_fallback_key_is_kept_for_a_time_of_grace() {
    let scene = Scene::new(Publishing::Alone);
    let now = real_now_ms();
    let first = values(scene.upload(now, 50).fallback_keys.values());
    scene.counts(50, false);
    scene.upload(now + DAY_MS, 50);
    scene.counts(50, true);
    assert!(scene.plan(now + 2 * DAY_MS).is_none());
    assert_eq!(scene.kept(&first), 1);
    assert!(scene.plan(now + 9 * DAY_MS).is_none());
    assert_eq!(scene.kept(&first), 0);
}

#[test]
fn own_device_keys_are_what_others_accept() {
    let scene = Scene::new(Publishing::Alone);
    let keys = scene.identity.own_device_keys().unwrap();
    let (user, device) = (user_id!("@a:b"), device_id!("D"));
    let answer = json!({ "device_keys": { user.as_str(): { device.as_str(): keys } } });
    scene.write(|tx| {
        devices::track(tx, [user]).unwrap();
        let (query, _) = devices::query_request(tx, [user.to_owned()].into()).unwrap();
        let body = answer.to_string();
        devices::handle_query_response(tx, &query, body.as_bytes(), 0).unwrap();
        let name = DeviceName::new(user.to_owned(), device.to_owned());
        let device = devices::device(tx, &name).unwrap().expect("it is eligible");
        assert_eq!(device.credential_key, scene.identity.public_key());
    });
}

#[test]
fn beside_olm_the_credential_is_merged_and_old_signatures_go() {
    let scene = Scene::new(Publishing::BesideOlm);
    let (_, request) = scene.plan(NOW_MS).unwrap();
    assert!(request.device_keys.is_none());
    let olm = json!({
        "user_id": "@a:b", "device_id": "D", "algorithms": ["m.megolm.v1.aes-sha2"],
        "keys": { "ed25519:D": "AAAA", "curve25519:D": "BBBB" },
        "signatures": { "@a:b": { "ed25519:D": "old" } }, "unsigned": { "x": 1 },
    });
    let signed = scene.identity.sign_device_keys(&olm.to_string()).unwrap();
    let keys: Value = serde_json::from_str(&signed.device_keys).unwrap();
    let credential = identifiers::credential_key_id("D");
    assert_eq!(keys["keys"]["curve25519:D"], "BBBB");
    assert_eq!(keys["keys"][&credential], encode(scene.identity.public_key()));
    assert_eq!(keys["algorithms"].as_array().unwrap().len(), 2);
    let signatures = keys["signatures"]["@a:b"].as_object().unwrap();
    assert_eq!(signatures.keys().collect::<Vec<_>>(), [&credential]);
    let signature = decode_base64(signatures[&credential].as_str().unwrap()).unwrap();
    verify_canonical_json_bytes(
        &SigningKeyAlgorithm::Ed25519,
        scene.identity.public_key(),
        &signature,
        signed.to_sign.as_bytes(),
    )
    .unwrap();
    let to_sign: CanonicalJsonObject = serde_json::from_str(&signed.to_sign).unwrap();
    assert!(!to_sign.contains_key("signatures") && !to_sign.contains_key("unsigned"));
}

fn encode(bytes: &[u8]) -> String {
    crate::protocol::encode_base64(bytes)
}

#[test]
fn device_keys_of_others_are_not_signed() {
    let scene = Scene::new(Publishing::BesideOlm);
    for keys in [
        "",
        "[]",
        "{}",
        r#"{"user_id":"@a:b","device_id":"E","keys":{}}"#,
        r#"{"user_id":"@c:b","device_id":"D","keys":{}}"#,
        r#"{"user_id":"@a:b","device_id":"D"}"#,
        r#"{"user_id":"@a:b","device_id":"D","keys":1.5}"#,
    ] {
        assert!(scene.identity.sign_device_keys(keys).is_err(), "{keys}");
    }
}

#[test]
fn a_key_package_is_only_good_for_its_device_key_suite_and_time() {
    let scene = Scene::new(Publishing::Alone);
    let now = real_now_ms();
    let request = scene.upload(now, 50);
    let package = values(request.one_time_keys.values()).remove(0);
    let bytes = decode_base64(&package).unwrap();
    let own = scene.identity.name();
    let key = scene.identity.public_key().to_vec();
    let check = |bytes: &[u8], name: &DeviceName, key: &[u8], now| {
        validate_key_package(&scene.crypto, bytes, name, key, SUITE, now).map(drop)
    };
    check(&bytes, &own, &key, now).unwrap();
    let other = DeviceName::new(own.user_id.clone(), "E".into());
    assert!(check(&bytes, &other, &key, now).is_err());
    assert!(check(&bytes, &own, &[1; 32], now).is_err());
    assert!(check(&bytes, &own, &key, now + 81 * DAY_MS).is_err());
    assert!(check(&bytes, &own, &key, now - DAY_MS).is_err());
    for end in 0..bytes.len() {
        assert!(check(&bytes[..end], &own, &key, now).is_err(), "cut at {end}");
    }
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        assert!(check(&altered, &own, &key, now).is_err(), "bit at {at}");
    }
}

#[test]
fn a_store_is_one_devices() {
    let scene = Scene::new(Publishing::Alone);
    let open = |user: &ruma::UserId, device: &ruma::DeviceId| {
        scene.store.write(|tx| {
            let (user, device) = (user.to_owned(), device.to_owned());
            Identity::load_or_create(tx, &scene.crypto, &user, &device, Publishing::Alone)
        })
    };
    let again = open(user_id!("@a:b"), device_id!("D")).unwrap();
    assert_eq!(again.public_key(), scene.identity.public_key());
    assert!(matches!(open(user_id!("@a:b"), device_id!("E")), Err(IdentityError::OtherDevice(_))));
    assert!(matches!(open(user_id!("@c:b"), device_id!("D")), Err(IdentityError::OtherDevice(_))));
    let record = scene.write(|tx| super::device::IDENTITY.get(tx, b"", b"own").unwrap().unwrap());
    let printed = format!("{again:?} {:?}", again.signer());
    assert!(!printed.contains(&format!("{:?}", record.private_key)));
}
