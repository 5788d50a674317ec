//! A device hands its user's secrets to another that was verified; and nobody else gets them, and
//! nothing else is taken, whatever the homeserver does with what is sent.

use std::sync::Arc;

use matrix_mls::{
    BackupState, IdentityState, MlsError, RestoreScope, RoomSettings, SyncChanges, ToDeviceResult,
    Update, Verification,
};
use matrix_mls_kit::{
    Client, Heard, Homeserver, OrMissing as _, Refused as _, Result, bail, feed,
    together::{log_in, phone_of, quiet, texts, two_phones},
};
use serde_json::{Value, json};

use crate::{
    puppet::{Sent, give, incoming, sent_by},
    signed::{create_identity, verify},
};

const ALGORITHM: &str = "org.matrix.msc2883.v1.dmls.secrets";

/// Alice's phone with an identity, and her new laptop, which the phone has verified.
async fn phone_and_laptop(
    homeserver: &Homeserver,
) -> Result<(Client, Client, [Arc<Verification>; 2])> {
    let phone = phone_of(homeserver, "alice").await?;
    create_identity(&phone).await?;
    let laptop = log_in(homeserver, "alice", "LAPTOP").await?;
    quiet(&[&phone, &laptop]).await;
    let sides = verify(&phone, &laptop).await?;
    Ok((phone, laptop, sides))
}

async fn state(client: &Client) -> Result<IdentityState> {
    Ok(client.machine()?.identity().state().await?)
}

/// The secrets that a client wants sent; the homeserver delivers nothing.
async fn secrets_sent(client: &Client) -> Result<Sent> {
    let sent = sent_by(client).await?;
    let mut secrets: Vec<_> =
        sent.into_iter().filter(|sent| sent.content["algorithm"] == ALGORITHM).collect();
    assert_eq!(secrets.len(), 1, "{secrets:?}");
    secrets.pop().or_missing("secrets")
}

async fn deliver(to: &Client, sender: &str, sent: &Sent) -> Result {
    give(to, sender, &sent.event_type, &sent.content).await
}

/// With which code secrets are refused.
async fn refusal(to: &Client, sender: &str, sent: &Sent) -> Result<String> {
    let event = json!({
        "type": sent.event_type, "sender": sender, "content": sent.content,
    });
    let sync = SyncChanges { to_device: vec![event.to_string()], ..feed() };
    let summary = to.machine()?.receive_sync(sync).await?;
    match summary.to_device.first().or_missing("a result")? {
        ToDeviceResult::Failed { error } => Ok(error.code().to_owned()),
        other => bail!("not refused: {other:?}"),
    }
}

fn received(update: &Update) -> Option<(String, String, Vec<String>)> {
    let Update::SecretsReceived { verification_id, device_id, recovered, failures } = update else {
        return None;
    };
    assert!(failures.is_empty(), "{failures:?}");
    Some((verification_id.clone(), device_id.clone(), recovered.clone()))
}

#[tokio::test]
async fn a_verified_device_gets_the_identity_and_the_backup() -> Result {
    let homeserver = Homeserver::embedded()?;
    let phone = phone_of(&homeserver, "alice").await?;
    create_identity(&phone).await?;
    let room = phone.create_group(&[], RoomSettings::default()).await?;
    phone.send_text(&room, "before the laptop").await?;
    let key = matrix_mls::RecoveryKey::generate()?;
    phone.machine()?.backup().create(key, false).await?;
    phone.settle().await?;
    phone.settle().await?;
    let laptop = log_in(&homeserver, "alice", "LAPTOP").await?;
    quiet(&[&phone, &laptop]).await;
    let [ours, theirs] = verify(&phone, &laptop).await?;
    assert_ne!(state(&laptop).await?, IdentityState::Complete);
    let (heard, _subscription) = Heard::of(&laptop).await?;
    ours.offer_secrets().await?;
    ours.offer_secrets().await?;
    quiet(&[&phone, &laptop]).await;
    let (id, device, names) = heard.hear(received).await?;
    assert_eq!((id, &*device), (theirs.id(), "PHONE"));
    let mut names: Vec<_> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "m.cross_signing.master",
            "m.cross_signing.self_signing",
            "m.cross_signing.user_signing",
            "org.matrix.msc4038.v0",
        ]
    );
    assert_eq!(state(&laptop).await?, IdentityState::Complete);
    let backup = laptop.machine()?.backup();
    assert!(matches!(backup.state().await?, BackupState::Enabled { .. }));
    backup.restore(None, RestoreScope::AllRooms).await?;
    quiet(&[&laptop]).await;
    assert!(texts(&laptop, &room).await.contains(&"before the laptop".to_owned()));
    // It was told once, and the laptop can do the same for the next device.
    assert!(!heard.all().iter().any(|update| received(update).is_some()));
    let tablet = log_in(&homeserver, "alice", "TABLET").await?;
    quiet(&[&phone, &laptop, &tablet]).await;
    let [ours, _] = verify(&laptop, &tablet).await?;
    ours.offer_secrets().await?;
    quiet(&[&laptop, &tablet]).await;
    assert_eq!(state(&tablet).await?, IdentityState::Complete);
    Ok(())
}

