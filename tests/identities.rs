//! Cross-signing identities, and a homeserver that lies about them: it adds devices, replaces the
//! master key, hides an identity, mixes up users, and replays what was true once.

use std::{sync::Arc, time::Duration};

use matrix_mls::{
    MemberPolicy, MlsError, RoomSettings, Update, UpdateSubscription, UserIdentity, Verdict,
};
use matrix_mls_kit::{
    Client, ClientOptions, Fault, Heard, Homeserver, OrMissing as _, Refused as _, Result, Target,
    cross_signing::CrossSigning,
    is_commit,
    peer::Peer,
    together::{all_talk, lie_about_keys, log_in, pair, phone_of, quiet, texts},
};
use serde_json::{Value, json};

/// One client's homeserver hides a user's identity, and what it has signed.
fn hide(homeserver: &Homeserver, told_to: &Client, hidden: &Client) -> Result<Fault> {
    let user = hidden.user_id().to_owned();
    lie_about_keys(homeserver, told_to, move |answer| {
        for field in ["master_keys", "self_signing_keys", "user_signing_keys"] {
            if let Some(keys) = answer[field].as_object_mut() {
                keys.remove(&user);
            }
        }
    })
}

/// What a homeserver says of somebody's keys to another user.
async fn answer_about(asker: &Client, user: &str) -> Result<Value> {
    let query = json!({ "device_keys": { user: [] } });
    Ok(asker.http().post("/_matrix/client/v3/keys/query", query).await?)
}

/// A device that the homeserver has made up for somebody: listed, and with a key package.
struct Ghost {
    faults: Vec<Fault>,
}

impl Ghost {
    const DEVICE: &'static str = "GHOST";

    /// Every client of these is told of it. Where there is an identity, it signs the ghost.
    fn of(
        homeserver: &Homeserver,
        user: &Client,
        told_to: &[&Client],
        signed_by: Option<&CrossSigning>,
    ) -> Result<Self> {
        let peer = Peer::new(user.user_id(), Self::DEVICE);
        let mut keys = peer.device_keys();
        if let Some(identity) = signed_by {
            keys = identity.sign_device(keys)?;
        }
        let controls = homeserver.controls().or_missing("controls")?;
        let mut faults = Vec::new();
        for client in told_to {
            let (owner, keys) = (user.user_id().to_owned(), keys.clone());
            faults.push(lie_about_keys(homeserver, client, move |answer| {
                if answer["device_keys"].get(&owner).is_some() {
                    answer["device_keys"][&owner][Self::DEVICE] = keys.clone();
                }
            })?);
            let owner = user.user_id().to_owned();
            let (id, package) = peer.published_key_package();
            let target = Target::path("/keys/claim").user(client.user_id());
            faults.push(controls.tamper(target, move |answer| {
                answer["one_time_keys"][&owner][Self::DEVICE] = json!({ &id: package });
            }));
        }
        Ok(Self { faults })
    }

    fn stop(self) {
        self.faults.iter().for_each(Fault::stop);
    }
}

async fn is_member(of: &Client, room: &str, device: &str) -> Result<bool> {
    Ok(of.members(room).await?.iter().any(|member| member.device_id == device))
}

async fn is_member_of_user(of: &Client, room: &str, user: &Client) -> Result<bool> {
    Ok(of.members(room).await?.iter().any(|member| member.user_id == user.user_id()))
}

async fn look_again(client: &Client) -> Result {
    client.machine()?.doubt_device_lists().await?;
    client.drive().await?;
    Ok(())
}

async fn identity_of(client: &Client, user: &Client) -> Result<UserIdentity> {
    let identity = client.machine()?.user_identity(user.user_id().to_owned()).await?;
    identity.or_missing("identity")
}

async fn listening(client: &Client) -> Result<(Arc<Heard>, Arc<UpdateSubscription>)> {
    Heard::of(client).await
}

fn not_cross_signed(device: &str) -> impl Fn(&Update) -> bool + use<'_> {
    move |update| {
        matches!(update, Update::DeviceRejected { device_id, code, .. }
            if device_id == device && code == "not_cross_signed")
    }
}

fn changed(user: &Client) -> impl Fn(&Update) -> bool + use<'_> {
    move |update| matches!(update, Update::IdentityChanged { user_id } if user_id == user.user_id())
}

/// Alice and Bob in a room. Bob has an identity, and Alice knows it.
async fn with_identity(homeserver: &Homeserver) -> Result<(Client, Client, String, CrossSigning)> {
    let (alice, bob, room) = pair(homeserver).await;
    let identity = CrossSigning::bootstrap(&bob).await?;
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    Ok((alice, bob, room, identity))
}

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

