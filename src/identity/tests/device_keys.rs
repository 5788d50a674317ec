//! What is published about this device: whether ruma reads it.

use ruma::encryption::{DeviceKeys, OneTimeKey};

use super::*;

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
