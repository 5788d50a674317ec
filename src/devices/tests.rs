//! Tracking, verification and claims, against answers that a homeserver could make up.

mod bindings;
mod hostile;
mod order;

use std::{collections::BTreeSet, error::Error};

use openmls_basic_credential::SignatureKeyPair;
use openmls_traits::{signatures::Signer, types::Ciphersuite};
use ruma::{CanonicalJsonObject, OwnedUserId, owned_device_id, owned_user_id};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    query::{PostponedUser, QueryReport},
    record::{DEVICES, eligible},
    verify::DeviceFault,
    *,
};
use crate::{
    protocol::{
        DeviceName, encode_base64,
        identifiers::{self, KeyPackageName},
    },
    store::{Store, StoreKeyMaterial, Tx},
};

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;

/// What a test gives, and what a helper of one gives: a failure goes up to the test.
type Outcome<T = ()> = Result<T, Box<dyn Error>>;

struct Scene {
    store: Store,
    _directory: TempDir,
}

impl Scene {
    fn new() -> Outcome<Self> {
        let directory = tempfile::tempdir()?;
        let store = Store::open(directory.path(), StoreKeyMaterial::None)?;
        Ok(Self { store, _directory: directory })
    }

    fn write<T, E: Into<Box<dyn Error>>>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<T, E>,
    ) -> Outcome<T> {
        self.store.write(|tx| work(tx).map_err(Into::into))
    }

    fn track(&self) -> Outcome {
        self.write(|tx| track(tx, [&*alice()]))
    }

    /// Asks about whoever is outdated and takes in this answer.
    fn query(&self, answer: Value) -> Outcome<QueryReport> {
        self.write(|tx| {
            let users: BTreeSet<_> = outdated(tx, 0)?.into_iter().collect();
            let (query, _) = query_request(tx, users)?;
            handle_query_response(tx, &query, answer.to_string().as_bytes(), 0)
        })
    }

    fn eligible(&self) -> Outcome<Vec<Device>> {
        self.write(|tx| {
            let devices = eligible_devices(tx, &alice())?;
            // The row for all of them says what the rows for each say.
            let each = DEVICES.list(tx, alice().as_bytes())?;
            assert_eq!(devices, each.into_iter().filter_map(eligible).collect::<Vec<_>>());
            Outcome::Ok(devices)
        })
    }

    fn outdated(&self, now_ms: u64) -> Outcome<Vec<OwnedUserId>> {
        self.write(|tx| outdated(tx, now_ms))
    }
}

fn alice() -> OwnedUserId {
    owned_user_id!("@alice:example.org")
}

fn key_pair() -> Outcome<SignatureKeyPair> {
    Ok(SignatureKeyPair::new(SUITE.signature_algorithm())?)
}

/// Device keys with the device's own key and its credential key, signed by both.
fn signed(device: &SignatureKeyPair, credential: &SignatureKeyPair) -> Outcome<Value> {
    let keys = json!({
        "user_id": "@alice:example.org", "device_id": "PHONE", "algorithms": [],
        "keys": {
            "ed25519:PHONE": encode_base64(device.public()),
            identifiers::credential_key_id("PHONE"): encode_base64(credential.public()),
        },
    });
    sign(keys, device, credential)
}

fn sign(
    mut keys: Value,
    device: &SignatureKeyPair,
    credential: &SignatureKeyPair,
) -> Outcome<Value> {
    let canonical: CanonicalJsonObject = serde_json::from_value(keys.clone())?;
    let text = serde_json::to_string(&canonical)?;
    let by = |signer: &SignatureKeyPair| -> Outcome<String> {
        let signature = signer.sign(text.as_bytes()).map_err(|error| format!("{error:?}"))?;
        Ok(encode_base64(&signature))
    };
    keys["signatures"] = json!({ "@alice:example.org": {
        "ed25519:PHONE": by(device)?,
        identifiers::credential_key_id("PHONE"): by(credential)?,
    } });
    Ok(keys)
}

