//! Tracking, verification and claims, against answers that a homeserver could make up.

mod hostile;
mod order;

use std::collections::BTreeSet;

use openmls_basic_credential::SignatureKeyPair;
use openmls_traits::{signatures::Signer, types::Ciphersuite};
use ruma::{CanonicalJsonObject, OwnedUserId, owned_device_id, owned_user_id};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    query::{PostponedUser, QueryReport},
    record::{DEVICES, eligible},
    verify::Rejection,
    *,
};
use crate::{
    protocol::{DeviceName, encode_base64, identifiers},
    store::{Store, StoreError, StoreKeyMaterial, Tx},
};

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;

struct Scene {
    store: Store,
    _directory: TempDir,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), StoreKeyMaterial::None).unwrap();
        Self { store, _directory: directory }
    }

    fn write<T>(&self, work: impl FnOnce(&Tx<'_>) -> T) -> T {
        self.store.write(|tx| Ok::<_, StoreError>(work(tx))).unwrap()
    }

    fn track(&self) {
        self.write(|tx| track(tx, [&*alice()]).unwrap());
    }

    /// Asks about whoever is outdated and takes in this answer.
    fn query(&self, answer: Value) -> Result<QueryReport, DevicesError> {
        self.write(|tx| {
            let users: BTreeSet<_> = outdated(tx, 0).unwrap().into_iter().collect();
            let (query, _) = query_request(tx, users).unwrap();
            handle_query_response(tx, &query, answer.to_string().as_bytes(), 0)
        })
    }

    fn eligible(&self) -> Vec<Device> {
        self.write(|tx| {
            let devices = eligible_devices(tx, &alice()).unwrap();
            // The row for all of them says what the rows for each say.
            let each = DEVICES.list(tx, alice().as_bytes()).unwrap();
            assert_eq!(devices, each.into_iter().filter_map(eligible).collect::<Vec<_>>());
            devices
        })
    }

    fn outdated(&self, now_ms: u64) -> Vec<OwnedUserId> {
        self.write(|tx| outdated(tx, now_ms).unwrap())
    }
}

fn alice() -> OwnedUserId {
    owned_user_id!("@alice:example.org")
}

fn key_pair() -> SignatureKeyPair {
    SignatureKeyPair::new(SUITE.signature_algorithm()).unwrap()
}

/// Device keys with the device's own key and its credential key, signed by both.
fn signed(device: &SignatureKeyPair, credential: &SignatureKeyPair) -> Value {
    let keys = json!({
        "user_id": "@alice:example.org", "device_id": "PHONE", "algorithms": [],
        "keys": {
            "ed25519:PHONE": encode_base64(device.public()),
            identifiers::credential_key_id("PHONE"): encode_base64(credential.public()),
        },
    });
    sign(keys, device, credential)
}

fn sign(mut keys: Value, device: &SignatureKeyPair, credential: &SignatureKeyPair) -> Value {
    let canonical: CanonicalJsonObject = serde_json::from_value(keys.clone()).unwrap();
    let text = serde_json::to_string(&canonical).unwrap();
    let by = |signer: &SignatureKeyPair| encode_base64(&signer.sign(text.as_bytes()).unwrap());
    keys["signatures"] = json!({ "@alice:example.org": {
        "ed25519:PHONE": by(device),
        identifiers::credential_key_id("PHONE"): by(credential),
    } });
    keys
}

fn answer(keys: &Value) -> Value {
    json!({ "device_keys": { "@alice:example.org": { "PHONE": keys } } })
}

#[test]
fn a_device_that_holds_together_may_take_part() {
    let scene = Scene::new();
    scene.track();
    let (device, credential) = (key_pair(), key_pair());
    let report = scene.query(answer(&signed(&device, &credential))).unwrap();
    assert_eq!(report.changed_users, [alice()]);
    assert_eq!(report.rejected, []);
    assert_eq!(scene.eligible().len(), 1);
    assert_eq!(scene.eligible()[0].credential_key, credential.public());
    scene.write(|tx| {
        let of =
            |key| trust(tx, &DeviceName::new(alice(), owned_device_id!("PHONE")), key).unwrap();
        assert_eq!(of(credential.public()), Trust::Signed);
        assert_eq!(of(device.public()), Trust::Conflicting);
        let other =
            trust(tx, &DeviceName::new(alice(), owned_device_id!("OTHER")), device.public());
        assert_eq!(other.unwrap(), Trust::Unknown);
    });
}

