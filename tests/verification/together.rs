//! Two devices of this library.

use matrix_mls::{Publishing, Update, VerificationState};
use matrix_mls_kit::{
    Client, ClientOptions, Heard, Homeserver, Refused as _, Result, bail,
    cross_signing::CrossSigning,
    together::{log_in, phone_of, quiet, two_phones},
};

use crate::puppet::{code_of, incoming, info};

/// Both compare and find the same.
async fn compare(
    one: &matrix_mls::Verification,
    other: &matrix_mls::Verification,
) -> Result<Vec<u16>> {
    let (state, other) = (info(one).await?.state, info(other).await?.state);
    assert_eq!(state, other);
    match state {
        VerificationState::Comparing { emojis, decimals } => {
            assert_eq!(emojis.len(), 7, "{emojis:?}");
            assert!(decimals.iter().all(|number| (1000..=9191).contains(number)), "{decimals:?}");
            Ok(decimals)
        }
        state => bail!("not comparing: {state:?}"),
    }
}

#[tokio::test]
async fn two_people_see_the_same_emojis_and_verify_each_other() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let (heard, _subscription) = Heard::of(&bob).await?;
    let bobs_id = bob.user_id().to_owned();
    let ours = alice.machine()?.request_verification(bobs_id, None).await?;
    quiet(&[&alice, &bob]).await;
    let id = heard
        .hear(|update| match update {
            Update::VerificationRequested { verification_id, user_id, device_id } => {
                assert_eq!((&**user_id, &**device_id), (alice.user_id(), "PHONE"));
                Some(verification_id.clone())
            }
            _ => None,
        })
        .await?;
    let theirs = bob.machine()?.verification(id.clone());
    assert_eq!(info(&theirs).await?.state, VerificationState::Requested);
    theirs.accept().await?;
    quiet(&[&bob, &alice]).await;
    for side in [&ours, &theirs] {
        assert_eq!(info(side).await?.state, VerificationState::Ready);
    }
    assert_eq!(info(&ours).await?.device_id.as_deref(), Some("PHONE"));
    ours.start_sas().await?;
    quiet(&[&alice, &bob]).await;
    compare(&ours, &theirs).await?;
    ours.confirm().await?;
    quiet(&[&alice, &bob]).await;
    assert_eq!(info(&ours).await?.state, VerificationState::Confirmed);
    theirs.confirm().await?;
    quiet(&[&bob, &alice]).await;
    // Nobody has an identity, so there is nothing to sign.
    let done = VerificationState::Done { master_key: None, is_signed: false };
    for side in [&ours, &theirs] {
        assert_eq!(info(side).await?.state, done);
    }
    assert!(alice.machine()?.verifications().await?.is_empty());
    heard
        .wait_for(|update| {
            matches!(update, Update::VerificationChanged { verification_id, state: VerificationState::Done { .. } } if *verification_id == id)
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_device_that_knows_its_users_identity_by_hearsay_verifies_nobody() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    CrossSigning::bootstrap(&bob).await?;
    let ours = alice.machine()?.request_verification(bob.user_id().to_owned(), None).await?;
    quiet(&[&alice, &bob]).await;
    let theirs = incoming(bob.machine()?).await?;
    theirs.accept().await?;
    quiet(&[&bob, &alice]).await;
    theirs.start_sas().await?;
    quiet(&[&bob, &alice]).await;
    compare(&ours, &theirs).await?;
    ours.confirm().await?;
    theirs.confirm().await?;
    quiet(&[&alice, &bob]).await;
    assert_eq!(code_of(&ours).await?, "m.key_mismatch");
    Ok(())
}

#[tokio::test]
async fn both_ask_and_both_start() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let ours = alice.machine()?.request_verification(bob.user_id().to_owned(), None).await?;
    let theirs = bob.machine()?.request_verification(alice.user_id().to_owned(), None).await?;
    alice.drive().await?;
    bob.drive().await?;
    quiet(&[&alice, &bob]).await;
    for side in [&ours, &theirs] {
        assert_eq!(info(side).await?.state, VerificationState::Ready);
    }
    ours.start_sas().await?;
    theirs.start_sas().await?;
    alice.drive().await?;
    bob.drive().await?;
    quiet(&[&alice, &bob]).await;
    compare(&ours, &theirs).await?;
    for client in [&alice, &bob] {
        assert_eq!(client.machine()?.verifications().await?.len(), 1, "{}", client.name());
    }
    Ok(())
}

