//! The binding of a device beside Olm: what is signed, what is taken for a signature, and what
//! stands in leaves and on the homeserver before and after.

use openmls_traits::signatures::Signer as _;
use ruma::CanonicalJsonObject;

use super::*;
use crate::protocol::binding;

/// The Ed25519 key of an Olm machine, and its `sign`.
pub(super) struct Olm(SignatureKeyPair);

impl Olm {
    pub(super) fn new() -> Outcome<Self> {
        Ok(Self(SignatureKeyPair::new(SUITE.signature_algorithm())?))
    }

    fn key(&self) -> String {
        encode(self.0.public())
    }

    /// The signature of the device's key, under this name, and one of the owner's.
    fn sign(&self, text: &str, user: &str, id: &str) -> Outcome<OlmSignatures> {
        let signature = self.0.sign(text.as_bytes()).map_err(|error| format!("{error:?}"))?;
        let of_user = [(id, encode(&signature)), ("ed25519:MASTER", "AAAA".to_owned())];
        let of_user = of_user.map(|(id, text)| (id.to_owned(), text)).into();
        Ok(HashMap::from([(user.to_owned(), of_user)]))
    }
}

impl Scene {
    /// A device beside Olm that has its binding.
    pub(super) fn bound() -> Outcome<Self> {
        let scene = Self::new(Publishing::BesideOlm)?;
        scene.bind(&Olm::new()?)?;
        Ok(scene)
    }

    fn to_sign(&self) -> Outcome<Option<String>> {
        self.write(|tx| self.identity.binding_to_sign(tx))
    }

    /// Tells whether the binding is another than before.
    fn bind(&self, olm: &Olm) -> Outcome<bool> {
        let text = binding::text(&self.identity.name(), self.identity.public_key());
        let signatures = olm.sign(&text, "@a:b", "ed25519:D")?;
        self.write(|tx| {
            let bound = self.identity.bind(tx, &olm.key(), &signatures)?;
            if bound.is_some() {
                replace_key_packages(tx)?;
            }
            Ok::<_, IdentityError>(bound.is_some())
        })
    }
}

#[test]
fn one_text_is_signed_once_and_is_no_device_keys() -> Outcome {
    let scene = Scene::new(Publishing::BesideOlm)?;
    let text = scene.to_sign()?.ok_or("nothing is to be signed")?;
    let object: CanonicalJsonObject = serde_json::from_str(&text)?;
    assert!(["keys", "algorithms", "signatures"].iter().all(|name| !object.contains_key(*name)));
    let field = |name: &str| object.get(name).and_then(|value| value.as_str());
    assert_eq!((field("user_id"), field("device_id")), (Some("@a:b"), Some("D")));
    assert_eq!(field("mls_key"), Some(&*encode(scene.identity.public_key())));
    let olm = Olm::new()?;
    assert!(scene.bind(&olm)?);
    assert_eq!(scene.to_sign()?, None);
    assert!(!scene.bind(&olm)?, "a second time it is nothing new");
    assert_eq!(Scene::new(Publishing::Alone)?.to_sign()?, None);
    Ok(())
}

#[test]
fn only_the_devices_own_signature_over_that_very_text_is_taken() -> Outcome {
    let scene = Scene::new(Publishing::BesideOlm)?;
    let olm = Olm::new()?;
    let text = scene.to_sign()?.ok_or("nothing is to be signed")?;
    let refused = |key: &str, signatures: &OlmSignatures| -> Outcome {
        let bound = scene.write(|tx| {
            let bound = scene.identity.bind(tx, key, signatures);
            Outcome::Ok(matches!(bound, Err(IdentityError::BadBinding(_))))
        })?;
        assert!(bound, "{signatures:?} by {key}");
        Ok(())
    };
    let good = olm.sign(&text, "@a:b", "ed25519:D")?;
    refused(&Olm::new()?.key(), &good)?;
    refused("", &good)?;
    refused("not base64!", &good)?;
    refused(&olm.key(), &OlmSignatures::new())?;
    refused(&olm.key(), &olm.sign(&text, "@c:b", "ed25519:D")?)?;
    refused(&olm.key(), &olm.sign(&text, "@a:b", "ed25519:E")?)?;
    refused(&olm.key(), &olm.sign(&text.replace("@a:b", "@c:b"), "@a:b", "ed25519:D")?)?;
    refused(&olm.key(), &olm.sign(&format!("{text} "), "@a:b", "ed25519:D")?)?;
    let mut cut = good.clone();
    for signature in cut.values_mut().flat_map(HashMap::values_mut) {
        signature.truncate(80);
    }
    refused(&olm.key(), &cut)?;
    assert!(scene.to_sign()?.is_some(), "nothing of this was kept");
    let alone = Scene::new(Publishing::Alone)?;
    let bound =
        alone.write(|tx| Outcome::Ok(alone.identity.bind(tx, &olm.key(), &good).is_err()))?;
    assert!(bound, "a device without Olm has no binding");
    Ok(())
}

