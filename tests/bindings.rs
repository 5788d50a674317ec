//! Devices beside Olm: their published keys stay as they are, and a binding in their leaves says
//! which MLS credential is theirs. And a homeserver, or somebody else, who makes bindings up.

use std::time::Duration;

use matrix_mls::{MemberPolicy, MlsError, RoomSettings, Update, Verdict};
use matrix_mls_kit::{
    Client, ClientOptions, Fault, Heard, Homeserver, OrMissing as _, Refused as _, Result, Target,
    cross_signing::CrossSigning,
    olm::{Olm, beside_olm, bound_phone, olm_phone},
    peer::{ALGORITHM, Peer, PeerBinding, base64, from_base64, new_signer},
    together::{all_talk, pair, phone_of, quiet, room_with, texts},
};
use serde_json::{Value, json};

/// What the homeserver has of a device.
async fn published(asker: &Client, device: &Client) -> Result<Value> {
    let request = json!({ "device_keys": { device.user_id(): [] } });
    let answer = asker.http().post("/_matrix/client/v3/keys/query", request).await?;
    Ok(answer["device_keys"][device.user_id()][device.device_id()].clone())
}

async fn cross_signed_phone(homeserver: &Homeserver, username: &str) -> Result<Client> {
    let policy = Some(MemberPolicy::CrossSigned);
    let options = ClientOptions { member_policy: policy, ..ClientOptions::default() };
    let phone = Client::register_with(homeserver, username, "PHONE", options).await?;
    phone.settle().await?;
    CrossSigning::bootstrap(&phone).await?;
    Ok(phone)
}

/// Bob has an Olm device that he has verified long ago. It becomes an MLS device without any act of
/// his, for people who let in nobody but devices that their owners have signed.
#[tokio::test]
async fn a_verified_olm_device_takes_part_and_what_it_published_stays() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = cross_signed_phone(&homeserver, "alice").await?;
    let (bob, olm) = olm_phone(&homeserver, "bob").await?;
    CrossSigning::bootstrap(&bob).await?;
    let before = published(&alice, &bob).await?;
    olm.bind(&bob).await?;
    bob.settle().await?;
    let room = room_with(&alice, &[&bob]).await?;
    assert!(
        texts(&bob, &room).await.contains(&"first".to_owned()),
        "it was there from the first on"
    );
    all_talk(&[&alice, &bob], &room).await;
    assert_eq!(published(&alice, &bob).await?, before);
    let members = alice.members(&room).await?;
    assert!(
        members.iter().all(|member| {
            matches!(member.verdict, Verdict::OwnerNotVerified | Verdict::Verified)
        }),
        "{members:?}"
    );
    Ok(())
}

/// Two people beside Olm make and use a room, and somebody without Olm comes to it.
#[tokio::test]
async fn people_beside_olm_make_rooms_and_take_in_others() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, _alices) = bound_phone(&homeserver, "alice").await?;
    let (bob, _bobs) = bound_phone(&homeserver, "bob").await?;
    let carol = phone_of(&homeserver, "carol").await?;
    alice.settle().await?;
    let room = room_with(&alice, &[&bob, &carol]).await?;
    all_talk(&[&alice, &bob, &carol], &room).await;
    // The bindings outlast the commits that renew leaves.
    for client in [&alice, &bob, &carol] {
        client.rotate_keys(&room).await?;
        client.send_text(&room, "in a new epoch").await?;
        quiet(&[&alice, &bob, &carol]).await;
    }
    let (dave, _daves) = bound_phone(&homeserver, "dave").await?;
    alice.invite(&room, dave.user_id()).await?;
    dave.join(&room).await?;
    quiet(&[&alice, &bob, &carol, &dave]).await;
    all_talk(&[&carol, &dave, &alice, &bob], &room).await;
    Ok(())
}

