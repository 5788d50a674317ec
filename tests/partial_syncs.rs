//! Syncs that tell a part: no members, members of the timeline only, gaps, connections that begin
//! anew, rooms that a connection does not follow. Nobody is removed and nothing is sealed before it
//! is known who is in the room.

use matrix_mls::{
    DeviceListChanges, FollowedRooms, MlsError, OutgoingRequest, RoomChanges, SendPlan,
    SyncChanges, SyncStart,
};
use matrix_mls_kit::{
    Client, ClientOptions, Homeserver, OrMissing as _, Refused as _, Result, SyncBy, Target, feed,
    news,
    together::{all_talk, log_in, newcomer, pair, phone_of, quiet, texts, two_phones},
};
use serde_json::{Value, json};

const SLIDING: SyncBy = SyncBy::Sliding { timeline_limit: 1 };

fn by(sync_by: SyncBy) -> ClientOptions {
    ClientOptions { sync_by, ..ClientOptions::default() }
}

/// Alice's phone, which syncs like this, and Bob's, in a room of hers.
async fn pair_by(homeserver: &Homeserver, sync_by: SyncBy) -> Result<(Client, Client, String)> {
    let alice = Client::register_with(homeserver, "alice", "PHONE", by(sync_by)).await?;
    alice.settle().await?;
    let bob = phone_of(homeserver, "bob").await?;
    let room = alice.create_group(&[&bob], Default::default()).await?;
    alice.send_text(&room, "first").await?;
    quiet(&[&alice, &bob]).await;
    Ok((alice, bob, room))
}

async fn users_in_group(client: &Client, room: &str) -> Result<Vec<String>> {
    let mut users: Vec<_> =
        client.members(room).await?.into_iter().map(|member| member.user_id).collect();
    users.sort();
    Ok(users)
}

/// Chatter that pushes what was before out of the next sync's timelines.
async fn chatter(client: &Client, room: &str) -> Result {
    for number in 0..3 {
        let content = json!({ "msgtype": "m.notice", "body": format!("notice {number}") });
        client.send_unencrypted(room, "m.room.message", content).await?;
    }
    Ok(())
}

/// The requests that a room needs before it can be sent to, the first of them.
async fn needs(client: &Client, room: &str) -> Result<Vec<OutgoingRequest>> {
    match client.room(room).await?.prepare_to_send().await? {
        SendPlan::Ready => Ok(Vec::new()),
        SendPlan::Waiting { requests, .. } => Ok(requests),
    }
}

fn events(response: &Value, path: &[&str], kinds: &[&str]) -> Vec<String> {
    let list = path.iter().fold(response, |value, name| &value[*name]);
    let events = list["events"].as_array().into_iter().flatten();
    events
        .filter(|event| event["type"].as_str().is_some_and(|kind| kinds.contains(&kind)))
        .map(Value::to_string)
        .collect()
}

/// Bob's machine gets what a sync without members gives: the Welcome, the encryption, the timeline.
async fn without_members(bob: &Client, room: &str, more: &[&str]) -> Result<SyncChanges> {
    let response = bob.http().get("/_matrix/client/v3/sync?timeout=0").await?;
    let to_device = response["to_device"]["events"].as_array().or_missing("to-device events")?;
    let kinds = [&["m.room.create", "m.room.encryption", "m.room.encrypted"], more].concat();
    let mut state_after = events(&response, &["rooms", "join", room, "state"], &kinds[..2]);
    let timeline = events(&response, &["rooms", "join", room, "timeline"], &kinds);
    state_after.extend(events(&response, &["rooms", "join", room, "timeline"], &kinds[..2]));
    let changes = RoomChanges { timeline, state_after, ..RoomChanges::default() };
    Ok(SyncChanges {
        to_device: to_device.iter().map(Value::to_string).collect(),
        rooms: vec![RoomChanges { room_id: room.to_owned(), ..changes }],
        ..SyncChanges::default()
    })
}

#[tokio::test]
async fn nobody_is_removed_because_no_member_was_told_of() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let room = alice.create_group(&[&bob], Default::default()).await?;
    alice.send_text(&room, "first").await?;
    let changes = without_members(&bob, &room, &[]).await?;
    bob.machine()?.receive_sync(changes).await?;
    assert_eq!(users_in_group(&bob, &room).await?.len(), 2);
    bob.prepare(&room).await?;
    assert_eq!(users_in_group(&bob, &room).await?, [alice.user_id(), bob.user_id()]);
    assert_eq!(bob.head(&room).await?.epoch, 2, "nothing but his own keys was to be renewed");
    Ok(())
}

