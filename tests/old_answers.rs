//! A homeserver that hands out again what was true once: signed answers from before a user made a
//! new key, and identities that others have given up.

use matrix_mls::{Update, Verdict, VerificationStatus};
use matrix_mls_kit::{
    Client, Heard, Homeserver, OrMissing as _, Result,
    cross_signing::CrossSigning,
    together::{all_talk, log_in, pair, quiet},
    two_identities::TwoIdentities,
};

/// Both have said something, and Alice has not verified Bob.
async fn both_have_spoken() -> Result<TwoIdentities> {
    let scene = TwoIdentities::new().await?;
    all_talk(&[&scene.alice, &scene.bob], &scene.room).await;
    Ok(scene)
}

/// The same, and Alice has verified Bob.
async fn verified() -> Result<TwoIdentities> {
    let scene = both_have_spoken().await?;
    scene.verify_bob().await?;
    Ok(scene)
}

fn changed(user: &Client) -> impl Fn(&Update) -> bool + use<'_> {
    move |update| matches!(update, Update::IdentityChanged { user_id } if user_id == user.user_id())
}

/// Bob's first identity was stolen, he has made another, and Alice's user has accepted that or has
/// withdrawn the verification. The answer from before, with Alice's own signature, verifies nobody.
#[tokio::test]
async fn an_identity_that_was_given_up_is_verified_by_no_old_signature() -> Result {
    for withdraws in [false, true] {
        let mut scene = verified().await?;
        let old = scene.answer_about_bob().await?;
        let new = CrossSigning::bootstrap(&scene.bob).await?;
        quiet(&[&scene.alice, &scene.bob]).await;
        let (machine, user) = (scene.alice.machine()?, scene.bob.user_id().to_owned());
        if withdraws {
            machine.withdraw_verification(user).await?;
        } else {
            machine.accept_identity(user, new.master_key()).await?;
        }
        scene.alice.restart().await?;
        let (heard, _listening) = Heard::of(&scene.alice).await?;
        let replay = scene.replay_bob(&old).await?;
        heard.wait_for(changed(&scene.bob)).await?;
        let seen = scene.bob_as_seen().await?;
        assert_eq!(seen.verification, VerificationStatus::NotVerified, "{withdraws}");
        assert!(seen.has_changed);
        assert_eq!(seen.master_key, scene.of_bob.master_key());
        assert_eq!(scene.verdict_of_bob().await?, Verdict::OwnerNotVerified);
        replay.stop();
        scene.alice.look_again().await?;
        assert!(!scene.bob_as_seen().await?.has_changed);
        all_talk(&[&scene.alice, &scene.bob], &scene.room).await;
    }
    Ok(())
}

/// Alice has verified Bob's next identity. The answer from before is a change, which stops her.
#[tokio::test]
async fn an_identity_that_was_verified_before_another_is_a_changed_one() -> Result {
    let scene = verified().await?;
    let old = scene.answer_about_bob().await?;
    CrossSigning::bootstrap(&scene.bob).await?;
    quiet(&[&scene.alice, &scene.bob]).await;
    scene.of_alice.verify_user(scene.alice.http(), scene.bob.user_id()).await?;
    scene.alice.look_again().await?;
    assert_eq!(scene.bob_as_seen().await?.verification, VerificationStatus::Verified);
    all_talk(&[&scene.alice, &scene.bob], &scene.room).await;

    let replay = scene.replay_bob(&old).await?;
    assert_eq!(scene.bob_as_seen().await?.verification, VerificationStatus::Changed);
    assert_eq!(scene.verdict_of_bob().await?, Verdict::OwnerChanged);
    assert_eq!(scene.stopped().await?.1, [scene.bob.user_id()]);
    replay.stop();
    scene.alice.look_again().await?;
    assert_eq!(scene.bob_as_seen().await?.verification, VerificationStatus::Verified);
    all_talk(&[&scene.alice, &scene.bob], &scene.room).await;
    Ok(())
}

