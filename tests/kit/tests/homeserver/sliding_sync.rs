//! Simplified sliding sync (MSC4186), as Element X asks: which rooms, which of their events, and
//! which of their state.

use std::time::Duration;

use matrix_mls_kit::{Homeserver, KitError, Result, SlidingSync};
use serde_json::{Value, json};

use super::device::{Device, list};

/// What is left of an event for a comparison: a member and what it is, a number, or the type.
pub fn brief(event: &Value) -> String {
    let (kind, content) = (event["type"].as_str().unwrap_or_default(), &event["content"]);
    let name = |id: &Value| {
        let local = id.as_str().unwrap_or_default().split(':').next().unwrap_or_default();
        local.rsplit(['-', '@']).next().unwrap_or_default().to_owned()
    };
    match (kind, content["n"].as_u64()) {
        ("m.room.member", _) => {
            let membership = content["membership"].as_str().unwrap_or_default();
            format!("{} {membership}", name(&event["state_key"]))
        }
        ("org.example.message", Some(number)) => number.to_string(),
        (_, Some(number)) => format!("{kind} {number}"),
        _ => kind.trim_start_matches("m.room.").to_owned(),
    }
}

/// The events of a timeline, in order.
pub fn timeline(room: &Value) -> Vec<String> {
    list(room, "/timeline").iter().map(brief).collect()
}

/// The events of a room's state, sorted.
pub fn state(room: &Value) -> Vec<String> {
    let mut state: Vec<String> = list(room, "/required_state").iter().map(brief).collect();
    state.sort();
    state
}

pub fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Asks once, for what Element X does not ask for.
pub async fn ask(device: &Device, body: &Value, pos: Option<&Value>) -> Result<Value, KitError> {
    let path = path(pos);
    device.http.post(&path, body.clone()).await
}

/// Status and errcode of a refused request.
pub async fn refusal(
    device: &Device,
    body: &Value,
    pos: Option<&Value>,
) -> Result<(u16, String), KitError> {
    let answer = device.http.try_json("POST", &path(pos), body.clone()).await?;
    let errcode = answer.json()["errcode"].as_str().unwrap_or_default().to_owned();
    Ok((answer.status, errcode))
}

fn path(pos: Option<&Value>) -> String {
    let path = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?timeout=0";
    match pos.and_then(Value::as_str) {
        Some(pos) => format!("{path}&pos={}", pos.replace('/', "%2F")),
        None => path.to_owned(),
    }
}

/// A request with one list of all rooms.
pub fn all_rooms(required_state: Value, timeline_limit: u64) -> Value {
    json!({ "conn_id": "all", "lists": { "all": {
        "ranges": [[0, 99]], "required_state": required_state, "timeline_limit": timeline_limit,
    } } })
}

pub async fn invite(by: &Device, room_id: &str, whom: &Device) -> Result<Value, KitError> {
    by.post(&format!("/rooms/{room_id}/invite"), json!({ "user_id": whom.user_id })).await
}

pub async fn join(who: &Device, room_id: &str) -> Result<Value, KitError> {
    who.post(&format!("/rooms/{room_id}/join"), json!({})).await
}

pub async fn leave(who: &Device, room_id: &str) -> Result<Value, KitError> {
    who.post(&format!("/rooms/{room_id}/leave"), json!({})).await
}

pub async fn say(who: &Device, room_id: &str, n: u64) -> Result<String, KitError> {
    who.send(room_id, &format!("t{n}"), json!({ "n": n })).await
}

pub async fn set(
    who: &Device,
    room_id: &str,
    kind: &str,
    key: &str,
    n: u64,
) -> Result<Value, KitError> {
    who.put(&format!("/rooms/{room_id}/state/{kind}/{key}"), json!({ "n": n })).await
}