#[tokio::test]
async fn one_of_several_devices_goes_on() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let desktop = log_in(&homeserver, "bob", "DESKTOP").await?;
    let ours = alice.machine()?.request_verification(bob.user_id().to_owned(), None).await?;
    quiet(&[&alice, &bob, &desktop]).await;
    let (on_phone, on_desktop) =
        (incoming(bob.machine()?).await?, incoming(desktop.machine()?).await?);
    on_desktop.accept().await?;
    quiet(&[&desktop, &alice, &bob]).await;
    assert_eq!(code_of(&on_phone).await?, "m.accepted");
    assert_eq!(info(&ours).await?.device_id.as_deref(), Some("DESKTOP"));
    assert_eq!(info(&ours).await?.state, VerificationState::Ready);
    on_desktop.cancel().await?;
    quiet(&[&desktop, &alice]).await;
    assert_eq!(code_of(&ours).await?, "m.user");

    let ours = alice.machine()?.request_verification(bob.user_id().to_owned(), None).await?;
    quiet(&[&alice, &bob, &desktop]).await;
    let (on_phone, on_desktop) =
        (incoming(bob.machine()?).await?, incoming(desktop.machine()?).await?);
    on_phone.cancel().await?;
    quiet(&[&bob, &alice, &desktop]).await;
    for side in [&ours, &on_phone, &on_desktop] {
        assert_eq!(code_of(side).await?, "m.user");
    }
    Ok(())
}

#[tokio::test]
async fn a_device_is_named_and_others_hear_nothing() -> Result {
    let homeserver = Homeserver::embedded()?;
    let phone = phone_of(&homeserver, "alice").await?;
    let desktop = log_in(&homeserver, "alice", "DESKTOP").await?;
    let tablet = log_in(&homeserver, "alice", "TABLET").await?;
    let user = phone.user_id().to_owned();
    let machine = phone.machine()?;
    let ours = machine.request_verification(user.clone(), Some("DESKTOP".to_owned())).await?;
    quiet(&[&phone, &desktop, &tablet]).await;
    assert!(tablet.machine()?.verifications().await?.is_empty());
    let theirs = incoming(desktop.machine()?).await?;
    theirs.accept().await?;
    quiet(&[&desktop, &phone]).await;
    theirs.start_sas().await?;
    quiet(&[&desktop, &phone]).await;
    compare(&ours, &theirs).await?;
    ours.mismatch().await?;
    quiet(&[&phone, &desktop]).await;
    for side in [&ours, &theirs] {
        assert_eq!(code_of(side).await?, "m.mismatched_sas");
    }
    let error = machine.request_verification(user.clone(), Some("PHONE".to_owned())).await;
    assert_eq!(error.refused()?.code(), "own_device");
    let nobody = machine.request_verification(user, Some("GONE".to_owned())).await?;
    quiet(&[&phone]).await;
    assert_eq!(code_of(&nobody).await?, "no_device");
    Ok(())
}

#[tokio::test]
async fn an_app_that_is_killed_tells_the_other_side_at_its_next_start() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (mut alice, bob) = two_phones(&homeserver).await?;
    let ours = alice.machine()?.request_verification(bob.user_id().to_owned(), None).await?;
    let id = ours.id();
    drop(ours);
    quiet(&[&alice, &bob]).await;
    // A request outlives the process.
    alice.crash().await?;
    let theirs = incoming(bob.machine()?).await?;
    theirs.accept().await?;
    quiet(&[&bob, &alice]).await;
    theirs.start_sas().await?;
    quiet(&[&bob, &alice]).await;
    let ours = alice.machine()?.verification(id.clone());
    compare(&ours, &theirs).await?;
    drop(ours);
    alice.crash().await?;
    assert_eq!(code_of(&alice.machine()?.verification(id)).await?, "m.unknown_transaction");
    quiet(&[&alice, &bob]).await;
    assert_eq!(code_of(&theirs).await?, "m.unknown_transaction");
    Ok(())
}

#[tokio::test]
async fn beside_olm_the_olm_machine_verifies() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let options = ClientOptions { publishing: Publishing::BesideOlm, ..ClientOptions::default() };
    let bob = Client::register_with(&homeserver, "bob", "PHONE", options).await?;
    let error = bob.machine()?.request_verification(alice.user_id().to_owned(), None).await;
    assert_eq!(error.refused()?.code(), "beside_olm");
    let puppet = crate::puppet::Puppet::of(&alice, "t").await?;
    puppet.request(&bob).await?;
    assert!(bob.machine()?.verifications().await?.is_empty());
    Ok(())
}