/// What was given up by mistake can be verified again, by this device's user.
#[tokio::test]
async fn what_was_given_up_can_be_verified_anew() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, _room) = pair(&homeserver).await;
    alice.make_identity().await?;
    let of_bob = CrossSigning::bootstrap(&bob).await?;
    quiet(&[&alice, &bob]).await;
    let (machine, user) = (alice.machine()?, bob.user_id().to_owned());
    let verification = async || -> Result<VerificationStatus> {
        let identity = machine.user_identity(user.clone()).await?;
        Ok(identity.or_missing("Bob's identity")?.verification)
    };
    for _ in 0..2 {
        machine.identity().sign_user(user.clone(), of_bob.master_key()).await?;
        quiet(&[&alice, &bob]).await;
        assert_eq!(verification().await?, VerificationStatus::Verified);
        machine.withdraw_verification(user.clone()).await?;
        alice.look_again().await?;
        assert_eq!(verification().await?, VerificationStatus::NotVerified);
    }
    Ok(())
}

/// A thief has Alice's user-signing key, has signed an identity of Bob's with it that is not Bob's,
/// and Alice has replaced the key. Old answers do not bring it back.
#[tokio::test]
async fn a_user_signing_key_that_was_replaced_verifies_nobody() -> Result {
    let mut scene = both_have_spoken().await?;
    let ghost = CrossSigning::new(scene.bob.user_id());
    let forged = scene.of_alice.sign_user(ghost.published()?["master_key"].clone())?;
    let stolen = scene.of_alice.published()?["user_signing_key"].clone();
    scene.of_alice.replace_user_signing();
    scene.of_alice.upload(scene.alice.http()).await?;
    scene.alice.look_again().await?;

    let _replaced = scene.replace_bob(&ghost).await?;
    let (own, user) = (scene.alice.user_id().to_owned(), scene.bob.user_id().to_owned());
    let _replayed = scene.lie_to_alice(move |answer| {
        answer["master_keys"][&user] = forged.clone();
        answer["user_signing_keys"][&own] = stolen.clone();
    })?;
    for _ in 0..2 {
        scene.alice.look_again().await?;
        let seen = scene.bob_as_seen().await?;
        assert_eq!(seen.master_key, ghost.master_key());
        assert_eq!(seen.verification, VerificationStatus::NotVerified);
    }
    let own = scene.alice.machine()?.user_identity(scene.alice.user_id().to_owned()).await?;
    let signing = own.or_missing("Alice's identity")?.user_signing_key;
    assert_eq!(signing, Some(scene.of_alice.user_signing_key()));
    Ok(())
}

/// Another identity is handed out for a while. The pinned one comes back with what it had signed,
/// and a self-signing key that it has replaced meanwhile stays replaced.
#[tokio::test]
async fn a_detour_over_another_identity_brings_no_old_key_back() -> Result {
    let mut scene = both_have_spoken().await?;
    let ghost = CrossSigning::new(scene.bob.user_id());
    let first = scene.of_bob.self_signing_key();
    let old = scene.answer_about_bob().await?;
    let replaced = scene.replace_bob(&ghost).await?;
    assert_eq!(scene.verdict_of_bob().await?, Verdict::NotSignedByOwner);
    replaced.stop();
    // The answer leaves the self-signing key out.
    let user = scene.bob.user_id().to_owned();
    let hidden = scene.lie_to_alice(move |answer| {
        let keys = answer["self_signing_keys"].as_object_mut();
        keys.and_then(|keys| keys.remove(&user));
    })?;
    scene.alice.look_again().await?;
    assert_eq!(scene.bob_as_seen().await?.self_signing_key, Some(first));
    assert_eq!(scene.verdict_of_bob().await?, Verdict::OwnerNotVerified);
    hidden.stop();

    let replaced = scene.replace_bob(&ghost).await?;
    scene.of_bob.replace_self_signing();
    scene.of_bob.upload(scene.bob.http()).await?;
    scene.of_bob.sign(&scene.bob).await?;
    replaced.stop();
    scene.alice.look_again().await?;
    let second = Some(scene.of_bob.self_signing_key());
    assert_eq!(scene.bob_as_seen().await?.self_signing_key, second);
    let replay = scene.replay_bob(&old).await?;
    assert_eq!(scene.bob_as_seen().await?.self_signing_key, second);
    assert_eq!(scene.verdict_of_bob().await?, Verdict::NotSignedByOwner);
    replay.stop();
    scene.alice.look_again().await?;
    all_talk(&[&scene.alice, &scene.bob], &scene.room).await;
    Ok(())
}