/// Bob's app gets MLS later than Alice's. His device joins by itself, and is taken by its leaf.
#[tokio::test]
async fn a_device_that_becomes_capable_joins_by_itself() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let (bob, olm) = olm_phone(&homeserver, "bob").await?;
    let carol = phone_of(&homeserver, "carol").await?;
    let room = room_with(&alice, &[&bob, &carol]).await?;
    assert!(!alice.has_member(&room, &bob).await?);
    let error = bob.prepare(&room).await.refused()?;
    assert!(
        matches!(error.of_engine(), Some(MlsError::NotReady { .. })),
        "without a binding it does nothing: {error}"
    );
    bob.settle().await?;
    assert_eq!(bob.machine()?.outgoing_requests().await?, []);

    olm.bind(&bob).await?;
    bob.settle().await?;
    bob.send_text(&room, "here I am").await?;
    quiet(&[&alice, &bob, &carol]).await;
    assert!(texts(&carol, &room).await.contains(&"here I am".to_owned()));
    all_talk(&[&alice, &bob, &carol], &room).await;
    assert!(alice.has_member(&room, &bob).await? && carol.has_member(&room, &bob).await?);
    Ok(())
}

/// A homeserver that does not answer whether Olm devices have key packages holds up nobody for
/// long.
#[tokio::test]
async fn a_question_without_an_answer_holds_up_nobody() -> Result {
    let homeserver = Homeserver::embedded()?;
    let controls = homeserver.controls().or_missing("controls")?;
    let alice = phone_of(&homeserver, "alice").await?;
    for status in [502, 403] {
        let (bob, _olm) = olm_phone(&homeserver, &format!("bob{status}")).await?;
        let fault = controls.fail(Target::path("/keys/claim"), u64::MAX, status);
        let room = alice.create_group(&[&bob], RoomSettings::default()).await?;
        let sent = tokio::time::timeout(Duration::from_secs(60), alice.send_text(&room, "hello"));
        sent.await??;
        assert!(fault.hits() > 0, "nobody asked");
        fault.stop();
        alice.machine()?.network_available().await?;
        alice.settle().await?;
    }
    Ok(())
}

/// A homeserver hands out this key package for a device, once asked.
fn hand_out(homeserver: &Homeserver, to: &Client, of: &Client, peer: &Peer) -> Result<Fault> {
    let controls = homeserver.controls().or_missing("controls")?;
    let (user, device) = (of.user_id().to_owned(), of.device_id().to_owned());
    let (id, package) = peer.published_key_package();
    Ok(controls.tamper(Target::path("/keys/claim").user(to.user_id()), move |answer| {
        answer["one_time_keys"][&user][&device] = json!({ &id: package });
    }))
}

/// The homeserver makes key packages up for a device that is listed, whose Ed25519 key it does not
/// have.
#[tokio::test]
async fn key_packages_that_the_device_has_not_bound_add_nobody() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let (carol, carols) = olm_phone(&homeserver, "carol").await?;
    let names = ["none", "other", "device", "user", "key", "short", "long", "self", "good"];
    for name in names {
        let (bob, olm) = olm_phone(&homeserver, &format!("bob{name}")).await?;
        let mut peer = Peer::new(bob.user_id(), bob.device_id());
        let key = peer.signer.public().to_vec();
        let bytes = match name {
            "none" => None,
            "other" => Some(Olm::new(bob.user_id(), bob.device_id()).binding(&key)?),
            "user" => Some(carols.binding(&key)?),
            "key" => Some(olm.binding(new_signer().public())?),
            "short" => Some(olm.binding(&key)?[..63].to_vec()),
            "long" => Some([olm.binding(&key)?, vec![0; 70_000]].concat()),
            // A binding of another of Bob's devices, by that one's key.
            "device" => Some(Olm::new(bob.user_id(), "TABLET").binding(&key)?),
            "self" => {
                let signer = from_base64(&olm.key());
                Some([signer.clone(), signer].concat())
            }
            _ => Some(olm.binding(&key)?),
        };
        peer.binding = bytes.map(|bytes| PeerBinding { bytes, is_listed: true });
        let fault = hand_out(&homeserver, &alice, &bob, &peer)?;
        let room = alice.create_group(&[&bob, &carol], RoomSettings::default()).await?;
        alice.send_text(&room, "for whom?").await?;
        assert!(fault.hits() > 0, "{name}: nobody asked");
        assert_eq!(alice.has_member(&room, &bob).await?, name == "good", "{name}");
        fault.stop();
    }
    Ok(())
}