#[tokio::test]
async fn what_is_sent_says_nothing_and_opens_once_and_only_there() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (phone, laptop, [ours, _]) = phone_and_laptop(&homeserver).await?;
    let tablet = log_in(&homeserver, "alice", "TABLET").await?;
    quiet(&[&phone, &laptop, &tablet]).await;
    let bob = phone_of(&homeserver, "bob").await?;
    ours.offer_secrets().await?;
    let sent = secrets_sent(&phone).await?;
    assert_eq!(sent.devices, ["LAPTOP"]);
    assert!(!sent.content.to_string().contains("cross_signing"), "{}", sent.content);
    let own = phone.user_id().to_owned();
    // To another device, which was not verified; and to another user's.
    for other in [&tablet, &bob] {
        let before = state(other).await?;
        assert_eq!(refusal(other, &own, &sent).await?, "unasked_secrets");
        assert_eq!(state(other).await?, before);
    }
    // From somebody else, changed, for another transaction, or from another device of Alice's.
    let changed = |change: fn(&mut Value)| {
        let mut sent = sent.clone();
        change(&mut sent.content);
        sent
    };
    let before = state(&laptop).await?;
    deliver(&laptop, bob.user_id(), &sent).await?;
    let liars: [fn(&mut Value); 7] = [
        |content| content["transaction_id"] = json!("another"),
        |content| content["sender"][1] = json!("TABLET"),
        |content| content["sender"][0] = json!("@bob:embedded.test"),
        |content| content["sealed"]["ciphertext"] = json!("AAAA"),
        |content| content["sealed"]["mac"] = json!("AAAA"),
        |content| content["sealed"] = json!(7),
        |content| content["sealed"]["ciphertext"] = json!("A".repeat(100_000)),
    ];
    for lie in liars {
        deliver(&laptop, &own, &changed(lie)).await?;
        assert_eq!(state(&laptop).await?, before);
    }
    // Neither has cost the true one, which counts once.
    let (heard, _subscription) = Heard::of(&laptop).await?;
    deliver(&laptop, &own, &sent).await?;
    heard.hear(received).await?;
    quiet(&[&laptop]).await;
    assert_eq!(state(&laptop).await?, IdentityState::Complete);
    for _ in 0..2 {
        assert_eq!(refusal(&laptop, &own, &sent).await?, "unasked_secrets");
    }
    quiet(&[&laptop]).await;
    assert!(!heard.all().iter().any(|update| received(update).is_some()));
    Ok(())
}

#[tokio::test]
async fn after_a_withdrawal_nothing_leaves_and_nothing_is_taken() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (phone, laptop, [ours, theirs]) = phone_and_laptop(&homeserver).await?;
    let own = phone.user_id().to_owned();
    let before = state(&laptop).await?;
    ours.offer_secrets().await?;
    assert!(ours.withdraw_secrets().await?);
    assert!(!ours.withdraw_secrets().await?);
    let sent = sent_by(&phone).await?;
    assert!(!sent.iter().any(|sent| sent.content["algorithm"] == ALGORITHM), "{sent:?}");
    let error = ours.offer_secrets().await.refused()?;
    assert!(matches!(error, MlsError::InvalidInput { .. }) && error.code() == "not_now", "{error}");
    // The laptop's user has thought better of it: what comes is too late.
    let [ours, theirs_again] = verify(&phone, &laptop).await?;
    assert_ne!(theirs.id(), theirs_again.id());
    ours.offer_secrets().await?;
    let sent = secrets_sent(&phone).await?;
    assert!(theirs_again.withdraw_secrets().await?);
    deliver(&laptop, &own, &sent).await?;
    assert_eq!(state(&laptop).await?, before);
    // Or the user withdraws that this identity is theirs.
    let [ours, _] = verify(&phone, &laptop).await?;
    ours.offer_secrets().await?;
    let sent = secrets_sent(&phone).await?;
    laptop.machine()?.withdraw_verification(own.clone()).await?;
    deliver(&laptop, &own, &sent).await?;
    assert_eq!(state(&laptop).await?, before);
    Ok(())
}

