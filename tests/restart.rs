//! Starting a room anew with another group: who may, what counts, and that nothing is lost by it.

use matrix_mls::{MlsError, RequestKind, RoomSettings, SendPlan, Update};
use matrix_mls_kit::{
    Client, Fields as _, Heard, Homeserver, KitError, OrMissing as _, Result, Target,
    other::{Other, group_of_three_with, join_path, name_of},
    peer::base64,
    together::{all_talk, head, log_in, newcomer, pair, phone_of, quiet, texts},
};
use serde_json::{Value, json};

const RESTART: &str = "org.matrix.msc2883.v1.dmls.restart";

/// The MLS group id of a restart with this number, which is below 128.
fn group_id(room: &str, number: u8) -> String {
    format!("{room}\0\0\0\0\0\0\0\0{}sixteen bytes...", char::from(number))
}

/// What the room's state says of restarts, as an event.
async fn state(client: &Client, room: &str) -> Result<Option<Value>> {
    let events = client.history(room).await?;
    Ok(events.into_iter().rev().find(|event| event["type"] == RESTART))
}

/// A state event that the homeserver has made up.
fn forged(by: &str, number: u64, announcement: &str) -> Value {
    json!({
        "type": RESTART, "state_key": "", "sender": by, "event_id": "$forged:embedded.test",
        "origin_server_ts": 1, "content": { "number": number, "announcement": announcement },
    })
}

/// The homeserver shows a client one more event of a room with its next sync.
async fn show(homeserver: &Homeserver, to: &Client, room: &str, event: Value) -> Result {
    let controls = homeserver.controls().or_missing("controls")?;
    let name = room.to_owned();
    let lie = controls.tamper(Target::path("/sync").user(to.user_id()), move |answer| {
        let shown = &mut answer["rooms"]["join"][&name]["timeline"]["events"];
        match shown.as_array_mut() {
            Some(events) => events.push(event.clone()),
            None => *shown = json!([event]),
        }
    });
    to.sync().await?;
    assert!(lie.hits() > 0);
    lie.stop();
    to.settle().await?;
    Ok(())
}

/// Every device reads these, in whatever order.
async fn all_read(clients: &[&Client], room: &str, said: &[&str]) {
    for client in clients {
        let read = texts(client, room).await;
        let missing: Vec<_> =
            said.iter().filter(|text| !read.contains(&text.to_string())).collect();
        assert!(missing.is_empty(), "{} does not read {missing:?}: {read:?}", client.name());
    }
}

/// Mallory, a member, removes a device; gives the event of the commit.
async fn remove(mallory: &mut Other, room: &str, who: &Client, on: (&Value, &str)) -> String {
    let commit = mallory.peer.remove(who.user_id(), who.device_id());
    let mut content = mallory.commit(&commit, on.0, on.1);
    content["public_group_state"] = json!(base64(&mallory.peer.group_info()));
    mallory.send(room, content).await
}

