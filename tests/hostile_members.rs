//! What a member of the room can do with a client of its own: commits that do not apply, public
//! group states that lie, forged claims, chains without an end. Each costs the others a bounded
//! amount of work, and the room goes on.

use matrix_mls::{EventOutcome, MlsError, Update};
use matrix_mls_kit::{
    Heard, Homeserver, OrMissing as _, Result,
    other::{Other, group_of_three as group, name_of},
    peer::base64,
    together::{all_talk, head, log_in, phone_of, quiet},
};
use serde_json::{Value, json};

/// The public group state of the epoch that Mallory is in.
fn state(mallory: &mut Other) -> String {
    base64(&mallory.peer.group_info())
}

#[tokio::test]
async fn commits_that_apply_nowhere_make_nobody_leave_the_head() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, mut mallory, room, base) = group(&homeserver).await?;
    let before = head(&alice, &room).await;
    let (mut on, mut creator) = (base, name_of(&alice));
    // Each with a public group state that is right in itself, a chain of them.
    for _ in 0..5 {
        let mut commit = mallory.peer.update();
        let end = commit.len() - 1;
        commit[end] ^= 1;
        let mut content = mallory.commit(&commit, &creator, &on);
        content["public_group_state"] = json!(state(&mut mallory));
        on = mallory.send(&room, content).await;
        creator = mallory.name();
        quiet(&[&alice, &bob]).await;
        for client in [&alice, &bob] {
            assert_eq!(head(client, &room).await, before);
        }
    }
    // Nor does it help to speak there.
    let content = mallory.message(b"{}", &creator, &on);
    mallory.send(&room, content).await;
    all_talk(&[&alice, &bob], &room).await;
    let after = alice.head(&room).await?;
    assert_eq!(after.parent, Some(before), "nothing but the keys that Bob came with was renewed");
    assert_eq!(after.creator_user_id, bob.user_id());
    Ok(())
}

/// A commit that names the event of another epoch, of another number or of the same, is followed
/// where it was made: the keys decide.
#[tokio::test]
async fn a_commit_that_names_another_epoch_is_followed_where_it_was_made() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, mut mallory, room, base) = group(&homeserver).await?;
    let first = alice.commits(&room).await?[0]["event_id"].clone();
    let first = first.as_str().or_missing("event id")?;
    // On the head, and as if on the announcement.
    let commit = mallory.peer.update();
    let mut spoilt = commit.clone();
    let end = spoilt.len() - 1;
    spoilt[end] ^= 1;
    let content = mallory.commit(&commit, &name_of(&alice), first);
    mallory.send(&room, content).await;
    quiet(&[&alice, &bob]).await;
    let moved = alice.head(&room).await?;
    assert_eq!(moved.creator_user_id, mallory.peer.user);
    assert_eq!(head(&bob, &room).await, moved.id);

    // On the head, and as if on a commit that leads nowhere.
    let content = mallory.commit(&spoilt, &name_of(&alice), &base);
    let hopeless = mallory.send(&room, content).await;
    quiet(&[&alice, &bob]).await;
    let commit = mallory.peer.update();
    let content = mallory.commit(&commit, &mallory.name(), &hopeless);
    mallory.send(&room, content).await;
    quiet(&[&alice, &bob]).await;
    let moved = alice.head(&room).await?;
    assert_eq!(moved.epoch, mallory.peer.group().epoch().as_u64());
    assert_eq!(head(&bob, &room).await, moved.id);

    // Alice commits at the same time: two epochs of one number. Mallory goes on from hers, and says
    // that it is from Alice's.
    let on = moved.commit_event.or_missing("event of the commit")?;
    alice.rotate_keys(&room).await?;
    alice.prepare(&room).await?;
    let of_alice = alice.head(&room).await?.commit_event.or_missing("event of the commit")?;
    let content = mallory.renewal(&mallory.name(), &on);
    mallory.send(&room, content).await;
    let commit = mallory.peer.update();
    let content = mallory.commit(&commit, &name_of(&alice), &of_alice);
    mallory.send(&room, content).await;
    quiet(&[&alice, &bob]).await;
    let number = mallory.peer.group().epoch().as_u64();
    for client in [&alice, &bob] {
        let epochs = client.epochs(&room).await?;
        let own = epochs.iter().find(|epoch| epoch.epoch == number);
        let own = own.or_missing("the epoch that Mallory is in")?;
        assert_eq!(own.creator_user_id, mallory.peer.user);
        assert!(!epochs.iter().any(|epoch| epoch.is_external), "{epochs:?}");
    }
    assert_ne!(base, on);
    Ok(())
}

