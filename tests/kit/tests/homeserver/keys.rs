//! Device keys, and key packages as one-time and fallback keys.

use matrix_mls_kit::{
    Homeserver, OrMissing as _, Result,
    cross_signing::CrossSigning,
    peer::{ALGORITHM, KEY_PACKAGE, Peer},
};
use serde_json::{Value, json};

use super::device::{Device, strings};

/// What a claim gave of a device: (key id, key).
async fn claim(by: &Device, of: &Device, algorithm: &str) -> Result<Option<(String, Value)>> {
    let request = json!({ "one_time_keys": { &of.user_id: { &of.device_id: algorithm } } });
    let answer = by.post("/keys/claim", request).await?;
    assert_eq!(answer["failures"], json!({}));
    let keys = answer["one_time_keys"][&of.user_id][&of.device_id].as_object().cloned();
    Ok(keys.and_then(|keys| keys.into_iter().next()))
}

pub async fn key_packages_are_counted_and_claimed(server: &Homeserver) -> Result {
    let alice = Device::register(server, "claim-alice").await?;
    let bob = Device::register(server, "claim-bob").await?;
    let since = alice.caught_up().await?;
    let package = |id: &str| format!("{KEY_PACKAGE}:{id}");
    // A key package of two kilobytes, and an identifier as a SHA-256 reference in hex or base64.
    let long = "A".repeat(2_000);
    let reference = "kL4+/0123456789abcdefghijklmnopqrstuvwxyzABCD";
    let request = json!({ "one_time_keys": {
        package("one"): long, package(reference): "two", "other.algorithm:one": "x",
    } });
    let answer = alice.post("/keys/upload", request).await?;
    assert_eq!(answer["one_time_key_counts"][KEY_PACKAGE], json!(2));
    assert_eq!(answer["one_time_key_counts"]["other.algorithm"], json!(1));
    assert_eq!(answer["one_time_key_counts"]["signed_curve25519"], json!(0));
    let sync = alice.sync(Some(&since)).await?;
    assert_eq!(sync["device_one_time_keys_count"], answer["one_time_key_counts"]);
    assert_eq!(sync["device_unused_fallback_key_types"], json!([]));

    let mut claimed = Vec::new();
    while let Some(key) = claim(&bob, &alice, KEY_PACKAGE).await? {
        claimed.push(key);
    }
    claimed.sort_by_key(|(id, _)| id.len());
    let expected = [(package("one"), json!(long)), (package(reference), json!("two"))];
    assert_eq!(claimed, expected);
    let answer = alice.post("/keys/upload", json!({})).await?;
    assert_eq!(answer["one_time_key_counts"].get(KEY_PACKAGE), None);
    assert_eq!(answer["one_time_key_counts"]["other.algorithm"], json!(1));
    // A device claims its own user's and even its own keys.
    assert_eq!(
        claim(&alice, &alice, "other.algorithm").await?,
        Some(("other.algorithm:one".to_owned(), json!("x")))
    );
    Ok(())
}

pub async fn a_fallback_key_is_used_last(server: &Homeserver) -> Result {
    let alice = Device::register(server, "fallback-alice").await?;
    let bob = Device::register(server, "fallback-bob").await?;
    let name = |id: &str| format!("{KEY_PACKAGE}:{id}");
    let fallback = json!({ "fallback_keys": { name("last"): "the last" } });
    let mut request = fallback.clone();
    request["one_time_keys"] = json!({ name("first"): "the first" });
    alice.post("/keys/upload", request).await?;
    let unused = "/device_unused_fallback_key_types";
    let types = async || alice.latest_sync(None).await.map(|sync| strings(&sync, unused));
    assert_eq!(types().await?, [KEY_PACKAGE]);
    let key = claim(&bob, &alice, KEY_PACKAGE).await?;
    assert_eq!(key, Some((name("first"), json!("the first"))));
    assert_eq!(types().await?, [KEY_PACKAGE]);
    for _ in 0..2 {
        let key = claim(&bob, &alice, KEY_PACKAGE).await?;
        assert_eq!(key, Some((name("last"), json!("the last"))));
        assert!(types().await?.is_empty());
    }
    // The same again is as used as before; another is not.
    alice.post("/keys/upload", fallback).await?;
    assert!(types().await?.is_empty());
    let new = json!({ "fallback_keys": { name("new"): "the new" } });
    alice.post("/keys/upload", new).await?;
    assert_eq!(types().await?, [KEY_PACKAGE]);
    let key = claim(&bob, &alice, KEY_PACKAGE).await?;
    assert_eq!(key, Some((name("new"), json!("the new"))));
    Ok(())
}

