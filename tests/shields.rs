//! What is known of who has sent something, as a person sees it: verdicts and shields, whom a user
//! has verified, and what stops when a verified user's identity is another.

use matrix_mls::{
    MemberPolicy, Shield, ShieldCode, Update, Verdict, VerificationStatus, shield_of,
};
use matrix_mls_kit::{
    Client, Heard, Homeserver, OrMissing as _, Refused as _, Result, Target,
    cross_signing::CrossSigning,
    together::{all_talk, log_in, newcomer, pair, quiet, texts},
    two_identities::TwoIdentities,
};
use serde_json::Value;

/// What Bob has said.
const FROM_BOB: &str = "from Bob";

/// Bob has said something, and Alice has not verified him.
async fn bob_has_spoken() -> Result<TwoIdentities> {
    let scene = TwoIdentities::new().await?;
    scene.bob.send_text(&scene.room, FROM_BOB).await?;
    quiet(&[&scene.alice, &scene.bob]).await;
    Ok(scene)
}

/// Bob has said something, and Alice has verified him.
async fn verified() -> Result<TwoIdentities> {
    let scene = bob_has_spoken().await?;
    scene.verify_bob().await?;
    assert_eq!(verdict(&scene).await?, Verdict::Verified);
    Ok(scene)
}

/// What Alice's phone says of Bob's message.
async fn verdict(scene: &TwoIdentities) -> Result<Verdict> {
    verdict_of(&scene.alice, &scene.room, FROM_BOB).await
}

/// Bob makes a new identity, or his homeserver does.
async fn reset_bob(scene: &TwoIdentities) -> Result<CrossSigning> {
    let other = CrossSigning::bootstrap(&scene.bob).await?;
    quiet(&[&scene.alice, &scene.bob]).await;
    Ok(other)
}

async fn verdict_of(reader: &Client, room: &str, text: &str) -> Result<Verdict> {
    let mut found = None;
    for event in reader.read(room).await? {
        let Ok(message) = event.message else { continue };
        let content: Value = serde_json::from_str(&message.content)?;
        if content["body"] == text {
            found = Some(message.verdict);
        }
    }
    found.or_missing(text)
}

async fn verdict_of_member(of: &Client, room: &str, member: &Client) -> Result<Verdict> {
    let members = of.members(room).await?;
    let found = members
        .into_iter()
        .find(|found| found.user_id == member.user_id() && found.device_id == member.device_id());
    Ok(found.or_missing("member")?.verdict)
}

fn trust_changed(user: &Client) -> impl Fn(&Update) -> bool + use<'_> {
    move |update| matches!(update, Update::TrustChanged { user_ids } if user_ids.iter().any(|id| id == user.user_id()))
}

#[tokio::test]
async fn a_verified_user_is_shown_as_such() -> Result {
    let TwoIdentities { homeserver, mut alice, bob, room, of_alice, .. } = bob_has_spoken().await?;
    assert_eq!(verdict_of(&alice, &room, FROM_BOB).await?, Verdict::OwnerNotVerified);
    let (heard, _listening) = Heard::of(&alice).await?;
    of_alice.verify_user(alice.http(), bob.user_id()).await?;
    quiet(&[&alice, &bob]).await;
    heard.wait_for(trust_changed(&bob)).await?;
    let machine = alice.machine()?;
    assert_eq!(verdict_of(&alice, &room, FROM_BOB).await?, Verdict::Verified);
    assert_eq!(verdict_of_member(&alice, &room, &bob).await?, Verdict::Verified);
    let seen = machine.device_verdict(bob.user_id().to_owned(), "PHONE".to_owned()).await?;
    assert_eq!(seen, Verdict::Verified);
    let identity = machine.user_identity(bob.user_id().to_owned()).await?.or_missing("identity")?;
    assert_eq!(identity.verification, VerificationStatus::Verified);
    // Bob has not verified Alice, and knows nothing of what she has verified.
    assert_eq!(verdict_of(&bob, &room, "first").await?, Verdict::OwnerNotVerified);
    // It stays, and counts for Bob's next device, as soon as he has signed it.
    alice.restart().await?;
    assert_eq!(verdict_of(&alice, &room, FROM_BOB).await?, Verdict::Verified);
    let laptop = log_in(&homeserver, "bob", "LAPTOP").await?;
    quiet(&[&alice, &bob, &laptop]).await;
    let machine = alice.machine()?;
    let seen = machine.device_verdict(bob.user_id().to_owned(), "LAPTOP".to_owned()).await?;
    assert_eq!(seen, Verdict::NotSignedByOwner);
    let nobody = machine.device_verdict(bob.user_id().to_owned(), "NONE".to_owned()).await?;
    assert_eq!(nobody, Verdict::UnknownDevice);
    let error = machine.device_verdict("bob".to_owned(), "PHONE".to_owned()).await.refused()?;
    assert_eq!(error.code(), "bad_user_id");
    Ok(())
}