/// What a device of this name publishes that has one key for everything.
fn own_keys(id: &str) -> Outcome<Value> {
    let pair = key_pair()?;
    let mut keys = json!({
        "user_id": "@alice:example.org", "device_id": id, "algorithms": [],
        "keys": {
            format!("ed25519:{id}"): encode_base64(pair.public()),
            identifiers::credential_key_id(id): encode_base64(pair.public()),
        },
    });
    let canonical: CanonicalJsonObject = serde_json::from_value(keys.clone())?;
    let text = serde_json::to_string(&canonical)?;
    let signature = pair.sign(text.as_bytes()).map_err(|error| format!("{error:?}"))?;
    let signature = encode_base64(&signature);
    keys["signatures"] = json!({ "@alice:example.org": {
        format!("ed25519:{id}"): signature, identifiers::credential_key_id(id): signature,
    } });
    Ok(keys)
}

fn answer(keys: &Value) -> Value {
    json!({ "device_keys": { "@alice:example.org": { "PHONE": keys } } })
}

#[test]
fn a_device_that_holds_together_may_take_part() -> Outcome {
    let scene = Scene::new()?;
    scene.track()?;
    let (device, credential) = (key_pair()?, key_pair()?);
    let report = scene.query(answer(&signed(&device, &credential)?))?;
    assert_eq!(report.changed_users, [alice()]);
    assert_eq!(report.rejected, []);
    assert_eq!(scene.eligible()?.len(), 1);
    assert_eq!(scene.eligible()?[0].credential_key, credential.public());
    scene.write(|tx| {
        let of = |key| verdict(tx, &DeviceName::new(alice(), owned_device_id!("PHONE")), key);
        assert_eq!(of(credential.public())?, Verdict::NotSignedByOwner);
        assert_eq!(of(device.public())?, Verdict::Conflicting);
        let other =
            verdict(tx, &DeviceName::new(alice(), owned_device_id!("OTHER")), device.public());
        assert_eq!(other?, Verdict::Unknown);
        Outcome::Ok(())
    })?;
    Ok(())
}

#[test]
fn what_does_not_hold_together_is_rejected_with_its_reason_and_once() -> Outcome {
    let (device, credential) = (key_pair()?, key_pair()?);
    let good = signed(&device, &credential)?;
    let credential_id = identifiers::credential_key_id("PHONE");
    let with = |change: &dyn Fn(&mut Value)| {
        let mut keys = good.clone();
        change(&mut keys);
        keys
    };
    let resigned = |change: &dyn Fn(&mut Value)| sign(with(change), &device, &credential);
    let without =
        |name: &str| resigned(&|k| drop(k["keys"].as_object_mut().map(|k| k.remove(name))));
    let cases = [
        (json!("text"), DeviceFault::Malformed),
        (with(&|k| k["keys"] = json!(3)), DeviceFault::Malformed),
        (resigned(&|k| k["user_id"] = json!("@bob:example.org"))?, DeviceFault::WrongIdentity),
        (resigned(&|k| k["device_id"] = json!("TABLET"))?, DeviceFault::WrongIdentity),
        (without(&credential_id)?, DeviceFault::NoCredential),
        (without("ed25519:PHONE")?, DeviceFault::BadSignature),
        (with(&|k| k["algorithms"] = json!(["m.other"])), DeviceFault::BadSignature),
        (with(&|k| k["signatures"] = json!({})), DeviceFault::BadSignature),
        (
            with(&|k| k["signatures"]["@alice:example.org"][&credential_id] = json!("AAAA")),
            DeviceFault::BadSignature,
        ),
        (
            with(&|k| k["signatures"]["@alice:example.org"]["ed25519:PHONE"] = json!("AAAA")),
            DeviceFault::BadSignature,
        ),
        (sign(good.clone(), &device, &key_pair()?)?, DeviceFault::BadSignature),
        (sign(good.clone(), &key_pair()?, &credential)?, DeviceFault::BadSignature),
    ];
    for (number, (keys, reason)) in cases.into_iter().enumerate() {
        let scene = Scene::new()?;
        scene.track()?;
        let report = scene.query(answer(&keys))?;
        let reasons: Vec<_> = report.rejected.iter().map(|rejected| rejected.reason).collect();
        assert_eq!(reasons, [reason], "case {number}");
        assert_eq!(scene.eligible()?, [], "case {number}");
        // The same again is no news.
        scene.write(|tx| note_device_lists(tx, &[alice()], &[]))?;
        assert_eq!(scene.query(answer(&keys))?.rejected, [], "case {number}");
    }
    Ok(())
}

