//! Memberships that change more than once, and how the two kinds of sync tell of it.

use matrix_mls_kit::{Homeserver, Result};
use serde_json::{Value, json};

use super::{
    device::{Device, list},
    sliding_sync::{all_rooms, ask, brief, invite, join, leave, say},
};

fn names(sync: &Value, path: &str) -> Vec<String> {
    let mut names: Vec<String> = list(sync, path).iter().map(brief).collect();
    names.sort();
    names
}

pub async fn the_same_again_is_no_event(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ms-same-alice").await?;
    let bob = Device::register(server, "ms-same-bob").await?;
    let room_id = alice.room_with(&[]).await?;
    for _ in 0..2 {
        invite(&alice, &room_id, &bob).await?;
    }
    for _ in 0..2 {
        join(&bob, &room_id).await?;
    }
    for _ in 0..2 {
        leave(&bob, &room_id).await?;
    }
    let page = alice.get(&format!("/rooms/{room_id}/messages?dir=b&limit=4")).await?;
    let shown: Vec<String> = list(&page, "/chunk").iter().map(brief).collect();
    assert_eq!(shown, ["bob leave", "bob join", "bob invite", "guest_access"]);
    let unban = format!("/rooms/{room_id}/unban");
    let refused = alice.refusal("POST", &unban, json!({ "user_id": bob.user_id })).await?;
    assert_eq!(refused.0, 403);
    Ok(())
}

pub async fn whoever_is_put_out_is_told_of_it(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ms-out-alice").await?;
    let bob = Device::register(server, "ms-out-bob").await?;
    let kicked = alice.room_with(&[&bob]).await?;
    let banned = alice.room_with(&[&bob]).await?;
    let left = alice.room_with(&[&bob]).await?;
    let since = bob.caught_up().await?;
    let target = json!({ "user_id": bob.user_id });
    alice.post(&format!("/rooms/{kicked}/kick"), target.clone()).await?;
    alice.post(&format!("/rooms/{banned}/ban"), target).await?;
    leave(&bob, &left).await?;
    // Even a first sync tells of rooms from which the user was put out.
    let first = bob.latest_sync(None).await?;
    let rooms = |sync: &Value| {
        let rooms = sync["rooms"]["leave"].as_object().into_iter().flatten();
        let mut rooms: Vec<String> = rooms.map(|(room_id, _)| room_id.clone()).collect();
        rooms.sort();
        rooms
    };
    let mut expected = vec![kicked.clone(), banned.clone()];
    expected.sort();
    assert_eq!(rooms(&first), expected);
    // Invited again before the next sync, the user is told of both.
    invite(&alice, &kicked, &bob).await?;
    let second = bob.latest_sync(Some(&since)).await?;
    expected.push(left.clone());
    expected.sort();
    assert_eq!(rooms(&second), expected);
    let timeline = format!("/rooms/leave/{kicked}/timeline/events");
    assert_eq!(names(&second, &timeline), ["bob leave"]);
    assert!(second["rooms"]["invite"].get(&kicked).is_some(), "{second}");
    Ok(())
}

pub async fn an_invitation_shows_the_room_of_its_time(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ms-time-alice").await?;
    let bob = Device::register(server, "ms-time-bob").await?;
    let room_id = alice.create_room(json!({ "topic": "then" })).await?;
    invite(&alice, &room_id, &bob).await?;
    let topic = format!("/rooms/{room_id}/state/m.room.topic/");
    alice.put(&topic, json!({ "topic": "now" })).await?;
    alice.put(&format!("/rooms/{room_id}/state/m.room.name/"), json!({ "name": "now" })).await?;
    let sync = bob.latest_sync(None).await?;
    let sliding = ask(&bob, &all_rooms(json!([]), 1), None).await?;
    // The name beside it is the room's own, as it is now.
    assert_eq!(sliding["rooms"][&room_id]["name"], json!("now"));
    for (answer, path) in [
        (&sync, format!("/rooms/invite/{room_id}/invite_state/events")),
        (&sliding, format!("/rooms/{room_id}/invite_state")),
    ] {
        let expected = ["alice join", "bob invite", "create", "join_rules", "topic"];
        assert_eq!(names(answer, &path), expected);
        let topic = list(answer, &path).iter().find(|event| event["type"] == "m.room.topic");
        assert_eq!(topic.map(|event| &event["content"]["topic"]), Some(&json!("then")));
    }
    Ok(())
}

pub async fn coming_and_going_between_two_syncs_is_told(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ms-between-alice").await?;
    let bob = Device::register(server, "ms-between-bob").await?;
    let room_id = alice.room_with(&[]).await?;
    let since = bob.caught_up().await?;
    let body = all_rooms(json!([["m.room.member", "$LAZY"]]), 5);
    let before = ask(&bob, &body, None).await?;
    invite(&alice, &room_id, &bob).await?;
    join(&bob, &room_id).await?;
    say(&alice, &room_id, 1).await?;
    leave(&bob, &room_id).await?;
    say(&alice, &room_id, 2).await?;
    let sync = bob.latest_sync(Some(&since)).await?;
    let room = &sync["rooms"]["leave"][&room_id];
    let shown: Vec<String> = list(room, "/timeline/events").iter().map(brief).collect();
    assert_eq!(shown[shown.len() - 4..], ["bob invite", "bob join", "1", "bob leave"]);
    assert_eq!(room["timeline"]["limited"], json!(true));
    // Whose devices to ask for, and whose to forget, is told at once.
    for part in ["changed", "left"] {
        let told = &sync["device_lists"][part];
        assert_eq!(told, &json!([alice.user_id]), "{part}");
    }
    let sliding = ask(&bob, &body, Some(&before["pos"])).await?;
    let room = &sliding["rooms"][&room_id];
    let shown: Vec<String> = list(room, "/timeline").iter().map(brief).collect();
    assert_eq!(shown, ["bob join", "1", "bob leave"]);
    assert_eq!(room["initial"], json!(true));
    Ok(())
}