#[tokio::test]
async fn members_of_the_timeline_are_not_all_members() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let room = alice.create_group(&[&bob], Default::default()).await?;
    let carol = newcomer(&homeserver, "carol", &alice, &room).await?;
    alice.settle().await?;
    alice.send_text(&room, "first").await?;
    let mut changes = without_members(&bob, &room, &["m.room.member"]).await?;
    for room in &mut changes.rooms {
        // Bob's own, and that of nobody else.
        room.timeline.retain(|event| {
            !event.contains("m.room.member") || event.contains(&format!("\"{}\"", bob.user_id()))
        });
    }
    bob.machine()?.receive_sync(changes).await?;
    bob.prepare(&room).await?;
    let all = [alice.user_id(), bob.user_id(), carol.user_id()];
    assert_eq!(users_in_group(&bob, &room).await?, all);
    Ok(())
}

/// A member leaves, another comes, and then so much happens that Alice's sync shows neither.
async fn a_gap_hides_who_came_and_went(homeserver: &Homeserver, sync_by: SyncBy) -> Result {
    let (alice, bob, room) = pair_by(homeserver, sync_by).await?;
    let carol = newcomer(homeserver, "carol", &alice, &room).await?;
    quiet(&[&alice, &bob, &carol]).await;
    alice.send_text(&room, "with carol").await?;
    quiet(&[&alice, &bob, &carol]).await;
    let dave = newcomer(homeserver, "dave", &bob, &room).await?;
    carol.leave(&room).await?;
    chatter(&bob, &room).await?;
    alice.sync().await?;
    let error = encrypt(&alice, &room).await.refused()?;
    assert!(matches!(error, MlsError::NotReady { .. }), "{error}");
    alice.send_text(&room, "among us").await?;
    let users = users_in_group(&alice, &room).await?;
    assert_eq!(users, [alice.user_id(), bob.user_id(), dave.user_id()]);
    quiet(&[&alice, &bob, &dave]).await;
    assert!(texts(&dave, &room).await.contains(&"among us".to_owned()));
    for event in alice.history(&room).await?.iter().rev().take(1) {
        let carols = carol.room(&room).await?.decrypt(event.to_string()).await;
        assert!(carols.is_err(), "she has left: {carols:?}");
    }
    all_talk(&[&alice, &bob, &dave], &room).await;
    Ok(())
}

async fn encrypt(client: &Client, room: &str) -> Result<String, MlsError> {
    let room = client.machine().expect("it is open").room(room.to_owned())?;
    room.encrypt("m.room.message".into(), "{}".into()).await
}

#[tokio::test]
async fn a_gap_of_a_sliding_sync_hides_nobody() -> Result {
    a_gap_hides_who_came_and_went(&Homeserver::embedded()?, SLIDING).await
}

#[tokio::test]
async fn a_gap_of_a_sync_with_lazy_members_hides_nobody() -> Result {
    let sync_by = SyncBy::LazyTokens { timeline_limit: 1, state_after: false };
    a_gap_hides_who_came_and_went(&Homeserver::embedded()?, sync_by).await
}

#[tokio::test]
async fn a_gap_of_a_sync_with_the_state_behind_it_hides_nobody() -> Result {
    let sync_by = SyncBy::LazyTokens { timeline_limit: 1, state_after: true };
    a_gap_hides_who_came_and_went(&Homeserver::embedded()?, sync_by).await
}

