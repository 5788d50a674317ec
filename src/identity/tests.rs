//! The device's keys over time: what is uploaded when, and what is kept.

mod binding;
mod clocks;
mod device_keys;
mod joining;
mod uploads;
mod validation;

use std::{collections::HashMap, error::Error};

use openmls::prelude::{
    BasicCredential, Capabilities, Ciphersuite, CredentialWithKey, KeyPackageIn, ProtocolVersion,
    tls_codec::Deserialize as _,
};
use openmls_basic_credential::SignatureKeyPair;
use openmls_traits::{OpenMlsProvider, storage::StorageProvider};
use ruma::{api::client::keys::upload_keys, device_id, user_id};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{crypto::SUITE, *};
use crate::{
    devices,
    protocol::{DeviceName, credential, decode_base64, identifiers},
    store::{MlsStorage, Namespace, Store, StoreError, StoreKeyMaterial, Tx},
};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// Any moment that a clock which is right may show.
const NOW_MS: u64 = 1_800_000_000_000;

/// What a test gives, and what a helper of one gives: a failure goes up to the test.
type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// An upload, and the request that makes it.
type Planned = (UploadPlan, upload_keys::v3::Request);

struct Scene {
    store: Store,
    crypto: Crypto,
    identity: Identity,
    _directory: TempDir,
}

impl Scene {
    fn new(publishing: Publishing) -> Outcome<Self> {
        let directory = tempfile::tempdir()?;
        let store = Store::open(directory.path(), StoreKeyMaterial::None)?;
        let crypto = Crypto::default();
        let (user, device) = (user_id!("@a:b").to_owned(), device_id!("D").to_owned());
        let identity =
            store.write(|tx| Identity::load_or_create(tx, &crypto, &user, &device, publishing))?;
        Ok(Self { store, crypto, identity, _directory: directory })
    }

    fn write<T, E: Into<Box<dyn Error>>>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<T, E>,
    ) -> Outcome<T> {
        self.store.write(|tx| work(tx).map_err(Into::into))
    }

    fn plan(&self, now_ms: u64) -> Outcome<Option<Planned>> {
        self.write(|tx| plan_upload(tx, &self.crypto, &self.identity, now_ms))
    }

    /// Plans an upload where there is something to upload.
    fn planned(&self, now_ms: u64) -> Outcome<Planned> {
        Ok(self.plan(now_ms)?.ok_or("there is nothing to upload")?)
    }

    /// Plans an upload, and has a homeserver that then holds so many take it.
    fn upload(&self, now_ms: u64, count: u64) -> Outcome<upload_keys::v3::Request> {
        let (plan, request) = self.planned(now_ms)?;
        let algorithm = identifiers::key_package_algorithm(SUITE);
        let body = json!({ "one_time_key_counts": { algorithm: count } }).to_string();
        self.write(|tx| mark_uploaded(tx, &plan, body.as_bytes(), now_ms))?;
        Ok(request)
    }

    fn counts(&self, one_time: u64, fallback: bool) -> Outcome {
        let algorithm = identifiers::key_package_algorithm(SUITE);
        let counts = HashMap::from([(algorithm.clone(), one_time), ("other".into(), 7)]);
        let unused = if fallback { vec![algorithm] } else { vec!["other".to_owned()] };
        self.write(|tx| note_counts(tx, SUITE, Some(&counts), Some(&unused)))
    }

    /// How many of these packages still have their private keys.
    fn kept(&self, packages: &[String]) -> Outcome<usize> {
        self.write(|tx| {
            let provider = Provider::new(&self.crypto, MlsStorage::new(tx, Namespace::GLOBAL));
            let mut kept = 0;
            for text in packages {
                let package = self.parse(text)?;
                let reference = package.hash_ref(provider.crypto())?;
                let bundle: Option<openmls::prelude::KeyPackageBundle> =
                    provider.storage().key_package(&reference)?;
                kept += usize::from(bundle.is_some());
            }
            Outcome::Ok(kept)
        })
    }

    fn parse(&self, text: &str) -> Outcome<openmls::prelude::KeyPackage> {
        let bytes = decode_base64(text).ok_or("the key package is no base64")?;
        let package = KeyPackageIn::tls_deserialize_exact(&bytes)?;
        Ok(package.validate(&self.crypto, ProtocolVersion::Mls10)?)
    }
}

fn values<'a>(
    keys: impl IntoIterator<Item = &'a ruma::serde::Raw<ruma::encryption::OneTimeKey>>,
) -> Outcome<Vec<String>> {
    keys.into_iter().map(|key| Ok(serde_json::from_str(key.json().get())?)).collect()
}