#[tokio::test]
async fn a_device_that_its_owner_has_not_signed_gets_nothing_and_is_told() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room, _) = with_identity(&homeserver).await?;
    let (heard, _listening) = listening(&alice).await?;
    let ghost = Ghost::of(&homeserver, &bob, &[&alice, &bob], None)?;
    look_again(&alice).await?;
    look_again(&bob).await?;
    heard.wait_for(not_cross_signed(Ghost::DEVICE)).await?;
    for client in [&alice, &bob] {
        client.send_text(&room, "not for the ghost").await?;
        assert!(!is_member(client, &room, Ghost::DEVICE).await?);
        quiet(&[&alice, &bob]).await;
    }
    ghost.stop();
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// The ghost bears the signature of a key that is not Bob's. Then the homeserver hands out that key
/// as Bob's self-signing key, which his master key has not signed.
#[tokio::test]
async fn only_the_owners_own_chain_counts() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room, keys) = with_identity(&homeserver).await?;
    let other = CrossSigning::new(bob.user_id());
    let (heard, _listening) = listening(&alice).await?;
    let ghost = Ghost::of(&homeserver, &bob, &[&alice], Some(&other))?;
    look_again(&alice).await?;
    heard.wait_for(not_cross_signed(Ghost::DEVICE)).await?;
    let (user, forged) = (bob.user_id().to_owned(), other.published()?);
    let mut swapped = None;
    for _ in 0..2 {
        alice.send_text(&room, "not for the ghost").await?;
        assert!(!is_member(&alice, &room, Ghost::DEVICE).await?);
        assert!(is_member_of_user(&alice, &room, &bob).await?);
        let identity = identity_of(&alice, &bob).await?;
        assert_eq!(identity.self_signing_key, Some(keys.self_signing_key()));
        let (user, forged) = (user.clone(), forged["self_signing_key"].clone());
        swapped.get_or_insert(lie_about_keys(&homeserver, &alice, move |answer| {
            answer["self_signing_keys"][&user] = forged.clone();
        })?);
        look_again(&alice).await?;
    }
    ghost.stop();
    swapped.or_missing("lie")?.stop();
    look_again(&alice).await?;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// Bob's laptop spoke Olm when he verified it. Its MLS credential has been put beside its Olm keys
/// since, and the homeserver keeps the signature from before.
#[tokio::test]
async fn a_device_that_its_owner_signed_before_it_spoke_mls_is_in() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room, keys) = with_identity(&homeserver).await?;
    let laptop = log_in(&homeserver, "bob", "LAPTOP").await?;
    let credential = "org.matrix.msc2883.v1.dmls.credential.ed25519:LAPTOP";
    let mut before =
        answer_about(&alice, bob.user_id()).await?["device_keys"][bob.user_id()]["LAPTOP"].take();
    let of_device = before["keys"].as_object_mut().or_missing("keys")?;
    of_device.remove(credential).or_missing("credential")?;
    before["algorithms"] = json!([]);
    let mut another = before.clone();
    another["keys"]["ed25519:LAPTOP"] = json!(keys.master_key());
    for (what, signed, is_in) in [("another key", another, false), ("its keys", before, true)] {
        let signatures = keys.sign_device(signed)?["signatures"][bob.user_id()].take();
        let id = format!("ed25519:{}", keys.self_signing_key());
        let (user, signature) = (bob.user_id().to_owned(), signatures[&id].clone());
        let mut lies = Vec::new();
        for client in [&alice, &bob] {
            let (user, id, signature) = (user.clone(), id.clone(), signature.clone());
            lies.push(lie_about_keys(&homeserver, client, move |answer| {
                let keys = &mut answer["device_keys"][&user]["LAPTOP"];
                if keys.is_object() {
                    keys["signatures"][&user][&id] = signature.clone();
                }
            })?);
        }
        look_again(&alice).await?;
        look_again(&bob).await?;
        alice.send_text(&room, what).await?;
        assert_eq!(is_member(&alice, &room, "LAPTOP").await?, is_in, "{what}");
        lies.iter().for_each(Fault::stop);
    }
    laptop.settle().await?;
    assert!(texts(&laptop, &room).await.contains(&"its keys".to_owned()));
    Ok(())
}