/// Nobody may join by himself, and Mallory throws everybody out: the room is dead for good. Its
/// admin removes her and starts it anew.
#[tokio::test]
async fn a_room_that_a_member_has_made_unusable_is_started_anew() -> Result {
    let homeserver = Homeserver::embedded()?;
    let settings = RoomSettings { allow_external_joins: false, ..RoomSettings::default() };
    let (mut alice, mut bob, mut mallory, room, at) =
        group_of_three_with(&homeserver, &settings).await?;
    let at = remove(&mut mallory, &room, &bob, (&name_of(&alice), &at)).await;
    let own = mallory.name();
    remove(&mut mallory, &room, &alice, (&own, &at)).await;
    quiet(&[&alice, &bob]).await;
    for client in [&alice, &bob] {
        let stuck = client.prepare(&room).await;
        let error = stuck.as_ref().err().and_then(KitError::of_engine);
        let is_stuck = matches!(error, Some(MlsError::NotInGroup { .. }));
        assert!(is_stuck, "{}: {stuck:?}", client.name());
    }

    alice.kick(&room, &mallory.peer.user).await?;
    quiet(&[&alice, &bob]).await;
    let (heard, _listening) = Heard::of(&bob).await?;
    alice.restart_group(&room).await?;
    quiet(&[&alice, &bob]).await;
    let by = heard.hear(|update| match update {
        Update::Restarted { room_id, by_user_id } => Some((room_id.clone(), by_user_id.clone())),
        _ => None,
    });
    assert_eq!(by.await?, (room.clone(), alice.user_id().to_owned()));
    all_talk(&[&alice, &bob], &room).await;
    for client in [&alice, &bob] {
        let members = client.members(&room).await?;
        assert!(members.iter().all(|member| member.user_id != mallory.peer.user), "{members:?}");
    }
    alice.restart().await?;
    bob.restart().await?;
    all_talk(&[&alice, &bob], &room).await;
    all_read(&[&alice, &bob], &room, &["first"]).await;

    // Who comes later comes into the new group, and what Mallory goes on with counts for nobody.
    let laptop = log_in(&homeserver, "bob", "LAPTOP").await?;
    laptop.set_settings(&room, settings).await?;
    quiet(&[&alice, &bob, &laptop]).await;
    all_talk(&[&alice, &bob, &laptop], &room).await;
    Ok(())
}

#[tokio::test]
async fn a_member_who_may_not_set_the_rooms_state_cannot() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    all_talk(&[&alice, &bob], &room).await;
    let before = head(&bob, &room).await;
    let (heard, _listening) = Heard::of(&bob).await?;
    bob.room(&room).await?.restart().await?;
    // A second call is none.
    bob.room(&room).await?.restart().await?;
    bob.settle().await?;
    let refused = heard.hear(|update| match update {
        Update::RequestRefused { kind: RequestKind::Restart, room_id, code, .. } => {
            Some((room_id.clone(), code.clone()))
        }
        _ => None,
    });
    assert_eq!(refused.await?, (Some(room.clone()), "M_FORBIDDEN".to_owned()));
    quiet(&[&alice, &bob]).await;
    assert_eq!(head(&bob, &room).await, before);
    all_talk(&[&alice, &bob], &room).await;
    all_read(&[&alice, &bob], &room, &["first"]).await;
    assert_eq!(state(&alice, &room).await?, None);
    // Who may, still can.
    alice.restart_group(&room).await?;
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

#[tokio::test]
async fn a_room_without_mls_has_nothing_to_start_anew() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let room = alice.create_room_from(json!({ "preset": "private_chat" })).await?;
    alice.settle().await?;
    let restarted = alice.room(&room).await?.restart().await;
    assert!(matches!(restarted, Err(MlsError::NotInGroup { .. })), "{restarted:?}");
    Ok(())
}