#[test]
fn what_does_not_hold_together_is_rejected_with_its_reason_and_once() {
    let (device, credential) = (key_pair(), key_pair());
    let good = signed(&device, &credential);
    let credential_id = identifiers::credential_key_id("PHONE");
    let with = |change: &dyn Fn(&mut Value)| {
        let mut keys = good.clone();
        change(&mut keys);
        keys
    };
    let resigned = |change: &dyn Fn(&mut Value)| sign(with(change), &device, &credential);
    let cases = [
        (json!("text"), Rejection::Malformed),
        (with(&|k| k["keys"] = json!(3)), Rejection::Malformed),
        (resigned(&|k| k["user_id"] = json!("@bob:example.org")), Rejection::WrongIdentity),
        (resigned(&|k| k["device_id"] = json!("TABLET")), Rejection::WrongIdentity),
        (
            resigned(&|k| drop(k["keys"].as_object_mut().unwrap().remove(&credential_id))),
            Rejection::NoCredential,
        ),
        (
            resigned(&|k| drop(k["keys"].as_object_mut().unwrap().remove("ed25519:PHONE"))),
            Rejection::BadSignature,
        ),
        (with(&|k| k["algorithms"] = json!(["m.other"])), Rejection::BadSignature),
        (with(&|k| k["signatures"] = json!({})), Rejection::BadSignature),
        (
            with(&|k| k["signatures"]["@alice:example.org"][&credential_id] = json!("AAAA")),
            Rejection::BadSignature,
        ),
        (
            with(&|k| k["signatures"]["@alice:example.org"]["ed25519:PHONE"] = json!("AAAA")),
            Rejection::BadSignature,
        ),
        (sign(good.clone(), &device, &key_pair()), Rejection::BadSignature),
        (sign(good.clone(), &key_pair(), &credential), Rejection::BadSignature),
    ];
    for (number, (keys, reason)) in cases.into_iter().enumerate() {
        let scene = Scene::new();
        scene.track();
        let report = scene.query(answer(&keys)).unwrap();
        let reasons: Vec<_> = report.rejected.iter().map(|rejected| rejected.reason).collect();
        assert_eq!(reasons, [reason], "case {number}");
        assert_eq!(scene.eligible(), [], "case {number}");
        // The same again is no news.
        scene.write(|tx| note_device_lists(tx, &[alice()], &[]).unwrap());
        assert_eq!(scene.query(answer(&keys)).unwrap().rejected, [], "case {number}");
    }
}

#[test]
fn another_credential_for_a_known_device_is_a_conflict_and_not_an_update() {
    let scene = Scene::new();
    scene.track();
    let (device, first, second) = (key_pair(), key_pair(), key_pair());
    scene.query(answer(&signed(&device, &first))).unwrap();
    scene.write(|tx| note_device_lists(tx, &[alice()], &[]).unwrap());
    let report = scene.query(answer(&signed(&device, &second))).unwrap();
    assert_eq!(report.rejected[0].reason, Rejection::Changed);
    assert_eq!(scene.eligible(), []);
    scene.write(|tx| {
        let of =
            |key| trust(tx, &DeviceName::new(alice(), owned_device_id!("PHONE")), key).unwrap();
        assert_eq!(of(second.public()), Trust::Conflicting);
    });
    // The first one again: the device is what it was.
    scene.write(|tx| note_device_lists(tx, &[alice()], &[]).unwrap());
    scene.query(answer(&signed(&device, &first))).unwrap();
    assert_eq!(scene.eligible().len(), 1);
}

#[test]
fn a_device_that_is_gone_is_gone() {
    let scene = Scene::new();
    scene.track();
    scene.query(answer(&signed(&key_pair(), &key_pair()))).unwrap();
    scene.write(|tx| note_device_lists(tx, &[alice()], &[]).unwrap());
    scene.query(json!({ "device_keys": {} })).unwrap();
    assert_eq!(scene.eligible(), []);
}

#[test]
fn a_list_stays_outdated_when_it_changes_while_it_is_asked_for() {
    let scene = Scene::new();
    scene.track();
    assert_eq!(scene.outdated(0), [alice()]);
    let keys = signed(&key_pair(), &key_pair());
    scene.write(|tx| {
        let (query, _) = query_request(tx, [alice()].into()).unwrap();
        assert!(query.covers(tx, &alice()).unwrap());
        note_device_lists(tx, &[alice()], &[]).unwrap();
        assert!(!query.covers(tx, &alice()).unwrap());
        let body = answer(&keys).to_string();
        handle_query_response(tx, &query, body.as_bytes(), 0).unwrap();
    });
    assert_eq!(scene.outdated(0), [alice()], "the answer is from before the change");
    scene.query(answer(&keys)).unwrap();
    assert!(scene.outdated(0).is_empty());
    scene.write(|tx| untrack(tx, [&*alice()]).unwrap());
    scene.write(|tx| note_device_lists(tx, &[alice()], &[]).unwrap());
    assert!(scene.outdated(0).is_empty(), "nobody follows her any more");
}

