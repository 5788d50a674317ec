//! Windows of lists, rooms that are subscribed to, and filters.

use std::time::Duration;

use matrix_mls_kit::{Homeserver, Result, SlidingSync};
use serde_json::{Value, json};

use super::{
    device::Device,
    sliding_sync::{ask, invite, join, refusal, say, state, timeline},
};

fn window(first: usize, last: usize, timeline_limit: u64) -> Value {
    json!({ "conn_id": "window", "lists": { "all": {
        "ranges": [[first, last]], "required_state": [["m.room.create", ""]],
        "timeline_limit": timeline_limit,
    } } })
}

fn listed(answer: &Value) -> &Value {
    &answer["lists"]["all"]["ops"][0]["room_ids"]
}

pub async fn rooms_outside_the_window_wait(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ss-window-alice").await?;
    let one = alice.room_with(&[]).await?;
    let two = alice.room_with(&[]).await?;
    let three = alice.room_with(&[]).await?;
    // The newest first.
    let first = ask(&alice, &window(0, 1, 2), None).await?;
    assert_eq!(listed(&first), &json!([three, two]));
    assert_eq!(first["lists"]["all"]["count"], json!(3));
    assert_eq!(first["lists"]["all"]["ops"][0]["range"], json!([0, 1]));
    assert!(first["rooms"].get(&one).is_none(), "{first}");
    let narrow = ask(&alice, &window(0, 0, 2), Some(&first["pos"])).await?;
    assert_eq!((listed(&narrow), &narrow["rooms"]), (&json!([three]), &json!({})));
    // What happens in a room that was told and is outside now is told when it comes in again.
    for n in 1..=3 {
        say(&alice, &two, n).await?;
    }
    say(&alice, &three, 1).await?;
    let outside = ask(&alice, &window(0, 0, 2), Some(&narrow["pos"])).await?;
    assert_eq!(listed(&outside), &json!([three]));
    assert!(outside["rooms"].get(&two).is_none(), "{outside}");
    say(&alice, &two, 4).await?;
    let inside = ask(&alice, &window(0, 0, 2), Some(&outside["pos"])).await?;
    assert_eq!(listed(&inside), &json!([two]));
    let room = &inside["rooms"][&two];
    assert_eq!((timeline(room), &room["limited"]), (vec!["3".into(), "4".into()], &json!(true)));
    assert_eq!((room.get("initial"), &room["num_live"]), (None, &json!(1)));
    // A room that has never been in is new.
    say(&alice, &one, 1).await?;
    let new = ask(&alice, &window(0, 0, 2), Some(&inside["pos"])).await?;
    let room = &new["rooms"][&one];
    assert_eq!((&room["initial"], &room["num_live"]), (&json!(true), &json!(1)));
    assert_eq!(timeline(room).last(), Some(&"1".to_owned()));
    let beyond = ask(&alice, &window(5, 9, 2), Some(&new["pos"])).await?;
    assert_eq!((listed(&beyond), &beyond["rooms"]), (&json!([]), &json!({})));
    Ok(())
}

/// Element X begins with twenty rooms, and wants a hundred more with each request until it has them
/// all.
pub async fn the_room_list_grows(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ss-grow-alice").await?;
    for _ in 0..22 {
        alice.room_with(&[]).await?;
    }
    let mut rooms = SlidingSync::room_list(&alice.http, None);
    let told = |answer: &Value| answer["rooms"].as_object().map_or(0, serde_json::Map::len);
    let first = rooms.sync(Duration::ZERO).await?;
    assert_eq!((told(&first), &first["lists"]["all_rooms"]["count"]), (20, &json!(22)));
    let second = rooms.sync(Duration::ZERO).await?;
    assert_eq!(told(&second), 2);
    assert_eq!(second["lists"]["all_rooms"]["ops"][0]["range"], json!([0, 21]));
    // A new room makes the list longer, and is within the window at once.
    let room_id = alice.room_with(&[]).await?;
    let third = rooms.sync(Duration::ZERO).await?;
    assert_eq!(third["lists"]["all_rooms"]["count"], json!(23));
    assert_eq!(third["rooms"][&room_id]["initial"], json!(true));
    // An open room is told twenty events back.
    rooms.open_rooms(&[&room_id]);
    let open = rooms.sync(Duration::ZERO).await?;
    let room = &open["rooms"][&room_id];
    assert_eq!((timeline(room).len(), room.get("initial")), (6, None));
    Ok(())
}

