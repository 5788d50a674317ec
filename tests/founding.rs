//! Groups that are founded with all their members at once: one announcement, of epoch 1.

use matrix_mls::{RoomSettings, SendPlan};
use matrix_mls_kit::{
    Client, Homeserver, OrMissing as _, Result, Target, crowd, is_commit,
    other::{Other, join_path},
    together::{all_talk, head, log_in, newcomer, phone_of, quiet, texts},
};
use serde_json::{Value, json};

/// A Matrix room of Alice's with Bob's phone, the devices of plain OpenMLS, and no group yet.
async fn room_of(
    homeserver: &Homeserver,
    devices: usize,
) -> Result<(Client, Client, Vec<crowd::Offline>, String)> {
    let alice = phone_of(homeserver, "alice").await?;
    let bob = phone_of(homeserver, "bob").await?;
    let room = alice.create_room(&[&bob]).await?;
    bob.join(&room).await?;
    let crowd = crowd::register(homeserver, "crowd", devices - 2).await?;
    crowd::enter_room(&alice, &room, &crowd).await?;
    alice.settle().await?;
    Ok((alice, bob, crowd, room))
}

fn is_announcement(event: &Value) -> bool {
    event["content"]["ciphertext"] == ""
}

/// Alice's first message in the room is read by all, and there is one event with a public group
/// state.
async fn founded(alice: &Client, bob: &Client, crowd: &mut [crowd::Offline], room: &str) -> Result {
    let told = alice.commits(room).await?;
    assert_eq!(told.len(), 1, "one event tells of the group: {told:?}");
    assert!(told.iter().all(is_announcement));
    let first = alice.head(room).await?;
    assert_eq!((first.epoch, first.parent.clone()), (1, None));
    assert_eq!(first.creator_user_id, alice.user_id());
    bob.settle().await?;
    bob.settle().await?;
    assert_eq!(head(bob, room).await, first.id, "it is the same epoch for who came by a Welcome");
    assert_eq!(texts(bob, room).await, ["to all of you"]);
    let events = alice.history(room).await?;
    let message = events.iter().rev().find(|event| !is_commit(event)).or_missing("message")?;
    for device in crowd {
        device.join_group().await?;
        assert_eq!(device.read(message).as_deref(), Some("to all of you"));
    }
    Ok(())
}

async fn whole_life(devices: usize) -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, mut crowd, room) = room_of(&homeserver, devices).await?;
    alice.enable(&room, RoomSettings::default()).await?;
    assert!(alice.commits(&room).await?.is_empty());
    alice.send_text(&room, "to all of you").await?;
    assert_eq!(alice.members(&room).await?.len(), devices);
    let welcomed = crowd.len().min(20);
    let some = crowd.get_mut(..welcomed).or_missing("devices")?;
    founded(&alice, &bob, some, &room).await?;

    // Nobody but the announcement lets a laptop in.
    let laptop = log_in(&homeserver, "bob", "LAPTOP").await?;
    laptop.join_externally(&room).await?;
    laptop.settle().await?;
    laptop.send_text(&room, "by myself").await?;
    quiet(&[&alice, &bob]).await;
    for client in [&alice, &bob] {
        assert!(texts(client, &room).await.contains(&"by myself".to_owned()));
        assert_eq!(client.head(&room).await?.epoch, 2);
    }

    // What comes after is as in any room: adds, removals, renewed keys.
    let carol = newcomer(&homeserver, "carol", &alice, &room).await?;
    alice.rotate_keys(&room).await?;
    alice.send_text(&room, "with carol").await?;
    quiet(&[&alice, &bob, &carol, &laptop]).await;
    all_talk(&[&alice, &bob, &carol, &laptop], &room).await;
    let leaving = crowd.first().or_missing("device")?.peer.user.clone();
    alice.kick(&room, &leaving).await?;
    alice.settle().await?;
    alice.send_text(&room, "without them").await?;
    let gone = alice.members(&room).await?.iter().all(|member| member.user_id != leaving);
    assert!(gone, "rule 3 holds");
    Ok(())
}

#[tokio::test]
async fn a_room_is_founded_with_all_at_once() -> Result {
    whole_life(20).await
}

/// Its ratchet tree is in the media repository.
#[tokio::test]
async fn a_large_room_is_founded_with_all_at_once() -> Result {
    whole_life(260).await
}

