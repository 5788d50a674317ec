//! A new room says from its first event on that it is encrypted, so that every client sees that;
//! and a user who may not say so later is told before anything has changed.

use matrix_mls::{MlsError, RoomSettings, create_room_body};
use matrix_mls_kit::{
    Client, Homeserver, OrMissing as _, Refused as _, Result,
    together::{all_talk, phone_of, quiet, two_phones},
};
use serde_json::{Value, json};

async fn state_of(client: &Client, room: &str) -> Result<Vec<Value>> {
    let path = format!("/_matrix/client/v3/rooms/{room}/state");
    let state = client.http().get(&path).await?;
    Ok(state.as_array().or_missing("state")?.clone())
}

#[tokio::test]
async fn the_body_makes_a_room_that_every_client_sees_as_encrypted() -> Result {
    is_seen_as_encrypted(&Homeserver::embedded()?).await
}

#[tokio::test]
async fn so_it_is_on_synapse() -> Result {
    is_seen_as_encrypted(&*Homeserver::shared_synapse().await?).await
}

async fn is_seen_as_encrypted(homeserver: &Homeserver) -> Result {
    let alice = phone_of(homeserver, "alice-new-rooms").await?;
    let bob = phone_of(homeserver, "bob-new-rooms").await?;
    let request = json!({ "preset": "private_chat", "invite": [bob.user_id()] });
    let body: Value = serde_json::from_str(&create_room_body(request.to_string())?)?;
    let room = alice.create_room_from(body).await?;
    bob.join(&room).await?;
    quiet(&[&alice, &bob]).await;
    for client in [&alice, &bob] {
        let state = state_of(client, &room).await?;
        let said = state.iter().find(|event| event["type"] == "m.room.encryption");
        let said = said.or_missing("m.room.encryption")?;
        let created = state.iter().find(|event| event["type"] == "m.room.create");
        let created = created.or_missing("m.room.create")?;
        let algorithm = said["content"]["algorithm"].as_str().or_missing("an algorithm")?;
        assert_eq!(created["content"]["encryption"]["algorithm"], algorithm);
        assert!(algorithm.contains("mls"), "{algorithm}");
        assert!(client.room(&room).await?.is_enabled().await?);
    }
    alice.enable(&room, RoomSettings::default()).await?;
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    let state = state_of(&alice, &room).await?;
    let said = state.iter().filter(|event| event["type"] == "m.room.encryption").count();
    assert_eq!(said, 1);
    Ok(())
}