pub async fn an_open_room_is_told_further_back(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ss-open-alice").await?;
    let room_id = alice.room_with(&[]).await?;
    for n in 1..=6 {
        say(&alice, &room_id, n).await?;
    }
    let mut body = window(0, 9, 1);
    let first = ask(&alice, &body, None).await?;
    assert_eq!(timeline(&first["rooms"][&room_id]), ["6"]);
    body["room_subscriptions"] = json!({ &room_id: {
        "required_state": [["m.room.join_rules", ""]], "timeline_limit": 3,
    } });
    let open = ask(&alice, &body, Some(&first["pos"])).await?;
    let room = &open["rooms"][&room_id];
    assert_eq!(
        (timeline(room), state(room)),
        (vec!["4".into(), "5".into(), "6".into()], vec!["join_rules".into()])
    );
    assert_eq!((room.get("initial"), &room["unstable_expanded_timeline"]), (None, &json!(true)));
    assert_eq!((&room["limited"], &room["num_live"]), (&json!(true), &json!(0)));
    // Once it was told that far, only news are.
    say(&alice, &room_id, 7).await?;
    let news = ask(&alice, &body, Some(&open["pos"])).await?;
    let room = &news["rooms"][&room_id];
    assert_eq!((timeline(room), room.get("unstable_expanded_timeline")), (vec!["7".into()], None));
    // A room alone, without a list; and one that is not one's own.
    let alone = json!({ "conn_id": "alone", "room_subscriptions": {
        &room_id: { "required_state": [], "timeline_limit": 1 },
        "!nowhere:elsewhere.test": { "required_state": [], "timeline_limit": 1 },
    } });
    let answer = ask(&alice, &alone, None).await?;
    assert_eq!(answer["rooms"].as_object().map(serde_json::Map::len), Some(1));
    assert_eq!(answer.get("lists"), None);
    Ok(())
}

pub async fn lists_can_be_filtered(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ss-filter-alice").await?;
    let bob = Device::register(server, "ss-filter-bob").await?;
    let algorithm = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
    let state = json!([{ "type": "m.room.encryption", "state_key": "", "content": algorithm }]);
    let encrypted = alice.create_room(json!({ "initial_state": state })).await?;
    let space = alice.create_room(json!({ "creation_content": { "type": "m.space" } })).await?;
    let direct = alice.room_with(&[]).await?;
    for room_id in [&encrypted, &space, &direct] {
        invite(&alice, room_id, &bob).await?;
    }
    for room_id in [&encrypted, &space] {
        join(&bob, room_id).await?;
    }
    let noted = json!({ &alice.user_id: [direct] });
    bob.put(&format!("/user/{}/account_data/m.direct", bob.user_id), noted).await?;
    let cases = [
        (json!({}), vec![&encrypted, &space, &direct]),
        (json!({ "is_invite": true }), vec![&direct]),
        (json!({ "is_invite": false }), vec![&encrypted, &space]),
        (json!({ "is_encrypted": true }), vec![&encrypted]),
        (json!({ "is_dm": true }), vec![&direct]),
        (json!({ "is_dm": false }), vec![&encrypted, &space]),
        (json!({ "not_room_types": ["m.space"], "is_invite": false }), vec![&encrypted]),
        (json!({ "room_types": ["m.space"] }), vec![&space]),
        (json!({ "room_types": [null], "is_invite": false }), vec![&encrypted]),
    ];
    for (filters, expected) in cases {
        let mut body = window(0, 9, 0);
        body["lists"]["all"]["filters"] = filters.clone();
        let answer = ask(&bob, &body, None).await?;
        let mut rooms: Vec<&str> =
            listed(&answer).as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        rooms.sort_unstable();
        let mut expected: Vec<&str> = expected.iter().map(|room_id| room_id.as_str()).collect();
        expected.sort_unstable();
        assert_eq!(rooms, expected, "{filters}");
        let is_dm = answer["rooms"][&direct].get("is_dm");
        assert_eq!(is_dm.is_some(), expected.contains(&direct.as_str()), "{filters}");
    }
    Ok(())
}

pub async fn malformed_requests_are_refused(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ss-malformed").await?;
    let of_list = |list: Value| json!({ "lists": { "all": list } });
    let missing = (400, "M_MISSING_PARAM".to_owned());
    let bad = (400, "M_BAD_JSON".to_owned());
    let cases = [
        (of_list(json!({ "ranges": [[0, 9]], "timeline_limit": 1 })), missing.clone()),
        (of_list(json!({ "ranges": [[0, 9]], "required_state": [] })), missing),
        (of_list(json!({ "required_state": [], "timeline_limit": 1001 })), bad.clone()),
        (of_list(json!({ "required_state": [["a", 3]], "timeline_limit": 1 })), bad.clone()),
        (json!({ "conn_id": 3 }), bad.clone()),
        (json!({ "lists": [] }), bad),
        (
            json!({ "extensions": { "to_device": { "enabled": true, "since": "x" } } }),
            (400, "M_INVALID_PARAM".to_owned()),
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(refusal(&alice, &body, None).await?, expected, "{body}");
    }
    // What is not known is ignored.
    let unknown = json!({ "extensions": { "org.example": { "enabled": true } }, "future": 1 });
    let answer = ask(&alice, &unknown, None).await?;
    assert_eq!((&answer["rooms"], &answer["extensions"]), (&json!({}), &json!({})));
    Ok(())
}