pub async fn a_key_id_keeps_its_value(server: &Homeserver) -> Result {
    let alice = Device::register(server, "key-id").await?;
    let name = format!("{KEY_PACKAGE}:id");
    let upload = |key: &str| json!({ "one_time_keys": { &name: key } });
    let first = alice.post("/keys/upload", upload("value")).await?;
    assert_eq!(first, alice.post("/keys/upload", upload("value")).await?);
    let refused = alice.refusal("POST", "/keys/upload", upload("another")).await?;
    assert_eq!(refused, (400, "M_UNKNOWN".to_owned()));
    assert_eq!(first, alice.post("/keys/upload", json!({})).await?);
    Ok(())
}

pub async fn malformed_keys_are_refused(server: &Homeserver) -> Result {
    let alice = Device::register(server, "malformed").await?;
    let keys = [
        json!({ "one_time_keys": { "no-colon": "x" } }),
        json!({ "one_time_keys": { "a:b:c": "x" } }),
        json!({ "one_time_keys": { "a:b": { "key": "x" } } }),
        json!({ "one_time_keys": { "a:b": 3 } }),
        json!({ "fallback_keys": { "a:b": { "signatures": {} } } }),
        json!({ "device_keys": { "user_id": alice.user_id } }),
        json!({ "device_keys": device_keys(&alice.user_id, "ANOTHER") }),
        json!({ "device_keys": device_keys("@nobody:synapse.test", "FIRST") }),
        json!({ "device_keys": null }),
    ];
    for body in keys {
        let answer = alice.ask("POST", "/keys/upload", body.clone()).await?;
        assert_eq!(answer.status, 400, "{body}");
    }
    let object = json!({ "one_time_keys": { "a:b": { "key": "x", "signatures": {} } } });
    let answer = alice.post("/keys/upload", object).await?;
    assert_eq!(answer["one_time_key_counts"]["a"], json!(1));
    Ok(())
}

fn device_keys(user_id: &str, device_id: &str) -> Value {
    let credential = format!("org.matrix.msc2883.v1.dmls.credential.ed25519:{device_id}");
    json!({
        "user_id": user_id, "device_id": device_id,
        "algorithms": [ALGORITHM],
        "keys": { &credential: "a public key", "ed25519:OTHER": "another" },
        "signatures": { user_id: { &credential: "a signature" } },
        "org.example.extra": { "kept": true },
    })
}

pub async fn device_keys_come_back_verbatim(server: &Homeserver) -> Result {
    let alice = Device::register(server, "verbatim-alice").await?;
    let bob = Device::register(server, "verbatim-bob").await?;
    let second = Device::log_in(server, "verbatim-alice", "SECOND").await?;
    for device in [&alice, &second] {
        let keys = device_keys(&device.user_id, &device.device_id);
        device.post("/keys/upload", json!({ "device_keys": keys })).await?;
    }
    let query = json!({ "device_keys": { &alice.user_id: [] } });
    let answer = bob.post("/keys/query", query).await?;
    let mut first = device_keys(&alice.user_id, "FIRST");
    first["unsigned"] = json!({ "device_display_name": "the first" });
    let mut other = device_keys(&alice.user_id, "SECOND");
    other["unsigned"] = json!({});
    assert_eq!(
        answer["device_keys"],
        json!({ &alice.user_id: { "FIRST": first, "SECOND": other } })
    );
    assert_eq!(answer["failures"], json!({}));
    assert_eq!(answer["master_keys"], json!({}));
    let query = json!({ "device_keys": { &alice.user_id: ["SECOND", "NONE"] } });
    let answer = bob.post("/keys/query", query).await?;
    assert_eq!(answer["device_keys"], json!({ &alice.user_id: { "SECOND": other } }));
    Ok(())
}

