//! What a device knows of a user's identity: the keys that it reads, the one that it pinned first,
//! and those that were replaced for good.

use matrix_mls::{MlsError, Verdict};
use matrix_mls_kit::{
    Homeserver, OrMissing as _, Refused as _, Result,
    cross_signing::CrossSigning,
    together::{all_talk, lie_about_keys, pair, quiet},
};
use serde_json::{Value, json};

use super::{
    Ghost, answer_about, changed, identity_of, is_member, is_member_of_user, listening, look_again,
    with_identity,
};

#[tokio::test]
async fn an_identity_is_read_and_its_devices_are_known_as_signed() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room, keys) = with_identity(&homeserver).await?;
    let identity = identity_of(&alice, &bob).await?;
    assert_eq!(identity.user_id, bob.user_id());
    assert_eq!(identity.master_key, keys.master_key());
    assert_eq!(identity.pinned_master_key, keys.master_key());
    assert_eq!(identity.self_signing_key, Some(keys.self_signing_key()));
    assert_eq!(identity.user_signing_key, None, "it is shown to its owner only");
    assert!(!identity.has_changed && identity.pinned_since_ms > 0);
    let own = identity_of(&bob, &bob).await?;
    assert_eq!(own.user_signing_key, Some(keys.user_signing_key()));
    for member in alice.members(&room).await? {
        let is_bobs = member.user_id == bob.user_id();
        let verdict = if is_bobs { Verdict::OwnerNotVerified } else { Verdict::Verified };
        assert_eq!(member.verdict, verdict, "{member:?}");
    }
    let machine = alice.machine()?;
    assert_eq!(machine.user_identity(alice.user_id().to_owned()).await?, None);
    let error = machine.user_identity("nobody".to_owned()).await.refused()?;
    assert!(matches!(error, MlsError::InvalidInput { .. }), "{error:?}");
    Ok(())
}

