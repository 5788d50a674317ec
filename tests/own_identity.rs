//! A user's own cross-signing identity, which a device without Olm makes: made once, taken by the
//! homeserver, made anew, and never in place of another that was not to be replaced.

use std::sync::Arc;

use matrix_mls::{IdentityState, MlsError, MlsIdentity, Publishing, Update, Verdict};
use matrix_mls_kit::{
    Client, ClientOptions, Heard, Homeserver, OrMissing as _, Refused as _, Result, Target,
    cross_signing::CrossSigning,
    password_auth,
    peer::Peer,
    together::{all_talk, lie_about_keys, log_in, pair, phone_of, quiet},
};
use serde_json::{Value, json};

const UPLOAD: &str = "/keys/device_signing/upload";
const SIGNATURES: &str = "/keys/signatures/upload";

fn own(client: &Client) -> Result<Arc<MlsIdentity>> {
    Ok(client.machine()?.identity())
}

async fn state(client: &Client) -> Result<IdentityState> {
    Ok(own(client)?.state().await?)
}

fn code(error: &MlsError) -> &str {
    error.code()
}

/// What the homeserver hands out for a user.
async fn published(client: &Client) -> Result<Value> {
    let query = json!({ "device_keys": { client.user_id(): [] } });
    Ok(client.http().post("/_matrix/client/v3/keys/query", query).await?)
}

async fn published_master(client: &Client) -> Result<Value> {
    Ok(published(client).await?["master_keys"][client.user_id()]["keys"].take())
}

fn is_state(wanted: &IdentityState) -> impl Fn(&Update) -> bool + use<'_> {
    move |update| matches!(update, Update::IdentityStateChanged { state } if state == wanted)
}

fn failed(update: &Update) -> Option<String> {
    let Update::IdentityFailed { code, .. } = update else { return None };
    Some(code.clone())
}

#[tokio::test]
async fn an_identity_is_made_once_and_signs_its_device() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    quiet(&[&alice, &bob]).await;
    assert_eq!(state(&bob).await?, IdentityState::Absent);
    let (heard, _listening) = Heard::of(&bob).await?;
    bob.make_identity().await?;
    heard.wait_for(is_state(&IdentityState::Working)).await?;
    heard.wait_for(is_state(&IdentityState::Complete)).await?;
    quiet(&[&alice, &bob]).await;
    let members = alice.members(&room).await?;
    let signed = members.iter().filter(|member| member.verdict == Verdict::OwnerNotVerified);
    assert_eq!(signed.map(|member| &*member.user_id).collect::<Vec<_>>(), [bob.user_id()]);
    let identity = bob.machine()?.user_identity(bob.user_id().to_owned()).await?;
    let identity = identity.or_missing("identity")?;
    assert!(!identity.has_changed && identity.user_signing_key.is_some(), "{identity:?}");
    let error = own(&bob)?.create().await.refused()?;
    assert_eq!(code(&error), "identity_exists");
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// Bob's laptop has not heard of the identity that his phone has made.
#[tokio::test]
async fn another_devices_identity_is_not_replaced_unasked() -> Result {
    let homeserver = Homeserver::embedded()?;
    let phone = phone_of(&homeserver, "bob").await?;
    let laptop = log_in(&homeserver, "bob", "LAPTOP").await?;
    phone.make_identity().await?;
    let master = published_master(&phone).await?;
    let (heard, _listening) = Heard::of(&laptop).await?;
    own(&laptop)?.create().await?;
    laptop.drive().await?;
    assert_eq!(heard.hear(failed).await?, "identity_exists");
    assert_eq!(published_master(&phone).await?, master);
    let missing_keys = ["master", "self_signing", "user_signing"].map(str::to_owned).to_vec();
    let incomplete = IdentityState::Incomplete { device_is_signed: false, missing_keys };
    assert_eq!(state(&laptop).await?, incomplete);
    Ok(())
}

