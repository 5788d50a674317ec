//! What a verification leaves behind: signatures with a user's own cross-signing keys.

use std::sync::Arc;

use matrix_mls::{IdentityState, Verification, VerificationState};
use matrix_mls_kit::{
    Client, Fields as _, Homeserver, OrMissing as _, Result, bail, password_auth,
    together::{log_in, quiet, two_phones},
};
use serde_json::{Value, json};

use crate::puppet::{Puppet, code_of, incoming, info, sent_by};

/// A user's identity, made by this client.
pub async fn create_identity(client: &Client) -> Result<String> {
    let identity = client.machine()?.identity();
    identity.create().await?;
    client.settle().await?;
    client.settle().await?;
    assert_eq!(identity.state().await?, IdentityState::Complete);
    let own = client.machine()?.user_identity(client.user_id().to_owned()).await?;
    Ok(own.or_missing("an identity")?.master_key)
}

/// The two go through a verification, and both confirm.
pub async fn verify(one: &Client, other: &Client) -> Result<[Arc<Verification>; 2]> {
    let (user, device) = (other.user_id().to_owned(), other.device_id().to_owned());
    let ours = one.machine()?.request_verification(user, Some(device)).await?;
    quiet(&[one, other]).await;
    let theirs = incoming(other.machine()?).await?;
    theirs.accept().await?;
    quiet(&[other, one]).await;
    ours.start_sas().await?;
    quiet(&[one, other]).await;
    assert_eq!(info(&ours).await?.state, info(&theirs).await?.state);
    ours.confirm().await?;
    theirs.confirm().await?;
    quiet(&[one, other]).await;
    Ok([ours, theirs])
}

fn done(master_key: Option<&str>, is_signed: bool) -> VerificationState {
    VerificationState::Done { master_key: master_key.map(ToOwned::to_owned), is_signed }
}

/// What the homeserver hands out to a client about a user.
async fn published(to: &Client, user: &str) -> Result<Value> {
    let query = json!({ "device_keys": { user: [] } });
    Ok(to.http().post("/_matrix/client/v3/keys/query", query).await?)
}

#[tokio::test]
async fn two_people_sign_each_others_master_keys() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let (alices, bobs) = (create_identity(&alice).await?, create_identity(&bob).await?);
    let [ours, theirs] = verify(&alice, &bob).await?;
    assert_eq!(info(&ours).await?.state, done(Some(&bobs), true));
    assert_eq!(info(&theirs).await?.state, done(Some(&alices), true));
    for (one, other) in [(&alice, &bob), (&bob, &alice)] {
        let own = one.machine()?.user_identity(one.user_id().to_owned()).await?;
        let signer = own.or_missing("an identity")?.user_signing_key.or_missing("a key")?;
        let answer = published(one, other.user_id()).await?;
        let master = &answer["master_keys"][other.user_id()]["signatures"];
        let by = master.object(one.user_id())?;
        assert!(by.contains_key(&format!("ed25519:{signer}")), "{answer}");
    }
    Ok(())
}

#[tokio::test]
async fn a_device_signs_another_of_its_user_which_then_vouches_too() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let (master, bobs) = (create_identity(&alice).await?, create_identity(&bob).await?);
    let desktop = log_in(&homeserver, "alice", "DESKTOP").await?;
    quiet(&[&alice, &desktop]).await;
    // Before that its word is worth nothing to Bob.
    let [ours, theirs] = verify(&desktop, &bob).await?;
    assert_eq!(code_of(&theirs).await?, "m.key_mismatch");
    assert!(!matches!(info(&ours).await?.state, VerificationState::Confirmed));

    let [ours, theirs] = verify(&alice, &desktop).await?;
    assert_eq!(info(&ours).await?.state, done(None, true));
    assert_eq!(info(&theirs).await?.state, done(Some(&master), false));
    let own = alice.machine()?.user_identity(alice.user_id().to_owned()).await?;
    let signer = own.or_missing("an identity")?.self_signing_key.or_missing("a key")?;
    let answer = published(&bob, alice.user_id()).await?;
    let keys = &answer["device_keys"][alice.user_id()]["DESKTOP"]["signatures"];
    let by = keys.object(alice.user_id())?;
    assert!(by.contains_key(&format!("ed25519:{signer}")), "{answer}");

    // The desktop has no private key. But its user has verified it, and Bob may rely on that.
    let [ours, theirs] = verify(&desktop, &bob).await?;
    assert_eq!(info(&ours).await?.state, done(Some(&bobs), false));
    assert_eq!(info(&theirs).await?.state, done(Some(&master), true));
    Ok(())
}

#[tokio::test]
async fn who_is_verified_with_another_master_key_has_no_change_to_accept() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    create_identity(&alice).await?;
    let first = create_identity(&bob).await?;
    verify(&alice, &bob).await?;
    let identity = bob.machine()?.identity();
    identity.reset().await?;
    bob.drive().await?;
    let IdentityState::AuthNeeded { challenge } = identity.state().await? else {
        bail!("not asked to authorize");
    };
    let session = challenge.session.or_missing("session")?;
    identity.authorize(password_auth(bob.user_id(), &session).to_string()).await?;
    quiet(&[&bob]).await;
    let own = bob.machine()?.user_identity(bob.user_id().to_owned()).await?;
    let second = own.or_missing("an identity")?.master_key;
    assert_ne!(first, second);
    let [ours, _] = verify(&alice, &bob).await?;
    assert_eq!(info(&ours).await?.state, done(Some(&second), true));
    let identity = alice.machine()?.user_identity(bob.user_id().to_owned()).await?;
    let identity = identity.or_missing("an identity")?;
    assert!(!identity.has_changed, "{identity:?}");
    assert_eq!(identity.pinned_master_key, second);
    Ok(())
}

#[tokio::test]
async fn nothing_is_signed_before_both_have_confirmed() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    create_identity(&alice).await?;
    let bobs = create_identity(&bob).await?;
    let mut puppet = Puppet::of(&bob, "transaction").await?;
    let verification = puppet.until_comparing(&alice).await?;
    let right = [("PHONE", &*puppet.ed25519.clone()), (&*bobs, &*bobs)];
    puppet.give(&alice, "mac", puppet.mac_content(&alice, &right)?).await?;
    puppet.give(&alice, "done", json!({})).await?;
    assert!(sent_by(&alice).await?.is_empty());
    let answer = published(&alice, bob.user_id()).await?;
    let signatures = &answer["master_keys"][bob.user_id()]["signatures"];
    assert!(signatures[alice.user_id()].is_null(), "{answer}");
    verification.confirm().await?;
    sent_by(&alice).await?;
    assert_eq!(info(&verification).await?.state, done(Some(&bobs), true));
    let answer = published(&alice, bob.user_id()).await?;
    let signatures = &answer["master_keys"][bob.user_id()]["signatures"];
    assert!(signatures[alice.user_id()].is_object(), "{answer}");
    Ok(())
}
