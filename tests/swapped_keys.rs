//! Keys that a homeserver or a member puts in the place of a device's own. The first key of a
//! device counts for good: another is refused aloud, nothing is sealed to it, and what it seals is
//! not read.

use std::sync::Arc;

use matrix_mls::{EventOutcome, MlsError, Update, UpdateSubscription, Verdict};
use matrix_mls_kit::{
    Client, Fault, Heard, Homeserver, OrMissing as _, Refused as _, Result, Target,
    other::{Other, group_of_three, name_of},
    peer::{ALGORITHM, Peer, base64},
    together::{all_talk, log_in, pair, phone_of, quiet, texts},
};
use serde_json::{Value, json};

/// What a homeserver tells one device about another: keys of the homeserver's own.
struct Swap {
    faults: [Fault; 2],
}

impl Swap {
    fn of(homeserver: &Homeserver, device: &Client, told_to: &Client) -> Result<Self> {
        let ghost = Peer::new(device.user_id(), device.device_id());
        let (id, package) = ghost.published_key_package();
        let listed = json!({ device.device_id(): ghost.device_keys() });
        let handed = json!({ device.device_id(): { id: package } });
        let query = lie(homeserver, told_to, "/keys/query", "device_keys", device, listed)?;
        let claim = lie(homeserver, told_to, "/keys/claim", "one_time_keys", device, handed)?;
        Ok(Self { faults: [query, claim] })
    }

    fn stop(self) {
        self.faults.iter().for_each(Fault::stop);
    }
}

/// From now on, answers to one device say this about a user.
fn lie(
    homeserver: &Homeserver,
    told_to: &Client,
    path: &str,
    field: &'static str,
    about: &Client,
    claim: Value,
) -> Result<Fault> {
    let user = about.user_id().to_owned();
    let target = Target::path(path).user(told_to.user_id());
    let controls = homeserver.controls().or_missing("controls")?;
    Ok(controls.tamper(target, move |answer| {
        if answer[field].get(&user).is_some() {
            answer[field][&user] = claim.clone();
        }
    }))
}

/// The homeserver lists no device of somebody.
fn leave_out(homeserver: &Homeserver, told_to: &Client, about: &Client) -> Result<Fault> {
    lie(homeserver, told_to, "/keys/query", "device_keys", about, json!({}))
}

/// It does so once, and the next answer is honest.
async fn leave_out_once(homeserver: &Homeserver, told_to: &Client, about: &Client) -> Result {
    let left_out = leave_out(homeserver, told_to, about)?;
    told_to.look_again().await?;
    left_out.stop();
    Ok(())
}

fn says_changed(about: &Client) -> impl Fn(&Update) -> bool {
    let (user, device) = (about.user_id().to_owned(), about.device_id().to_owned());
    move |update| {
        matches!(update, Update::DeviceRejected { user_id, device_id, code, .. }
            if *user_id == user && *device_id == device && code == "changed_keys")
    }
}

/// Alice is told of the other key, sends without Bob's phone, and with it once the homeserver is
/// honest again.
async fn is_refused_aloud(
    alice: &Client,
    bob: &Client,
    room: &str,
    swap: Swap,
    heard: &Heard,
) -> Result {
    alice.look_again().await?;
    heard.wait_for(says_changed(bob)).await?;
    alice.send_text(room, "not for the homeserver").await?;
    assert!(!alice.has_member(room, bob).await?, "no key of the phone's is in the group");
    swap.stop();
    alice.look_again().await?;
    quiet(&[alice, bob]).await;
    all_talk(&[alice, bob], room).await;
    assert!(alice.has_member(room, bob).await?);
    Ok(())
}

async fn listening(client: &Client) -> Result<(Arc<Heard>, Arc<UpdateSubscription>)> {
    Heard::of(client).await
}

#[tokio::test]
async fn a_key_that_is_swapped_at_once_is_refused_aloud() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let (heard, _listening) = listening(&alice).await?;
    let swap = Swap::of(&homeserver, &bob, &alice)?;
    is_refused_aloud(&alice, &bob, &room, swap, &heard).await
}

#[tokio::test]
async fn a_key_the_homeserver_swaps_is_not_taken_in_silence() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let (heard, _listening) = listening(&alice).await?;
    leave_out_once(&homeserver, &alice, &bob).await?;
    let swap = Swap::of(&homeserver, &bob, &alice)?;
    is_refused_aloud(&alice, &bob, &room, swap, &heard).await
}

#[tokio::test]
async fn a_device_that_was_sent_without_is_not_swapped_either() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let (heard, _listening) = listening(&alice).await?;
    let left_out = leave_out(&homeserver, &alice, &bob)?;
    alice.look_again().await?;
    alice.send_text(&room, "without Bob").await?;
    assert!(!alice.has_member(&room, &bob).await?);
    left_out.stop();
    let swap = Swap::of(&homeserver, &bob, &alice)?;
    is_refused_aloud(&alice, &bob, &room, swap, &heard).await
}