#[tokio::test]
async fn a_reset_asks_who_the_user_is_and_others_are_told() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    bob.make_identity().await?;
    quiet(&[&alice, &bob]).await;
    let before = published_master(&bob).await?;
    let (heard, _listening) = Heard::of(&bob).await?;
    let (alice_heard, _alice_listening) = Heard::of(&alice).await?;
    own(&bob)?.reset().await?;
    bob.drive().await?;
    let asked = |update: &Update| match update {
        Update::IdentityStateChanged { state: IdentityState::AuthNeeded { challenge } } => {
            Some(challenge.clone())
        }
        _ => None,
    };
    let challenge = heard.hear(asked).await?;
    assert_eq!(challenge.flows[0].stages, ["m.login.password"]);
    assert_eq!(challenge.code, None);
    let first = challenge.session.or_missing("session")?;
    let mut wrong = password_auth(bob.user_id(), &first);
    wrong["password"] = json!("another");
    own(&bob)?.authorize(wrong.to_string()).await?;
    bob.drive().await?;
    let challenge = heard.hear(asked).await?;
    assert_eq!(challenge.code.as_deref(), Some("M_FORBIDDEN"));
    assert_eq!(published_master(&bob).await?, before);
    // It waits through a restart, and can be given up.
    assert!(own(&bob)?.cancel().await?);
    assert_eq!(heard.hear(failed).await?, "cancelled");
    assert!(!own(&bob)?.cancel().await?);
    assert_eq!(state(&bob).await?, IdentityState::Complete);
    let error = own(&bob)?.authorize("{}".to_owned()).await.refused()?;
    assert_eq!(code(&error), "no_auth_needed");
    own(&bob)?.reset().await?;
    bob.drive().await?;
    let session = heard.hear(asked).await?.session.or_missing("session")?;
    let error = own(&bob)?.authorize("[]".to_owned()).await.refused()?;
    assert_eq!(code(&error), "bad_auth");
    let error = own(&bob)?.create().await.refused()?;
    assert_eq!(code(&error), "identity_busy");
    own(&bob)?.authorize(password_auth(bob.user_id(), &session).to_string()).await?;
    quiet(&[&alice, &bob]).await;
    assert_eq!(state(&bob).await?, IdentityState::Complete);
    assert_ne!(published_master(&bob).await?, before);
    let changed = |update: &Update| match update {
        Update::IdentityChanged { user_id } => user_id == bob.user_id(),
        _ => false,
    };
    alice_heard.wait_for(changed).await?;
    assert!(!heard.all().iter().any(changed), "its own user made it");
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// The app is killed after every request, and every answer is lost once.
#[tokio::test]
async fn a_device_that_dies_at_any_point_goes_on_where_it_was() -> Result {
    for is_reset in [false, true] {
        let homeserver = Homeserver::embedded()?;
        let mut bob = phone_of(&homeserver, "bob").await?;
        if is_reset {
            bob.make_identity().await?;
            own(&bob)?.reset().await?;
        } else {
            own(&bob)?.create().await?;
        }
        for path in ["/keys/query", UPLOAD, SIGNATURES] {
            bob.forget_answers(path, 1);
        }
        for _ in 0..40 {
            if let IdentityState::AuthNeeded { challenge } = state(&bob).await? {
                let session = challenge.session.or_missing("session")?;
                let auth = password_auth(bob.user_id(), &session);
                own(&bob)?.authorize(auth.to_string()).await?;
            }
            bob.crash().await?;
            bob.machine()?.network_available().await?;
            let requests = bob.machine()?.outgoing_requests().await?;
            if let Some(request) = requests.first() {
                bob.send_request(request).await?;
            }
            bob.sync().await?;
        }
        assert_eq!(state(&bob).await?, IdentityState::Complete, "reset: {is_reset}");
        let keys = published(&bob).await?;
        let own = bob.machine()?.user_identity(bob.user_id().to_owned()).await?;
        let master = own.or_missing("identity")?.pinned_master_key;
        let named = &keys["master_keys"][bob.user_id()]["keys"][format!("ed25519:{master}")];
        assert_eq!(*named, json!(master));
    }
    Ok(())
}