/// Bob logs in on a laptop that he has yet to verify: it comes in once he has signed it.
#[tokio::test]
async fn a_device_comes_in_once_its_owner_has_signed_it() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room, keys) = with_identity(&homeserver).await?;
    let laptop = log_in(&homeserver, "bob", "LAPTOP").await?;
    look_again(&alice).await?;
    alice.send_text(&room, "before").await?;
    assert!(!is_member(&alice, &room, "LAPTOP").await?);
    keys.sign(&laptop).await?;
    quiet(&[&alice, &bob]).await;
    alice.send_text(&room, "after").await?;
    assert!(is_member(&alice, &room, "LAPTOP").await?);
    quiet(&[&alice, &bob, &laptop]).await;
    all_talk(&[&alice, &bob, &laptop], &room).await;
    assert!(!texts(&laptop, &room).await.contains(&"before".to_owned()));
    Ok(())
}

/// Bob's laptop, which he has not signed, lets itself in and speaks, again and again. Nobody seals
/// to it, the others go on, and it costs them a bounded number of commits.
#[tokio::test]
async fn a_device_that_its_owner_has_not_signed_cannot_let_itself_in() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room, keys) = with_identity(&homeserver).await?;
    let laptop = log_in(&homeserver, "bob", "LAPTOP").await?;
    quiet(&[&alice, &bob, &laptop]).await;
    let commits = async || -> Result<usize> {
        Ok(alice.history(&room).await?.iter().filter(|event| is_commit(event)).count())
    };
    let before = commits().await?;
    for round in 0..4 {
        let speaks = laptop.send_text(&room, "let me in");
        // It may be refused: what matters is what the others do.
        let _ = tokio::time::timeout(Duration::from_secs(5), speaks).await;
        quiet(&[&alice, &bob, &laptop]).await;
        for client in [&alice, &bob] {
            let text = format!("{} in round {round}", client.name());
            client.send_text(&room, &text).await?;
            assert!(!is_member(client, &room, "LAPTOP").await?);
            quiet(&[&alice, &bob, &laptop]).await;
            assert!(!texts(&laptop, &room).await.contains(&text), "the laptop reads {text}");
        }
    }
    let made = commits().await? - before;
    assert!(made <= 8, "{made} commits");
    all_talk(&[&alice, &bob], &room).await;
    keys.sign(&laptop).await?;
    quiet(&[&alice, &bob, &laptop]).await;
    alice.send_text(&room, "welcome").await?;
    quiet(&[&alice, &bob, &laptop]).await;
    assert!(texts(&laptop, &room).await.contains(&"welcome".to_owned()));
    Ok(())
}

/// Bob makes an identity while his laptop is in the group, and signs his phone alone: the laptop is
/// removed before the next message.
#[tokio::test]
async fn a_device_that_drops_below_the_policy_is_removed_before_the_next_message() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let laptop = log_in(&homeserver, "bob", "LAPTOP").await?;
    quiet(&[&alice, &bob]).await;
    alice.send_text(&room, "for all").await?;
    quiet(&[&alice, &bob, &laptop]).await;
    assert!(is_member(&alice, &room, "LAPTOP").await?);
    let (heard, _listening) = listening(&alice).await?;
    CrossSigning::bootstrap(&bob).await?;
    quiet(&[&alice, &bob]).await;
    heard.wait_for(not_cross_signed("LAPTOP")).await?;
    alice.send_text(&room, "not for the laptop").await?;
    assert!(!is_member(&alice, &room, "LAPTOP").await?);
    quiet(&[&alice, &bob, &laptop]).await;
    assert_eq!(texts(&laptop, &room).await, ["for all"]);
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// An identity that was seen is not unseen: hiding it does not make a ghost acceptable.
#[tokio::test]
async fn an_identity_that_is_hidden_later_still_counts() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (mut alice, bob, room, keys) = with_identity(&homeserver).await?;
    let hidden = hide(&homeserver, &alice, &bob)?;
    let ghost = Ghost::of(&homeserver, &bob, &[&alice], None)?;
    alice.restart().await?;
    let (heard, _listening) = listening(&alice).await?;
    look_again(&alice).await?;
    heard.wait_for(not_cross_signed(Ghost::DEVICE)).await?;
    alice.send_text(&room, "not for the ghost").await?;
    assert!(!is_member(&alice, &room, Ghost::DEVICE).await?);
    assert!(is_member_of_user(&alice, &room, &bob).await?, "Bob's phone is signed as before");
    assert_eq!(identity_of(&alice, &bob).await?.master_key, keys.master_key());
    ghost.stop();
    hidden.stop();
    look_again(&alice).await?;
    all_talk(&[&alice, &bob], &room).await;
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