#[test]
fn another_credential_for_a_known_device_is_a_conflict_and_not_an_update() -> Outcome {
    let scene = Scene::new()?;
    scene.track()?;
    let (device, first, second) = (key_pair()?, key_pair()?, key_pair()?);
    scene.query(answer(&signed(&device, &first)?))?;
    scene.write(|tx| note_device_lists(tx, &[alice()], &[]))?;
    let report = scene.query(answer(&signed(&device, &second)?))?;
    assert_eq!(report.rejected[0].reason, DeviceFault::Changed);
    assert_eq!(scene.eligible()?, []);
    scene.write(|tx| {
        let of = |key| verdict(tx, &DeviceName::new(alice(), owned_device_id!("PHONE")), key);
        assert_eq!(of(second.public())?, Verdict::Conflicting);
        Outcome::Ok(())
    })?;
    // The first one again: the device is what it was.
    scene.write(|tx| note_device_lists(tx, &[alice()], &[]))?;
    scene.query(answer(&signed(&device, &first)?))?;
    assert_eq!(scene.eligible()?.len(), 1);
    Ok(())
}

#[test]
fn a_device_that_is_gone_is_gone() -> Outcome {
    let scene = Scene::new()?;
    scene.track()?;
    scene.query(answer(&signed(&key_pair()?, &key_pair()?)?))?;
    scene.write(|tx| note_device_lists(tx, &[alice()], &[]))?;
    scene.query(json!({ "device_keys": {} }))?;
    assert_eq!(scene.eligible()?, []);
    Ok(())
}

#[test]
fn a_list_stays_outdated_when_it_changes_while_it_is_asked_for() -> Outcome {
    let scene = Scene::new()?;
    scene.track()?;
    assert_eq!(scene.outdated(0)?, [alice()]);
    let keys = signed(&key_pair()?, &key_pair()?)?;
    scene.write(|tx| {
        let (query, _) = query_request(tx, [alice()].into())?;
        assert!(query.covers(tx, &alice())?);
        note_device_lists(tx, &[alice()], &[])?;
        assert!(!query.covers(tx, &alice())?);
        let body = answer(&keys).to_string();
        handle_query_response(tx, &query, body.as_bytes(), 0)?;
        Outcome::Ok(())
    })?;
    assert_eq!(scene.outdated(0)?, [alice()], "the answer is from before the change");
    scene.query(answer(&keys))?;
    assert!(scene.outdated(0)?.is_empty());
    scene.write(|tx| untrack(tx, [&*alice()]))?;
    scene.write(|tx| note_device_lists(tx, &[alice()], &[]))?;
    assert!(scene.outdated(0)?.is_empty(), "nobody follows her any more");
    Ok(())
}

#[test]
fn a_homeserver_that_cannot_be_reached_is_left_alone_for_a_while() -> Outcome {
    let scene = Scene::new()?;
    scene.track()?;
    let keys = signed(&key_pair()?, &key_pair()?)?;
    scene.query(answer(&keys))?;
    for devices in [json!({}), json!({ "@alice:example.org": {} })] {
        scene.write(|tx| note_device_lists(tx, &[alice()], &[]))?;
        let body = json!({ "device_keys": devices, "failures": { "example.org": {} } });
        let report = scene.query(body)?;
        assert!(report.changed_users.is_empty());
        assert_eq!(report.postponed, [PostponedUser { user_id: alice(), retry_at_ms: 60_000 }]);
        assert_eq!(scene.eligible()?.len(), 1, "what was known counts");
        assert!(scene.outdated(0)?.is_empty() && scene.outdated(59_999)?.is_empty(), "not now");
        assert_eq!(scene.outdated(60_000)?, [alice()], "but later");
    }
    // Of other servers' failures, and where it remembered devices, the answer is as good as any.
    let mut body = answer(&keys);
    body["failures"] = json!({ "example.com": {}, "example.org": {}, "no server": 1 });
    scene.write(|tx| note_device_lists(tx, &[alice()], &[]))?;
    assert_eq!(scene.query(body)?.changed_users, [alice()]);
    assert!(scene.outdated(u64::MAX)?.is_empty());
    Ok(())
}