#[tokio::test]
async fn a_refused_identity_leaves_nothing_behind() -> Result {
    let homeserver = Homeserver::embedded()?;
    let bob = phone_of(&homeserver, "bob").await?;
    let (heard, _listening) = Heard::of(&bob).await?;
    let controls = homeserver.controls().or_missing("controls")?;
    controls.fail(Target::path(UPLOAD), 1, 403);
    own(&bob)?.create().await?;
    bob.drive().await?;
    heard.hear(failed).await?;
    assert_eq!(state(&bob).await?, IdentityState::Absent);
    assert!(published_master(&bob).await?.is_null());
    bob.make_identity().await?;
    Ok(())
}

/// A homeserver without cross-signing: the app is told at once, and nothing waits for it.
#[tokio::test]
async fn a_homeserver_that_does_not_know_the_upload_is_told() -> Result {
    let homeserver = Homeserver::embedded()?;
    let bob = phone_of(&homeserver, "bob").await?;
    let (heard, _listening) = Heard::of(&bob).await?;
    let controls = homeserver.controls().or_missing("controls")?;
    for status in [404, 405, 501] {
        controls.clear_requests();
        let refusal = controls.fail(Target::path(UPLOAD), u64::MAX, status);
        own(&bob)?.create().await?;
        bob.settle().await?;
        assert!(!heard.hear(failed).await?.is_empty(), "{status}");
        assert_eq!(refusal.hits(), 1, "{status}");
        assert_eq!(state(&bob).await?, IdentityState::Absent, "{status}");
        assert_eq!(bob.machine()?.outgoing_requests().await?, [], "{status}");
        refusal.stop();
    }
    bob.make_identity().await?;
    Ok(())
}

/// A homeserver answers 200 and has taken nothing.
#[tokio::test]
async fn a_signature_that_is_not_taken_is_told() -> Result {
    let homeserver = Homeserver::embedded()?;
    let bob = phone_of(&homeserver, "bob").await?;
    let (heard, _listening) = Heard::of(&bob).await?;
    let controls = homeserver.controls().or_missing("controls")?;
    let user = bob.user_id().to_owned();
    let refusal = controls.tamper(Target::path(SIGNATURES), move |answer| {
        let failure = json!({ "errcode": "M_INVALID_SIGNATURE", "error": "no" });
        *answer = json!({ "failures": { &user: { "PHONE": failure } } });
    });
    own(&bob)?.create().await?;
    bob.drive().await?;
    let refused = |update: &Update| match update {
        Update::SignatureRefused { device_id, code, reason, .. } => {
            Some((device_id.clone(), code.clone(), reason.clone()))
        }
        _ => None,
    };
    let told = heard.hear(refused).await?;
    assert_eq!(told, (Some("PHONE".to_owned()), "M_INVALID_SIGNATURE".into(), "no".into()));
    refusal.stop();
    Ok(())
}