/// A homeserver can make up an own identity that has verified somebody. It counts only once the app
/// says that it is the user's.
#[tokio::test]
async fn verification_by_an_identity_that_nobody_has_confirmed_is_none() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let of_alice = CrossSigning::bootstrap(&alice).await?;
    CrossSigning::bootstrap(&bob).await?;
    of_alice.verify_user(alice.http(), bob.user_id()).await?;
    quiet(&[&alice, &bob]).await;
    bob.send_text(&room, FROM_BOB).await?;
    quiet(&[&alice, &bob]).await;
    assert_eq!(verdict_of(&alice, &room, FROM_BOB).await?, Verdict::OwnerNotVerified);
    let machine = alice.machine()?;
    let other = CrossSigning::new(alice.user_id()).master_key();
    let error = machine.confirm_own_identity(other).await.refused()?;
    assert_eq!(error.code(), "other_identity");
    let error = machine.confirm_own_identity("no key".to_owned()).await.refused()?;
    assert_eq!(error.code(), "other_identity");
    let (heard, _listening) = Heard::of(&alice).await?;
    machine.confirm_own_identity(of_alice.master_key()).await?;
    heard.wait_for(trust_changed(&bob)).await?;
    assert_eq!(verdict_of(&alice, &room, FROM_BOB).await?, Verdict::Verified);
    Ok(())
}

#[tokio::test]
async fn another_identity_of_a_verified_user_stops_what_is_sent() -> Result {
    let mut scene = verified().await?;
    let (heard, _listening) = Heard::of(&scene.alice).await?;
    let other = reset_bob(&scene).await?;
    heard.wait_for(trust_changed(&scene.bob)).await?;
    assert_eq!(verdict(&scene).await?, Verdict::OwnerChanged);
    assert_eq!(scene.bob_as_seen().await?.verification, VerificationStatus::Changed);
    let (alice, bob, room) = (&scene.alice, &scene.bob, &scene.room);
    let expected = ("identity_changed".to_owned(), vec![bob.user_id().to_owned()]);
    assert_eq!(scene.stopped().await?, expected);
    let text = r#"{"body":"no"}"#.to_owned();
    let handle = alice.room(room).await?;
    let error = handle.encrypt("m.room.message".to_owned(), text).await.refused()?;
    assert_eq!(error.code(), "not_ready");
    drop(handle);
    // It is so after a restart, and Bob is still in the group: what only Alice knows removes
    // nobody.
    scene.alice.restart().await?;
    let (alice, bob, room) = (&scene.alice, &scene.bob, &scene.room);
    assert_eq!(scene.stopped().await?, expected);
    assert!(alice.members(room).await?.iter().any(|member| member.user_id == bob.user_id()));
    // What the others say is read in the meantime.
    bob.send_text(room, "I have reset it").await?;
    quiet(&[alice, bob]).await;
    assert!(texts(alice, room).await.contains(&"I have reset it".to_owned()));

    let machine = alice.machine()?;
    let old = scene.of_bob.master_key();
    let error = machine.accept_identity(bob.user_id().to_owned(), old).await.refused()?;
    assert_eq!(error.code(), "other_identity");
    machine.accept_identity(bob.user_id().to_owned(), other.master_key()).await?;
    quiet(&[alice, bob]).await;
    all_talk(&[alice, bob], room).await;
    assert_eq!(verdict_of(alice, room, FROM_BOB).await?, Verdict::OwnerNotVerified);
    Ok(())
}

