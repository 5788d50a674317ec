//! Connections and their positions, and what comes beside the rooms: to-device events, keys, device
//! lists, account data and receipts.

use std::time::{Duration, Instant};

use matrix_mls_kit::{Homeserver, KitError, OrMissing as _, Result, SlidingSync};
use serde_json::{Value, json};

use super::{
    device::{Device, list, strings},
    sliding_sync::{all_rooms, ask, join, refusal, say, timeline},
};

async fn send(from: &Device, to: &Device, txn: &str, n: u64) -> Result<Value, KitError> {
    let body = json!({ "messages": { &to.user_id: { "FIRST": { "n": n } } } });
    from.put(&format!("/sendToDevice/m.room.encrypted/{txn}"), body).await
}

fn to_device(answer: &Value) -> Vec<u64> {
    let events = list(answer, "/extensions/to_device/events");
    events.iter().filter_map(|event| event["content"]["n"].as_u64()).collect()
}

pub async fn a_request_can_be_repeated(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ss-repeat-alice").await?;
    let room_id = alice.room_with(&[]).await?;
    let body = all_rooms(json!([["m.room.member", "$LAZY"]]), 1);
    let first = ask(&alice, &body, None).await?;
    say(&alice, &room_id, 1).await?;
    let second = ask(&alice, &body, Some(&first["pos"])).await?;
    let again = ask(&alice, &body, Some(&first["pos"])).await?;
    for answer in [&second, &again] {
        assert_eq!(timeline(&answer["rooms"][&room_id]), ["1"]);
    }
    // What has happened meanwhile is in the repeated answer.
    say(&alice, &room_id, 2).await?;
    let third = ask(&alice, &body, Some(&first["pos"])).await?;
    let room = &third["rooms"][&room_id];
    assert_eq!((timeline(room), &room["limited"]), (vec!["2".into()], &json!(true)));
    let news = ask(&alice, &body, Some(&again["pos"])).await?;
    assert_eq!(timeline(&news["rooms"][&room_id]), ["2"]);
    Ok(())
}

pub async fn positions_are_checked(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ss-pos-alice").await?;
    let second = Device::log_in(server, "ss-pos-alice", "SECOND").await?;
    let room_id = alice.room_with(&[]).await?;
    let versions = alice.http.get("/_matrix/client/versions").await?;
    let features = &versions["unstable_features"];
    assert_eq!(features["org.matrix.simplified_msc3575"], json!(true));
    let body = all_rooms(json!([]), 1);
    let first = ask(&alice, &body, None).await?;
    let unknown = (400, "M_UNKNOWN_POS".to_owned());
    let pos = first["pos"].as_str().unwrap_or_default();
    let (_, world) = pos.split_once('/').unwrap_or_default();
    let made_up = json!(format!("99999999/{world}"));
    assert_eq!(refusal(&alice, &body, Some(&made_up)).await?, unknown);
    let mut other = body.clone();
    other["conn_id"] = json!("other");
    assert_eq!(refusal(&alice, &other, Some(&first["pos"])).await?, unknown);
    assert_eq!(refusal(&second, &body, Some(&first["pos"])).await?, unknown);
    let garbage = (400, "M_UNKNOWN".to_owned());
    assert_eq!(refusal(&alice, &body, Some(&json!("garbage"))).await?, garbage);
    // The position of a sync is none of a sliding sync, nor the other way round.
    let since = alice.caught_up().await?;
    assert_eq!(refusal(&alice, &body, Some(&json!(since))).await?, garbage);
    let path = format!("/sync?since={}", pos.replace('/', "%2F"));
    assert_eq!(alice.refusal("GET", &path, Value::Null).await?, garbage);

    // Without a position the connection begins anew, and its old positions are gone.
    let afresh = ask(&alice, &body, None).await?;
    assert_eq!(afresh["rooms"][&room_id]["initial"], json!(true));
    say(&alice, &room_id, 1).await?;
    let mut more = body.clone();
    more["lists"]["all"]["timeline_limit"] = json!(5);
    assert_eq!(refusal(&alice, &more, Some(&first["pos"])).await?, unknown);
    let news = ask(&alice, &body, Some(&afresh["pos"])).await?;
    assert_eq!(timeline(&news["rooms"][&room_id]), ["1"]);
    Ok(())
}