#[test]
fn an_answer_about_somebody_else_changes_nothing() -> Outcome {
    let scene = Scene::new()?;
    scene.track()?;
    let keys = signed(&key_pair()?, &key_pair()?)?;
    let other = json!({ "device_keys": { "@bob:example.org": { "PHONE": keys }, "nobody": 3 } });
    let report = scene.query(other)?;
    assert_eq!(report.changed_users, [alice()]);
    let bob = owned_user_id!("@bob:example.org");
    assert_eq!(scene.write(|tx| eligible_devices(tx, &bob))?, []);
    Ok(())
}

#[test]
fn no_cut_or_altered_answer_makes_a_device_or_a_panic() -> Outcome {
    let whole = answer(&signed(&key_pair()?, &key_pair()?)?).to_string().into_bytes();
    let scene = Scene::new()?;
    scene.track()?;
    scene.write(|tx| {
        let (query, _) = query_request(tx, [alice()].into())?;
        for end in 0..whole.len() {
            assert!(handle_query_response(tx, &query, &whole[..end], 0).is_err(), "cut at {end}");
            assert_eq!(eligible_devices(tx, &alice())?, [], "cut at {end}");
            let mut altered = whole.clone();
            altered[end] ^= 1;
            // It may still be JSON; then it is no longer what was signed.
            let _ = handle_query_response(tx, &query, &altered, 0);
            assert_eq!(eligible_devices(tx, &alice())?, [], "byte {end}");
        }
        Outcome::Ok(())
    })?;
    Ok(())
}

#[test]
fn a_claim_names_every_device_and_its_answer_is_read_entry_by_entry() -> Outcome {
    let id = |device: &str| DeviceName { user_id: alice(), device_id: device.into() };
    let request = claim_request(&[id("A"), id("B")], SUITE, KeyPackageName::Unstable);
    assert_eq!(request.one_time_keys[&alice()].len(), 2);
    let algorithm = identifiers::key_package_algorithm(SUITE);
    let body = json!({ "one_time_keys": {
        "@alice:example.org": {
            "A": { format!("{algorithm}:x"): "AQID" },
            "B": { format!("{algorithm}:x"): { "key": "AQID" } },
            "C": { "signed_curve25519:x": "AQID" },
            "D": 3,
            "E": { format!("{algorithm}:x"): "no base64 *" },
            "F": { format!("{algorithm}:x"): "no base64 *", format!("{algorithm}:y"): "AQID" },
        },
        "nobody": { "A": { format!("{algorithm}:x"): "AQID" } },
        "@bob:example.org": [],
    }, "failures": { "down.example.org": {}, "no server!": {} } });
    let claimed = parse_claim_response(body.to_string().as_bytes(), SUITE)?;
    let package =
        |key_id: &str, bytes: &[u8]| ClaimedPackage { key_id: key_id.into(), bytes: bytes.into() };
    let expected = [
        (id("A"), package("x", &[1, 2, 3])),
        // Handed out, and no good.
        (id("B"), package("x", &[])),
        (id("E"), package("x", &[])),
        (id("F"), package("y", &[1, 2, 3])),
    ];
    assert_eq!(claimed.packages.into_iter().collect::<Vec<_>>(), expected);
    let unreachable: Vec<String> = claimed.unreachable.iter().map(ToString::to_string).collect();
    assert_eq!(unreachable, ["down.example.org"]);
    assert!(parse_claim_response(b"3", SUITE).is_err());
    assert!(parse_claim_response(b"", SUITE).is_err());
    Ok(())
}