/// The commit of somebody who joins by himself, as the homeserver has it from a client that shares
/// no code with ours.
async fn join_as(peer: &mut Peer, by: &Client, room: &str) -> Result<String> {
    let history = by.history(room).await?;
    let state = history.iter().rev().find_map(|event| {
        let content = &event["content"];
        content["public_group_state"].as_str().map(|info| (info.to_owned(), event.clone()))
    });
    let (info, base) = state.or_missing("public group state")?;
    let (_, commit) = peer.try_join_externally(&from_base64(&info))?;
    let content = json!({
        "algorithm": ALGORITHM,
        "ciphertext": base64(&commit),
        "commit_event": base["event_id"],
        "epoch_creator": base["content"]["sender"],
        "sender": [peer.user, peer.device],
        "public_group_state": base64(&peer.group_info()),
        "resolves": [],
    });
    Ok(by.send_unencrypted(room, "m.room.encrypted", content).await?)
}

/// Somebody joins in the name of an Olm device: without its binding nothing is sealed to that leaf.
/// With it the leaf is the device's, and a second key of the device's is refused.
#[tokio::test]
async fn a_leaf_in_an_olm_devices_name_counts_only_with_its_binding() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let (bob, olm) = olm_phone(&homeserver, "bob").await?;
    let room = room_with(&alice, &[&bob]).await?;
    let mut ghost = Peer::new(bob.user_id(), bob.device_id());
    join_as(&mut ghost, &bob, &room).await?;
    alice.settle().await?;
    alice.send_text(&room, "not for ghosts").await?;
    assert!(!alice.has_member(&room, &bob).await?);

    let mut honest = olm.peer()?;
    join_as(&mut honest, &bob, &room).await?;
    alice.settle().await?;
    alice.send_text(&room, "for Bob").await?;
    assert!(alice.has_member(&room, &bob).await?);
    // A second one of the very device: its store was lost, or its Ed25519 key was stolen.
    let mut second = olm.peer()?;
    join_as(&mut second, &bob, &room).await?;
    alice.settle().await?;
    alice.send_text(&room, "for the first").await?;
    let members = alice.members(&room).await?;
    let keys = members.iter().filter(|member| member.user_id == bob.user_id()).count();
    assert_eq!(keys, 1, "{members:?}");
    Ok(())
}

/// A leaf whose capabilities do not list its binding is none that MLS allows.
#[tokio::test]
async fn a_binding_that_the_capabilities_do_not_list_counts_for_nothing() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let (bob, olm) = olm_phone(&homeserver, "bob").await?;
    let room = room_with(&alice, &[&bob]).await?;
    let mut unlisted = olm.peer()?;
    if let Some(binding) = &mut unlisted.binding {
        binding.is_listed = false;
    }
    join_as(&mut unlisted, &bob, &room).await?;
    alice.settle().await?;
    alice.send_text(&room, "not for these").await?;
    assert!(!alice.has_member(&room, &bob).await?);
    Ok(())
}