/// No sync shows that he was out, and nobody in the group has noticed.
async fn a_leave_in_a_gap_keeps_nobody_out(sync_by: SyncBy) -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let bob = Client::register_with(&homeserver, "bob", "PHONE", by(sync_by)).await?;
    let room = alice.create_group(&[&bob], Default::default()).await?;
    alice.send_text(&room, "first").await?;
    quiet(&[&alice, &bob]).await;
    bob.room(&room).await?.leave().await?;
    bob.leave(&room).await?;
    alice.invite(&room, bob.user_id()).await?;
    bob.join(&room).await?;
    chatter(&alice, &room).await?;
    bob.settle().await?;
    bob.send_text(&room, "back again").await?;
    alice.settle().await?;
    assert!(texts(&alice, &room).await.contains(&"back again".to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_leave_in_a_gap_of_a_sliding_sync_keeps_nobody_out() -> Result {
    a_leave_in_a_gap_keeps_nobody_out(SLIDING).await
}

#[tokio::test]
async fn a_leave_in_a_gap_of_a_sync_with_lazy_members_keeps_nobody_out() -> Result {
    let sync_by = SyncBy::LazyTokens { timeline_limit: 1, state_after: false };
    a_leave_in_a_gap_keeps_nobody_out(sync_by).await
}

#[tokio::test]
async fn a_gap_costs_a_page_and_not_the_list_of_all_members() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair_by(&homeserver, SLIDING).await?;
    alice.prepare(&room).await?;
    chatter(&bob, &room).await?;
    bob.send_text(&room, "second").await?;
    alice.sync().await?;
    let requests = needs(&alice, &room).await?;
    assert!(requests.len() == 1 && requests[0].path.contains("/messages"), "{requests:?}");
    alice.send_request(&requests[0]).await?;
    assert_eq!(needs(&alice, &room).await?.len(), 0, "the page had what was known");
    Ok(())
}

/// What has happened since, by a page, is that he was removed. No sync has told him yet.
#[tokio::test]
async fn whoever_learns_from_a_page_that_he_is_out_seals_nothing() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let bob = Client::register_with(&homeserver, "bob", "PHONE", by(SLIDING)).await?;
    let room = alice.create_group(&[&bob], Default::default()).await?;
    alice.send_text(&room, "first").await?;
    quiet(&[&alice, &bob]).await;
    bob.prepare(&room).await?;
    chatter(&alice, &room).await?;
    alice.send_text(&room, "second").await?;
    bob.sync().await?;
    alice.kick(&room, bob.user_id()).await?;
    let requests = needs(&bob, &room).await?;
    assert!(requests.len() == 1 && requests[0].path.contains("/messages"), "{requests:?}");
    bob.send_request(&requests[0]).await?;
    let error = bob.room(&room).await?.prepare_to_send().await.refused()?;
    assert!(matches!(&error, MlsError::NotReady { details } if details.code == "members_unknown"));
    assert!(encrypt(&bob, &room).await.is_err());
    bob.settle().await?;
    assert!(bob.room(&room).await?.prepare_to_send().await.is_err(), "a sync has told him");
    alice.invite(&room, bob.user_id()).await?;
    bob.join(&room).await?;
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

#[tokio::test]
async fn the_encryption_connection_may_begin_anew_at_each_start() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (mut alice, bob, room) = pair_by(&homeserver, SLIDING).await?;
    let laptop = log_in(&homeserver, "bob", "LAPTOP").await?;
    quiet(&[&alice, &bob, &laptop]).await;
    alice.send_text(&room, "with the laptop").await?;
    quiet(&[&alice, &bob, &laptop]).await;
    assert_eq!(alice.members(&room).await?.len(), 3);
    alice.close().await?;
    laptop.log_out().await?;
    let tablet = log_in(&homeserver, "bob", "TABLET").await?;
    alice.restart().await?;
    quiet(&[&alice, &bob, &tablet]).await;
    alice.send_text(&room, "with the tablet").await?;
    quiet(&[&alice, &bob, &tablet]).await;
    let mut devices: Vec<_> =
        alice.members(&room).await?.into_iter().map(|member| member.device_id).collect();
    devices.sort();
    assert_eq!(devices, ["PHONE", "PHONE", "TABLET"]);
    assert!(texts(&tablet, &room).await.contains(&"with the tablet".to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_lost_response_is_noticed() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let sync = |since: &str, next: &str, rooms| SyncChanges {
        start: SyncStart::After { since: since.into() },
        next_batch: next.into(),
        device_lists: Some(DeviceListChanges::default()),
        followed_rooms: FollowedRooms::All,
        rooms,
        ..SyncChanges::default()
    };
    let machine = alice.machine()?;
    // Settled on another connection of the app's.
    let of = |changes: SyncChanges| SyncChanges { connection: "rooms".into(), ..changes };
    machine.receive_sync(of(sync("1", "2", vec![news(&room, Vec::new())]))).await?;
    alice.prepare(&room).await?;
    for (since, next) in [("2", "3"), ("2", "3"), ("3", "4"), ("3", "5")] {
        machine.receive_sync(of(sync(since, next, Vec::new()))).await?;
        assert!(encrypt(&alice, &room).await.is_ok(), "{since} to {next} goes on");
    }
    machine.receive_sync(of(sync("4", "6", Vec::new()))).await?;
    let error = encrypt(&alice, &room).await.refused()?;
    assert!(matches!(error, MlsError::NotReady { .. }), "{error}");
    let paths: Vec<_> = machine.outgoing_requests().await?.into_iter().map(|r| r.path).collect();
    assert!(paths.iter().any(|path| path.ends_with("/keys/query")), "{paths:?}");
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

#[tokio::test]
async fn an_old_sync_that_is_fed_again_lets_nobody_in() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let history = alice.history(&room).await?;
    let joins = history.iter().filter(|event| {
        event["state_key"] == bob.user_id() && event["content"]["membership"] == "join"
    });
    let joins: Vec<String> = joins.map(Value::to_string).collect();
    assert_eq!(joins.len(), 1);
    alice.kick(&room, bob.user_id()).await?;
    quiet(&[&alice, &bob]).await;
    alice.send_text(&room, "without bob").await?;
    let machine = alice.machine()?;
    let sync = |since: &str, next: &str, timeline| SyncChanges {
        connection: "old".into(),
        start: SyncStart::After { since: since.into() },
        next_batch: next.into(),
        rooms: vec![news(&room, timeline)],
        ..feed()
    };
    machine.receive_sync(sync("1", "2", Vec::new())).await?;
    machine.receive_sync(sync("2", "3", Vec::new())).await?;
    alice.prepare(&room).await?;
    // The second is repeated, as after a crash; the first comes from long ago.
    for since in ["2", "1"] {
        machine.receive_sync(sync(since, "3", joins.clone())).await?;
        let error = encrypt(&alice, &room).await.refused()?;
        assert!(matches!(error, MlsError::NotReady { .. }), "{error}");
        alice.send_text(&room, "still without him").await?;
        assert_eq!(users_in_group(&alice, &room).await?, [alice.user_id()], "since {since}");
    }
    Ok(())
}

#[tokio::test]
async fn a_room_that_no_connection_follows_is_asked_about() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    assert!(encrypt(&alice, &room).await.is_ok());
    let unfollowed = SyncChanges {
        followed_rooms: FollowedRooms::Only { room_ids: vec!["!other:example.org".into()] },
        rooms: vec![news("!other:example.org", Vec::new())],
        ..feed()
    };
    // The only connection there is now follows another room.
    alice.machine()?.receive_sync(unfollowed).await?;
    let error = encrypt(&alice, &room).await.refused()?;
    assert!(matches!(error, MlsError::NotReady { .. }), "{error}");
    alice.send_text(&room, "asked").await?;
    bob.settle().await?;
    assert!(texts(&bob, &room).await.contains(&"asked".to_owned()));
    Ok(())
}

#[tokio::test]
async fn an_app_can_have_all_asked_for_again() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    alice.prepare(&room).await?;
    alice.room(&room).await?.doubt_members().await?;
    let requests = needs(&alice, &room).await?;
    assert!(requests.len() == 1 && requests[0].path.contains("/members"), "{requests:?}");
    alice.prepare(&room).await?;
    alice.machine()?.doubt_device_lists().await?;
    let requests = alice.machine()?.outgoing_requests().await?;
    assert!(requests.iter().any(|request| request.path.ends_with("/keys/query")), "{requests:?}");
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

#[tokio::test]
async fn a_number_of_members_that_differs_from_the_list_is_asked_about_once() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, _bob, room) = pair(&homeserver).await;
    alice.prepare(&room).await?;
    let claimed = |joined| SyncChanges {
        rooms: vec![RoomChanges { joined_count: Some(joined), ..news(&room, Vec::new()) }],
        connection: "counting".into(),
        ..feed()
    };
    let machine = alice.machine()?;
    // The connection's first sync goes on from nothing.
    machine.receive_sync(claimed(2)).await?;
    alice.prepare(&room).await?;
    machine.receive_sync(claimed(2)).await?;
    assert_eq!(needs(&alice, &room).await?.len(), 0);
    machine.receive_sync(claimed(7)).await?;
    let requests = needs(&alice, &room).await?;
    assert!(requests.len() == 1 && requests[0].path.contains("/members"), "{requests:?}");
    alice.prepare(&room).await?;
    machine.receive_sync(claimed(7)).await?;
    assert_eq!(needs(&alice, &room).await?.len(), 0, "the homeserver stands by its number");
    Ok(())
}