pub async fn a_room_is_told_once(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ss-once-alice").await?;
    let bob = Device::register(server, "ss-once-bob").await?;
    let carol = Device::register(server, "ss-once-carol").await?;
    let room_id = alice.room_with(&[&bob, &carol]).await?;
    say(&alice, &room_id, 1).await?;
    let mut rooms = SlidingSync::room_list(&bob.http, None);
    let first = rooms.sync(Duration::ZERO).await?;
    assert_eq!(first["lists"]["all_rooms"]["count"], json!(1));
    assert_eq!(first["lists"]["all_rooms"]["ops"][0]["room_ids"], json!([room_id]));
    let room = &first["rooms"][&room_id];
    assert_eq!(room["initial"], json!(true));
    assert_eq!(timeline(room), ["1"]);
    // Of the members: oneself, and who has said something.
    let expected =
        ["alice join", "bob join", "create", "history_visibility", "join_rules", "power_levels"];
    assert_eq!(state(room), expected);
    assert_eq!((&room["joined_count"], &room["invited_count"]), (&json!(3), &json!(0)));
    assert_eq!((&room["limited"], &room["num_live"]), (&json!(true), &json!(0)));
    assert_eq!(list(room, "/heroes").len(), 2);
    assert_eq!(room.get("name"), None);
    assert!(room["bump_stamp"].is_u64(), "{room}");
    assert_eq!((&room["notification_count"], &room["highlight_count"]), (&json!(0), &json!(0)));

    // Back from there: the event before the only one.
    let prev_batch = room["prev_batch"].as_str().unwrap_or_default();
    let page = bob.get(&format!("/rooms/{room_id}/messages?dir=b&from={prev_batch}")).await?;
    assert_eq!(page["chunk"].get(0).map(brief), Some("carol join".to_owned()));
    // The token says who was there, too.
    let members = bob.get(&format!("/rooms/{room_id}/members?at={prev_batch}")).await?;
    assert_eq!(list(&members, "/chunk").len(), 3);

    let second = rooms.sync(Duration::ZERO).await?;
    assert_eq!(second["rooms"], json!({}));
    say(&carol, &room_id, 2).await?;
    let third = rooms.sync(Duration::ZERO).await?;
    let room = &third["rooms"][&room_id];
    assert_eq!((timeline(room), state(room)), (owned(&["2"]), owned(&["carol join"])));
    assert_eq!((&room["limited"], &room["num_live"]), (&json!(false), &json!(1)));
    for field in ["initial", "joined_count", "invited_count", "heroes"] {
        assert_eq!(room.get(field), None, "{field}");
    }
    // More than one new event: only the newest, and no member who was told before.
    for n in 3..6 {
        say(&alice, &room_id, n).await?;
    }
    let fourth = rooms.sync(Duration::ZERO).await?;
    let room = &fourth["rooms"][&room_id];
    assert_eq!((timeline(room), state(room)), (owned(&["5"]), Vec::new()));
    assert_eq!((&room["limited"], &room["num_live"]), (&json!(true), &json!(1)));
    // The gap is closed from `prev_batch` back.
    let prev_batch = room["prev_batch"].as_str().unwrap_or_default();
    let page = bob.get(&format!("/rooms/{room_id}/messages?dir=b&from={prev_batch}")).await?;
    let back: Vec<String> = list(&page, "/chunk").iter().take(3).map(brief).collect();
    assert_eq!(back, ["4", "3", "2"]);
    Ok(())
}