#[tokio::test]
async fn verifying_anew_or_withdrawing_lets_messages_through() -> Result {
    let scene = verified().await?;
    reset_bob(&scene).await?;
    let (alice, bob, room) = (&scene.alice, &scene.bob, &scene.room);
    assert_eq!(scene.stopped().await?.0, "identity_changed");
    scene.of_alice.verify_user(alice.http(), bob.user_id()).await?;
    quiet(&[alice, bob]).await;
    assert_eq!(verdict(&scene).await?, Verdict::Verified);
    all_talk(&[alice, bob], room).await;

    reset_bob(&scene).await?;
    assert_eq!(scene.stopped().await?.0, "identity_changed");
    let machine = alice.machine()?;
    machine.withdraw_verification(bob.user_id().to_owned()).await?;
    let seen = scene.bob_as_seen().await?;
    assert_eq!(seen.verification, VerificationStatus::NotVerified);
    assert!(!seen.has_changed);
    quiet(&[alice, bob]).await;
    all_talk(&[alice, bob], room).await;
    let error = machine.withdraw_verification("bob".to_owned()).await.refused()?;
    assert_eq!(error.code(), "bad_user_id");
    Ok(())
}

/// The verification of the identity that is handed out can be withdrawn on this device, although
/// the signature is still there.
#[tokio::test]
async fn a_verification_that_was_withdrawn_stays_so() -> Result {
    let scene = verified().await?;
    let (alice, bob) = (&scene.alice, &scene.bob);
    alice.machine()?.withdraw_verification(bob.user_id().to_owned()).await?;
    assert_eq!(verdict(&scene).await?, Verdict::OwnerNotVerified);
    alice.look_again().await?;
    quiet(&[alice, bob]).await;
    assert_eq!(verdict(&scene).await?, Verdict::OwnerNotVerified);
    Ok(())
}

/// A homeserver that leaves a verification out of its answers takes nothing back, also where it
/// replaces the identity afterwards.
#[tokio::test]
async fn a_hidden_verification_still_counts() -> Result {
    let scene = verified().await?;
    let (alice, bob) = (&scene.alice, &scene.bob);
    let controls = scene.homeserver.controls().or_missing("controls")?;
    let (own, other) = (alice.user_id().to_owned(), bob.user_id().to_owned());
    let target = Target::path("/keys/query").user(alice.user_id());
    let _hidden = controls.tamper(target, move |answer| {
        if let Some(signatures) = answer["master_keys"][&other]["signatures"].as_object_mut() {
            signatures.remove(&own);
        }
    });
    alice.look_again().await?;
    quiet(&[alice, bob]).await;
    assert_eq!(verdict(&scene).await?, Verdict::Verified);
    reset_bob(&scene).await?;
    assert_eq!(verdict(&scene).await?, Verdict::OwnerChanged);
    assert_eq!(scene.stopped().await?.0, "identity_changed");
    Ok(())
}

/// The own identity is another: nothing is sent where own devices might be the homeserver's.
#[tokio::test]
async fn another_own_identity_stops_what_is_sent() -> Result {
    let scene = verified().await?;
    let (alice, bob, room) = (&scene.alice, &scene.bob, &scene.room);
    let other = CrossSigning::bootstrap(alice).await?;
    quiet(&[alice, bob]).await;
    let expected = ("identity_changed".to_owned(), vec![alice.user_id().to_owned()]);
    assert_eq!(scene.stopped().await?, expected);
    let machine = alice.machine()?;
    machine.confirm_own_identity(other.master_key()).await?;
    // Bob was verified with the one before, which says nothing any more.
    assert_eq!(verdict(&scene).await?, Verdict::OwnerNotVerified);
    quiet(&[alice, bob]).await;
    all_talk(&[alice, bob], room).await;

    CrossSigning::bootstrap(alice).await?;
    quiet(&[alice, bob]).await;
    assert_eq!(scene.stopped().await?, expected);
    machine.withdraw_verification(alice.user_id().to_owned()).await?;
    quiet(&[alice, bob]).await;
    all_talk(&[alice, bob], room).await;
    Ok(())
}