/// The homeserver replaces Bob's master key: it is told once, the pin stays over restarts, and goes
/// when the app accepts the key that its user has seen.
#[tokio::test]
async fn another_master_key_is_told_once_and_pinned_when_it_is_accepted() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (mut alice, bob, room, keys) = with_identity(&homeserver).await?;
    let (heard, _listening) = listening(&alice).await?;
    let new = CrossSigning::bootstrap(&bob).await?;
    quiet(&[&alice, &bob]).await;
    heard.wait_for(changed(&bob)).await?;
    look_again(&alice).await?;
    alice.restart().await?;
    let (after, _listening_on) = listening(&alice).await?;
    look_again(&alice).await?;
    let identity = identity_of(&alice, &bob).await?;
    assert!(identity.has_changed);
    assert_eq!(identity.pinned_master_key, keys.master_key());
    assert_eq!(identity.master_key, new.master_key());
    assert!(identity.master_key_since_ms >= identity.pinned_since_ms);
    // Every member judges by what is handed out now, so nobody is left out for what Alice knows.
    all_talk(&[&alice, &bob], &room).await;
    for told in [&heard, &after] {
        assert!(!told.all().iter().any(changed(&bob)), "told once");
    }

    let machine = alice.machine()?;
    let accept = |key: String| machine.accept_identity(bob.user_id().to_owned(), key);
    for wrong in [keys.master_key(), "no key".to_owned(), String::new()] {
        let error = accept(wrong).await.refused()?;
        assert!(
            matches!(&error, MlsError::InvalidInput { details } if details.code == "other_identity"),
            "{error:?}"
        );
    }
    accept(new.master_key()).await?;
    let identity = identity_of(&alice, &bob).await?;
    assert!(!identity.has_changed);
    assert_eq!(identity.pinned_master_key, new.master_key());

    // The homeserver goes back to the old one: that is a change as well.
    let (user, old) = (bob.user_id().to_owned(), keys.published()?);
    let replay = lie_about_keys(&homeserver, &alice, move |answer| {
        answer["master_keys"][&user] = old["master_key"].clone();
        answer["self_signing_keys"][&user] = old["self_signing_key"].clone();
    })?;
    look_again(&alice).await?;
    after.wait_for(changed(&bob)).await?;
    assert!(identity_of(&alice, &bob).await?.has_changed);
    replay.stop();
    look_again(&alice).await?;
    assert!(!identity_of(&alice, &bob).await?.has_changed, "the pinned key is back");
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// Bob replaces his self-signing key, as a stolen one has signed a device that is not his. Old
/// answers, with the old key and all that it has signed, do not bring that device back.
#[tokio::test]
async fn a_self_signing_key_that_was_replaced_does_not_come_back() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room, mut keys) = with_identity(&homeserver).await?;
    let old = keys.published()?;
    let ghost = Ghost::of(&homeserver, &bob, &[&alice], Some(&keys))?;
    look_again(&alice).await?;
    alice.send_text(&room, "the thief reads this").await?;
    assert!(is_member(&alice, &room, Ghost::DEVICE).await?, "it is signed");
    let stale = answer_about(&alice, bob.user_id()).await?;

    keys.replace_self_signing();
    keys.upload(bob.http()).await?;
    keys.sign(&bob).await?;
    look_again(&alice).await?;
    alice.send_text(&room, "and this no longer").await?;
    assert!(!is_member(&alice, &room, Ghost::DEVICE).await?);

    let (user, told) = (bob.user_id().to_owned(), stale["device_keys"].clone());
    let replay = lie_about_keys(&homeserver, &alice, move |answer| {
        answer["device_keys"][&user] = told[&user].clone();
        answer["self_signing_keys"][&user] = old["self_signing_key"].clone();
    })?;
    look_again(&alice).await?;
    alice.send_text(&room, "nor this").await?;
    assert!(!is_member(&alice, &room, Ghost::DEVICE).await?);
    assert_eq!(identity_of(&alice, &bob).await?.self_signing_key, Some(keys.self_signing_key()));
    replay.stop();
    ghost.stop();
    look_again(&alice).await?;
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// Keys of somebody with a name that looks alike are not Bob's, and damaged ones are nobody's.
#[tokio::test]
async fn keys_of_another_user_are_not_taken() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let good = CrossSigning::new(bob.user_id()).published()?;
    let server = bob.user_id().split_once(':').or_missing("server name")?.1;
    let mut wrong = Vec::new();
    for name in [
        bob.user_id().replace("@bob", "@Bob"),
        bob.user_id().replace("@bob", "@b\u{43e}b"),
        format!("@bob:{server}.example.org"),
        format!("{} ", bob.user_id()),
        alice.user_id().to_owned(),
    ] {
        wrong.push(CrossSigning::new(&name).published()?["master_key"].clone());
    }
    let with = |change: &dyn Fn(&mut Value)| {
        let mut key = good["master_key"].clone();
        change(&mut key);
        key
    };
    wrong.extend([
        with(&|key| key["usage"] = json!(["self_signing"])),
        with(&|key| key["usage"] = json!(["master", "self_signing"])),
        with(&|key| key["usage"] = json!("master")),
        with(&|key| key["keys"]["ed25519:other"] = json!("AAAA")),
        with(&|key| key["keys"] = json!({ "ed25519:AAAA": "AAAA" })),
        with(&|key| key["keys"] = json!({})),
        with(&|key| drop(key.as_object_mut().map(|key| key.remove("user_id")))),
        json!(null),
        json!([]),
        json!(7),
    ]);
    for key in wrong {
        let (user, told) = (bob.user_id().to_owned(), key.clone());
        let fault = lie_about_keys(&homeserver, &alice, move |answer| {
            answer["master_keys"][&user] = told.clone();
        })?;
        look_again(&alice).await?;
        let identity = alice.machine()?.user_identity(bob.user_id().to_owned()).await?;
        assert_eq!(identity, None, "{key}");
        fault.stop();
    }
    // Nor is another user's self-signing key below the right master key.
    let other = CrossSigning::new(alice.user_id()).published()?["self_signing_key"].clone();
    let (user, master) = (bob.user_id().to_owned(), good["master_key"].clone());
    let fault = lie_about_keys(&homeserver, &alice, move |answer| {
        answer["master_keys"][&user] = master.clone();
        answer["self_signing_keys"][&user] = other.clone();
    })?;
    look_again(&alice).await?;
    assert_eq!(identity_of(&alice, &bob).await?.self_signing_key, None);
    alice.send_text(&room, "to myself").await?;
    assert!(!is_member_of_user(&alice, &room, &bob).await?, "an identity without devices");
    fault.stop();
    Ok(())
}

/// The homeserver replaces Bob's master key, and brings the first one back. Each of the two may be
/// the lie, as Bob may have replaced a key that was stolen: both are told.
#[tokio::test]
async fn the_first_master_key_is_told_when_it_is_back() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, _, keys) = with_identity(&homeserver).await?;
    let (heard, _listening) = listening(&alice).await?;
    let (user, other) = (bob.user_id().to_owned(), CrossSigning::new(bob.user_id()).published()?);
    let lie = lie_about_keys(&homeserver, &alice, move |answer| {
        answer["master_keys"][&user] = other["master_key"].clone();
        answer["self_signing_keys"][&user] = other["self_signing_key"].clone();
    })?;
    look_again(&alice).await?;
    heard.wait_for(changed(&bob)).await?;
    assert!(identity_of(&alice, &bob).await?.has_changed);
    lie.stop();
    look_again(&alice).await?;
    heard.wait_for(changed(&bob)).await?;
    let identity = identity_of(&alice, &bob).await?;
    assert!(!identity.has_changed && identity.master_key == keys.master_key());
    look_again(&alice).await?;
    assert!(!heard.all().iter().any(changed(&bob)), "told once");
    Ok(())
}
