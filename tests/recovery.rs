//! Secret storage: the recovery key that a person types gives a new phone its trust and its history
//! at once, whatever the homeserver does to what is stored.

use std::sync::Arc;

use matrix_mls::{
    BackupState, IdentityState, MlsIdentity, Publishing, RecoveryKey, RecoveryState, RestoreScope,
    SecretFailure, Update, Verdict, VerificationStatus,
};
use matrix_mls_kit::{
    Client, ClientOptions, Heard, Homeserver, OrMissing as _, Refused as _, Result, Target,
    password_auth,
    together::{all_talk, lie_about_keys, log_in, pair, phone_of, quiet, texts},
};
use serde_json::{Value, json};

const MASTER: &str = "m.cross_signing.master";
const SELF_SIGNING: &str = "m.cross_signing.self_signing";
const USER_SIGNING: &str = "m.cross_signing.user_signing";
const OWN_BACKUP: &str = "org.matrix.msc4038.v0";
const DEFAULT_KEY: &str = "m.secret_storage.default_key";

fn own(client: &Client) -> Result<Arc<MlsIdentity>> {
    Ok(client.machine()?.identity())
}

async fn state(client: &Client) -> Result<IdentityState> {
    Ok(own(client)?.state().await?)
}

fn path(client: &Client, kind: &str) -> String {
    format!("/_matrix/client/v3/user/{}/account_data/{kind}", client.user_id())
}

async fn account_data(client: &Client, kind: &str) -> Result<Value> {
    Ok(client.http().get(&path(client, kind)).await?)
}

async fn put_account_data(client: &Client, kind: &str, content: Value) -> Result {
    client.http().put(&path(client, kind), content).await?;
    Ok(())
}

fn failed(update: &Update) -> Option<String> {
    let Update::RecoveryFailed { code, .. } = update else { return None };
    Some(code.clone())
}

fn finished(update: &Update) -> Option<(Vec<String>, Vec<SecretFailure>)> {
    let Update::RecoveryFinished { recovered, failures } = update else { return None };
    Some((recovered.clone(), failures.clone()))
}

fn is_present(update: &Update) -> bool {
    matches!(update, Update::RecoveryChanged { state: RecoveryState::Present { .. } })
}

async fn store(client: &Client, key: &Arc<RecoveryKey>, replace: bool) -> Result {
    own(client)?.store_secrets(key.clone(), replace).await?;
    client.drive().await?;
    Ok(())
}

/// What recovering on a device comes to.
async fn recover(
    client: &Client,
    key: &Arc<RecoveryKey>,
) -> Result<(Vec<String>, Vec<SecretFailure>)> {
    let (heard, _listening) = Heard::of(client).await?;
    own(client)?.recover(key.clone()).await?;
    client.settle().await?;
    let told = heard.hear(finished).await?;
    client.settle().await?;
    Ok(told)
}

/// With which code recovering on a device comes to nothing.
async fn recover_in_vain(client: &Client, key: &Arc<RecoveryKey>) -> Result<String> {
    let (heard, _listening) = Heard::of(client).await?;
    own(client)?.recover(key.clone()).await?;
    client.drive().await?;
    heard.hear(failed).await
}

