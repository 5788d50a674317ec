//! What the homeserver says of devices, and who can sign them.

use matrix_mls::Update;
use matrix_mls_kit::{
    Heard, Homeserver, OrMissing as _, Refused as _, Result, Target,
    cross_signing::CrossSigning,
    other::{Other, join_path},
    peer::{base64, device_keys, new_signer},
    together::{lie_about_keys, pair, phone_of},
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

/// Bob has reset his identity elsewhere, and says on his phone that the new one is his.
#[tokio::test]
async fn the_key_of_an_earlier_identity_signs_nothing() -> Result {
    let homeserver = Homeserver::embedded()?;
    let bob = phone_of(&homeserver, "bob").await?;
    bob.make_identity().await?;
    let new = CrossSigning::bootstrap(&bob).await?;
    let machine = bob.machine()?;
    machine.doubt_device_lists().await?;
    bob.drive().await?;
    let identity = machine.identity();
    let key = base64(new_signer().public());
    let error = identity.sign_device("TABLET".to_owned(), key.clone()).await.refused()?;
    says(&error, "identity_changed", "another");
    machine.accept_identity(bob.user_id().to_owned(), new.master_key()).await?;
    let error = identity.sign_device("TABLET".to_owned(), key.clone()).await.refused()?;
    says(&error, "other_private_key", "recover the identity with its newer recovery key");
    let error = identity.sign_user("@alice:localhost".to_owned(), key).await.refused()?;
    says(&error, "other_private_key", "not that of the published key");
    assert!(!error.details().retryable);
    Ok(())
}

/// Bob's homeserver invents devices of his, as many at a time as an answer may list.
#[tokio::test]
async fn a_user_has_had_so_many_devices() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, _room) = pair(&homeserver).await;
    let (heard, _listening) = Heard::of(&alice).await?;
    // One key for all: what counts is the device.
    let signer = new_signer();
    for batch in ["FIRST", "SECOND"] {
        let named = (0..5_000).map(|number| format!("{batch}{number:04}"));
        let listed =
            named.map(|device| (device.clone(), device_keys(bob.user_id(), &device, &signer)));
        let listed = Value::Object(listed.collect());
        let user = bob.user_id().to_owned();
        let lie = lie_about_keys(&homeserver, &alice, move |answer| {
            answer["device_keys"][&user] = listed.clone();
        })?;
        alice.machine()?.doubt_device_lists().await?;
        alice.drive().await?;
        lie.stop();
    }
    // With Bob's phone it would be one more than are remembered.
    let told = heard.hear(|update| match update {
        Update::DeviceRejected { device_id, code, reason, .. } => {
            Some((device_id.clone(), code.clone(), reason.clone()))
        }
        _ => None,
    });
    let (device, code, reason) = told.await?;
    assert_eq!((&*device, &*code), ("SECOND4999", "too_many_devices"));
    assert!(reason.contains("more devices than are remembered"), "{reason}");
    Ok(())
}