#[tokio::test]
async fn an_app_can_send_to_verified_devices_only() -> Result {
    let mut scene = bob_has_spoken().await?;
    let (alice, bob, room) = (&scene.alice, &scene.bob, &scene.room);
    let machine = alice.machine()?;
    all_talk(&[alice, bob], room).await;
    machine.send_only_to_verified(true).await?;
    let expected = ("not_verified".to_owned(), vec![bob.user_id().to_owned()]);
    assert_eq!(scene.stopped().await?, expected);
    scene.of_alice.verify_user(alice.http(), bob.user_id()).await?;
    quiet(&[alice, bob]).await;
    all_talk(&[alice, bob], room).await;
    // Somebody new comes into the room.
    let carol = newcomer(&scene.homeserver, "carol", alice, room).await?;
    quiet(&[alice, bob, &carol]).await;
    bob.send_text(room, "Carol is here").await?;
    quiet(&[alice, bob, &carol]).await;
    scene.alice.restart().await?;
    let (alice, bob, room) = (&scene.alice, &scene.bob, &scene.room);
    let expected = ("not_verified".to_owned(), vec![carol.user_id().to_owned()]);
    assert_eq!(scene.stopped().await?, expected);
    alice.machine()?.send_only_to_verified(false).await?;
    all_talk(&[alice, bob, &carol], room).await;
    Ok(())
}

/// A device that was logged out keeps the verdict that it had, so that no old message turns red;
/// one that nobody has signed gets none by going.
#[tokio::test]
async fn a_log_out_changes_no_verdict() -> Result {
    let mut scene = verified().await?;
    for client in [&mut scene.alice, &mut scene.bob] {
        client.set_member_policy(Some(MemberPolicy::AnySigned));
        client.restart().await?;
    }
    let (alice, bob, room) = (&scene.alice, &scene.bob, &scene.room);
    let mut signed = log_in(&scene.homeserver, "bob", "SIGNED").await?;
    let mut unsigned = log_in(&scene.homeserver, "bob", "NOT").await?;
    for client in [&mut signed, &mut unsigned] {
        client.set_member_policy(Some(MemberPolicy::AnySigned));
        client.restart().await?;
    }
    scene.of_bob.sign(&signed).await?;
    quiet(&[alice, bob, &signed, &unsigned]).await;
    bob.send_text(room, "more devices").await?;
    quiet(&[alice, bob, &signed, &unsigned]).await;
    for (device, text) in [(&signed, "from the signed one"), (&unsigned, "from the other")] {
        device.send_text(room, text).await?;
        quiet(&[alice, bob, &signed, &unsigned]).await;
    }
    let verdicts = async || -> Result<[Verdict; 2]> {
        Ok([
            verdict_of(alice, room, "from the signed one").await?,
            verdict_of(alice, room, "from the other").await?,
        ])
    };
    assert_eq!(verdicts().await?, [Verdict::Verified, Verdict::NotSignedByOwner]);
    signed.log_out().await?;
    unsigned.log_out().await?;
    quiet(&[alice, bob]).await;
    assert_eq!(verdicts().await?, [Verdict::Verified, Verdict::UnknownDevice]);
    for (device, expected) in [("SIGNED", Verdict::Verified), ("NOT", Verdict::UnknownDevice)] {
        let machine = alice.machine()?;
        let seen = machine.device_verdict(bob.user_id().to_owned(), device.to_owned()).await?;
        assert_eq!(seen, expected, "{device}: the device says what its messages say");
    }
    reset_bob(&scene).await?;
    let after = verdict_of(alice, room, "from the signed one").await?;
    assert_eq!(after, Verdict::NotSignedByOwner, "it was signed by an identity of the past");
    Ok(())
}

#[test]
fn shields_are_those_of_olm_rooms() {
    let code = |verdict, strict| match shield_of(verdict, strict) {
        Shield::None => None,
        Shield::Grey { code, message } => {
            assert!(!message.is_empty());
            Some(("grey", code))
        }
        Shield::Red { code, message } => {
            assert!(!message.is_empty());
            Some(("red", code))
        }
    };
    for (verdict, expected) in [
        (Verdict::Verified, None),
        (Verdict::OwnerChanged, Some(("red", ShieldCode::VerificationViolation))),
        (Verdict::NotSignedByOwner, Some(("red", ShieldCode::UnsignedDevice))),
        (Verdict::UnknownDevice, Some(("red", ShieldCode::UnknownDevice))),
        (Verdict::Conflicting, Some(("red", ShieldCode::UnknownDevice))),
        (Verdict::OnlyClaimed, Some(("grey", ShieldCode::AuthenticityNotGuaranteed))),
    ] {
        assert_eq!(code(verdict, false), expected, "{verdict:?}");
        assert_eq!(code(verdict, true), expected, "{verdict:?}");
    }
    assert_eq!(code(Verdict::OwnerNotVerified, false), None);
    assert_eq!(
        code(Verdict::OwnerNotVerified, true),
        Some(("red", ShieldCode::UnverifiedIdentity))
    );
}