/// What Synapse does after seven days is ordered of the embedded homeserver.
#[tokio::test]
async fn connections_expire() -> Result {
    let server = Homeserver::embedded()?;
    let alice = Device::register(&server, "alice").await?;
    let room_id = alice.room_with(&[]).await?;
    let mut rooms = SlidingSync::room_list(&alice.http, None);
    let mut keys = SlidingSync::encryption(&alice.http, None);
    rooms.sync(Duration::ZERO).await?;
    keys.sync(Duration::ZERO).await?;
    let controls = server.controls().or_missing("controls of the embedded homeserver")?;
    controls.expire_connections(&alice.user_id);
    let refused = rooms.sync(Duration::ZERO).await.err();
    assert!(refused.as_ref().is_some_and(|error| error.to_string().contains("M_UNKNOWN_POS")));
    rooms.expire();
    let afresh = rooms.sync(Duration::ZERO).await?;
    assert_eq!(afresh["rooms"][&room_id]["initial"], json!(true));
    keys.sync(Duration::ZERO).await?;
    Ok(())
}

pub async fn connections_know_nothing_of_each_other(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ss-conn-alice").await?;
    let bob = Device::register(server, "ss-conn-bob").await?;
    let room_id = alice.room_with(&[&bob]).await?;
    let mut rooms = SlidingSync::room_list(&bob.http, None);
    let mut keys = SlidingSync::encryption(&bob.http, None);
    rooms.sync(Duration::ZERO).await?;
    let first = keys.sync(Duration::ZERO).await?;
    assert_eq!((&first["rooms"], first.get("lists")), (&json!({}), None));
    assert!(first["pos"].as_str().is_some_and(|pos| pos.starts_with("0/")), "{first}");
    let other = ask(&bob, &all_rooms(json!([]), 1), None).await?;
    say(&alice, &room_id, 1).await?;
    let told = ask(&bob, &all_rooms(json!([]), 1), Some(&other["pos"])).await?;
    assert_eq!(timeline(&told["rooms"][&room_id]), ["1"]);
    assert_eq!(timeline(&rooms.sync(Duration::ZERO).await?["rooms"][&room_id]), ["1"]);
    // The list's position outlives a start of the app.
    let mut restarted = SlidingSync::room_list(&bob.http, rooms.position().map(str::to_owned));
    say(&alice, &room_id, 2).await?;
    let news = restarted.sync(Duration::ZERO).await?;
    let room = &news["rooms"][&room_id];
    assert_eq!((timeline(room), room.get("initial")), (vec!["2".into()], None));
    // A connection that only has extensions has nothing to remember: it goes on from any position.
    keys.sync(Duration::ZERO).await?;
    let body = json!({ "conn_id": "another", "extensions": { "e2ee": { "enabled": true } } });
    let answer = ask(&bob, &body, Some(&first["pos"])).await?;
    assert!(answer["extensions"]["e2ee"].get("device_lists").is_some(), "{answer}");
    Ok(())
}

pub async fn to_device_events_stay_until_acknowledged(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ss-td-alice").await?;
    let bob = Device::register(server, "ss-td-bob").await?;
    for n in 1..=3 {
        send(&alice, &bob, &format!("t{n}"), n).await?;
    }
    let body = |limit: u64, since: Option<&Value>| {
        let mut events = json!({ "enabled": true, "limit": limit });
        if let Some(since) = since {
            events["since"] = since.clone();
        }
        json!({ "conn_id": "td", "extensions": { "to_device": events } })
    };
    let next = |answer: &Value| answer["extensions"]["to_device"]["next_batch"].clone();
    let first = ask(&bob, &body(2, None), None).await?;
    assert_eq!(to_device(&first), [1, 2]);
    let event = &list(&first, "/extensions/to_device/events")[0];
    assert_eq!(
        (&event["type"], &event["sender"]),
        (&json!("m.room.encrypted"), &json!(alice.user_id))
    );
    // The position of the connection acknowledges nothing.
    let again = ask(&bob, &body(2, None), Some(&first["pos"])).await?;
    assert_eq!(to_device(&again), [1, 2]);
    // The token does; and without it, what is left comes.
    let rest = ask(&bob, &body(2, Some(&next(&first))), Some(&again["pos"])).await?;
    assert_eq!(to_device(&rest), [3]);
    let repeated = ask(&bob, &body(9, Some(&next(&first))), None).await?;
    assert_eq!(to_device(&repeated), [3]);
    let without = ask(&bob, &body(9, None), None).await?;
    assert_eq!(to_device(&without), [3]);
    let none = ask(&bob, &body(9, Some(&next(&rest))), None).await?;
    assert_eq!(to_device(&none), Vec::<u64>::new());
    assert_eq!(to_device(&ask(&bob, &body(9, None), None).await?), Vec::<u64>::new());
    // Both kinds of sync take from the same inbox.
    send(&alice, &bob, "t4", 4).await?;
    let sync = bob.sync(None).await?;
    assert_eq!(list(&sync, "/to_device/events").len(), 1);
    assert_eq!(to_device(&ask(&bob, &body(9, Some(&next(&none))), None).await?), [4]);
    Ok(())
}

