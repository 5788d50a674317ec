//! What is published about this device: whether ruma reads it, and what an Olm machine's keys become.

use ruma::encryption::{DeviceKeys, OneTimeKey};

use super::*;

fn olm_keys() -> Value {
    json!({
        "user_id": "@a:b", "device_id": "D", "algorithms": ["m.megolm.v1.aes-sha2"],
        "keys": { "ed25519:D": "AAAA", "curve25519:D": "BBBB" },
        "signatures": { "@a:b": { "ed25519:D": "old", "ed25519:SELFSIGNING": "old" } },
    })
}

fn sign(scene: &Scene, keys: &Value) -> Outcome<Value> {
    let signed = scene.identity.sign_device_keys(&keys.to_string())?;
    Ok(serde_json::from_str(&signed.device_keys)?)
}

#[test]
fn ruma_reads_what_is_uploaded() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    let (_, request) = scene.planned(NOW_MS)?;
    let keys = request.device_keys.ok_or("the request has no device keys")?;
    let keys: DeviceKeys = keys.deserialize()?;
    let name = scene.identity.name();
    assert_eq!((keys.user_id, keys.device_id), (name.user_id, name.device_id));
    let algorithms: Vec<_> = keys.algorithms.iter().map(|a| a.as_str().to_owned()).collect();
    assert_eq!(algorithms, [identifiers::room_algorithm(SUITE)]);
    let ids: Vec<_> = keys.keys.keys().map(|id| id.as_str().to_owned()).collect();
    assert_eq!(ids, ["ed25519:D".to_owned(), identifiers::credential_key_id("D")]);
    assert!(keys.keys.values().all(|key| *key == encode(scene.identity.public_key())));
    for key in request.one_time_keys.values().chain(request.fallback_keys.values()) {
        assert!(matches!(key.deserialize()?, OneTimeKey::Key(_)));
    }
    Ok(())
}

#[test]
fn signatures_stay_while_they_fit() -> Outcome {
    let scene = Scene::new(Publishing::BesideOlm)?;
    let credential = identifiers::credential_key_id("D");
    let mut keys = sign(&scene, &olm_keys())?;
    // The Olm machine and the user's self-signing key sign what came out.
    keys["signatures"]["@a:b"]["ed25519:D"] = json!("new");
    keys["signatures"]["@a:b"]["ed25519:SELFSIGNING"] = json!("new");
    assert_eq!(sign(&scene, &keys)?, keys, "nothing to be done");
    keys["unsigned"] = json!({ "device_display_name": "Phone" });
    assert_eq!(sign(&scene, &keys)?, keys, "no signature covers this");
    keys["algorithms"] = json!(["m.megolm.v1.aes-sha2"]);
    let again = sign(&scene, &keys)?;
    let left = again["signatures"]["@a:b"].as_object().ok_or("no signatures of the user's")?;
    let left: Vec<_> = left.keys().collect();
    assert_eq!(left, [&credential]);
    Ok(())
}

#[test]
fn credentials_that_are_not_this_ones_are_replaced() -> Outcome {
    let scene = Scene::new(Publishing::BesideOlm)?;
    for id in identifiers::credential_key_ids("D") {
        let mut keys = olm_keys();
        keys["keys"][&id] = json!("CCCC");
        let signed = sign(&scene, &keys)?;
        assert_eq!(signed["keys"], sign(&scene, &olm_keys())?["keys"], "{id}");
    }
    Ok(())
}

#[test]
fn device_keys_of_any_shape_give_an_error_or_an_object() -> Outcome {
    let scene = Scene::new(Publishing::BesideOlm)?;
    let whole = olm_keys().to_string();
    for end in 0..whole.len() {
        assert!(scene.identity.sign_device_keys(&whole[..end]).is_err(), "cut at {end}");
    }
    for value in [json!(null), json!(1), json!("x"), json!([1]), json!({ "@a:b": 1 })] {
        for field in ["algorithms", "signatures", "unsigned"] {
            let mut keys = olm_keys();
            keys[field] = value.clone();
            let signed = sign(&scene, &keys)?;
            assert!(signed["signatures"]["@a:b"].is_object(), "{field}: {value}");
        }
        for field in ["user_id", "device_id"] {
            let mut keys = olm_keys();
            keys[field] = value.clone();
            assert!(scene.identity.sign_device_keys(&keys.to_string()).is_err());
        }
    }
    let deep = format!(r#"{{"user_id":"@a:b","device_id":"D","keys":{}"#, "[".repeat(100_000));
    assert!(scene.identity.sign_device_keys(&deep).is_err());
    Ok(())
}