/// With `$LAZY`, a gap hides who has come and gone: only the count tells. `/members` and the pages
/// of the gap have them.
pub async fn a_gap_hides_memberships(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ss-gap-alice").await?;
    let bob = Device::register(server, "ss-gap-bob").await?;
    let carol = Device::register(server, "ss-gap-carol").await?;
    let dave = Device::register(server, "ss-gap-dave").await?;
    let room_id = alice.room_with(&[&bob, &carol]).await?;
    say(&carol, &room_id, 1).await?;
    let mut rooms = SlidingSync::room_list(&bob.http, None);
    rooms.sync(Duration::ZERO).await?;
    leave(&carol, &room_id).await?;
    invite(&alice, &room_id, &dave).await?;
    say(&alice, &room_id, 2).await?;
    let gap = rooms.sync(Duration::ZERO).await?;
    let room = &gap["rooms"][&room_id];
    assert_eq!(room["limited"], json!(true));
    assert_eq!((timeline(room), state(room)), (owned(&["2"]), owned(&["alice join"])));
    assert_eq!((&room["joined_count"], &room["invited_count"]), (&json!(2), &json!(1)));
    let heroes: Vec<&Value> = list(room, "/heroes").iter().map(|hero| &hero["user_id"]).collect();
    assert_eq!(heroes, [&json!(alice.user_id), &json!(dave.user_id)]);

    let filter = "%7B%22types%22%3A%5B%22m.room.member%22%5D%7D";
    let prev_batch = room["prev_batch"].as_str().unwrap_or_default();
    let path = format!("/rooms/{room_id}/messages?dir=b&limit=2&filter={filter}&from={prev_batch}");
    let page = bob.get(&path).await?;
    let back: Vec<String> = list(&page, "/chunk").iter().map(brief).collect();
    assert_eq!(back, ["dave invite", "carol leave"]);

    // A single change has no gap, and is in the timeline and in the state.
    join(&dave, &room_id).await?;
    let single = rooms.sync(Duration::ZERO).await?;
    let room = &single["rooms"][&room_id];
    assert_eq!(room["limited"], json!(false));
    assert_eq!((timeline(room), state(room)), (owned(&["dave join"]), owned(&["dave join"])));
    assert_eq!((&room["joined_count"], &room["invited_count"]), (&json!(3), &json!(0)));

    // Whoever was told before and has changed in a gap is told again when speaking.
    alice.post(&format!("/rooms/{room_id}/kick"), json!({ "user_id": dave.user_id })).await?;
    say(&alice, &room_id, 3).await?;
    let gap = rooms.sync(Duration::ZERO).await?;
    assert_eq!(state(&gap["rooms"][&room_id]), Vec::<String>::new());
    invite(&alice, &room_id, &dave).await?;
    join(&dave, &room_id).await?;
    say(&dave, &room_id, 4).await?;
    let back = rooms.sync(Duration::ZERO).await?;
    assert_eq!(state(&back["rooms"][&room_id]), ["dave join"]);
    Ok(())
}

pub async fn without_a_gap_every_membership_is_told(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ss-all-alice").await?;
    let bob = Device::register(server, "ss-all-bob").await?;
    let carol = Device::register(server, "ss-all-carol").await?;
    let dave = Device::register(server, "ss-all-dave").await?;
    let room_id = alice.room_with(&[&bob, &carol]).await?;
    let mut rooms = SlidingSync::room_list(&bob.http, None).with_timeline_limit(5);
    rooms.sync(Duration::ZERO).await?;
    invite(&alice, &room_id, &dave).await?;
    join(&dave, &room_id).await?;
    leave(&carol, &room_id).await?;
    say(&alice, &room_id, 1).await?;
    let sync = rooms.sync(Duration::ZERO).await?;
    let room = &sync["rooms"][&room_id];
    assert_eq!(timeline(room), ["dave invite", "dave join", "carol leave", "1"]);
    assert_eq!((&room["limited"], &room["num_live"]), (&json!(false), &json!(4)));
    // The state is that after the timeline: of Dave's two events, the latter.
    assert_eq!(state(room), ["carol leave", "dave join"]);
    Ok(())
}