/// The homeserver leaves a bound device out, and lists it again with another Ed25519 key.
#[tokio::test]
async fn a_bound_device_that_is_left_out_and_replaced_is_told_and_comes_back_as_it_was() -> Result {
    let homeserver = Homeserver::embedded()?;
    let controls = homeserver.controls().or_missing("controls")?;
    let alice = phone_of(&homeserver, "alice").await?;
    let (bob, _olm) = bound_phone(&homeserver, "bob").await?;
    let room = room_with(&alice, &[&bob]).await?;
    assert!(alice.has_member(&room, &bob).await?);
    let (heard, _subscription) = Heard::of(&alice).await?;
    let target = || Target::path("/keys/query").user(alice.user_id());
    let (user, device) = (bob.user_id().to_owned(), bob.device_id().to_owned());
    let swapped = Olm::new(&user, &device).device_keys()?;
    let omitted = {
        let (user, device) = (user.clone(), device.clone());
        controls.tamper(target(), move |answer| {
            if let Some(devices) = answer["device_keys"][&user].as_object_mut() {
                devices.remove(&device);
            }
        })
    };
    alice.look_again().await?;
    alice.send_text(&room, "without Bob").await?;
    assert!(!alice.has_member(&room, &bob).await?);
    omitted.stop();
    let replaced = {
        let (user, device) = (user.clone(), device.clone());
        controls.tamper(target(), move |answer| {
            if answer["device_keys"].get(&user).is_some() {
                answer["device_keys"][&user][&device] = swapped.clone();
            }
        })
    };
    alice.look_again().await?;
    heard
        .wait_for(|update| {
            matches!(update, Update::DeviceRejected { user_id, code, .. }
                if *user_id == user && code == "changed_keys")
        })
        .await?;
    alice.send_text(&room, "not for that key").await?;
    assert!(!alice.has_member(&room, &bob).await?);
    replaced.stop();
    alice.look_again().await?;
    quiet(&[&alice, &bob]).await;
    alice.send_text(&room, "for Bob again").await?;
    quiet(&[&alice, &bob]).await;
    assert!(alice.has_member(&room, &bob).await?);
    Ok(())
}

/// A binding is the device's word, and the owner's is another.
#[tokio::test]
async fn a_bound_device_that_its_owner_has_not_signed_is_left_out_by_policy() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = cross_signed_phone(&homeserver, "alice").await?;
    let (bob, _olm) = bound_phone(&homeserver, "bob").await?;
    let room = alice.create_group(&[&bob], RoomSettings::default()).await?;
    alice.send_text(&room, "not for Bob").await?;
    quiet(&[&alice, &bob]).await;
    assert!(!alice.has_member(&room, &bob).await?);
    CrossSigning::bootstrap(&bob).await?;
    quiet(&[&alice, &bob]).await;
    alice.send_text(&room, "for Bob").await?;
    quiet(&[&alice, &bob]).await;
    assert!(alice.has_member(&room, &bob).await?);
    assert!(texts(&bob, &room).await.contains(&"for Bob".to_owned()));
    Ok(())
}

/// A device that published its credential the old way is what it was, beside those with bindings.
#[tokio::test]
async fn a_device_that_published_its_credential_stays_valid() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let (carol, _olm) = bound_phone(&homeserver, "carol").await?;
    alice.invite(&room, carol.user_id()).await?;
    carol.join(&room).await?;
    quiet(&[&alice, &bob, &carol]).await;
    all_talk(&[&alice, &carol, &bob], &room).await;
    Ok(())
}

/// The binding is taken once, and survives a restart.
#[tokio::test]
async fn the_binding_is_asked_for_once() -> Result {
    let homeserver = Homeserver::embedded()?;
    let mut bob = Client::register_with(&homeserver, "bob", "PHONE", beside_olm()).await?;
    let olm = Olm::new(bob.user_id(), bob.device_id());
    // Before anything was sent, and before the Olm machine has published anything.
    let text = bob.machine()?.binding_to_sign().await?.or_missing("binding to sign")?;
    let wrong = Olm::new(bob.user_id(), bob.device_id()).sign(&text)?;
    let error = bob.machine()?.bind_device(olm.key(), wrong).await.refused()?;
    assert!(
        matches!(&error, MlsError::InvalidInput { details } if details.code == "bad_binding"),
        "{error}"
    );
    olm.bind(&bob).await?;
    bob.restart().await?;
    assert_eq!(bob.machine()?.binding_to_sign().await?, None);
    bob.machine()?.bind_device(olm.key(), olm.sign(&text)?).await?;
    olm.upload(bob.http()).await?;
    bob.settle().await?;
    let alone = phone_of(&homeserver, "alice").await?;
    assert_eq!(alone.machine()?.binding_to_sign().await?, None);
    let error = alone.machine()?.bind_device(olm.key(), olm.sign(&text)?).await.refused()?;
    assert!(matches!(error, MlsError::InvalidInput { .. }), "{error}");
    Ok(())
}