pub async fn a_device_without_device_keys_is_not_listed(server: &Homeserver) -> Result {
    let alice = Device::register(server, "unlisted-alice").await?;
    let bob = Device::register(server, "unlisted-bob").await?;
    let upload = json!({ "one_time_keys": { format!("{KEY_PACKAGE}:id"): "x" } });
    alice.post("/keys/upload", upload).await?;
    let (_, server_name) = alice.user_id.split_once(':').unwrap_or_default();
    let nobody = format!("@nobody-at-all:{server_name}");
    let query = json!({ "device_keys": { &alice.user_id: [], &nobody: [] } });
    let answer = bob.post("/keys/query", query).await?;
    assert_eq!(answer["device_keys"], json!({ &alice.user_id: {}, &nobody: {} }));
    let elsewhere = json!({ "device_keys": { "@someone:elsewhere.test": [] } });
    let answer = bob.post("/keys/query", elsewhere).await?;
    assert!(answer["failures"].get("elsewhere.test").is_some(), "{answer}");
    assert_eq!(answer["device_keys"], json!({}));
    Ok(())
}

/// Whoever is asked sees the master and the self-signing key, and the owner's signatures among the
/// devices'. What was signed is signed for good, and nothing else than what is published is.
pub async fn cross_signing_keys_and_signatures_are_handed_out(server: &Homeserver) -> Result {
    let alice = Device::register(server, "signing-alice").await?;
    let bob = Device::register(server, "signing-bob").await?;
    let keys = Peer::new(&alice.user_id, "FIRST").device_keys();
    alice.post("/keys/upload", json!({ "device_keys": keys })).await?;
    let identity = CrossSigning::new(&alice.user_id);
    identity.upload(&alice.http).await?;
    let published = identity.published()?;
    let query = json!({ "device_keys": { &alice.user_id: [] } });
    for (asker, sees_all) in [(&alice, true), (&bob, false)] {
        let answer = asker.post("/keys/query", query.clone()).await?;
        let of = |kind: &str| answer[kind].get(&alice.user_id);
        assert_eq!(of("master_keys"), Some(&published["master_key"]));
        assert_eq!(of("self_signing_keys"), Some(&published["self_signing_key"]));
        assert_eq!(of("user_signing_keys"), sees_all.then_some(&published["user_signing_key"]));
    }

    let sign = async |keys: Value| -> Result<Value> {
        let signed = json!({ &alice.user_id: { "FIRST": identity.sign_device(keys)? } });
        Ok(alice.post("/keys/signatures/upload", signed).await?["failures"].clone())
    };
    let mut other = keys.clone();
    other["algorithms"] = json!([]);
    let failures = sign(other).await?;
    assert!(failures[&alice.user_id]["FIRST"].is_object(), "not what is published: {failures}");
    assert_eq!(sign(keys.clone()).await?, json!({}));
    let answer = bob.post("/keys/query", query.clone()).await?;
    let mut told = answer["device_keys"][&alice.user_id]["FIRST"].clone();
    told.as_object_mut().or_missing("device")?.remove("unsigned");
    assert_eq!(told, identity.sign_device(keys)?);

    // Other keys of the device: the signature of the first stays, and no new one is taken.
    let new = Peer::new(&alice.user_id, "FIRST").device_keys();
    alice.post("/keys/upload", json!({ "device_keys": new })).await?;
    assert_eq!(sign(new.clone()).await?, json!({}));
    let answer = bob.post("/keys/query", query).await?;
    let signatures = &answer["device_keys"][&alice.user_id]["FIRST"]["signatures"][&alice.user_id];
    let id = format!("ed25519:{}", identity.self_signing_key());
    assert_eq!(signatures[&id], told["signatures"][&alice.user_id][&id], "a stale one");
    assert_ne!(signatures[&id], identity.sign_device(new)?["signatures"][&alice.user_id][&id]);
    Ok(())
}

pub async fn too_many_one_time_keys_are_refused(server: &Homeserver) -> Result {
    let alice = Device::register(server, "many-keys").await?;
    let batch = |range: std::ops::Range<u32>| {
        let keys = range.map(|id| (format!("{KEY_PACKAGE}:{id}"), json!("x")));
        json!({ "one_time_keys": keys.collect::<serde_json::Map<_, _>>() })
    };
    alice.post("/keys/upload", batch(0..500)).await?;
    let refused = alice.refusal("POST", "/keys/upload", batch(500..501)).await?;
    assert_eq!(refused, (400, "M_TOO_LARGE".to_owned()));
    alice.post("/keys/upload", batch(0..500)).await?;
    Ok(())
}