/// Bob's laptop gets a row of its own in everybody's groups when his phone has signed it. Nobody
/// signs what the user has not compared.
#[tokio::test]
async fn a_device_signs_the_users_others_and_other_users() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    bob.make_identity().await?;
    alice.make_identity().await?;
    let (heard, _listening) = Heard::of(&bob).await?;
    let laptop = log_in(&homeserver, "bob", "LAPTOP").await?;
    quiet(&[&bob, &alice]).await;
    let unsigned = |update: &Update| match update {
        Update::UnsignedOwnDevice { device_id } => device_id == "LAPTOP",
        _ => false,
    };
    heard.wait_for(unsigned).await?;
    alice.send_text(&room, "not for the laptop").await?;
    assert!(!alice.members(&room).await?.iter().any(|member| member.device_id == "LAPTOP"));
    let keys = &published(&bob).await?["device_keys"][bob.user_id()];
    let key = |device: &str| {
        let key = keys[device]["keys"][format!("ed25519:{device}")].as_str();
        key.map(str::to_owned).or_missing("key")
    };
    let identity = own(&bob)?;
    let error = identity.sign_device("LAPTOP".to_owned(), key("PHONE")?).await.refused()?;
    assert_eq!(code(&error), "no_such_device");
    let error = identity.sign_device("LAPTOP".to_owned(), "none".to_owned()).await.refused()?;
    assert_eq!(code(&error), "bad_key");
    identity.sign_device("LAPTOP".to_owned(), key("LAPTOP")?).await?;
    quiet(&[&bob, &laptop, &alice]).await;
    let IdentityState::Incomplete { device_is_signed: true, missing_keys } = state(&laptop).await?
    else {
        return Err(matrix_mls_kit::eyre!("{:?}", state(&laptop).await?));
    };
    assert_eq!(missing_keys.len(), 3);
    let error = own(&laptop)?.sign_device("PHONE".to_owned(), key("PHONE")?).await.refused()?;
    assert_eq!(code(&error), "no_private_key");
    all_talk(&[&alice, &bob, &laptop], &room).await;

    let of_alice = bob.machine()?.user_identity(alice.user_id().to_owned()).await?;
    let master = of_alice.or_missing("identity")?.master_key;
    let alice_id = alice.user_id().to_owned();
    let error = identity.sign_user(alice_id.clone(), key("PHONE")?).await.refused()?;
    assert_eq!(code(&error), "other_identity");
    identity.sign_user(alice_id.clone(), master).await?;
    bob.settle().await?;
    let answer = bob
        .http()
        .post("/_matrix/client/v3/keys/query", json!({ "device_keys": { &alice_id: [] } }));
    let signatures = answer.await?["master_keys"][&alice_id]["signatures"].take();
    assert!(signatures[bob.user_id()].is_object(), "{signatures}");
    Ok(())
}

/// The homeserver hands out an identity that nobody of Bob's has made.
#[tokio::test]
async fn a_device_signs_nothing_while_another_identity_is_handed_out() -> Result {
    let homeserver = Homeserver::embedded()?;
    let bob = phone_of(&homeserver, "bob").await?;
    bob.make_identity().await?;
    let other = CrossSigning::new(bob.user_id());
    let (user, objects) = (bob.user_id().to_owned(), other.published()?);
    let swapped = lie_about_keys(&homeserver, &bob, move |answer| {
        for (one, all) in [
            ("master_key", "master_keys"),
            ("self_signing_key", "self_signing_keys"),
            ("user_signing_key", "user_signing_keys"),
        ] {
            answer[all][&user] = objects[one].clone();
        }
    })?;
    let (heard, _listening) = Heard::of(&bob).await?;
    bob.look_again().await?;
    let changed = IdentityState::Changed { master_key: other.master_key() };
    heard.wait_for(is_state(&changed)).await?;
    let error = own(&bob)?.sign_user("@alice:x".to_owned(), other.master_key()).await.refused()?;
    assert_eq!(code(&error), "identity_changed");
    swapped.stop();
    bob.look_again().await?;
    heard.wait_for(is_state(&IdentityState::Complete)).await?;
    Ok(())
}

#[tokio::test]
async fn a_device_notices_what_is_handed_out_for_it() -> Result {
    let homeserver = Homeserver::embedded()?;
    let bob = phone_of(&homeserver, "bob").await?;
    assert_eq!(state(&bob).await?, IdentityState::Unknown);
    bob.look_again().await?;
    assert_eq!(state(&bob).await?, IdentityState::Absent);
    let (heard, _listening) = Heard::of(&bob).await?;
    let altered = |update: &Update| match update {
        Update::OwnDeviceAltered { code, .. } => Some(code.clone()),
        _ => None,
    };
    type Change = fn(&mut Value);
    let change: [(&str, Change); 3] = [
        ("altered", |keys| keys["keys"]["curve25519:PHONE"] = json!("x")),
        ("missing", |keys| *keys = Value::Null),
        ("altered", |keys| keys["algorithms"] = json!([])),
    ];
    for (what, change) in change {
        let user = bob.user_id().to_owned();
        let lie = lie_about_keys(&homeserver, &bob, move |answer| {
            let devices = &mut answer["device_keys"][&user];
            change(&mut devices["PHONE"]);
            if let Some(devices) = devices.as_object_mut() {
                devices.retain(|_, keys| !keys.is_null());
            }
        })?;
        bob.look_again().await?;
        bob.look_again().await?;
        assert_eq!(heard.hear(altered).await?, what);
        bob.look_again().await?;
        lie.stop();
        bob.look_again().await?;
        assert!(!heard.all().iter().any(|update| altered(update).is_some()), "it is told once");
    }
    Ok(())
}