/// The real time: validation in OpenMLS looks at the clock.
fn real_now_ms() -> Outcome<u64> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(u64::try_from(now.as_millis())?)
}

#[test]
fn the_first_upload_brings_everything_and_the_second_nothing() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    let request = scene.upload(NOW_MS, 50)?;
    assert!(request.device_keys.is_some());
    assert_eq!(request.one_time_keys.len(), 50);
    assert_eq!(request.fallback_keys.len(), 1);
    let prefix = identifiers::key_package_algorithm(SUITE);
    assert!(request.one_time_keys.keys().all(|id| id.as_str().starts_with(&prefix)));
    assert!(scene.plan(NOW_MS)?.is_none());
    scene.counts(50, true)?;
    assert!(scene.plan(NOW_MS)?.is_none());
    Ok(())
}

#[test]
fn what_the_homeserver_gave_away_is_replaced() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    scene.upload(NOW_MS, 50)?;
    scene.counts(47, true)?;
    let request = scene.upload(NOW_MS, 50)?;
    assert!(request.device_keys.is_none());
    assert_eq!((request.one_time_keys.len(), request.fallback_keys.len()), (3, 0));
    scene.counts(50, false)?;
    let request = scene.upload(NOW_MS, 50)?;
    assert_eq!((request.one_time_keys.len(), request.fallback_keys.len()), (0, 1));
    Ok(())
}

#[test]
fn a_sync_that_says_nothing_of_keys_changes_nothing() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    scene.upload(NOW_MS, 50)?;
    scene.write(|tx| note_counts(tx, SUITE, None, None))?;
    assert!(scene.plan(NOW_MS)?.is_none());
    // An algorithm that is not named beside another has none left.
    let other = HashMap::from([("other".to_owned(), 7)]);
    scene.write(|tx| note_counts(tx, SUITE, Some(&other), None))?;
    assert_eq!(scene.upload(NOW_MS, 50)?.one_time_keys.len(), 50);
    Ok(())
}

#[test]
fn an_empty_map_of_counts_is_no_reason_to_upload_with_every_sync() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    scene.upload(NOW_MS, 50)?;
    let algorithm = identifiers::key_package_algorithm(SUITE);
    let (unused, used) = (vec![algorithm.clone()], Vec::new());
    let sync = |unused: Option<&[String]>| {
        scene.write(|tx| note_counts(tx, SUITE, Some(&HashMap::new()), unused))
    };
    for _ in 0..3 {
        sync(None)?;
        sync(Some(&unused))?;
        assert!(scene.plan(NOW_MS)?.is_none(), "it says nothing");
    }
    // What is handed out last has been handed out: the homeserver leaves out what is zero.
    sync(Some(&used))?;
    let request = scene.upload(NOW_MS, 50)?;
    assert_eq!((request.one_time_keys.len(), request.fallback_keys.len()), (50, 1));
    for _ in 0..3 {
        sync(Some(&used))?;
        assert_eq!(scene.upload(NOW_MS, 50)?.one_time_keys.len(), 0, "once is enough");
    }
    // A count says that counts are given.
    scene.counts(50, true)?;
    sync(Some(&used))?;
    assert_eq!(scene.upload(NOW_MS, 50)?.one_time_keys.len(), 50);
    Ok(())
}

#[test]
fn an_answer_that_cannot_be_read_leaves_the_upload_undone() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    let (plan, _) = scene.planned(NOW_MS)?;
    for body in ["", "{}", "[]", r#"{"one_time_key_counts":{"a":-1}}"#] {
        scene.write(|tx| {
            assert!(mark_uploaded(tx, &plan, body.as_bytes(), NOW_MS).is_err(), "{body}");
            Outcome::Ok(())
        })?;
    }
    assert!(scene.planned(NOW_MS)?.1.device_keys.is_some());
    Ok(())
}

#[test]
fn expired_packages_go_with_their_private_keys_and_are_replaced_before() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    let now = real_now_ms()?;
    let first = scene.upload(now, 50)?;
    let first = values(first.one_time_keys.values())?;
    assert_eq!(scene.kept(&first)?, 50);
    assert!(scene.plan(now + 30 * DAY_MS)?.is_none());
    // Others take their place while they are good for more than a year.
    let next = scene.upload(now + 305 * DAY_MS, 50)?;
    assert_eq!((next.one_time_keys.len(), next.fallback_keys.len()), (50, 1));
    assert_eq!(scene.kept(&first)?, 50);
    // A Welcome for one of them may wait for a device that was away for long.
    scene.plan(now + 1_000 * DAY_MS)?;
    assert_eq!(scene.kept(&first)?, 50);
    scene.plan(now + 1_007 * DAY_MS)?;
    assert_eq!(scene.kept(&first)?, 0);
    Ok(())
}