/// Device lists are told from a position on. A connection that begins is told of none, whatever has
/// changed.
pub async fn device_lists_need_a_position(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ss-lists-alice").await?;
    let bob = Device::register(server, "ss-lists-bob").await?;
    alice.room_with(&[&bob]).await?;
    let mut keys = SlidingSync::encryption(&bob.http, None);
    let first = keys.sync(Duration::ZERO).await?;
    let e2ee = &first["extensions"]["e2ee"];
    assert_eq!(e2ee.get("device_lists"), None);
    assert_eq!(e2ee["device_one_time_keys_count"], json!({ "signed_curve25519": 0 }));
    assert_eq!(e2ee["device_unused_fallback_key_types"], json!([]));
    let second = keys.sync(Duration::ZERO).await?;
    let lists = |answer: &Value| {
        let changed = strings(answer, "/extensions/e2ee/device_lists/changed");
        (changed, strings(answer, "/extensions/e2ee/device_lists/left"))
    };
    let nothing = (Vec::new(), Vec::new());
    assert!(second["extensions"]["e2ee"].get("device_lists").is_some(), "{second}");
    assert_eq!(lists(&second), nothing);
    let laptop = Device::log_in(server, "ss-lists-alice", "LAPTOP").await?;
    let third = keys.sync(Duration::ZERO).await?;
    assert_eq!(lists(&third), (vec![alice.user_id.clone()], Vec::new()));
    // The app is not running when the laptop is logged out. It starts, and is told nothing of it.
    laptop.post("/logout", json!({})).await?;
    let token = keys.to_device_token().map(str::to_owned);
    let mut restarted = SlidingSync::encryption(&bob.http, token);
    let fourth = restarted.sync(Duration::ZERO).await?;
    assert_eq!(fourth["extensions"]["e2ee"].get("device_lists"), None);
    assert_eq!(lists(&restarted.sync(Duration::ZERO).await?), nothing);
    // From the older position it still would be.
    assert_eq!(lists(&keys.sync(Duration::ZERO).await?).0, [alice.user_id.as_str()]);
    let upload = json!({
        "one_time_keys": { "org.example:1": "x" }, "fallback_keys": { "org.example:2": "y" },
    });
    bob.post("/keys/upload", upload).await?;
    let fifth = restarted.sync(Duration::ZERO).await?;
    let e2ee = &fifth["extensions"]["e2ee"];
    assert_eq!(e2ee["device_one_time_keys_count"]["org.example"], json!(1));
    assert_eq!(e2ee["device_unused_fallback_key_types"], json!(["org.example"]));
    Ok(())
}

/// Unlike `/sync`, sliding sync and `/keys/changes` do not name somebody who was invited before and
/// joins.
pub async fn memberships_change_device_lists(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ss-follow-alice").await?;
    let bob = Device::register(server, "ss-follow-bob").await?;
    let room_id = alice.room_with(&[]).await?;
    let since = alice.caught_up().await?;
    let mut keys = SlidingSync::encryption(&alice.http, None);
    let mut of_bob = SlidingSync::encryption(&bob.http, None);
    keys.sync(Duration::ZERO).await?;
    of_bob.sync(Duration::ZERO).await?;
    let lists = |answer: &Value| {
        let changed = strings(answer, "/extensions/e2ee/device_lists/changed");
        (changed, strings(answer, "/extensions/e2ee/device_lists/left"))
    };
    let only_bob = vec![bob.user_id.clone()];
    let invitation = json!({ "user_id": bob.user_id });
    alice.post(&format!("/rooms/{room_id}/invite"), invitation.clone()).await?;
    assert_eq!(lists(&keys.sync(Duration::ZERO).await?), (only_bob.clone(), Vec::new()));
    join(&bob, &room_id).await?;
    assert_eq!(lists(&keys.sync(Duration::ZERO).await?), (Vec::new(), Vec::new()));
    let mut both = vec![alice.user_id.clone(), bob.user_id.clone()];
    both.sort();
    assert_eq!(lists(&of_bob.sync(Duration::ZERO).await?), (both, Vec::new()));
    let changes = alice.get(&format!("/keys/changes?from={since}&to={since}")).await?;
    assert_eq!(
        (strings(&changes, "/changed"), strings(&changes, "/left")),
        (only_bob.clone(), Vec::new())
    );
    alice.post(&format!("/rooms/{room_id}/kick"), invitation).await?;
    assert_eq!(lists(&keys.sync(Duration::ZERO).await?), (Vec::new(), only_bob));
    assert_eq!(lists(&of_bob.sync(Duration::ZERO).await?), (Vec::new(), vec![alice.user_id]));
    Ok(())
}