pub async fn state_is_told_when_it_changes(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ss-state-alice").await?;
    let room_id = alice.room_with(&[]).await?;
    set(&alice, &room_id, "org.example.a", "", 1).await?;
    set(&alice, &room_id, "org.example.b", "x", 1).await?;
    set(&alice, &room_id, "org.example.b", "y", 1).await?;
    say(&alice, &room_id, 1).await?;
    let only_a = all_rooms(json!([["org.example.a", ""]]), 1);
    let first = ask(&alice, &only_a, None).await?;
    assert_eq!(state(&first["rooms"][&room_id]), ["org.example.a 1"]);
    // Two changes in a gap: the latter, and nothing of what is not wanted.
    set(&alice, &room_id, "org.example.a", "", 2).await?;
    set(&alice, &room_id, "org.example.a", "", 3).await?;
    set(&alice, &room_id, "org.example.b", "x", 2).await?;
    let second = ask(&alice, &only_a, Some(&first["pos"])).await?;
    assert_eq!(state(&second["rooms"][&room_id]), ["org.example.a 3"]);
    // What is wanted now and was not before is told without having changed.
    let all_b = all_rooms(json!([["org.example.b", "*"]]), 1);
    let third = ask(&alice, &all_b, Some(&second["pos"])).await?;
    let room = &third["rooms"][&room_id];
    assert_eq!(state(room), ["org.example.b 1", "org.example.b 2"]);
    assert_eq!((timeline(room), room.get("initial")), (Vec::new(), None));
    // Wanted once more, it has not changed since it was told.
    let fourth = ask(&alice, &only_a, Some(&third["pos"])).await?;
    assert_eq!(fourth["rooms"], json!({}));
    // Unless it has, while it was not wanted.
    let fifth = ask(&alice, &all_b, Some(&fourth["pos"])).await?;
    set(&alice, &room_id, "org.example.a", "", 4).await?;
    let sixth = ask(&alice, &all_b, Some(&fifth["pos"])).await?;
    assert_eq!(state(&sixth["rooms"][&room_id]), Vec::<String>::new());
    let seventh = ask(&alice, &only_a, Some(&sixth["pos"])).await?;
    assert_eq!(state(&seventh["rooms"][&room_id]), ["org.example.a 4"]);
    // Everything.
    let all = ask(&alice, &all_rooms(json!([["*", "*"]]), 1), None).await?;
    let expected = [
        "alice join",
        "create",
        "guest_access",
        "history_visibility",
        "join_rules",
        "org.example.a 4",
        "org.example.b 1",
        "org.example.b 2",
        "power_levels",
    ];
    assert_eq!(state(&all["rooms"][&room_id]), expected);
    // A state key of every type is taken as everything.
    let any = ask(&alice, &all_rooms(json!([["*", "x"]]), 1), None).await?;
    assert_eq!(state(&any["rooms"][&room_id]), expected);
    let nothing = ask(&alice, &all_rooms(json!([]), 0), None).await?;
    let room = &nothing["rooms"][&room_id];
    for field in ["required_state", "timeline", "limited", "prev_batch", "num_live"] {
        assert_eq!(room.get(field), None, "{field}");
    }
    Ok(())
}

/// A connection that did not want members is told of none when it wants them lazily, but of those
/// who speak.
pub async fn wanting_members_later_brings_none(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ss-later-alice").await?;
    let bob = Device::register(server, "ss-later-bob").await?;
    let carol = Device::register(server, "ss-later-carol").await?;
    let room_id = alice.room_with(&[&bob, &carol]).await?;
    say(&alice, &room_id, 1).await?;
    let without = all_rooms(json!([["m.room.create", ""]]), 1);
    let first = ask(&bob, &without, None).await?;
    assert_eq!(state(&first["rooms"][&room_id]), ["create"]);
    let lazy = json!([["m.room.create", ""], ["m.room.member", "$LAZY"], ["m.room.member", "$ME"]]);
    let with = all_rooms(lazy, 1);
    let second = ask(&bob, &with, Some(&first["pos"])).await?;
    assert_eq!(second["rooms"], json!({}));
    say(&carol, &room_id, 2).await?;
    let third = ask(&bob, &with, Some(&second["pos"])).await?;
    assert_eq!(state(&third["rooms"][&room_id]), ["carol join"]);
    Ok(())
}

