//! Rooms of which syncs show the timeline and nothing of the state: the app has kept its sync's
//! position from the time before it had this library.

use matrix_mls::{MlsError, RequestOutcome, RoomChanges, SyncChanges, ToDeviceResult};
use matrix_mls_kit::{
    Client, Homeserver, OrMissing as _, Result, Target, bail,
    other::Other,
    together::{all_talk, phone_of, quiet, texts, two_phones},
};
use serde_json::{Value, json};

/// What the next sync has for a client, without any state of the room.
async fn without_state(client: &Client, room: &str) -> Result<SyncChanges> {
    let response = client.http().get("/_matrix/client/v3/sync?timeout=0").await?;
    let list = |value: &Value| -> Vec<String> {
        value["events"].as_array().into_iter().flatten().map(Value::to_string).collect()
    };
    let mut timeline = list(&response["rooms"]["join"][room]["timeline"]);
    timeline.retain(|event| !event.contains("state_key"));
    let changes = RoomChanges { room_id: room.to_owned(), timeline, ..RoomChanges::default() };
    Ok(SyncChanges {
        to_device: list(&response["to_device"]),
        rooms: vec![changes],
        ..SyncChanges::default()
    })
}

/// How often the encryption of a room is asked for by what is to be sent now.
async fn asked(client: &Client) -> Result<usize> {
    let requests = client.machine()?.outgoing_requests().await?;
    let is_asking = |path: &str| path.contains("/state/m.room.");
    Ok(requests.iter().filter(|request| is_asking(&request.path)).count())
}

/// Alice's group with Bob, of which Bob's machine gets all but the state.
async fn unshown(homeserver: &Homeserver) -> Result<(Client, Client, String, SyncChanges)> {
    let (alice, bob) = two_phones(homeserver).await?;
    let room = alice.create_group(&[&bob], Default::default()).await?;
    alice.send_text(&room, "first").await?;
    let changes = without_state(&bob, &room).await?;
    Ok((alice, bob, room, changes))
}

fn waits_for_the_room(result: Option<&ToDeviceResult>) -> bool {
    matches!(result, Some(ToDeviceResult::Waiting { error }) if error.code() == "no_room_yet")
}

#[tokio::test]
async fn the_homeserver_is_asked_whether_the_room_uses_mls() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room, changes) = unshown(&homeserver).await?;
    let summary = bob.machine()?.receive_sync(changes).await?;
    assert!(waits_for_the_room(summary.to_device.first()), "{summary:?}");
    assert_eq!(asked(&bob).await?, 1);
    bob.drive().await?;
    assert_eq!(bob.members(&room).await?.len(), 2);
    assert!(texts(&bob, &room).await.contains(&"first".to_owned()));
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// The Welcome comes by a sync that shows no room yet, as a connection for encryption alone does.
#[tokio::test]
async fn a_welcome_may_come_before_the_room_is_shown() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room, mut changes) = unshown(&homeserver).await?;
    let rooms = std::mem::take(&mut changes.rooms);
    bob.machine()?.receive_sync(changes).await?;
    assert_eq!(asked(&bob).await?, 0, "nothing shows that there is such a room");
    bob.machine()?.receive_sync(SyncChanges { rooms, ..SyncChanges::default() }).await?;
    bob.drive().await?;
    assert_eq!(bob.members(&room).await?.len(), 2);
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// The Welcome is lost: what is said in the room is reason enough to ask, and Bob joins by himself.
#[tokio::test]
async fn what_is_said_there_is_a_reason_to_ask() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room, mut changes) = unshown(&homeserver).await?;
    changes.to_device.clear();
    bob.machine()?.receive_sync(changes).await?;
    assert_eq!(asked(&bob).await?, 1);
    bob.drive().await?;
    bob.join_externally(&room).await?;
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

#[tokio::test]
async fn a_stranger_makes_an_unencrypted_room_ask_once_and_no_mls_room() -> Result {
    let homeserver = Homeserver::embedded()?;
    let bob = phone_of(&homeserver, "bob").await?;
    let carol = phone_of(&homeserver, "carol").await?;
    let request = json!({ "preset": "private_chat", "invite": [bob.user_id()] });
    let room = carol.create_room_from(request).await?;
    bob.join(&room).await?;
    let mut mallory = Other::register(&homeserver, "mallory").await;
    mallory.make_own_group(&room, 0);
    let content = mallory.welcome_to(&bob, &room, "$made-up:embedded.test").await?;
    let welcome =
        json!({ "type": "m.room.encrypted", "sender": mallory.peer.user, "content": content });
    for _ in 0..3 {
        let room_id = room.clone();
        let changes = RoomChanges { room_id, timeline: vec![notice()], ..RoomChanges::default() };
        let to_device = vec![welcome.to_string()];
        let sync = SyncChanges { to_device, rooms: vec![changes], ..SyncChanges::default() };
        bob.machine()?.receive_sync(sync).await?;
    }
    assert_eq!(asked(&bob).await?, 1);
    assert_eq!(
        bob.drive().await?.refused.len(),
        1,
        "its creation is there, and says nothing of it"
    );
    assert_eq!(asked(&bob).await?, 0);
    is_outside(&bob, &room).await
}

#[tokio::test]
async fn a_room_that_uses_megolm_lets_nobody_in() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (_alice, bob, room, changes) = unshown(&homeserver).await?;
    let controls = homeserver.controls().or_missing("controls")?;
    let target = Target::path("/state/m.room.create").user(bob.user_id());
    let megolm = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
    let lie = controls.tamper(target, move |answer| answer["encryption"] = megolm.clone());
    bob.machine()?.receive_sync(changes).await?;
    bob.drive().await?;
    assert_eq!(lie.hits(), 1);
    is_outside(&bob, &room).await
}

#[tokio::test]
async fn an_answer_that_is_none_is_asked_for_again() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (_alice, bob, room, changes) = unshown(&homeserver).await?;
    bob.machine()?.receive_sync(changes).await?;
    let machine = bob.machine()?;
    let requests = machine.outgoing_requests().await?;
    let asking = requests.into_iter().find(|request| request.path.contains("m.room.encryption"));
    let asking = asking.or_missing("the question")?;
    let outcome = machine.mark_request_as_sent(asking.id, 200, b"[7]".to_vec()).await?;
    assert!(matches!(outcome, RequestOutcome::RetryLater { .. }), "{outcome:?}");
    is_outside(&bob, &room).await?;
    machine.network_available().await?;
    bob.drive().await?;
    assert_eq!(bob.members(&room).await?.len(), 2);
    Ok(())
}

async fn is_outside(client: &Client, room: &str) -> Result {
    match client.room(room).await?.members().await {
        Err(MlsError::NotInGroup { .. }) => Ok(()),
        Err(error) if error.code() == "other_algorithm" => Ok(()),
        other => bail!("{other:?}"),
    }
}

fn notice() -> String {
    json!({
        "type": "m.room.message", "event_id": "$notice:embedded.test", "sender": "@carol:embedded.test",
        "content": { "msgtype": "m.notice", "body": "hello" },
    })
    .to_string()
}