#[tokio::test]
async fn a_list_of_members_that_cannot_be_is_not_believed() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let member = |user: &str, content: Value| {
        json!({
            "type": "m.room.member", "state_key": user, "sender": user, "content": content,
            "event_id": "$made:up",
        })
    };
    let joined = json!({ "membership": "join" });
    let own = member(alice.user_id(), joined.clone());
    for chunk in [
        json!([]),
        json!([member(bob.user_id(), joined.clone())]),
        json!([member(alice.user_id(), json!({ "membership": "leave" }))]),
        json!([own, member(bob.user_id(), json!({ "membership": 3 }))]),
        json!([own, { "type": "m.room.member" }]),
        json!([own, null]),
    ] {
        alice.prepare(&room).await?;
        alice.room(&room).await?.doubt_members().await?;
        let requests = needs(&alice, &room).await?;
        let body = json!({ "chunk": chunk }).to_string().into_bytes();
        let machine = alice.machine()?;
        machine.mark_request_as_sent(requests[0].id.clone(), 200, body).await?;
        let error = alice.room(&room).await?.prepare_to_send().await.refused()?;
        assert!(
            matches!(&error, MlsError::NotReady { details } if details.code == "members_unknown")
        );
        assert!(encrypt(&alice, &room).await.is_err(), "{chunk}");
        assert_eq!(users_in_group(&alice, &room).await?.len(), 2, "{chunk}");
        // What the app knows of counts where the homeserver's number agrees, and it has given none.
        alice.room(&room).await?.set_members(vec![alice.user_id().into()]).await?;
        assert!(encrypt(&alice, &room).await.is_err(), "{chunk}");
        let said = SyncChanges {
            rooms: vec![RoomChanges { joined_count: Some(2), ..news(&room, Vec::new()) }],
            ..feed()
        };
        machine.receive_sync(said).await?;
        let both = vec![alice.user_id().to_owned(), bob.user_id().to_owned()];
        alice.room(&room).await?.set_members(both).await?;
    }
    for body in ["{}", "[]", "", r#"{"chunk":{}}"#] {
        alice.room(&room).await?.doubt_members().await?;
        let requests = needs(&alice, &room).await?;
        let machine = alice.machine()?;
        let id = requests[0].id.clone();
        machine.mark_request_as_sent(id.clone(), 200, body.into()).await?;
        assert!(encrypt(&alice, &room).await.is_err(), "{body}");
        alice.send_request(&requests[0]).await?;
    }
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