#[tokio::test]
async fn a_key_is_remembered_over_a_restart() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (mut alice, bob, room) = pair(&homeserver).await;
    leave_out_once(&homeserver, &alice, &bob).await?;
    alice.restart().await?;
    let (heard, _listening) = listening(&alice).await?;
    let swap = Swap::of(&homeserver, &bob, &alice)?;
    is_refused_aloud(&alice, &bob, &room, swap, &heard).await
}

/// Bob leaves the only room, so Alice follows his devices no longer. He comes back with the
/// homeserver's key.
#[tokio::test]
async fn a_key_is_remembered_while_nobody_follows_its_user() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let (heard, _listening) = listening(&alice).await?;
    leave_out_once(&homeserver, &alice, &bob).await?;
    bob.leave(&room).await?;
    quiet(&[&alice, &bob]).await;
    alice.send_text(&room, "alone").await?;
    let swap = Swap::of(&homeserver, &bob, &alice)?;
    alice.invite(&room, bob.user_id()).await?;
    bob.join(&room).await?;
    quiet(&[&alice, &bob]).await;
    is_refused_aloud(&alice, &bob, &room, swap, &heard).await
}

/// The homeserver lists the true keys, and hands out a key package of its own for them.
#[tokio::test]
async fn a_key_package_of_another_key_adds_nobody() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let laptop = log_in(&homeserver, "bob", "LAPTOP").await?;
    let ghost = Peer::new(laptop.user_id(), laptop.device_id());
    let controls = homeserver.controls().or_missing("controls")?;
    let (user, device) = (laptop.user_id().to_owned(), laptop.device_id().to_owned());
    let target = Target::path("/keys/claim").user(alice.user_id());
    let swap = controls.tamper(target, move |answer| {
        if answer["one_time_keys"][&user].get(&device).is_some() {
            // Another each time, as if there were no end of them.
            let (id, package) = ghost.published_key_package();
            answer["one_time_keys"][&user][&device] = json!({ id: package });
        }
    });
    let (heard, _listening) = listening(&alice).await?;
    alice.settle().await?;
    alice.send_text(&room, "for bob's phone alone").await?;
    assert!(swap.hits() > 0, "a key package was asked for");
    assert!(!alice.has_member(&room, &laptop).await?);
    let unreachable = |update: &Update| matches!(update, Update::DeviceUnreachable { device_id, .. } if device_id == "LAPTOP");
    heard.wait_for(unreachable).await?;
    swap.stop();
    quiet(&[&alice, &bob]).await;
    bob.send_text(&room, "my laptop as well").await?;
    quiet(&[&alice, &bob, &laptop]).await;
    all_talk(&[&alice, &bob, &laptop], &room).await;
    Ok(())
}

/// Mallory commits an add of a device that she made under somebody's name, as a ghost that is in
/// the group then; the commit's event.
async fn add_ghost(
    mallory: &mut Other,
    ghost: &mut Peer,
    room: &str,
    on: (&Value, &str),
) -> Result<String> {
    let package = ghost.key_package();
    let (commit, welcome) = mallory.peer.add(&[package]);
    let mut content = mallory.commit(&commit, on.0, on.1);
    content["public_group_state"] = json!(base64(&mallory.peer.group_info()));
    ghost.join(&welcome);
    Ok(mallory.send(room, content).await)
}