#[test]
fn what_the_app_asks_for_stays_and_other_encryption_does_not() -> Result {
    let request = json!({
        "name": "a room",
        "initial_state": [
            { "type": "m.room.topic", "content": { "topic": "t" } },
            { "type": "m.room.encryption", "content": { "algorithm": "m.megolm.v1.aes-sha2" } },
        ],
        "creation_content": { "m.federate": false, "encryption": { "algorithm": "other" } },
    });
    let body: Value = serde_json::from_str(&create_room_body(request.to_string())?)?;
    assert_eq!(body["name"], "a room");
    assert_eq!(body["creation_content"]["m.federate"], false);
    let state = body["initial_state"].as_array().or_missing("initial_state")?;
    let types: Vec<_> = state.iter().map(|event| event["type"].as_str()).collect();
    assert_eq!(types, [Some("m.room.topic"), Some("m.room.encryption")]);
    assert!(!body.to_string().contains("megolm") && !body.to_string().contains("other"), "{body}");
    for bad in ["", "[]", "7", "null", r#"{"initial_state":{}}"#, r#"{"creation_content":[]}"#] {
        let error = create_room_body(bad.to_owned()).refused()?;
        assert_eq!(error.code(), "bad_content", "{bad}: {error}");
    }
    // Nothing inside has to be an event.
    create_room_body(r#"{"initial_state":[7,null,"x",{}]}"#.to_owned())?;
    Ok(())
}

#[tokio::test]
async fn who_may_not_set_the_encryption_is_told_before_anything_changes() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let plain = json!({ "preset": "private_chat", "invite": [bob.user_id()] });
    let room = alice.create_room_from(plain).await?;
    bob.join(&room).await?;
    quiet(&[&alice, &bob]).await;
    let handle = bob.room(&room).await?;
    let error = handle.enable(RoomSettings::default()).await.refused()?;
    assert!(matches!(error, MlsError::InvalidInput { .. }), "{error}");
    assert_eq!(error.code(), "no_power");
    assert!(error.reason().contains("have an admin enable it") && !error.retryable(), "{error}");
    assert!(!handle.is_enabled().await?);
    assert!(bob.machine()?.outgoing_requests().await?.is_empty());
    let error = handle.prepare_to_send().await.refused()?;
    assert_eq!(error.code(), "not_enabled", "nothing has changed");
    // Whoever may does, and the other takes part.
    alice.enable(&room, RoomSettings::default()).await?;
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// The levels of a room as its state says, and what a user at 0 may do with them.
#[tokio::test]
async fn levels_are_read_as_the_specification_says_and_a_lie_does_no_harm() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let cases = [
        (json!({ "users": { alice.user_id(): 50 } }), true),
        (json!({ "users": { alice.user_id(): 49 } }), false),
        (json!({}), false),
        (json!({ "users_default": 50 }), true),
        (json!({ "state_default": 0 }), true),
        (json!({ "users_default": "100" }), true),
        (json!({ "events": { "m.room.encryption": 100 }, "users_default": 99 }), false),
        (json!({ "events": { "m.room.encryption": 0 } }), true),
        (json!({ "users": 7, "events": [], "users_default": {}, "state_default": null }), false),
    ];
    for (at, (content, may)) in cases.into_iter().enumerate() {
        let room = format!("!{at}:embedded.test");
        let event = |name: &str, content: &Value| {
            json!({
                "type": name, "state_key": "", "sender": "@carol:embedded.test",
                "event_id": format!("${name}-{at}"), "content": content,
            })
            .to_string()
        };
        let sync = json!({
            "next_batch": format!("s{at}"),
            "rooms": { "join": { &room: { "state": { "events": [
                serde_json::from_str::<Value>(&event("m.room.create", &json!({})))?,
                serde_json::from_str::<Value>(&event("m.room.power_levels", &content))?,
            ] } } } },
        });
        let changes = matrix_mls::sync_changes_from_response(sync.to_string(), Some("s".into()))?;
        alice.machine()?.receive_sync(changes).await?;
        let enabled = alice.room(&room).await?.enable(RoomSettings::default()).await;
        match enabled {
            Ok(()) => assert!(may, "{content}"),
            Err(error) => assert!(!may && error.code() == "no_power", "{content}: {error}"),
        }
    }
    Ok(())
}

/// In rooms of version 12 and later, who has made the room may do everything and is in no list.
#[tokio::test]
async fn creators_of_newer_rooms_have_all_power() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let own = alice.user_id().to_owned();
    let carol = "@carol:embedded.test";
    let cases = [
        (json!({ "room_version": "12" }), own.as_str(), true),
        (json!({ "room_version": "12", "additional_creators": [own] }), carol, true),
        (json!({ "room_version": "12", "additional_creators": 7 }), carol, false),
        (json!({ "room_version": "11", "additional_creators": [own] }), own.as_str(), false),
        (json!({ "room_version": 12 }), own.as_str(), false),
    ];
    for (at, (created, sender, may)) in cases.into_iter().enumerate() {
        let room = format!("!v{at}:embedded.test");
        let sync = json!({
            "next_batch": format!("v{at}"),
            "rooms": { "join": { &room: { "state": { "events": [
                { "type": "m.room.power_levels", "state_key": "", "sender": sender,
                  "event_id": format!("$p{at}"), "content": { "state_default": 50 } },
                { "type": "m.room.create", "state_key": "", "sender": sender,
                  "event_id": format!("$c{at}"), "content": created },
            ] } } } },
        });
        let changes = matrix_mls::sync_changes_from_response(sync.to_string(), Some("s".into()))?;
        alice.machine()?.receive_sync(changes).await?;
        let enabled = alice.room(&room).await?.enable(RoomSettings::default()).await;
        assert_eq!(enabled.is_ok(), may, "{created}: {enabled:?}");
    }
    Ok(())
}