/// Who founds a group and has nothing to say lets the others speak.
#[tokio::test]
async fn nobody_waits_for_the_founder_to_say_something() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, _crowd, room) = room_of(&homeserver, 20).await?;
    alice.enable(&room, RoomSettings::default()).await?;
    quiet(&[&alice, &bob]).await;
    assert_eq!(alice.head(&room).await?.epoch, 1);
    assert_eq!(head(&bob, &room).await, head(&alice, &room).await);
    bob.send_text(&room, "may I").await?;
    alice.settle().await?;
    assert_eq!(texts(&alice, &room).await, ["may I"]);
    Ok(())
}

/// Few devices make a group of one and a commit, as always.
#[tokio::test]
async fn a_small_room_begins_with_a_group_of_one() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, _crowd, room) = room_of(&homeserver, 6).await?;
    alice.enable(&room, RoomSettings::default()).await?;
    alice.send_text(&room, "to all of you").await?;
    bob.settle().await?;
    assert_eq!(texts(&bob, &room).await, ["to all of you"]);
    assert_eq!(alice.commits(&room).await?.len(), 2);
    assert_eq!(alice.head(&room).await?.epoch, 1);
    assert!(alice.head(&room).await?.parent.is_some());
    Ok(())
}

/// Whose key packages are not to be had comes later; the group does not wait.
#[tokio::test]
async fn devices_without_a_key_package_hold_up_no_founding() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, _crowd, room) = room_of(&homeserver, 24).await?;
    let controls = homeserver.controls().or_missing("controls")?;
    let fault = controls.tamper(Target::path("/keys/claim").user(alice.user_id()), |answer| {
        if let Some(users) = answer["one_time_keys"].as_object_mut() {
            for devices in users.values_mut() {
                if let Some(devices) = devices.as_object_mut() {
                    devices.retain(|device, _| !device.ends_with('3'));
                    let of_d4 = devices.get_mut("D4").and_then(Value::as_object_mut);
                    for key in of_d4.into_iter().flat_map(|keys| keys.values_mut()) {
                        *key = json!("AAAA");
                    }
                }
            }
        }
    });
    alice.enable(&room, RoomSettings::default()).await?;
    alice.send_text(&room, "to those who can be had").await?;
    assert!(fault.hits() > 0);
    fault.stop();
    let members = alice.members(&room).await?;
    assert_eq!(members.len(), 24 - 3, "D3, D4 and D13 are left alone");
    assert_eq!(alice.commits(&room).await?.len(), 1);
    quiet(&[&alice, &bob]).await;
    assert_eq!(texts(&bob, &room).await, ["to those who can be had"]);
    Ok(())
}

/// Two devices that make the group at once come together, and read each other.
#[tokio::test]
async fn two_founders_at_once_end_in_one_group() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, mut crowd, room) = room_of(&homeserver, 20).await?;
    bob.settle().await?;
    // Each device has one key package only, so the second founder gets those of the library alone.
    for client in [&alice, &bob] {
        client.enable(&room, RoomSettings::default()).await?;
    }
    alice.prepare(&room).await?;
    bob.prepare(&room).await?;
    quiet(&[&alice, &bob]).await;
    alice.send_text(&room, "here is alice").await?;
    quiet(&[&alice, &bob]).await;
    bob.send_text(&room, "here is bob").await?;
    quiet(&[&alice, &bob]).await;
    assert_eq!(head(&alice, &room).await, head(&bob, &room).await);
    all_talk(&[&alice, &bob], &room).await;
    let last = crowd.last_mut().or_missing("device")?;
    last.join_group().await?;
    Ok(())
}

/// Somebody else's group that becomes known ends a founding: its device joins that one.
#[tokio::test]
async fn a_founding_ends_where_somebody_has_made_the_group() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, _crowd, room) = room_of(&homeserver, 20).await?;
    bob.settle().await?;
    alice.enable(&room, RoomSettings::default()).await?;
    // Alice has asked for device lists, and gets no further.
    assert!(!alice.prepare_one_step(&room).await?);
    bob.enable(&room, RoomSettings::default()).await?;
    bob.send_text(&room, "in mine").await?;
    bob.settle().await?;
    alice.sync().await?;
    quiet(&[&alice, &bob]).await;
    alice.send_text(&room, "in yours").await?;
    quiet(&[&alice, &bob]).await;
    assert_eq!(head(&alice, &room).await, head(&bob, &room).await);
    assert_eq!(texts(&alice, &room).await, ["in mine", "in yours"]);
    assert!(
        alice
            .commits(&room)
            .await?
            .iter()
            .all(|event| { !is_announcement(event) || event["sender"] == bob.user_id() })
    );
    Ok(())
}