#[tokio::test]
async fn a_public_group_state_that_lies_costs_a_newcomer_one_epoch() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, mut mallory, room, base) = group(&homeserver).await?;
    // A good commit, and the state of another epoch beside it.
    let stale = state(&mut mallory);
    let commit = mallory.peer.update();
    let mut content = mallory.commit(&commit, &name_of(&alice), &base);
    content["public_group_state"] = json!(stale);
    mallory.send(&room, content).await;
    quiet(&[&alice, &bob]).await;
    let laptop = log_in(&homeserver, "bob", "LAPTOP").await?;
    laptop.join_externally(&room).await?;
    quiet(&[&laptop, &alice, &bob]).await;
    alice.send_text(&room, "to all of you").await?;
    quiet(&[&laptop, &alice, &bob]).await;
    all_talk(&[&alice, &bob, &laptop], &room).await;
    Ok(())
}

#[tokio::test]
async fn forged_claims_in_a_good_commit_change_nothing() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, mut mallory, room, base) = group(&homeserver).await?;
    let commit = mallory.peer.update();
    let mut content = mallory.commit(&commit, &json!(["@nobody:example.org", "X"]), &base);
    content["public_group_state"] = json!(state(&mut mallory));
    content["resolves"] =
        json!([["1", name_of(&alice)], ["99999999999999999999999", name_of(&bob)]]);
    mallory.send(&room, content).await;
    quiet(&[&alice, &bob]).await;
    let moved = alice.head(&room).await?;
    assert_eq!(moved.creator_user_id, mallory.peer.user);
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// All devices have to take the same commits. So what a commit says beside itself is no reason to
/// refuse it.
#[tokio::test]
async fn hints_that_are_missing_or_say_nothing_keep_nobody_from_following() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, mut mallory, room, base) = group(&homeserver).await?;
    let (mut on, mut creator) = (base, name_of(&alice));
    let nowhere = json!({ "url": "nowhere", "size": 1, "sha256": "" });
    for (field, value) in [
        ("resolves", None),
        ("resolves", Some(json!([["no number", creator.clone()]]))),
        ("commit_event", None),
        ("commit_event", Some(json!("no event id"))),
        ("public_group_state", Some(json!("no base64"))),
        ("public_group_state", Some(json!("AAAA"))),
        ("public_group_state", Some(nowhere.clone())),
        ("ratchet_tree", Some(nowhere)),
        ("ratchet_tree", Some(Value::Null)),
        ("tree_difference", Some(json!(7))),
        ("a_field_of_nobodys", Some(json!([{}]))),
    ] {
        let mut content = mallory.renewal(&creator, &on);
        let fields = content.as_object_mut().or_missing("a content")?;
        match &value {
            Some(value) => drop(fields.insert(field.to_owned(), value.clone())),
            None => drop(fields.remove(field)),
        }
        on = mallory.send(&room, content).await;
        creator = mallory.name();
        quiet(&[&alice, &bob]).await;
        for client in [&alice, &bob] {
            let head = client.head(&room).await?;
            assert_eq!(head.commit_event.as_ref(), Some(&on), "{field}: {value:?}");
        }
    }
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// Mallory adds a device of somebody who is not in the room: the commit is followed, the app is
/// told, and the next message is not sealed to that device.
#[tokio::test]
async fn a_stranger_whom_a_member_adds_is_told_and_removed() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, mut mallory, room, base) = group(&homeserver).await?;
    let eve = phone_of(&homeserver, "eve").await?;
    let (heard, _watching) = Heard::of(&alice).await?;
    let package = mallory.claim(&eve).await?;
    let (commit, _) = mallory.peer.add(&[package]);
    let mut content = mallory.commit(&commit, &name_of(&alice), &base);
    content["public_group_state"] = json!(state(&mut mallory));
    mallory.send(&room, content).await;
    quiet(&[&alice, &bob]).await;
    let is_told = |update: &Update| matches!(update, Update::UnfitCommit { .. });
    heard.wait_for(is_told).await?;
    for client in [&alice, &bob] {
        client.send_text(&room, "for us alone").await?;
        let members = client.members(&room).await?;
        assert!(members.iter().all(|member| member.user_id != eve.user_id()), "{members:?}");
        quiet(&[&alice, &bob]).await;
    }
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// Mallory announces a group of her own and commits there: nobody asks the homeserver for the
/// announcement, which everybody has, again and again.
#[tokio::test]
async fn a_group_of_a_members_own_is_not_asked_for() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, mut mallory, room, _) = group(&homeserver).await?;
    let controls = homeserver.controls().or_missing("controls")?;
    mallory.make_own_group(&room, 0);
    let state = mallory.peer.group_info();
    let mut on = mallory.send(&room, mallory.announcement(&state)).await;
    let announcement = on.clone();
    let creator = mallory.name();
    controls.clear_requests();
    for _ in 0..3 {
        let content = mallory.renewal(&creator, &on);
        on = mallory.send(&room, content).await;
        quiet(&[&alice, &bob]).await;
    }
    let made = controls.requests();
    let asked = made.iter().filter(|made| made.path.contains(&announcement[1..])).count();
    assert_eq!(asked, 0, "{made:#?}");
    let searched = made.iter().filter(|made| made.path.contains("/messages")).count();
    assert_eq!(searched, 0, "{made:#?}");
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// Answers every request for an event with a commit on yet another one, until there are no more.
#[tokio::test]
async fn a_chain_of_bases_without_an_end_is_followed_a_bounded_way() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, mut mallory, room, _) = group(&homeserver).await?;
    // On an epoch that nobody else is in, or it would be followed where it was made.
    mallory.peer.update();
    let commit = mallory.peer.update();
    let state = state(&mut mallory);
    let event = |id: &str, base: &str| {
        let mut content = mallory.commit(&commit, &name_of(&alice), base);
        content["epoch_creator"] = json!(["@nobody:example.org", "X"]);
        content["public_group_state"] = json!(state);
        json!({
            "type": "m.room.encrypted", "event_id": id, "sender": mallory.peer.user,
            "content": content,
        })
    };
    let machine = alice.machine()?.clone();
    let handle = alice.room(&room).await?;
    let first = event("$chain:example.org", "$chain-0:example.org").to_string();
    let result = handle.receive_events(vec![first]).await?.remove(0);
    assert!(
        matches!(&result.outcome, EventOutcome::Waiting { error: MlsError::UnknownEpoch { .. } }),
        "{result:?}"
    );
    // The homeserver plays along: each event that is asked for exists, each page has the next one
    // and says that there are more.
    let (mut single, mut paged) = (0, 0);
    for link in 0..1_000 {
        let requests = machine.outgoing_requests().await?;
        let wanted = |part: &str| requests.iter().find(|request| request.path.contains(part));
        let next = event(
            &format!("$chain-{link}:example.org"),
            &format!("$chain-{}:example.org", link + 1),
        );
        let (request, answer) = if let Some(fetch) = wanted("/event/") {
            single += 1;
            (fetch, next)
        } else if let Some(place) = wanted("/context/") {
            (place, json!({ "end": "to-begin-with", "events_after": [] }))
        } else if let Some(page) = wanted("/messages") {
            paged += 1;
            (
                page,
                json!({ "start": link.to_string(), "end": format!("to-{link}"), "chunk": [next] }),
            )
        } else {
            break;
        };
        let answer = answer.to_string().into_bytes();
        machine.mark_request_as_sent(request.id.clone(), 200, answer).await?;
    }
    assert!(single == 8 && (200..260).contains(&paged), "{single} events, {paged} pages");
    // The chain leads nowhere and is told as that, the room goes on.
    let results = handle.receive_events(Vec::new()).await?;
    assert!(results.iter().all(|result| matches!(result.outcome, EventOutcome::Failed { .. })));
    // Her state at its end is that of an epoch that exists, if only Mallory is in it: Alice goes
    // there, as she has to where a server has lost a commit. Who does not see why follows her, and
    // from then on all is well.
    alice.send_text(&room, "where is everybody?").await?;
    quiet(&[&alice, &bob]).await;
    bob.send_text(&room, "here").await?;
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    assert!(handle.epochs().await?.len() < 10);
    Ok(())
}
