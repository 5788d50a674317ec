//! Bindings: which leaf makes which device an MLS device, and what does not.

use ruma::{CanonicalJsonObject, owned_device_id};

use super::*;
use crate::{exported::MemberPolicy, protocol::binding};

/// A leaf's binding by this Ed25519 key, as the leaf has it.
fn bound(name: &DeviceName, mls: &SignatureKeyPair, by: &SignatureKeyPair) -> Outcome<LeafBinding> {
    let signature = by.sign(binding::text(name, mls.public()).as_bytes());
    let signature = signature.map_err(|error| format!("{error:?}"))?;
    Ok(LeafBinding { device: name.clone(), key: mls.public().to_vec(), signature })
}

fn phone() -> DeviceName {
    DeviceName::new(alice(), owned_device_id!("PHONE"))
}

/// What an Olm machine publishes for the phone.
fn olm_keys(device: &SignatureKeyPair) -> Outcome<Value> {
    let mut keys = json!({
        "user_id": "@alice:example.org", "device_id": "PHONE",
        "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
        "keys": { "ed25519:PHONE": encode_base64(device.public()), "curve25519:PHONE": "AAAA" },
    });
    let canonical: CanonicalJsonObject = serde_json::from_value(keys.clone())?;
    let signature = device.sign(serde_json::to_string(&canonical)?.as_bytes());
    let signature = encode_base64(&signature.map_err(|error| format!("{error:?}"))?);
    keys["signatures"] = json!({ "@alice:example.org": { "ed25519:PHONE": signature } });
    Ok(keys)
}

impl Scene {
    /// Alice's phone is listed, with its Olm machine's keys.
    fn with_olm(device: &SignatureKeyPair) -> Outcome<Self> {
        let scene = Self::new()?;
        scene.track()?;
        scene.query(answer(&olm_keys(device)?))?;
        Ok(scene)
    }

    /// Takes in leaves; tells whether a device may take part now that could not before.
    fn note(&self, leaves: impl IntoIterator<Item = LeafBinding>) -> Outcome<bool> {
        let noted = self.write(|tx| note_bindings(tx, leaves))?;
        Ok(!noted.users.is_empty())
    }

    fn answered(&self, body: Value) -> Outcome<QueryReport> {
        self.write(|tx| note_device_lists(tx, &[alice()], &[]))?;
        self.query(body)
    }

    fn due(&self, now_ms: u64) -> Outcome<Due> {
        self.write(|tx| due(tx, &[alice()].into(), now_ms))
    }

    fn trust(&self, key: &[u8]) -> Outcome<Verdict> {
        self.write(|tx| verdict(tx, &phone(), key))
    }
}

#[test]
fn a_leaf_with_a_valid_binding_makes_a_listed_device_an_mls_device() -> Outcome {
    let (device, mls) = (key_pair()?, key_pair()?);
    let scene = Scene::with_olm(&device)?;
    assert_eq!(scene.eligible()?, []);
    assert!(scene.write(|tx| is_silent(tx, &phone()))?);
    assert!(scene.note([bound(&phone(), &mls, &device)?])?);
    let expected = Device { name: phone(), credential_key: mls.public().to_vec() };
    assert_eq!(scene.eligible()?, std::slice::from_ref(&expected));
    assert_eq!(scene.trust(mls.public())?, Verdict::NotSignedByOwner);
    assert!(!scene.write(|tx| is_silent(tx, &phone()))?);
    assert_eq!(scene.due(0)?, Due::default());
    assert!(!scene.note([bound(&phone(), &mls, &device)?])?, "again it is no news");
    // The next answer says the same of it.
    let report = scene.answered(answer(&olm_keys(&device)?))?;
    assert_eq!((report.altered_users, report.rejected), (vec![], vec![]));
    assert_eq!(scene.eligible()?, [expected]);
    Ok(())
}

#[test]
fn a_leaf_that_comes_before_the_list_counts_when_the_list_comes() -> Outcome {
    let (device, mls) = (key_pair()?, key_pair()?);
    let scene = Scene::new()?;
    scene.track()?;
    // Others may name the device as well, and even fill up the room for it.
    let mut leaves = vec![bound(&phone(), &mls, &device)?];
    for _ in 0..3 {
        leaves.push(bound(&phone(), &key_pair()?, &key_pair()?)?);
    }
    assert!(!scene.note(leaves)?);
    let report = scene.query(answer(&olm_keys(&device)?))?;
    assert_eq!(report.rejected, []);
    assert_eq!(scene.eligible()?[0].credential_key, mls.public());
    Ok(())
}