/// Bob's laptop is left out of the lists, and Mallory adds it with a key of her own. The commit is
/// followed and told, and the next message is not sealed to that key.
#[tokio::test]
async fn a_member_who_adds_a_known_device_with_another_key_is_told() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, mut mallory, room, base) = group_of_three(&homeserver).await?;
    let laptop = log_in(&homeserver, "bob", "LAPTOP").await?;
    alice.look_again().await?;
    bob.look_again().await?;
    laptop.log_out().await?;
    alice.look_again().await?;
    bob.look_again().await?;
    let mut ghost = Peer::new(bob.user_id(), "LAPTOP");
    let (heard, _listening) = listening(&alice).await?;
    add_ghost(&mut mallory, &mut ghost, &room, (&name_of(&alice), &base)).await?;
    quiet(&[&alice, &bob]).await;
    let doubts = heard
        .hear(|update| match update {
            Update::UnfitCommit { doubts, .. } => Some(doubts.clone()),
            _ => None,
        })
        .await?;
    assert!(doubts[0].contains("LAPTOP with a key that is not"), "{doubts:?}");
    let is_there = async |client: &Client| -> Result<bool> {
        Ok(client.members(&room).await?.iter().any(|member| member.device_id == "LAPTOP"))
    };
    assert!(is_there(&alice).await? && is_there(&bob).await?, "both follow, and show it");
    bob.send_text(&room, "not for the ghost").await?;
    assert!(!is_there(&bob).await?, "removed before anything is sealed");
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// Mallory adds a laptop of Bob's before anybody has heard of it, and speaks with it. When Bob's
/// own laptop shows up, what she said under its name is refused, and what it says itself is read.
#[tokio::test]
async fn messages_of_a_key_that_conflicts_are_refused() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, mut mallory, room, base) = group_of_three(&homeserver).await?;
    let mut ghost = Peer::new(bob.user_id(), "LAPTOP");
    let event = add_ghost(&mut mallory, &mut ghost, &room, (&name_of(&alice), &base)).await?;
    quiet(&[&alice]).await;
    let say = |ghost: &mut Peer, text: &str, id: &str| {
        let plaintext = json!({
            "type": "m.room.message", "room_id": room,
            "content": { "msgtype": "m.text", "body": text },
        });
        let content = json!({
            "algorithm": ALGORITHM, "ciphertext": base64(&ghost.seal(plaintext.to_string().as_bytes())),
            "epoch_creator": mallory.name(), "commit_event": event,
        });
        json!({
            "type": "m.room.encrypted", "event_id": id, "sender": bob.user_id(),
            "content": content,
        })
        .to_string()
    };
    let handle = alice.room(&room).await?;
    let first = handle.decrypt(say(&mut ghost, "it is me", "$one:example.org")).await?;
    assert_eq!(first.verdict, Verdict::UnknownDevice, "no list has named the laptop");

    let laptop = log_in(&homeserver, "bob", "LAPTOP").await?;
    alice.look_again().await?;
    let members = alice.members(&room).await?;
    let told = members.iter().find(|member| member.device_id == "LAPTOP").or_missing("laptop")?;
    assert_eq!(told.verdict, Verdict::Conflicting);
    let error = handle.decrypt(say(&mut ghost, "still me", "$two:example.org")).await.refused()?;
    let is_conflict = |error: &MlsError| matches!(error, MlsError::Rejected { details } if details.code == "conflicting_credential");
    assert!(is_conflict(&error), "{error:?}");
    let result = handle.receive_events(vec![say(&mut ghost, "me", "$three:example.org")]).await?;
    assert!(
        matches!(&result[0].outcome, EventOutcome::Failed { error } if is_conflict(error)),
        "{result:?}"
    );

    // Alice removes the impostor and adds the laptop.
    alice.send_text(&room, "to the true laptop").await?;
    quiet(&[&alice, &bob, &laptop]).await;
    all_talk(&[&alice, &bob, &laptop], &room).await;
    assert!(texts(&laptop, &room).await.contains(&"to the true laptop".to_owned()));
    Ok(())
}

/// Alice is told another first key of Carol's phone than Bob is. Neither seals to the key that is
/// not the first for it, each reads the other, and the room goes on when the lie is over.
#[tokio::test]
async fn two_who_are_told_two_keys_still_have_a_room() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let carol = phone_of(&homeserver, "carol").await?;
    let swap = Swap::of(&homeserver, &carol, &alice)?;
    alice.invite(&room, carol.user_id()).await?;
    carol.join(&room).await?;
    quiet(&[&alice, &bob]).await;
    bob.send_text(&room, "Carol is here").await?;
    assert!(bob.has_member(&room, &carol).await?);
    quiet(&[&alice, &bob, &carol]).await;
    let mut said = vec!["Carol is here".to_owned()];
    for round in 0..4 {
        for client in [&alice, &bob] {
            let text = format!("{} in round {round}", client.name());
            client.send_text(&room, &text).await?;
            for member in client.members(&room).await? {
                assert_ne!(member.verdict, Verdict::Conflicting, "sealed to {member:?}");
            }
            said.push(text);
            quiet(&[&alice, &bob, &carol]).await;
        }
    }
    swap.stop();
    let (heard, _listening) = listening(&alice).await?;
    alice.look_again().await?;
    heard.wait_for(says_changed(&carol)).await?;
    said.push("in the end".to_owned());
    alice.send_text(&room, "in the end").await?;
    quiet(&[&alice, &bob, &carol]).await;
    for client in [&alice, &bob] {
        let read = texts(client, &room).await;
        let missed: Vec<_> = said.iter().filter(|text| !read.contains(text)).collect();
        assert!(missed.is_empty(), "{} does not read {missed:?}", client.name());
    }
    let commits = alice.commits(&room).await?.len();
    assert!(commits < 30, "{commits} commits");

    // Carol logs in anew: her new phone has one key for everybody.
    carol.log_out().await?;
    let carol = log_in(&homeserver, "carol", "NEW").await?;
    quiet(&[&alice, &bob, &carol]).await;
    all_talk(&[&alice, &bob, &carol], &room).await;
    Ok(())
}