/// Bob has an identity that has signed his phone and not his laptop, Carol has none.
#[tokio::test]
async fn the_policy_decides_who_is_in_a_group() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (_alice, bob, ..) = with_identity(&homeserver).await?;
    let carol = phone_of(&homeserver, "carol").await?;
    let laptop = log_in(&homeserver, "bob", "LAPTOP").await?;
    let name = |client: &Client| (client.user_id().to_owned(), client.device_id().to_owned());
    for (policy, expected) in [
        (MemberPolicy::CrossSigned, vec![name(&bob)]),
        (MemberPolicy::CrossSignedOrUserHasNoIdentity, vec![name(&bob), name(&carol)]),
        (MemberPolicy::AnySigned, vec![name(&laptop), name(&bob), name(&carol)]),
    ] {
        let options = ClientOptions { member_policy: Some(policy), ..ClientOptions::default() };
        let eve = format!("eve-{policy:?}").to_lowercase();
        let eve = Client::register_with(&homeserver, &eve, "PHONE", options).await?;
        eve.settle().await?;
        let room = eve.create_group(&[&bob, &carol], RoomSettings::default()).await?;
        eve.send_text(&room, "hello").await?;
        let mut others: Vec<_> = eve
            .members(&room)
            .await?
            .into_iter()
            .filter(|member| !member.is_own_device)
            .map(|member| (member.user_id, member.device_id))
            .collect();
        others.sort();
        assert_eq!(others, expected, "{policy:?}");
    }
    Ok(())
}

/// A store that is opened with another policy compares its rooms with it before the next message.
#[tokio::test]
async fn a_stricter_policy_removes_who_is_in_the_group_already() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (mut alice, bob, room) = pair(&homeserver).await;
    assert!(is_member_of_user(&alice, &room, &bob).await?);
    alice.set_member_policy(Some(MemberPolicy::CrossSigned));
    alice.restart().await?;
    alice.send_text(&room, "to myself").await?;
    assert!(!is_member_of_user(&alice, &room, &bob).await?);
    alice.set_member_policy(Some(MemberPolicy::AnySigned));
    alice.restart().await?;
    alice.send_text(&room, "to both").await?;
    assert!(is_member_of_user(&alice, &room, &bob).await?);
    Ok(())
}

/// Alice has seen Bob's identity; Carol's homeserver hides it from her and shows her a ghost. Alice
/// removes the ghost, Carol leaves it out for a while, and there is an end to it.
#[tokio::test]
async fn two_who_see_different_identities_settle() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let carol = phone_of(&homeserver, "carol").await?;
    alice.invite(&room, carol.user_id()).await?;
    carol.join(&room).await?;
    quiet(&[&alice, &bob, &carol]).await;
    all_talk(&[&alice, &bob, &carol], &room).await;
    let hidden = hide(&homeserver, &carol, &bob)?;
    CrossSigning::bootstrap(&bob).await?;
    quiet(&[&alice, &bob, &carol]).await;
    let ghost = Ghost::of(&homeserver, &bob, &[&carol], None)?;
    look_again(&carol).await?;
    let commits = async || -> Result<usize> {
        Ok(alice.history(&room).await?.iter().filter(|event| is_commit(event)).count())
    };
    let before = commits().await?;
    let (heard, _listening) = listening(&carol).await?;
    carol.send_text(&room, "the ghost reads this").await?;
    assert!(is_member(&carol, &room, Ghost::DEVICE).await?, "for Carol it has every right");
    quiet(&[&alice, &bob, &carol]).await;
    let members = alice.members(&room).await?;
    let shown = members.iter().find(|member| member.device_id == Ghost::DEVICE);
    let verdict = shown.or_missing("ghost")?.verdict;
    assert_eq!(verdict, Verdict::UnknownDevice, "Alice sees it, until she sends");
    for round in 0..4 {
        for client in [&alice, &bob, &carol] {
            let text = format!("{} in round {round}", client.name());
            client.send_text(&room, &text).await?;
            assert!(!is_member(client, &room, Ghost::DEVICE).await?, "{text}");
            quiet(&[&alice, &bob, &carol]).await;
            for reader in [&alice, &bob, &carol] {
                assert!(texts(reader, &room).await.contains(&text), "{} {text}", reader.name());
            }
        }
    }
    heard.wait_for(|update| matches!(update, Update::AddUndone { .. })).await?;
    let made = commits().await? - before;
    assert!(made <= 6, "{made} commits");
    hidden.stop();
    ghost.stop();
    look_again(&carol).await?;
    assert!(carol.machine()?.user_identity(bob.user_id().to_owned()).await?.is_some());
    all_talk(&[&alice, &bob, &carol], &room).await;
    Ok(())
}