#[test]
fn a_replaced_fallback_key_is_kept_for_a_time_of_grace() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    let now = real_now_ms()?;
    let first = values(scene.upload(now, 50)?.fallback_keys.values())?;
    scene.counts(50, false)?;
    scene.upload(now + DAY_MS, 50)?;
    scene.counts(50, true)?;
    assert!(scene.plan(now + 2 * DAY_MS)?.is_none());
    assert_eq!(scene.kept(&first)?, 1);
    assert!(scene.plan(now + 9 * DAY_MS)?.is_none());
    assert_eq!(scene.kept(&first)?, 0);
    Ok(())
}

#[test]
fn own_device_keys_are_what_others_accept() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    let keys = scene.identity.own_device_keys()?;
    let (user, device) = (user_id!("@a:b"), device_id!("D"));
    let answer = json!({ "device_keys": { user.as_str(): { device.as_str(): keys } } });
    scene.write(|tx| {
        devices::track(tx, [user])?;
        let (query, _) = devices::query_request(tx, [user.to_owned()].into())?;
        let body = answer.to_string();
        devices::handle_query_response(tx, &query, body.as_bytes(), 0)?;
        let name = DeviceName::new(user.to_owned(), device.to_owned());
        let device = devices::device(tx, &name)?.ok_or("the device is not eligible")?;
        assert_eq!(device.credential_key, scene.identity.public_key());
        Outcome::Ok(())
    })?;
    Ok(())
}

fn encode(bytes: &[u8]) -> String {
    crate::protocol::encode_base64(bytes)
}

#[test]
fn a_key_package_is_only_good_for_its_device_key_suite_and_time() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    let now = real_now_ms()?;
    let request = scene.upload(now, 50)?;
    let package = values(request.one_time_keys.values())?.remove(0);
    let bytes = decode_base64(&package).ok_or("the key package is no base64")?;
    let own = scene.identity.name();
    let key = scene.identity.public_key().to_vec();
    let check = |bytes: &[u8], name: &DeviceName, key: &[u8], now| {
        validate_key_package(&scene.crypto, bytes, name, Some(key), SUITE, now).map(drop)
    };
    check(&bytes, &own, &key, now)?;
    let other = DeviceName::new(own.user_id.clone(), "E".into());
    assert!(check(&bytes, &other, &key, now).is_err());
    assert!(check(&bytes, &own, &[1; 32], now).is_err());
    // A clock that is behind, as far as can be, and one that is not.
    for now in [0, now - DAY_MS, now + 365 * DAY_MS, now + 669 * DAY_MS] {
        check(&bytes, &own, &key, now)?;
    }
    // Whoever takes in the commit may do so 60 days later.
    for now in [now + 671 * DAY_MS, now + 731 * DAY_MS, u64::MAX] {
        assert!(check(&bytes, &own, &key, now).is_err(), "{now}");
    }
    for end in 0..bytes.len() {
        assert!(check(&bytes[..end], &own, &key, now).is_err(), "cut at {end}");
    }
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        assert!(check(&altered, &own, &key, now).is_err(), "bit at {at}");
    }
    Ok(())
}

#[test]
fn a_store_is_one_devices() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    let open = |user: &ruma::UserId, device: &ruma::DeviceId| {
        scene.store.write(|tx| {
            let (user, device) = (user.to_owned(), device.to_owned());
            Identity::load_or_create(tx, &scene.crypto, &user, &device, Publishing::Alone)
        })
    };
    let again = open(user_id!("@a:b"), device_id!("D"))?;
    assert_eq!(again.public_key(), scene.identity.public_key());
    assert!(matches!(open(user_id!("@a:b"), device_id!("E")), Err(IdentityError::OtherDevice(_))));
    assert!(matches!(open(user_id!("@c:b"), device_id!("D")), Err(IdentityError::OtherDevice(_))));
    let record = scene.write(|tx| super::device::IDENTITY.get(tx, b"", b"own"))?;
    let record = record.ok_or("no identity is stored")?;
    let printed = format!("{again:?} {:?}", again.signer());
    assert!(!printed.contains(&format!("{:?}", record.private_key)));
    Ok(())
}