#[test]
fn what_is_kept_of_devices_that_are_not_listed_is_bounded() -> Outcome {
    let (device, mls) = (key_pair()?, key_pair()?);
    let scene = Scene::new()?;
    scene.track()?;
    let good = bound(&phone(), &mls, &device)?;
    for number in 0..1_100 {
        let device = DeviceName::new(alice(), format!("OTHER{number}").into());
        scene.note([LeafBinding { device, ..good.clone() }])?;
    }
    // There is no room for it, and it is learnt later.
    scene.note([good.clone()])?;
    scene.query(answer(&olm_keys(&device)?))?;
    assert_eq!(scene.eligible()?, []);
    assert_eq!(scene.due(0)?.new, [phone()]);
    assert!(scene.note([good])?);
    Ok(())
}

#[test]
fn what_is_no_valid_binding_of_that_very_device_changes_nothing() -> Outcome {
    let (device, mls) = (key_pair()?, key_pair()?);
    let scene = Scene::with_olm(&device)?;
    let good = bound(&phone(), &mls, &device)?;
    let tablet = DeviceName::new(alice(), owned_device_id!("TABLET"));
    let bobs = DeviceName::new(owned_user_id!("@bob:example.org"), owned_device_id!("PHONE"));
    let with = |signature: &[u8]| LeafBinding { signature: signature.to_vec(), ..good.clone() };
    let cases = [
        ("for another device", with(&bound(&tablet, &mls, &device)?.signature)),
        ("for another user", with(&bound(&bobs, &mls, &device)?.signature)),
        ("for another key", with(&bound(&phone(), &key_pair()?, &device)?.signature)),
        ("by another key", with(&bound(&phone(), &mls, &key_pair()?)?.signature)),
        ("by the MLS key itself", with(&bound(&phone(), &mls, &mls)?.signature)),
        ("too short", with(&good.signature[..63])),
        ("too long", with(&[&good.signature[..], &[0]].concat())),
        ("empty", with(&[])),
        (
            "over device keys",
            with(&device.sign(olm_keys(&device)?.to_string().as_bytes()).map_err(|_| "signing")?),
        ),
    ];
    for (what, leaf) in cases {
        assert!(!scene.note([leaf])?, "{what}");
        assert_eq!(scene.eligible()?, [], "{what}");
        assert_eq!(scene.trust(mls.public())?, Verdict::Unknown, "{what}");
    }
    assert!(scene.note([good])?, "none of it stands in the way of the true one");
    Ok(())
}

#[test]
fn of_two_valid_bindings_the_first_counts_for_good() -> Outcome {
    let (device, first, second) = (key_pair()?, key_pair()?, key_pair()?);
    let scene = Scene::with_olm(&device)?;
    scene.note([bound(&phone(), &first, &device)?])?;
    let later = bound(&phone(), &second, &device)?;
    assert!(!scene.note([later.clone()])?);
    assert_eq!(scene.trust(second.public())?, Verdict::Conflicting);
    // Neither an answer without the device nor one with it makes room for the second.
    scene.answered(json!({ "device_keys": { "@alice:example.org": {} } }))?;
    assert_eq!(scene.eligible()?, []);
    assert_eq!(scene.trust(second.public())?, Verdict::Conflicting);
    scene.note([later])?;
    let report = scene.answered(answer(&olm_keys(&device)?))?;
    assert_eq!(report.rejected, []);
    assert_eq!(scene.eligible()?[0].credential_key, first.public());
    assert_eq!(scene.trust(second.public())?, Verdict::Conflicting);
    Ok(())
}

#[test]
fn a_device_whose_ed25519_key_changes_is_refused() -> Outcome {
    let (device, other, mls) = (key_pair()?, key_pair()?, key_pair()?);
    let scene = Scene::with_olm(&device)?;
    scene.note([bound(&phone(), &mls, &device)?])?;
    let report = scene.answered(answer(&olm_keys(&other)?))?;
    let reasons: Vec<_> = report.rejected.iter().map(|one| one.reason).collect();
    assert_eq!(reasons, [DeviceFault::Changed]);
    assert_eq!(scene.eligible()?, []);
    // A key of its own does not help whoever has put that key there.
    let ghost = key_pair()?;
    assert!(!scene.note([bound(&phone(), &ghost, &other)?])?);
    assert_eq!(scene.trust(ghost.public())?, Verdict::Conflicting);
    // With its first key it is what it was.
    scene.answered(answer(&olm_keys(&device)?))?;
    assert_eq!(scene.eligible()?[0].credential_key, mls.public());
    Ok(())
}