#[tokio::test]
async fn nothing_is_sent_where_the_homeserver_does_not_say_who_is_in_the_room() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    alice.room(&room).await?.doubt_members().await?;
    let controls = homeserver.controls().or_missing("controls")?;
    let fault = controls.fail(Target::path("/members"), u64::MAX, 403);
    let error = alice.send_text(&room, "to whom?").await.refused()?;
    assert!(error.to_string().contains("who is in the room"), "{error}");
    assert!(encrypt(&alice, &room).await.is_err());
    fault.stop();
    alice.room(&room).await?.set_members(vec![alice.user_id().into()]).await?;
    assert_eq!(users_in_group(&alice, &room).await?.len(), 2);
    bob.send_text(&room, "bob knows").await?;
    Ok(())
}

#[tokio::test]
async fn scrolling_back_changes_nobodys_membership() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    bob.leave(&room).await?;
    quiet(&[&alice, &bob]).await;
    alice.send_text(&room, "alone").await?;
    alice.invite(&room, bob.user_id()).await?;
    bob.join(&room).await?;
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    // From when he was out.
    let history = bob.history(&room).await?;
    let left = history.iter().position(|event| event["content"]["membership"] == "leave");
    let page = &history[..=left.or_missing("leave in the history")?];
    for client in [&alice, &bob] {
        let page = page.iter().map(Value::to_string).collect();
        client.room(&room).await?.receive_events(page).await?;
    }
    all_talk(&[&alice, &bob], &room).await;
    assert_eq!(users_in_group(&alice, &room).await?, [alice.user_id(), bob.user_id()]);
    Ok(())
}