#[tokio::test]
async fn a_recovery_key_gives_a_new_phone_its_trust_and_its_history() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    bob.make_identity().await?;
    bob.machine()?.backup().create(RecoveryKey::generate()?, false).await?;
    quiet(&[&alice, &bob]).await;
    let key = RecoveryKey::generate()?;
    let (heard, _listening) = Heard::of(&bob).await?;
    store(&bob, &key, false).await?;
    heard.wait_for(is_present).await?;
    quiet(&[&alice, &bob]).await;

    let new = log_in(&homeserver, "bob", "NEW").await?;
    assert!(texts(&new, &room).await.is_empty());
    let typed = RecoveryKey::parse(key.text())?;
    let (recovered, failures) = recover(&new, &typed).await?;
    assert_eq!(recovered, [MASTER, SELF_SIGNING, USER_SIGNING, OWN_BACKUP]);
    assert_eq!(failures, []);
    assert_eq!(state(&new).await?, IdentityState::Complete);
    let backup = new.machine()?.backup();
    assert!(matches!(backup.state().await?, BackupState::Enabled { .. }));
    backup.restore(None, RestoreScope::AllRooms).await?;
    quiet(&[&alice, &bob, &new]).await;
    assert!(texts(&new, &room).await.contains(&"first".to_owned()));
    all_talk(&[&alice, &bob, &new], &room).await;
    let members = alice.members(&room).await?;
    let is_new = members.iter().find(|member| member.device_id == "NEW").or_missing("member")?;
    assert_eq!(is_new.verdict, Verdict::OwnerNotVerified);

    // Whom Bob has verified, he has verified on the new phone too: its own identity is known for
    // sure, as the recovery key has opened its private key.
    alice.make_identity().await?;
    quiet(&[&alice, &bob, &new]).await;
    let of_alice = bob.machine()?.user_identity(alice.user_id().to_owned()).await?;
    let of_alice = of_alice.or_missing("Alice's identity")?.master_key;
    own(&bob)?.sign_user(alice.user_id().to_owned(), of_alice).await?;
    for device in [&bob, &new] {
        quiet(&[&alice, &bob, &new]).await;
        let seen = device.machine()?.user_identity(alice.user_id().to_owned()).await?;
        let verification = seen.or_missing("Alice's identity")?.verification;
        assert_eq!(verification, VerificationStatus::Verified, "{}", device.name());
        let members = device.members(&room).await?;
        let of_alice = members.iter().find(|member| member.user_id == alice.user_id());
        assert_eq!(of_alice.or_missing("member")?.verdict, Verdict::Verified);
    }
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_with_a_recovery_is_said() -> Result {
    let homeserver = Homeserver::embedded()?;
    let bob = phone_of(&homeserver, "bob").await?;
    let key = RecoveryKey::generate()?;
    let error = own(&bob)?.store_secrets(key.clone(), false).await.refused()?;
    assert_eq!(error.code(), "identity_incomplete");
    assert_eq!(recover_in_vain(&bob, &key).await?, "no_recovery");
    assert_eq!(own(&bob)?.recovery_state().await?, RecoveryState::Absent);
    bob.make_identity().await?;
    store(&bob, &key, false).await?;
    let new = log_in(&homeserver, "bob", "NEW").await?;
    assert_eq!(recover_in_vain(&new, &RecoveryKey::generate()?).await?, "wrong_key");
    let controls = homeserver.controls().or_missing("controls")?;
    controls.fail(Target::path(SELF_SIGNING), 1, 403);
    assert!(!recover_in_vain(&new, &key).await?.is_empty());
    own(&new)?.recover(key.clone()).await?;
    let error = own(&new)?.recover(key.clone()).await.refused()?;
    assert_eq!(error.code(), "recovery_busy");
    new.drive().await?;

    let id = account_data(&new, DEFAULT_KEY).await?["key"].take();
    let description = format!("m.secret_storage.key.{}", id.as_str().or_missing("id")?);
    let good = account_data(&new, &description).await?;
    put_account_data(&new, &description, json!({ "algorithm": "another" })).await?;
    assert_eq!(recover_in_vain(&new, &key).await?, "unsupported_recovery");
    let state = own(&new)?.recovery_state().await?;
    assert!(matches!(state, RecoveryState::Unsupported { .. }), "{state:?}");
    // A description without a check: the secrets themselves say whether the key is right.
    put_account_data(&new, &description, json!({ "algorithm": good["algorithm"] })).await?;
    assert_eq!(recover_in_vain(&new, &RecoveryKey::generate()?).await?, "wrong_key");
    assert_eq!(recover(&new, &key).await?.0, [MASTER, SELF_SIGNING, USER_SIGNING]);
    Ok(())
}