/// The homeserver shows Bob state events in Alice's name: with no announcement, with one of her own
/// that starts nothing, with one that another member made, and with that one in her name.
#[tokio::test]
async fn state_that_the_homeserver_forges_changes_nothing() -> Result {
    let homeserver = Homeserver::embedded()?;
    let controls = homeserver.controls().or_missing("controls")?;
    let (alice, bob, room) = pair(&homeserver).await;
    let mut mallory = Other::register(&homeserver, "mallory").await;
    alice.invite(&room, &mallory.peer.user).await?;
    mallory.http.post(&join_path(&room), json!({})).await?;
    quiet(&[&alice, &bob]).await;
    alice.send_text(&room, "second").await?;
    quiet(&[&alice, &bob]).await;
    let before = head(&bob, &room).await;
    let (heard, _listening) = Heard::of(&bob).await?;

    let history = bob.history(&room).await?;
    let first = history.iter().find(|event| event["content"]["public_group_state"].is_string());
    let first = first.or_missing("announcement")?.text("event_id")?.to_owned();
    mallory.make_own_group(&group_id(&room, 1), 0);
    let info = mallory.peer.group_info();
    let announced = mallory.send(&room, mallory.announcement(&info)).await;
    let mut in_her_name = mallory.announcement(&info);
    in_her_name["sender"] = name_of(&alice);
    let made_up = "$nowhere:embedded.test";
    for announcement in [&*first, &*announced, made_up] {
        for number in [1, 2, u64::MAX] {
            show(&homeserver, &bob, &room, forged(alice.user_id(), number, announcement)).await?;
            assert_eq!(head(&bob, &room).await, before, "{announcement}, {number}");
        }
    }
    // The homeserver goes as far as to show the announcement as hers.
    let (own, event_id) = (alice.user_id().to_owned(), "$forged-announcement:embedded.test");
    let lie = controls.tamper(Target::path("/event/").user(bob.user_id()), move |answer| {
        *answer = json!({
            "type": "m.room.encrypted", "sender": own, "event_id": event_id,
            "origin_server_ts": 1, "content": in_her_name,
        });
    });
    show(&homeserver, &bob, &room, forged(alice.user_id(), 1, event_id)).await?;
    bob.settle().await?;
    assert!(lie.hits() > 0, "nobody has looked at the announcement");
    lie.stop();
    assert_eq!(head(&bob, &room).await, before);
    let is_restarted = |update: &Update| matches!(update, Update::Restarted { .. });
    assert!(!heard.all().iter().any(is_restarted), "{:?}", heard.all());
    all_talk(&[&alice, &bob], &room).await;

    // What is true counts afterwards.
    alice.restart_group(&room).await?;
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    assert!(heard.all().iter().any(is_restarted), "{:?}", heard.all());
    Ok(())
}

#[tokio::test]
async fn an_older_restart_that_is_shown_again_changes_nothing() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let mut shown = Vec::new();
    for text in ["in the second group", "in the third group"] {
        alice.restart_group(&room).await?;
        alice.send_text(&room, text).await?;
        quiet(&[&alice, &bob]).await;
        shown.push(state(&alice, &room).await?.or_missing("state")?);
    }
    assert_eq!(shown[1]["content"]["number"], 2);
    assert_eq!(shown[1]["unsigned"]["replaces_state"].as_str(), shown[0]["event_id"].as_str());
    all_talk(&[&alice, &bob], &room).await;
    let before = head(&bob, &room).await;
    for event in [&shown[0], &shown[1], &shown[0]] {
        show(&homeserver, &bob, &room, event.clone()).await?;
        assert_eq!(head(&bob, &room).await, before);
        bob.room(&room).await?.receive_events(vec![event.to_string()]).await?;
        assert_eq!(head(&bob, &room).await, before);
    }
    all_talk(&[&alice, &bob], &room).await;
    let said = ["first", "in the second group", "in the third group"];
    all_read(&[&alice, &bob], &room, &said).await;
    Ok(())
}

/// Both start the room anew before they hear of each other. Alice goes as far as to say something
/// in hers; then the room's state names Bob's.
#[tokio::test]
async fn of_two_restarts_at_once_the_state_names_one_and_both_are_read() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let carol = newcomer(&homeserver, "carol", &alice, &room).await?;
    let all = [&alice, &bob, &carol];
    quiet(&all).await;
    all_talk(&all, &room).await;
    let levels = json!({ "users": { alice.user_id(): 100, bob.user_id(): 100 } });
    let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.power_levels/");
    alice.http().put(&path, levels).await?;
    quiet(&all).await;
    alice.room(&room).await?.restart().await?;
    bob.room(&room).await?.restart().await?;
    // Both announce, and have the state say it, one after the other.
    for client in [&alice, &bob] {
        client.prepare_one_step(&room).await?;
    }
    alice.prepare_one_step(&room).await?;
    alice.send_text(&room, "in Alice's").await?;
    carol.settle().await?;
    bob.prepare_one_step(&room).await?;
    bob.send_text(&room, "in Bob's").await?;
    quiet(&all).await;
    let named = state(&carol, &room).await?.or_missing("state")?;
    assert_eq!(named.text("sender")?, bob.user_id());
    all_talk(&all, &room).await;
    all_read(&all, &room, &["in Bob's", "in Alice's"]).await;
    all_read(&[&alice, &bob], &room, &["first"]).await;
    for client in all {
        let epochs = client.epochs(&room).await?;
        let head = epochs.iter().find(|epoch| epoch.is_head).or_missing("head")?;
        assert!(head.members == 3, "{}: {head:?}", client.name());
    }
    Ok(())
}