/// A founder that stops at any step, and starts again, makes one group. What it has sent before it
/// sends again to the byte.
#[tokio::test]
async fn a_founder_that_crashes_between_two_steps_goes_on() -> Result {
    for steps in 0..8 {
        let homeserver = Homeserver::embedded()?;
        let (mut alice, bob, mut crowd, room) = room_of(&homeserver, 160).await?;
        alice.enable(&room, RoomSettings::default()).await?;
        for _ in 0..steps {
            // The request reaches the homeserver, and its answer never comes back. A claim that is
            // answered takes the one key package that a device of the crowd has, so it gets lost.
            let plan = alice.room(&room).await?.prepare_to_send().await?;
            let SendPlan::Waiting { requests, .. } = plan else { break };
            let request = requests.first().or_missing("request")?;
            if !request.path.contains("/keys/claim") {
                alice.transmit(request).await?;
            }
            alice.crash().await?;
            let again = alice.room(&room).await?.prepare_to_send().await?;
            let SendPlan::Waiting { requests, .. } = again else { break };
            let same = requests.iter().find(|again| again.path == request.path);
            let same = same.or_missing("request that is sent again")?;
            assert_eq!(same.body, request.body);
            alice.send_request(same).await?;
        }
        alice.send_text(&room, "to all of you").await?;
        // Welcomes that were handed out before are sent again with all else.
        alice.settle().await?;
        assert_eq!(alice.members(&room).await?.len(), 160, "after {steps} steps");
        let some = crowd.get_mut(..3).or_missing("devices")?;
        founded(&alice, &bob, some, &room).await?;
        if steps == 7 {
            quiet(&[&alice, &bob]).await;
            all_talk(&[&alice, &bob], &room).await;
        }
    }
    Ok(())
}

/// The homeserver refuses the announcement: there is no group, and the next call makes one.
#[tokio::test]
async fn a_refused_founding_leaves_nothing() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, _crowd, room) = room_of(&homeserver, 20).await?;
    let controls = homeserver.controls().or_missing("controls")?;
    let target = Target::path("/send/m.room.encrypted/").user(alice.user_id());
    let fault = controls.fail(target, 1, 403);
    alice.enable(&room, RoomSettings::default()).await?;
    quiet(&[&alice, &bob]).await;
    assert!(fault.hits() > 0);
    fault.stop();
    assert!(alice.epochs(&room).await?.is_empty());
    assert!(alice.commits(&room).await?.is_empty());
    bob.enable(&room, RoomSettings::default()).await?;
    bob.send_text(&room, "then I do it").await?;
    quiet(&[&alice, &bob]).await;
    assert_eq!(head(&alice, &room).await, head(&bob, &room).await);
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// An announcement of epoch 1 is as good as one of epoch 0, and no higher number is.
#[tokio::test]
async fn an_announcement_of_a_higher_epoch_than_1_counts_for_nothing() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let room = alice.create_room(&[]).await?;
    let mut mallory = Other::register(&homeserver, "mallory").await;
    alice.invite(&room, &mallory.peer.user).await?;
    mallory.http.post(&join_path(&room), json!({})).await?;
    alice.settle().await?;
    alice.enable(&room, RoomSettings::default()).await?;
    alice.settle().await?;
    let own = head(&alice, &room).await;
    mallory.make_own_group(&room, 2);
    let state = mallory.peer.group_info();
    mallory.send(&room, mallory.announcement(&state)).await;
    alice.settle().await?;
    assert_eq!(head(&alice, &room).await, own);
    // A laptop finds Alice's announcement, though its number is lower.
    let laptop = log_in(&homeserver, "alice", "LAPTOP").await?;
    laptop.join_externally(&room).await?;
    laptop.settle().await?;
    quiet(&[&alice, &laptop]).await;
    all_talk(&[&alice, &laptop], &room).await;
    Ok(())
}