/// News end a wait: events in rooms, to-device events, device lists. Key counts do not.
pub async fn a_request_waits_for_news(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ss-wait-alice").await?;
    let bob = Device::register(server, "ss-wait-bob").await?;
    let room_id = alice.room_with(&[&bob]).await?;
    let mut rooms = SlidingSync::room_list(&bob.http, None);
    let mut keys = SlidingSync::encryption(&bob.http, None);
    rooms.sync(Duration::from_secs(30)).await?;
    keys.sync(Duration::from_secs(30)).await?;
    rooms.sync(Duration::ZERO).await?;
    let began = Instant::now();
    let long = Duration::from_secs(20);
    let (told, said) = tokio::join!(rooms.sync(long), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        say(&alice, &room_id, 1).await
    });
    said?;
    assert_eq!(timeline(&told?["rooms"][&room_id]), ["1"]);
    let (told, sent) = tokio::join!(keys.sync(long), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        send(&alice, &bob, "t", 7).await
    });
    sent?;
    assert_eq!(to_device(&told?), [7]);
    keys.sync(Duration::ZERO).await?;
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    // An event in a room is no news to the connection that has none, and new keys are none at all.
    let began = Instant::now();
    let (told, done) = tokio::join!(keys.sync(Duration::from_millis(1500)), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let keys = json!({ "one_time_keys": { "org.example:1": "x" } });
        bob.post("/keys/upload", keys).await?;
        say(&alice, &room_id, 2).await
    });
    done?;
    assert!(began.elapsed() > Duration::from_millis(1400), "{:?}", began.elapsed());
    assert_eq!(told?["rooms"], json!({}));
    Ok(())
}

pub async fn account_data_and_receipts_are_told(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ss-data-alice").await?;
    let bob = Device::register(server, "ss-data-bob").await?;
    let room_id = alice.room_with(&[&bob]).await?;
    let event_id = say(&alice, &room_id, 1).await?;
    let mut rooms = SlidingSync::room_list(&bob.http, None);
    let first = rooms.sync(Duration::ZERO).await?;
    let kinds = |answer: &Value| {
        let global = list(answer, "/extensions/account_data/global");
        let mut kinds: Vec<String> = global.iter().map(super::sliding_sync::brief).collect();
        kinds.sort();
        kinds
    };
    assert_eq!(kinds(&first), ["m.push_rules"]);
    assert_eq!(first["extensions"]["account_data"]["rooms"], json!({ &room_id: [] }));
    assert_eq!(first["extensions"]["receipts"], json!({ "rooms": {} }));
    assert_eq!(first["extensions"]["typing"], json!({ "rooms": {} }));

    let of_bob = format!("/user/{}", bob.user_id);
    bob.put(&format!("{of_bob}/account_data/org.example.note"), json!({ "n": 1 })).await?;
    let noted = json!({ "n": 2 });
    let path = format!("{of_bob}/rooms/{room_id}/account_data/org.example.note");
    bob.put(&path, noted.clone()).await?;
    alice.post(&format!("/rooms/{room_id}/receipt/m.read/{event_id}"), json!({})).await?;
    let second = rooms.sync(Duration::ZERO).await?;
    assert_eq!(kinds(&second), ["org.example.note 1"]);
    let of_room = &second["extensions"]["account_data"]["rooms"][&room_id];
    assert_eq!(of_room, &json!([{ "type": "org.example.note", "content": noted }]));
    assert_eq!(second["rooms"], json!({}));
    let receipts = &second["extensions"]["receipts"]["rooms"][&room_id];
    assert_eq!(receipts["type"], json!("m.receipt"));
    assert!(receipts["content"][&event_id]["m.read"].get(&alice.user_id).is_some(), "{receipts}");
    let third = rooms.sync(Duration::ZERO).await?;
    assert_eq!(kinds(&third), Vec::<String>::new());
    assert_eq!(third["extensions"]["receipts"], json!({ "rooms": {} }));
    assert_eq!(bob.get(&path).await?, json!({ "n": 2 }));
    let other = alice.refusal("GET", &path, Value::Null).await?;
    assert_eq!(other, (403, "M_FORBIDDEN".to_owned()));
    Ok(())
}