/// Bob is away, Alice starts the room anew and goes on with Carol; he comes back to where they are.
#[tokio::test]
async fn whoever_was_away_comes_into_the_new_group() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let carol = newcomer(&homeserver, "carol", &alice, &room).await?;
    quiet(&[&alice, &bob, &carol]).await;
    all_talk(&[&alice, &bob, &carol], &room).await;
    for round in 0..2 {
        alice.restart_group(&room).await?;
        quiet(&[&alice, &carol]).await;
        all_talk(&[&alice, &carol], &room).await;
        alice.send_text(&room, &format!("round {round}")).await?;
    }
    quiet(&[&alice, &bob, &carol]).await;
    all_talk(&[&alice, &bob, &carol], &room).await;
    all_read(&[&bob], &room, &["first", "round 0", "round 1"]).await;
    Ok(())
}

/// Alice's phone is gone as soon as the state names her group: the others come in by themselves.
#[tokio::test]
async fn the_others_come_in_though_the_one_who_started_is_gone() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let carol = newcomer(&homeserver, "carol", &alice, &room).await?;
    quiet(&[&alice, &bob, &carol]).await;
    all_talk(&[&alice, &bob, &carol], &room).await;
    let before = head(&bob, &room).await;
    alice.room(&room).await?.restart().await?;
    alice.drive().await?;
    quiet(&[&bob, &carol]).await;
    assert_eq!(head(&bob, &room).await, before, "nobody has let him in yet");
    let sealed = bob.room(&room).await?.encrypt("m.room.message".into(), "{}".into()).await;
    assert!(matches!(sealed, Err(MlsError::NotReady { .. })), "{sealed:?}");
    all_talk(&[&bob, &carol], &room).await;
    quiet(&[&alice, &bob, &carol]).await;
    all_talk(&[&alice, &bob, &carol], &room).await;
    all_read(&[&alice, &bob], &room, &["first"]).await;
    Ok(())
}

/// Alice's phone starts the room anew and is logged out while Bob is away; her tablet goes on.
async fn its_maker_is_gone(homeserver: &Homeserver) -> Result<(Client, Client, String)> {
    let (alice, bob, room) = pair(homeserver).await;
    let tablet = log_in(homeserver, "alice", "TABLET").await?;
    quiet(&[&alice, &bob, &tablet]).await;
    all_talk(&[&alice, &bob, &tablet], &room).await;
    alice.restart_group(&room).await?;
    quiet(&[&alice, &tablet]).await;
    all_talk(&[&alice, &tablet], &room).await;
    alice.log_out().await?;
    tablet.settle().await?;
    tablet.send_text(&room, "without the phone").await?;
    Ok((tablet, bob, room))
}

/// Alice's phone starts the room anew and is logged out. Bob, who was away, knows it from before.
/// His new laptop does not, and believes the room's state, as it is in no group.
#[tokio::test]
async fn a_new_device_believes_the_state_though_its_maker_is_gone() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (tablet, bob, room) = its_maker_is_gone(&homeserver).await?;
    let laptop = log_in(&homeserver, "bob", "LAPTOP").await?;
    laptop.join_externally(&room).await?;
    laptop.settle().await?;
    assert!(laptop.head(&room).await?.is_external);
    quiet(&[&tablet, &bob, &laptop]).await;
    all_talk(&[&tablet, &bob, &laptop], &room).await;
    all_read(&[&bob], &room, &["first"]).await;
    Ok(())
}