#[tokio::test]
async fn only_a_verification_of_two_own_devices_hands_secrets_over() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    create_identity(&alice).await?;
    create_identity(&bob).await?;
    let [ours, theirs] = verify(&alice, &bob).await?;
    for side in [&ours, &theirs] {
        assert_eq!(side.offer_secrets().await.refused()?.code(), "not_now");
        assert!(!side.withdraw_secrets().await?);
    }
    let unknown = alice.machine()?.verification("none".to_owned());
    assert_eq!(unknown.offer_secrets().await.refused()?.code(), "no_verification");
    // One that has not ended, and a device that has nothing to give.
    let laptop = log_in(&homeserver, "alice", "LAPTOP").await?;
    quiet(&[&alice, &laptop]).await;
    let asked = alice.machine()?.request_verification(alice.user_id().to_owned(), None).await?;
    assert_eq!(asked.offer_secrets().await.refused()?.code(), "not_now");
    asked.cancel().await?;
    quiet(&[&alice, &laptop]).await;
    let [_, theirs] = verify(&alice, &laptop).await?;
    let error = theirs.offer_secrets().await.refused()?;
    assert_eq!(error.code(), "identity_incomplete", "{error}");
    Ok(())
}

/// The homeserver shows the secrets before what ends the verification on the laptop.
#[tokio::test]
async fn what_comes_before_the_verification_is_done_waits_for_that() -> Result {
    let homeserver = Homeserver::embedded()?;
    let phone = phone_of(&homeserver, "alice").await?;
    create_identity(&phone).await?;
    let laptop = log_in(&homeserver, "alice", "LAPTOP").await?;
    quiet(&[&phone, &laptop]).await;
    let (own, device) = (phone.user_id().to_owned(), "LAPTOP".to_owned());
    let ours = phone.machine()?.request_verification(own.clone(), Some(device)).await?;
    quiet(&[&phone, &laptop]).await;
    let theirs = incoming(laptop.machine()?).await?;
    theirs.accept().await?;
    quiet(&[&laptop, &phone]).await;
    ours.start_sas().await?;
    quiet(&[&phone, &laptop]).await;
    theirs.confirm().await?;
    quiet(&[&laptop, &phone]).await;
    ours.confirm().await?;
    ours.offer_secrets().await?;
    let (secrets, others): (Vec<_>, Vec<_>) =
        sent_by(&phone).await?.into_iter().partition(|sent| sent.content["algorithm"] == ALGORITHM);
    assert_eq!(secrets.len(), 1);
    let (heard, _subscription) = Heard::of(&laptop).await?;
    for sent in secrets.iter().chain(&secrets) {
        deliver(&laptop, &own, sent).await?;
        laptop.drive().await?;
        assert_ne!(state(&laptop).await?, IdentityState::Complete);
    }
    for sent in &others {
        deliver(&laptop, &own, sent).await?;
    }
    quiet(&[&laptop]).await;
    heard.hear(received).await?;
    assert_eq!(state(&laptop).await?, IdentityState::Complete);
    Ok(())
}

/// Either app may be closed between the steps.
#[tokio::test]
async fn a_restart_loses_none() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (mut phone, mut laptop, [ours, _]) = phone_and_laptop(&homeserver).await?;
    let id = ours.id();
    phone.restart().await?;
    phone.machine()?.verification(id).offer_secrets().await?;
    phone.restart().await?;
    laptop.restart().await?;
    let (heard, _subscription) = Heard::of(&laptop).await?;
    quiet(&[&phone, &laptop]).await;
    heard.hear(received).await?;
    assert_eq!(state(&laptop).await?, IdentityState::Complete);
    Ok(())
}