pub async fn an_invitation_has_its_own_state(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ss-invite-alice").await?;
    let bob = Device::register(server, "ss-invite-bob").await?;
    let mut rooms = SlidingSync::room_list(&bob.http, None);
    rooms.sync(Duration::ZERO).await?;
    let request = json!({ "invite": [bob.user_id], "name": "the room" });
    let room_id = alice.create_room(request).await?;
    say(&alice, &room_id, 1).await?;
    let invited = rooms.sync(Duration::ZERO).await?;
    let room = &invited["rooms"][&room_id];
    assert_eq!((&room["initial"], &room["name"]), (&json!(true), &json!("the room")));
    let mut shown: Vec<String> = list(room, "/invite_state").iter().map(brief).collect();
    shown.sort();
    assert_eq!(shown, ["alice join", "bob invite", "create", "join_rules", "name"]);
    let absent =
        ["required_state", "timeline", "limited", "prev_batch", "num_live", "joined_count"];
    for field in absent {
        assert_eq!(room.get(field), None, "{field}");
    }
    join(&bob, &room_id).await?;
    let joined = rooms.sync(Duration::ZERO).await?;
    let room = &joined["rooms"][&room_id];
    assert_eq!(room["initial"], json!(true));
    assert_eq!(timeline(room), ["bob join"]);
    assert_eq!((&room["limited"], &room["num_live"]), (&json!(true), &json!(1)));
    assert!(state(room).contains(&"bob join".to_owned()), "{room}");
    assert_eq!((&room["joined_count"], &room["invited_count"]), (&json!(2), &json!(0)));
    assert_eq!(room.get("invite_state"), None);
    Ok(())
}

pub async fn leaving_is_told_once_and_a_kick_stays(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ss-leave-alice").await?;
    let bob = Device::register(server, "ss-leave-bob").await?;
    let left = alice.room_with(&[&bob]).await?;
    let kicked = alice.room_with(&[&bob]).await?;
    let mut rooms = SlidingSync::room_list(&bob.http, None);
    rooms.sync(Duration::ZERO).await?;
    leave(&bob, &left).await?;
    say(&alice, &left, 1).await?;
    alice.post(&format!("/rooms/{kicked}/kick"), json!({ "user_id": bob.user_id })).await?;
    say(&alice, &kicked, 1).await?;
    let gone = rooms.sync(Duration::ZERO).await?;
    assert_eq!(gone["lists"]["all_rooms"]["count"], json!(2));
    // The one who has put Bob out comes along.
    for (room_id, members) in
        [(&left, vec!["bob leave"]), (&kicked, vec!["alice join", "bob leave"])]
    {
        let room = &gone["rooms"][room_id];
        assert_eq!((timeline(room), state(room)), (owned(&["bob leave"]), owned(&members)));
        assert_eq!(room["limited"], json!(false));
        assert_eq!((room.get("joined_count"), room.get("initial")), (None, None));
    }
    say(&alice, &left, 2).await?;
    say(&alice, &kicked, 2).await?;
    let after = rooms.sync(Duration::ZERO).await?;
    assert_eq!(after["rooms"], json!({}));
    assert_eq!(after["lists"]["all_rooms"]["count"], json!(1));
    rooms.expire();
    let afresh = rooms.sync(Duration::ZERO).await?;
    let listed = &afresh["lists"]["all_rooms"]["ops"][0]["room_ids"];
    assert_eq!(listed, &json!([kicked]));
    assert_eq!(timeline(&afresh["rooms"][&kicked]), ["bob leave"]);

    invite(&alice, &kicked, &bob).await?;
    join(&bob, &kicked).await?;
    let back = rooms.sync(Duration::ZERO).await?;
    let room = &back["rooms"][&kicked];
    assert_eq!((&room["initial"], timeline(room)), (&json!(true), vec!["bob join".into()]));
    assert_eq!(room["joined_count"], json!(2));
    Ok(())
}