/// Alice's phone starts the room anew and is logged out while Bob is away. Nothing of it is in his
/// list of her devices when he comes back, so he believes the state as her tablet goes on in the
/// new group.
#[tokio::test]
async fn whoever_was_away_until_its_maker_is_gone_comes_into_the_new_group() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (tablet, bob, room) = its_maker_is_gone(&homeserver).await?;
    // Her devices are asked for before the announcement.
    bob.sync().await?;
    for request in bob.machine()?.outgoing_requests().await? {
        if request.path.contains("/keys/query") {
            bob.send_request(&request).await?;
        }
    }
    quiet(&[&bob, &tablet]).await;
    all_talk(&[&bob, &tablet], &room).await;
    assert_eq!(bob.members(&room).await?.len(), 2, "her tablet, and he");
    assert_eq!(head(&bob, &room).await, head(&tablet, &room).await);
    all_talk(&[&tablet, &bob], &room).await;
    all_read(&[&bob], &room, &["first", "without the phone"]).await;
    Ok(())
}

/// The app is killed before and after each request, and each first answer is lost.
#[tokio::test]
async fn an_app_that_is_killed_at_each_step_starts_the_room_anew_once() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (mut alice, bob, room) = pair(&homeserver).await;
    all_talk(&[&alice, &bob], &room).await;
    alice.room(&room).await?.restart().await?;
    for steps in 0.. {
        assert!(steps < 50, "it has no end");
        alice.crash().await?;
        let plan = alice.room(&room).await?.prepare_to_send().await?;
        let SendPlan::Waiting { requests, retry_after_ms } = plan else { break };
        for request in &requests {
            alice.transmit(request).await?;
            alice.crash().await?;
            alice.send_request(request).await?;
            alice.crash().await?;
        }
        if retry_after_ms.is_some() {
            alice.settle().await?;
        }
    }
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    all_read(&[&alice, &bob], &room, &["first"]).await;
    let events = bob.history(&room).await?;
    let restarts = events.iter().filter(|event| event["type"] == RESTART).count();
    assert_eq!(restarts, 1);
    Ok(())
}

/// No answer comes back at all: what the syncs show is as good.
#[tokio::test]
async fn what_a_sync_shows_is_as_good_as_an_answer() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    all_talk(&[&alice, &bob], &room).await;
    alice.forget_answers("/send/m.room.encrypted/", 1);
    alice.forget_answers(RESTART, 1);
    alice.room(&room).await?.restart().await?;
    alice.settle().await?;
    alice.prepare(&room).await?;
    quiet(&[&alice, &bob]).await;
    assert_eq!(head(&alice, &room).await, head(&bob, &room).await);
    all_talk(&[&alice, &bob], &room).await;
    assert!(state(&bob, &room).await?.is_some());
    Ok(())
}

/// Bob's syncs leave the state event out. What waits for the new group makes his device ask.
#[tokio::test]
async fn state_that_no_sync_shows_is_asked_for() -> Result {
    let homeserver = Homeserver::embedded()?;
    let controls = homeserver.controls().or_missing("controls")?;
    let (alice, bob, room) = pair(&homeserver).await;
    let name = room.clone();
    let gap = controls.tamper(Target::path("/sync").user(bob.user_id()), move |answer| {
        for part in ["state", "timeline"] {
            let part = answer.pointer_mut(&format!("/rooms/join/{name}/{part}/events"));
            if let Some(events) = part.and_then(Value::as_array_mut) {
                events.retain(|event| event["type"] != RESTART);
            }
        }
    });
    alice.restart_group(&room).await?;
    alice.send_text(&room, "in the new group").await?;
    quiet(&[&alice, &bob]).await;
    assert!(gap.hits() > 0);
    all_talk(&[&alice, &bob], &room).await;
    all_read(&[&bob], &room, &["first", "in the new group"]).await;
    let asked = controls.requests();
    let asked =
        asked.iter().filter(|request| request.method == "GET" && request.path.contains(RESTART));
    assert_eq!(asked.count(), 1, "the homeserver is asked once");
    Ok(())
}