#[test]
fn the_first_key_counts_when_the_device_was_gone() -> Outcome {
    let scene = Scene::new()?;
    scene.track()?;
    let (device, first, second) = (key_pair()?, key_pair()?, key_pair()?);
    scene.query(answer(&signed(&device, &first)?))?;
    let again = |answer: Value| {
        scene.write(|tx| note_device_lists(tx, &[alice()], &[]))?;
        scene.query(answer)
    };
    again(json!({ "device_keys": {} }))?;
    let of = |key: &SignatureKeyPair| {
        let name = DeviceName::new(alice(), owned_device_id!("PHONE"));
        scene.write(|tx| verdict(tx, &name, key.public()))
    };
    assert_eq!(of(&first)?, Verdict::Unknown, "it is not listed");
    assert_eq!(of(&second)?, Verdict::Conflicting);
    scene.write(|tx| untrack(tx, [&*alice()]))?;
    scene.track()?;
    let report = again(answer(&signed(&device, &second)?))?;
    assert_eq!(report.rejected[0].reason, DeviceFault::Changed);
    assert_eq!(scene.eligible()?, []);
    again(answer(&signed(&device, &first)?))?;
    assert_eq!(scene.eligible()?.len(), 1);
    Ok(())
}

/// Keys that have not signed themselves are nobody's, so nobody can have a device refused by naming
/// a key of theirs first.
#[test]
fn only_keys_that_hold_together_are_pinned() -> Outcome {
    let scene = Scene::new()?;
    scene.track()?;
    let (device, credential) = (key_pair()?, key_pair()?);
    let forged = sign(signed(&device, &key_pair()?)?, &device, &credential)?;
    assert_eq!(scene.query(answer(&forged))?.rejected[0].reason, DeviceFault::BadSignature);
    scene.write(|tx| note_device_lists(tx, &[alice()], &[]))?;
    scene.query(answer(&signed(&device, &credential)?))?;
    assert_eq!(scene.eligible()?.len(), 1);
    Ok(())
}

/// A row of an earlier version is all that remembers its device's key. It is gone with the first
/// answer that leaves the device out.
#[test]
fn the_key_in_an_older_row_is_pinned_when_the_row_goes() -> Outcome {
    let scene = Scene::new()?;
    scene.track()?;
    let (device, first, second) = (key_pair()?, key_pair()?, key_pair()?);
    scene.query(answer(&signed(&device, &first)?))?;
    scene.write(|tx| pins::forget_all(tx, &alice()))?;
    scene.write(|tx| note_device_lists(tx, &[alice()], &[]))?;
    scene.query(json!({ "device_keys": {} }))?;
    scene.write(|tx| note_device_lists(tx, &[alice()], &[]))?;
    let report = scene.query(answer(&signed(&device, &second)?))?;
    assert_eq!(report.rejected[0].reason, DeviceFault::Changed);
    Ok(())
}

#[test]
fn past_the_bound_new_devices_are_refused_and_known_ones_are_not() -> Outcome {
    let scene = Scene::new()?;
    scene.track()?;
    let good = answer(&signed(&key_pair()?, &key_pair()?)?);
    scene.query(good.clone())?;
    scene.write(|tx| pins::invent(tx, &alice(), 10_000))?;
    scene.write(|tx| note_device_lists(tx, &[alice()], &[]))?;
    assert_eq!(scene.query(good)?.rejected, [], "it has its pin");
    assert_eq!(scene.eligible()?.len(), 1);
    let keys = own_keys("NEW")?;
    scene.write(|tx| note_device_lists(tx, &[alice()], &[]))?;
    let body = json!({ "device_keys": { "@alice:example.org": { "NEW": keys } } });
    assert_eq!(scene.query(body)?.rejected[0].reason, DeviceFault::TooMany);
    assert_eq!(scene.eligible()?, []);
    Ok(())
}
