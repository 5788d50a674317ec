//! What the homeserver says of devices, and who can sign them.

use matrix_mls::Update;
use matrix_mls_kit::{
    Heard, Homeserver, OrMissing as _, Refused as _, Result, Target,
    other::{Other, join_path},
    peer::{base64, new_signer},
    together::phone_of,
};
use serde_json::{Value, json};

use super::says;

/// The code and the sentence with which Alice's device rejects Bob's, whose published keys the
/// homeserver changes on their way to her.
async fn rejected(change: impl Fn(&mut Value) + Send + Sync + 'static) -> Result<(String, String)> {
    let homeserver = Homeserver::embedded()?;
    let controls = homeserver.controls().or_missing("controls")?;
    let alice = phone_of(&homeserver, "alice").await?;
    let bob = Other::register(&homeserver, "bob").await;
    let (user, device) = (bob.peer.user.clone(), bob.peer.device.clone());
    controls.tamper(Target::path("/keys/query").user(alice.user_id()), move |answer| {
        if let Some(keys) = answer.pointer_mut(&format!("/device_keys/{user}/{device}")) {
            change(keys);
        }
    });
    let (heard, _listening) = Heard::of(&alice).await?;
    let room = alice.create_room_from(json!({ "invite": [bob.peer.user] })).await?;
    bob.http.post(&join_path(&room), json!({})).await?;
    alice.settle().await?;
    alice.enable(&room, Default::default()).await?;
    alice.prepare(&room).await?;
    heard
        .hear(|update| match update {
            Update::DeviceRejected { device_id, code, reason, .. } if device_id == "OTHER" => {
                Some((code.clone(), reason.clone()))
            }
            _ => None,
        })
        .await
}

#[tokio::test]
async fn a_device_publishes_keys_of_its_own() -> Result {
    let (code, reason) = rejected(|keys| keys["keys"] = json!("none")).await?;
    assert_eq!(code, "malformed_keys");
    assert!(reason.contains("cannot be read"), "{reason}");
    let (code, reason) = rejected(|keys| keys["device_id"] = json!("ANOTHER")).await?;
    assert_eq!(code, "wrong_identity");
    assert!(reason.contains("name another user or device"), "{reason}");
    let forged = base64(&[7; 64]);
    let forge = move |keys: &mut Value| {
        let users = keys["signatures"].as_object_mut();
        let signatures = users.and_then(|users| users.values_mut().next());
        for signature in signatures.and_then(Value::as_object_mut).into_iter().flatten() {
            *signature.1 = json!(forged);
        }
    };
    let (code, reason) = rejected(forge).await?;
    assert_eq!(code, "bad_signature");
    assert!(reason.contains("not signed by its own keys"), "{reason}");
    Ok(())
}

#[tokio::test]
async fn who_has_no_identity_signs_nobody() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let identity = alice.machine()?.identity();
    let key = base64(new_signer().public());
    let error = identity.sign_device("TABLET".to_owned(), key.clone()).await.refused()?;
    says(&error, "no_identity", "create one");
    let error = identity.sign_user("@bob:localhost".to_owned(), key).await.refused()?;
    says(&error, "no_identity", "create one");
    Ok(())
}