/// A homeserver that goes back and forth between two identities is told each time.
#[tokio::test]
async fn another_identity_that_comes_again_is_told_again() -> Result {
    let scene = both_have_spoken().await?;
    let ghost = CrossSigning::new(scene.bob.user_id());
    let (heard, _listening) = Heard::of(&scene.alice).await?;
    for _ in 0..2 {
        let replaced = scene.replace_bob(&ghost).await?;
        heard.wait_for(changed(&scene.bob)).await?;
        scene.alice.look_again().await?;
        replaced.stop();
        scene.alice.look_again().await?;
        heard.wait_for(changed(&scene.bob)).await?;
        assert!(!scene.bob_as_seen().await?.has_changed);
    }
    assert!(!heard.all().iter().any(changed(&scene.bob)), "told once each time");
    Ok(())
}

/// Two answers cross on the way: the one that was asked for first comes last. It is of before Bob
/// made another identity.
#[tokio::test]
async fn an_answer_that_a_later_one_has_overtaken_brings_no_identity_back() -> Result {
    let scene = both_have_spoken().await?;
    let (alice, machine) = (&scene.alice, scene.alice.machine()?);
    let asked = machine.request_verification(scene.bob.user_id().to_owned(), None).await?;
    let requests = machine.outgoing_requests().await?;
    let late = requests.iter().find(|request| request.path.ends_with("/keys/query"));
    let late = late.or_missing("a question for Bob's keys")?;
    let answer = alice.transmit(late).await?;

    let new = CrossSigning::bootstrap(&scene.bob).await?;
    machine.doubt_device_lists().await?;
    for request in machine.outgoing_requests().await? {
        if request.id != late.id {
            alice.send_request(&request).await?;
        }
    }
    assert_eq!(scene.bob_as_seen().await?.master_key, new.master_key());
    machine.mark_request_as_sent(late.id.clone(), answer.status, answer.body).await?;
    assert_eq!(scene.bob_as_seen().await?.master_key, new.master_key());
    asked.cancel().await?;
    Ok(())
}

/// Bob's tablet is stolen: he makes another identity and logs the tablet out. Alice, who hears of
/// it by a verification, verifies him. The tablet was never signed by the identity that she has
/// verified.
#[tokio::test]
async fn a_device_of_the_identity_before_is_none_of_the_verified_one() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    alice.make_identity().await?;
    let of_bob = CrossSigning::bootstrap(&bob).await?;
    let tablet = log_in(&homeserver, "bob", "TABLET").await?;
    of_bob.sign(&tablet).await?;
    alice.send_text(&room, "both of you").await?;
    quiet(&[&alice, &bob, &tablet]).await;
    let (machine, user) = (alice.machine()?, bob.user_id().to_owned());
    let verdict =
        async |device: &str| machine.device_verdict(user.clone(), device.to_owned()).await;
    assert_eq!(verdict("TABLET").await?, Verdict::OwnerNotVerified);

    let new = CrossSigning::bootstrap(&bob).await?;
    tablet.log_out().await?;
    let asked = machine.request_verification(user.clone(), None).await?;
    for request in machine.outgoing_requests().await? {
        alice.send_request(&request).await?;
    }
    machine.identity().sign_user(user.clone(), new.master_key()).await?;
    assert_eq!(verdict("PHONE").await?, Verdict::NotSignedByOwner, "as far as is known");
    quiet(&[&alice, &bob]).await;
    assert_eq!(verdict("PHONE").await?, Verdict::Verified);
    assert_ne!(verdict("TABLET").await?, Verdict::Verified);
    asked.cancel().await?;
    Ok(())
}