#[test]
fn without_a_binding_nothing_is_published_and_with_it_all_packages_hold_it() -> Outcome {
    let scene = Scene::new(Publishing::BesideOlm)?;
    assert!(scene.plan(NOW_MS)?.is_none());
    let olm = Olm::new()?;
    scene.bind(&olm)?;
    let (_, request) = scene.planned(NOW_MS)?;
    assert!(request.device_keys.is_none());
    assert_eq!((request.one_time_keys.len(), request.fallback_keys.len()), (50, 1));
    let name = scene.identity.name();
    for text in values(request.one_time_keys.values().chain(request.fallback_keys.values()))? {
        let package = scene.parse(&text)?;
        let signature = binding::in_leaf(package.leaf_node()).ok_or("no binding")?;
        let key = scene.identity.public_key();
        assert!(binding::is_valid(&name, key, signature, olm.0.public()));
        let bytes = decode_base64(&text).ok_or("the key package is no base64")?;
        validate_key_package(&scene.crypto, &bytes, &name, Some(key), SUITE, real_now_ms()?)?;
    }
    let alone = Scene::new(Publishing::Alone)?.upload(NOW_MS, 50)?;
    for text in values(alone.one_time_keys.values())? {
        assert_eq!(binding::in_leaf(scene.parse(&text)?.leaf_node()), None);
    }
    Ok(())
}

/// A store of an earlier version has uploaded packages, and its credential stands in device keys.
#[test]
fn packages_from_before_the_binding_are_replaced_and_taken_back() -> Outcome {
    let scene = Scene::bound()?;
    let old = values(scene.upload(NOW_MS, 50)?.one_time_keys.values())?;
    assert!(scene.plan(NOW_MS)?.is_none());
    assert!(!scene.write(|tx| has_old_packages(tx, NOW_MS))?);
    // Another binding is as good as a first one.
    scene.bind(&Olm::new()?)?;
    let (plan, request) = scene.planned(NOW_MS)?;
    assert_eq!((request.one_time_keys.len(), request.fallback_keys.len()), (50, 1));
    let body = json!({ "one_time_key_counts": { identifiers::key_package_algorithm(SUITE): 100 } });
    scene.write(|tx| mark_uploaded(tx, &plan, body.to_string().as_bytes(), NOW_MS))?;
    assert!(scene.plan(NOW_MS)?.is_none());
    assert_eq!(scene.kept(&old)?, 50, "somebody may have claimed one");
    assert!(scene.write(|tx| has_old_packages(tx, NOW_MS))?, "they are claimed back");
    Ok(())
}

#[test]
fn beside_olm_packages_that_this_store_never_made_are_a_lost_stores() -> Outcome {
    let algorithm = identifiers::key_package_algorithm(SUITE);
    let lost = |scene: &Scene, counts: &HashMap<String, u64>, unused: &[String]| {
        scene.write(|tx| are_of_lost_store(tx, &scene.identity, Some(counts), Some(unused)))
    };
    let (none, other) = (HashMap::new(), HashMap::from([("signed_curve25519".to_owned(), 50)]));
    let ours = HashMap::from([(algorithm.clone(), 1)]);
    let scene = Scene::bound()?;
    assert!(!lost(&scene, &none, &[])?);
    assert!(!lost(&scene, &other, &["signed_curve25519".to_owned()])?);
    assert!(lost(&scene, &ours, &[])?);
    assert!(lost(&scene, &none, std::slice::from_ref(&algorithm))?);
    assert!(!lost(&Scene::new(Publishing::Alone)?, &ours, &[])?, "device keys say it there");

    let (plan, _) = scene.planned(NOW_MS)?;
    assert!(!lost(&scene, &ours, &[])?, "they are its own");
    let answer = |count: u64| json!({ "one_time_key_counts": { &algorithm: count } }).to_string();
    let finds = |plan, body: &str| finds_lost_store(&scene.identity, plan, body.as_bytes());
    assert!(finds(&plan, &answer(51)));
    for body in [&*answer(50), &answer(0), "{}", "[]", ""] {
        assert!(!finds(&plan, body), "{body}");
    }
    scene.write(|tx| mark_uploaded(tx, &plan, answer(50).as_bytes(), NOW_MS))?;
    scene.counts(49, true)?;
    let (second, _) = scene.planned(NOW_MS)?;
    assert!(!finds(&second, &answer(99)), "only the first upload can tell");
    Ok(())
}