/// The homeserver makes up a device for Bob, or a thousand beside it, or one whose keys are too
/// long to be kept.
#[tokio::test]
async fn a_made_up_device_of_its_user_is_told_by_name() -> Result {
    let homeserver = Homeserver::embedded()?;
    let bob = phone_of(&homeserver, "bob").await?;
    bob.make_identity().await?;
    let (heard, _listening) = Heard::of(&bob).await?;
    let ghost = Peer::new(bob.user_id(), "GHOST").device_keys();
    let mut long = ghost.clone();
    long["algorithms"] = json!(vec!["m.olm"; 2_000]);
    let crowd = (0..1_000).map(|number| format!("CROWD{number}"));
    let crowd: Vec<_> = crowd
        .map(|device| {
            let keys = json!({
                "user_id": bob.user_id(), "device_id": device,
                "signatures": { bob.user_id(): { format!("ed25519:{device}"): "" } },
            });
            (device, keys)
        })
        .collect();
    for (keys, crowd) in [(ghost.clone(), vec![]), (long, vec![]), (ghost, crowd)] {
        let user = bob.user_id().to_owned();
        let ghost = lie_about_keys(&homeserver, &bob, move |answer| {
            answer["device_keys"][&user]["GHOST"] = keys.clone();
            for (device, keys) in &crowd {
                answer["device_keys"][&user][device] = keys.clone();
            }
        })?;
        let unsigned = |update: &Update| match update {
            Update::UnsignedOwnDevice { device_id } => device_id == "GHOST",
            _ => false,
        };
        bob.look_again().await?;
        heard.wait_for(unsigned).await?;
        bob.look_again().await?;
        ghost.stop();
        assert!(!heard.all().iter().any(unsigned), "it is told once");
        bob.look_again().await?;
        assert_eq!(state(&bob).await?, IdentityState::Complete);
    }
    Ok(())
}

/// A store that was lost: the homeserver has other keys for this device.
#[tokio::test]
async fn a_device_with_other_keys_makes_no_identity() -> Result {
    let homeserver = Homeserver::embedded()?;
    let mut bob = phone_of(&homeserver, "bob").await?;
    bob.wipe().await?;
    bob.drive().await?;
    let error = own(&bob)?.create().await.refused()?;
    assert!(matches!(error, MlsError::NewDeviceNeeded { .. }), "{error:?}");
    assert!(published_master(&bob).await?.is_null());
    Ok(())
}

#[tokio::test]
async fn beside_olm_the_olm_machine_owns_the_identity() -> Result {
    let homeserver = Homeserver::embedded()?;
    let options = ClientOptions { publishing: Publishing::BesideOlm, ..ClientOptions::default() };
    let bob = Client::register_with(&homeserver, "bob", "PHONE", options).await?;
    let identity = own(&bob)?;
    let errors = [
        identity.state().await.refused()?,
        identity.create().await.refused()?,
        identity.reset().await.refused()?,
        identity.authorize("{}".to_owned()).await.refused()?,
        identity.cancel().await.refused()?,
        identity.sign_device("PHONE".to_owned(), "A".repeat(43)).await.refused()?,
        identity.sign_user("@a:b".to_owned(), "A".repeat(43)).await.refused()?,
    ];
    for error in errors {
        assert!(matches!(error, MlsError::Unsupported { .. }), "{error:?}");
        assert_eq!(code(&error), "beside_olm");
    }
    Ok(())
}