/// Devices of earlier versions have their credential in what they publish. An app may publish the
/// Olm machine's keys again as they were, so that the owner's signature fits them again.
#[test]
fn a_credential_that_was_published_may_be_bound_later_and_no_other() -> Outcome {
    let (device, mls) = (key_pair()?, key_pair()?);
    let scene = Scene::new()?;
    scene.track()?;
    scene.query(answer(&signed(&device, &mls)?))?;
    assert_eq!(scene.eligible()?.len(), 1);
    assert!(!scene.note([bound(&phone(), &mls, &device)?])?, "it takes part already");
    scene.answered(answer(&olm_keys(&device)?))?;
    assert_eq!(scene.eligible()?[0].credential_key, mls.public());

    let scene = Scene::new()?;
    scene.track()?;
    scene.query(answer(&signed(&device, &mls)?))?;
    let report = scene.answered(answer(&olm_keys(&device)?))?;
    assert_eq!(report.rejected[0].reason, DeviceFault::NoCredential);
    assert!(!scene.note([bound(&phone(), &key_pair()?, &device)?])?, "the pin stays");
    assert!(scene.note([bound(&phone(), &mls, &device)?])?);
    Ok(())
}

#[test]
fn the_policy_decides_on_a_bound_device_as_on_any() -> Outcome {
    let (device, mls) = (key_pair()?, key_pair()?);
    let scene = Scene::with_olm(&device)?;
    let own = DeviceName::new(owned_user_id!("@me:example.org"), owned_device_id!("OWN"));
    scene.write(|tx| set_policy(tx, MemberPolicy::CrossSigned, &own, &[1; 32]))?;
    assert_eq!(scene.due(0)?, Due::default(), "it could not take part whatever it said");
    let leaf = bound(&phone(), &mls, &device)?;
    let noted = scene.write(|tx| note_bindings(tx, [leaf]))?;
    assert_eq!(noted.rejected[0].reason, DeviceFault::NotCrossSigned);
    assert_eq!(scene.eligible()?, []);
    scene.write(|tx| set_policy(tx, MemberPolicy::AnySigned, &own, &[1; 32]))?;
    assert_eq!(scene.eligible()?[0].credential_key, mls.public());
    Ok(())
}

#[test]
fn silent_devices_are_asked_for_at_growing_intervals_up_to_a_day() -> Outcome {
    const MINUTE: u64 = 60 * 1000;
    const DAY: u64 = 24 * 60 * MINUTE;
    let device = key_pair()?;
    let scene = Scene::with_olm(&device)?;
    let mut now_ms = 1_000_000;
    assert_eq!(scene.due(now_ms)?.new, [phone()]);
    let mut rests = Vec::new();
    for _ in 0..10 {
        scene.write(|tx| asked_in_vain(tx, &[phone()], now_ms))?;
        let Due { new, again, next_ms } = scene.due(now_ms)?;
        assert_eq!((new, again), (vec![], vec![]));
        let next_ms = next_ms.ok_or("it is asked for never again")?;
        rests.push((next_ms - now_ms) / MINUTE);
        now_ms = next_ms;
        assert_eq!(scene.due(now_ms)?.again.len(), 1);
    }
    assert_eq!(rests, [10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440]);
    scene.write(|tx| asked_in_vain(tx, &[phone()], now_ms))?;
    // An answer that says the same asks for nobody; one with news does.
    scene.answered(answer(&olm_keys(&device)?))?;
    assert!(scene.due(now_ms)?.again.is_empty());
    let mut two = answer(&olm_keys(&device)?);
    two["device_keys"]["@alice:example.org"]["TABLET"] = own_keys("TABLET")?;
    scene.answered(two)?;
    assert_eq!(scene.due(now_ms)?.again, [(phone(), 11)]);
    // Another Ed25519 key is another device to ask.
    scene.answered(answer(&olm_keys(&key_pair()?)?))?;
    assert_eq!(scene.due(now_ms)?.new, [phone()]);
    scene.write(|tx| asked_in_vain(tx, &[phone()], now_ms))?;
    assert_eq!(scene.due(now_ms - 3 * DAY)?.again.len(), 1, "a clock that was set back");
    Ok(())
}