#[tokio::test]
async fn a_passphrase_recovers_too() -> Result {
    let homeserver = Homeserver::embedded()?;
    let bob = phone_of(&homeserver, "bob").await?;
    bob.make_identity().await?;
    let key = RecoveryKey::from_new_passphrase("It's a secret".to_owned()).await?;
    store(&bob, &key, false).await?;
    let new = log_in(&homeserver, "bob", "NEW").await?;
    own(&new)?.look_for_recovery().await?;
    new.drive().await?;
    let RecoveryState::Present { passphrase, .. } = own(&new)?.recovery_state().await? else {
        matrix_mls_kit::bail!("no secret storage is found");
    };
    let parameters = passphrase.or_missing("passphrase")?;
    let typed = RecoveryKey::from_passphrase(
        "It's a secret".to_owned(),
        parameters.salt,
        parameters.rounds,
    );
    assert_eq!(recover(&new, &typed.await?).await?.0.len(), 3);
    assert_eq!(state(&new).await?, IdentityState::Complete);
    Ok(())
}

/// The homeserver says how a passphrase makes the key. With few rounds the key could be guessed,
/// and with very many the phone would be busy for hours.
#[tokio::test]
async fn a_key_description_cannot_ask_for_too_few_or_too_many_rounds() -> Result {
    let homeserver = Homeserver::embedded()?;
    let bob = phone_of(&homeserver, "bob").await?;
    bob.make_identity().await?;
    let (passphrase, salt) = ("It's a secret".to_owned(), "salt".to_owned());
    let least = RecoveryKey::from_passphrase(passphrase.clone(), salt, 100_000).await?;
    store(&bob, &least, false).await?;
    let id = account_data(&bob, DEFAULT_KEY).await?["key"].take();
    let kind = format!("m.secret_storage.key.{}", id.as_str().or_missing("id")?);
    let description = account_data(&bob, &kind).await?;
    let new = log_in(&homeserver, "bob", "NEW").await?;
    for (rounds, is_refused) in [
        (0, true),
        (1, true),
        (99_999, true),
        (10_000_001, true),
        (u32::MAX, true),
        (100_000, false),
    ] {
        let mut told = description.clone();
        told["passphrase"]["iterations"] = json!(rounds);
        put_account_data(&new, &kind, told).await?;
        own(&new)?.look_for_recovery().await?;
        new.drive().await?;
        let RecoveryState::Present { passphrase: Some(how), .. } =
            own(&new)?.recovery_state().await?
        else {
            matrix_mls_kit::bail!("no secret storage is found with {rounds} rounds");
        };
        assert_eq!(how.rounds, rounds);
        let typed = RecoveryKey::from_passphrase(passphrase.clone(), how.salt, how.rounds).await;
        if is_refused {
            assert_eq!(typed.refused()?.code(), "bad_rounds", "{rounds}");
        } else {
            assert_eq!(recover(&new, &typed?).await?.0.len(), 3);
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_is_stored_under_another_key_is_replaced_only_when_asked() -> Result {
    let homeserver = Homeserver::embedded()?;
    let bob = phone_of(&homeserver, "bob").await?;
    bob.make_identity().await?;
    let (first, second) = (RecoveryKey::generate()?, RecoveryKey::generate()?);
    store(&bob, &first, false).await?;
    let (heard, _listening) = Heard::of(&bob).await?;
    store(&bob, &second, false).await?;
    assert_eq!(heard.hear(failed).await?, "recovery_exists");
    // The same key again: what is new is added.
    bob.machine()?.backup().create(RecoveryKey::generate()?, false).await?;
    bob.settle().await?;
    let id = account_data(&bob, DEFAULT_KEY).await?;
    store(&bob, &first, false).await?;
    assert_eq!(account_data(&bob, DEFAULT_KEY).await?, id);
    assert!(account_data(&bob, OWN_BACKUP).await?["encrypted"].is_object());
    store(&bob, &second, true).await?;
    let sealed = account_data(&bob, MASTER).await?["encrypted"].take();
    assert_eq!(sealed.as_object().or_missing("secret")?.len(), 2, "{sealed}");
    let new = log_in(&homeserver, "bob", "NEW").await?;
    assert_eq!(recover_in_vain(&new, &first).await?, "wrong_key");
    assert_eq!(recover(&new, &second).await?.0.len(), 4);
    Ok(())
}

/// The homeserver has swapped, damaged and dropped what was stored.
#[tokio::test]
async fn only_keys_of_the_published_identity_are_kept() -> Result {
    let homeserver = Homeserver::embedded()?;
    let bob = phone_of(&homeserver, "bob").await?;
    bob.make_identity().await?;
    let key = RecoveryKey::generate()?;
    store(&bob, &key, false).await?;
    let before = account_data(&bob, SELF_SIGNING).await?;
    // Bob resets his identity, and forgets to store its keys.
    own(&bob)?.reset().await?;
    bob.drive().await?;
    let IdentityState::AuthNeeded { challenge } = state(&bob).await? else {
        matrix_mls_kit::bail!("nobody is asked who they are");
    };
    let session = challenge.session.or_missing("session")?;
    own(&bob)?.authorize(password_auth(bob.user_id(), &session).to_string()).await?;
    bob.settle().await?;
    put_account_data(&bob, MASTER, before).await?;
    put_account_data(&bob, USER_SIGNING, json!({})).await?;
    let new = log_in(&homeserver, "bob", "NEW").await?;
    let (recovered, failures) = recover(&new, &key).await?;
    assert_eq!(recovered, [""; 0]);
    let failure = |name: &str, code: &str| SecretFailure { name: name.into(), code: code.into() };
    assert_eq!(
        failures,
        [
            failure(MASTER, "damaged"),
            failure(USER_SIGNING, "missing"),
            failure(SELF_SIGNING, "other_identity"),
        ]
    );
    let IdentityState::Incomplete { device_is_signed: false, .. } = state(&new).await? else {
        matrix_mls_kit::bail!("{:?}", state(&new).await?);
    };
    Ok(())
}

/// Bob's laptop has pinned the identity from before the reset. The recovery key says that the new
/// one is his.
#[tokio::test]
async fn the_recovery_key_says_which_identity_is_the_users() -> Result {
    let homeserver = Homeserver::embedded()?;
    let bob = phone_of(&homeserver, "bob").await?;
    bob.make_identity().await?;
    let laptop = log_in(&homeserver, "bob", "LAPTOP").await?;
    assert_eq!(state(&laptop).await?, IdentityState::Unknown);
    laptop.settle().await?;
    own(&bob)?.reset().await?;
    bob.drive().await?;
    let IdentityState::AuthNeeded { challenge } = state(&bob).await? else {
        matrix_mls_kit::bail!("nobody is asked who they are");
    };
    let session = challenge.session.or_missing("session")?;
    own(&bob)?.authorize(password_auth(bob.user_id(), &session).to_string()).await?;
    quiet(&[&bob, &laptop]).await;
    let key = RecoveryKey::generate()?;
    store(&bob, &key, false).await?;
    assert!(matches!(state(&laptop).await?, IdentityState::Changed { .. }));
    assert_eq!(recover(&laptop, &key).await?.0.len(), 3);
    assert_eq!(state(&laptop).await?, IdentityState::Complete);
    Ok(())
}

/// Bob's identity was stolen, and he has made another under the same recovery key. The homeserver
/// brings the stolen one back, with what was stored then. His key does not make it his again.
#[tokio::test]
async fn an_identity_that_a_device_has_replaced_is_not_recovered_there() -> Result {
    let homeserver = Homeserver::embedded()?;
    let bob = phone_of(&homeserver, "bob").await?;
    bob.make_identity().await?;
    let key = RecoveryKey::generate()?;
    store(&bob, &key, false).await?;
    let query = json!({ "device_keys": { bob.user_id(): [] } });
    let old = bob.http().post("/_matrix/client/v3/keys/query", query).await?;
    let mut stored = Vec::new();
    for kind in [MASTER, SELF_SIGNING, USER_SIGNING] {
        stored.push((kind, account_data(&bob, kind).await?));
    }
    bob.reset_identity().await?;
    store(&bob, &key, true).await?;
    for (kind, content) in stored {
        put_account_data(&bob, kind, content).await?;
    }
    let user = bob.user_id().to_owned();
    let lie = lie_about_keys(&homeserver, &bob, move |answer| {
        for part in ["device_keys", "master_keys", "self_signing_keys", "user_signing_keys"] {
            answer[part][&user] = old[part][&user].clone();
        }
    })?;
    bob.look_again().await?;
    assert!(matches!(state(&bob).await?, IdentityState::Changed { .. }));
    let (recovered, failures) = recover(&bob, &key).await?;
    assert!(recovered.is_empty(), "{recovered:?}");
    let codes: Vec<_> = failures.iter().map(|failure| failure.code.as_str()).collect();
    assert_eq!(codes, ["other_identity"; 3]);
    assert!(matches!(state(&bob).await?, IdentityState::Changed { .. }));
    lie.stop();
    bob.look_again().await?;
    assert_eq!(state(&bob).await?, IdentityState::Complete);
    Ok(())
}

/// The app is killed after every request, and answers are lost.
#[tokio::test]
async fn storing_and_recovering_go_on_after_a_kill() -> Result {
    let homeserver = Homeserver::embedded()?;
    let mut bob = phone_of(&homeserver, "bob").await?;
    bob.make_identity().await?;
    let key = RecoveryKey::generate()?;
    own(&bob)?.store_secrets(key.clone(), false).await?;
    die_often(&mut bob).await?;
    let state_now = own(&bob)?.recovery_state().await?;
    assert!(matches!(state_now, RecoveryState::Present { .. }), "{state_now:?}");
    let mut new = log_in(&homeserver, "bob", "NEW").await?;
    own(&new)?.recover(key).await?;
    die_often(&mut new).await?;
    assert_eq!(state(&new).await?, IdentityState::Complete);
    Ok(())
}

async fn die_often(client: &mut Client) -> Result {
    client.forget_answers("/account_data/", 2);
    for _ in 0..30 {
        client.crash().await?;
        client.machine()?.network_available().await?;
        if let Some(request) = client.machine()?.outgoing_requests().await?.first() {
            client.send_request(request).await?;
        }
    }
    client.settle().await?;
    Ok(())
}

#[tokio::test]
async fn beside_olm_the_olm_machine_has_the_secrets() -> Result {
    let homeserver = Homeserver::embedded()?;
    let options = ClientOptions { publishing: Publishing::BesideOlm, ..ClientOptions::default() };
    let bob = Client::register_with(&homeserver, "bob", "PHONE", options).await?;
    let (identity, key) = (own(&bob)?, RecoveryKey::generate()?);
    let errors = [
        identity.recovery_state().await.refused()?,
        identity.look_for_recovery().await.refused()?,
        identity.store_secrets(key.clone(), true).await.refused()?,
        identity.recover(key).await.refused()?,
    ];
    for error in errors {
        assert_eq!(error.code(), "beside_olm");
    }
    Ok(())
}

/// One call does both, also where the app is closed in between; the wrong key does neither.
#[tokio::test]
async fn one_step_brings_trust_and_history() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    bob.make_identity().await?;
    let key = RecoveryKey::generate()?;
    bob.machine()?.backup().create(key.clone(), false).await?;
    quiet(&[&alice, &bob]).await;
    store(&bob, &key, false).await?;
    quiet(&[&alice, &bob]).await;

    let mut new = log_in(&homeserver, "bob", "NEW").await?;
    let (heard, listening) = Heard::of(&new).await?;
    own(&new)?.recover_with_history(RecoveryKey::generate()?).await?;
    new.drive().await?;
    assert_eq!(heard.hear(failed).await?, "wrong_key");
    assert!(new.machine()?.backup().restores().await?.is_empty());
    own(&new)?.recover_with_history(key).await?;
    drop((heard, listening));
    new.restart().await?;
    let (heard, _listening) = Heard::of(&new).await?;
    new.settle().await?;
    let restored = heard.hear(|update| match update {
        Update::RestoreFinished { epochs, failures, .. } => Some((*epochs, failures.len())),
        _ => None,
    });
    let (epochs, failures) = restored.await?;
    assert!(epochs > 0 && failures == 0, "{epochs} {failures}");
    assert_eq!(state(&new).await?, IdentityState::Complete);
    quiet(&[&alice, &bob, &new]).await;
    assert!(texts(&new, &room).await.contains(&"first".to_owned()));
    Ok(())
}