#[test]
fn a_homeserver_that_cannot_be_reached_is_left_alone_for_a_while() {
    let scene = Scene::new();
    scene.track();
    let keys = signed(&key_pair(), &key_pair());
    scene.query(answer(&keys)).unwrap();
    for devices in [json!({}), json!({ "@alice:example.org": {} })] {
        scene.write(|tx| note_device_lists(tx, &[alice()], &[]).unwrap());
        let body = json!({ "device_keys": devices, "failures": { "example.org": {} } });
        let report = scene.query(body).unwrap();
        assert!(report.changed_users.is_empty());
        assert_eq!(report.postponed, [PostponedUser { user_id: alice(), retry_at_ms: 60_000 }]);
        assert_eq!(scene.eligible().len(), 1, "what was known counts");
        assert!(scene.outdated(0).is_empty() && scene.outdated(59_999).is_empty(), "not now");
        assert_eq!(scene.outdated(60_000), [alice()], "but later");
    }
    // Of other servers' failures, and where it remembered devices, the answer is as good as any.
    let mut body = answer(&keys);
    body["failures"] = json!({ "example.com": {}, "example.org": {}, "no server": 1 });
    scene.write(|tx| note_device_lists(tx, &[alice()], &[]).unwrap());
    assert_eq!(scene.query(body).unwrap().changed_users, [alice()]);
    assert!(scene.outdated(u64::MAX).is_empty());
}

#[test]
fn an_answer_about_somebody_else_changes_nothing() {
    let scene = Scene::new();
    scene.track();
    let keys = signed(&key_pair(), &key_pair());
    let other = json!({ "device_keys": { "@bob:example.org": { "PHONE": keys }, "nobody": 3 } });
    let report = scene.query(other).unwrap();
    assert_eq!(report.changed_users, [alice()]);
    let bob = owned_user_id!("@bob:example.org");
    scene.write(|tx| assert_eq!(eligible_devices(tx, &bob).unwrap(), []));
}

#[test]
fn no_cut_or_altered_answer_makes_a_device_or_a_panic() {
    let whole = answer(&signed(&key_pair(), &key_pair())).to_string().into_bytes();
    let scene = Scene::new();
    scene.track();
    scene.write(|tx| {
        let (query, _) = query_request(tx, [alice()].into()).unwrap();
        for end in 0..whole.len() {
            handle_query_response(tx, &query, &whole[..end], 0).unwrap_err();
            assert_eq!(eligible_devices(tx, &alice()).unwrap(), [], "cut at {end}");
            let mut altered = whole.clone();
            altered[end] ^= 1;
            // It may still be JSON; then it is no longer what was signed.
            let _ = handle_query_response(tx, &query, &altered, 0);
            assert_eq!(eligible_devices(tx, &alice()).unwrap(), [], "byte {end}");
        }
    });
}

#[test]
fn a_claim_names_every_device_and_its_answer_is_read_entry_by_entry() {
    let id = |device: &str| DeviceName { user_id: alice(), device_id: device.into() };
    let request = claim_request(&[id("A"), id("B")], SUITE);
    assert_eq!(request.one_time_keys[&alice()].len(), 2);
    let algorithm = identifiers::key_package_algorithm(SUITE);
    let body = json!({ "one_time_keys": {
        "@alice:example.org": {
            "A": { format!("{algorithm}:x"): "AQID" },
            "B": { format!("{algorithm}:x"): { "key": "AQID" } },
            "C": { "signed_curve25519:x": "AQID" },
            "D": 3,
            "E": { format!("{algorithm}:x"): "no base64 *" },
        },
        "nobody": { "A": { format!("{algorithm}:x"): "AQID" } },
        "@bob:example.org": [],
    } });
    let packages = parse_claim_response(body.to_string().as_bytes(), SUITE).unwrap();
    assert_eq!(packages.into_iter().collect::<Vec<_>>(), [(id("A"), vec![1, 2, 3])]);
    assert!(parse_claim_response(b"3", SUITE).is_err());
    assert!(parse_claim_response(b"", SUITE).is_err());
}
