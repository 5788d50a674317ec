//! `/sync` with lazily loaded members, with the state after the timeline (MSC4222), and with
//! filters.

use matrix_mls_kit::{Homeserver, KitError, Result};
use serde_json::{Value, json};

use super::{
    device::{Device, list},
    sliding_sync::{brief, invite, join, leave, say, set},
};

/// A sync of two events a room with the parts of a filter that concern members.
async fn sync(device: &Device, since: Option<&str>, state: Value) -> Result<Value, KitError> {
    ask(device, since, json!({ "timeline": { "limit": 2 }, "state": state }), "").await
}

/// A sync that no cache answers.
async fn ask(
    device: &Device,
    since: Option<&str>,
    room: Value,
    more: &str,
) -> Result<Value, KitError> {
    let filter = json!({ "room": room, "nonce": rand::random::<u32>() }).to_string();
    let filter: String = filter.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
    device.get(&format!("/sync?timeout=0&filter={filter}{since}{more}")).await
}

fn lazy() -> Value {
    json!({ "lazy_load_members": true })
}

fn next(sync: &Value) -> Option<&str> {
    sync["next_batch"].as_str()
}

/// The timeline in order, and the members of the state, sorted.
fn told(sync: &Value, part: &str, room_id: &str) -> (Vec<String>, Vec<String>) {
    let room = &sync["rooms"][part][room_id];
    let timeline = list(room, "/timeline/events").iter().map(brief).collect();
    let mut events = list(room, "/state/events").to_vec();
    events.extend_from_slice(list(room, "/org.matrix.msc4222.state_after/events"));
    let members = events.iter().filter(|event| event["type"] == "m.room.member");
    let mut members: Vec<String> = members.map(brief).collect();
    members.sort();
    (timeline, members)
}

fn owned(timeline: &[&str], members: &[&str]) -> (Vec<String>, Vec<String>) {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    (owned(timeline), owned(members))
}

pub async fn members_come_as_the_timeline_needs_them(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ll-need-alice").await?;
    let bob = Device::register(server, "ll-need-bob").await?;
    let mut others = Vec::new();
    for name in ["c", "d", "e", "f", "g", "h"] {
        others.push(Device::register(server, &format!("ll-need-{name}")).await?);
    }
    let (speaker, leaver) = (&others[4], &others[5]);
    let mut everybody: Vec<&Device> = vec![&bob];
    everybody.extend(others.iter());
    let room_id = alice.room_with(&everybody).await?;
    say(&alice, &room_id, 1).await?;
    say(&alice, &room_id, 2).await?;
    // Who is shown, oneself, and after whom the room is called.
    let first = sync(&bob, None, lazy()).await?;
    let heroes = ["alice join", "bob join", "c join", "d join", "e join", "f join"];
    assert_eq!(told(&first, "join", &room_id), owned(&["1", "2"], &heroes));
    let summary = &first["rooms"]["join"][&room_id]["summary"];
    assert_eq!(summary["m.joined_member_count"], json!(8));
    assert_eq!(summary["m.invited_member_count"], json!(0));
    assert_eq!(list(summary, "/m.heroes").len(), 5);
    // Who speaks for the first time comes along, and once.
    say(speaker, &room_id, 3).await?;
    let second = sync(&bob, next(&first), lazy()).await?;
    assert_eq!(told(&second, "join", &room_id), owned(&["3"], &["g join"]));
    assert_eq!(second["rooms"]["join"][&room_id]["summary"], json!({}));
    say(speaker, &room_id, 4).await?;
    let redundant = json!({ "lazy_load_members": true, "include_redundant_members": true });
    let third = sync(&bob, next(&second), redundant).await?;
    assert_eq!(told(&third, "join", &room_id), owned(&["4"], &["g join"]));
    let third = sync(&bob, next(&second), lazy()).await?;
    assert_eq!(told(&third, "join", &room_id), owned(&["4"], &[]));
    // From an older token, what came after it is told again.
    let again = sync(&bob, next(&first), lazy()).await?;
    assert_eq!(told(&again, "join", &room_id), owned(&["3", "4"], &["g join"]));
    // A gap hides no change of a membership, however lazily members are loaded.
    leave(leaver, &room_id).await?;
    let newcomer = Device::register(server, "ll-need-i").await?;
    invite(&alice, &room_id, &newcomer).await?;
    join(&newcomer, &room_id).await?;
    say(&alice, &room_id, 5).await?;
    say(&alice, &room_id, 6).await?;
    let gap = sync(&bob, next(&third), lazy()).await?;
    let room = &gap["rooms"]["join"][&room_id];
    assert_eq!(room["timeline"]["limited"], json!(true));
    assert_eq!(told(&gap, "join", &room_id), owned(&["5", "6"], &["h leave", "i join"]));
    assert_eq!(room["summary"]["m.joined_member_count"], json!(8));
    // Repeated, it is told the same.
    let gap = sync(&bob, next(&third), lazy()).await?;
    assert_eq!(told(&gap, "join", &room_id), owned(&["5", "6"], &["h leave", "i join"]));
    Ok(())
}

pub async fn who_joins_and_speaks_is_told_twice(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ll-twice-alice").await?;
    let bob = Device::register(server, "ll-twice-bob").await?;
    let carol = Device::register(server, "ll-twice-carol").await?;
    let room_id = alice.room_with(&[&bob]).await?;
    let first = sync(&bob, None, lazy()).await?;
    invite(&alice, &room_id, &carol).await?;
    let second = sync(&bob, next(&first), lazy()).await?;
    assert_eq!(told(&second, "join", &room_id), owned(&["carol invite"], &[]));
    let summary = &second["rooms"]["join"][&room_id]["summary"];
    let counts = [&summary["m.joined_member_count"], &summary["m.invited_member_count"]];
    assert_eq!(counts, [&json!(2), &json!(1)]);
    join(&carol, &room_id).await?;
    say(&carol, &room_id, 1).await?;
    let third = sync(&bob, next(&second), lazy()).await?;
    assert_eq!(told(&third, "join", &room_id), owned(&["carol join", "1"], &["carol join"]));
    assert_eq!(third["rooms"]["join"][&room_id]["timeline"]["limited"], json!(false));
    // Whoever comes in gets the whole state, and a timeline that counts as cut. The state begins
    // after the timeline's first event.
    let hers = sync(&carol, None, lazy()).await?;
    assert_eq!(
        told(&hers, "join", &room_id),
        owned(&["carol join", "1"], &["alice join", "bob join"])
    );
    leave(&carol, &room_id).await?;
    let gone = sync(&carol, next(&hers), lazy()).await?;
    assert_eq!(told(&gone, "leave", &room_id).0, ["carol leave"]);
    invite(&alice, &room_id, &carol).await?;
    join(&carol, &room_id).await?;
    let back = sync(&carol, next(&gone), json!({})).await?;
    let room = &back["rooms"]["join"][&room_id];
    assert_eq!(room["timeline"]["limited"], json!(true));
    let members = ["alice join", "bob join", "carol invite"];
    assert_eq!(told(&back, "join", &room_id), owned(&["carol invite", "carol join"], &members));
    Ok(())
}

pub async fn going_and_coming_back_begins_anew(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ll-anew-alice").await?;
    let bob = Device::register(server, "ll-anew-bob").await?;
    let room_id = alice.room_with(&[&bob]).await?;
    let first = sync(&bob, None, json!({})).await?;
    leave(&bob, &room_id).await?;
    invite(&alice, &room_id, &bob).await?;
    join(&bob, &room_id).await?;
    say(&alice, &room_id, 1).await?;
    let second = sync(&bob, next(&first), json!({})).await?;
    let room = &second["rooms"]["join"][&room_id];
    assert_eq!(room["timeline"]["limited"], json!(true));
    assert_eq!(told(&second, "join", &room_id), owned(&["bob join", "1"], &["alice join"]));
    assert!(list(room, "/state/events").iter().any(|event| event["type"] == "m.room.create"));
    Ok(())
}

/// `state_after` is the state after the timeline: what is in the timeline is in it too.
pub async fn the_state_may_be_that_after_the_timeline(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ll-after-alice").await?;
    let bob = Device::register(server, "ll-after-bob").await?;
    let carol = Device::register(server, "ll-after-carol").await?;
    let room_id = alice.room_with(&[&bob]).await?;
    set(&alice, &room_id, "org.example.a", "", 1).await?;
    let after = "&org.matrix.msc4222.use_state_after=true";
    let limit = |limit: u64| json!({ "timeline": { "limit": limit } });
    let first = ask(&bob, None, limit(2), after).await?;
    let room = &first["rooms"]["join"][&room_id];
    assert_eq!(room.get("state"), None);
    let kinds = |sync: &Value| {
        let path = format!("/rooms/join/{room_id}/org.matrix.msc4222.state_after/events");
        let events = list(sync, &path).iter().filter(|event| event["type"] != "m.room.member");
        let mut kinds: Vec<String> = events.map(brief).collect();
        kinds.sort();
        kinds
    };
    let rest = ["create", "guest_access", "history_visibility", "join_rules"];
    let expected = [&rest[..], &["org.example.a 1", "power_levels"]].concat();
    assert_eq!(kinds(&first), expected);
    let members = ["alice join", "bob join"];
    assert_eq!(told(&first, "join", &room_id), owned(&["bob join", "org.example.a 1"], &members));

    set(&alice, &room_id, "org.example.a", "", 2).await?;
    invite(&alice, &room_id, &carol).await?;
    set(&alice, &room_id, "org.example.a", "", 3).await?;
    say(&alice, &room_id, 1).await?;
    for size in [10, 1] {
        let second = ask(&bob, next(&first), limit(size), after).await?;
        assert_eq!(kinds(&second), ["org.example.a 3"], "{size}");
        assert_eq!(told(&second, "join", &room_id).1, ["carol invite"], "{size}");
        let limited = &second["rooms"]["join"][&room_id]["timeline"]["limited"];
        assert_eq!(limited, &json!(size == 1));
    }
    // Of the same without it, the timeline's own state is left out.
    let before = ask(&bob, next(&first), limit(10), "").await?;
    let room = &before["rooms"]["join"][&room_id];
    assert_eq!(room["state"], json!({ "events": [] }));
    let before = ask(&bob, next(&first), limit(1), "").await?;
    assert_eq!(list(&before["rooms"]["join"][&room_id], "/state/events").len(), 2);

    // Lazily, whoever speaks is told with each timeline until it is known.
    let lazily = json!({ "timeline": { "limit": 10 }, "state": lazy() });
    let third = ask(&bob, next(&first), lazily, after).await?;
    assert_eq!(told(&third, "join", &room_id).1, ["alice join", "carol invite"]);
    Ok(())
}

pub async fn a_sync_can_be_filtered(server: &Homeserver) -> Result {
    let alice = Device::register(server, "ll-filter-alice").await?;
    let bob = Device::register(server, "ll-filter-bob").await?;
    let room_id = alice.room_with(&[&bob]).await?;
    let other = alice.room_with(&[&bob]).await?;
    let since = bob.caught_up().await?;
    for n in 1..=3 {
        say(&alice, &room_id, n).await?;
        set(&alice, &room_id, "org.example.a", "", n).await?;
    }
    say(&alice, &other, 1).await?;
    let timeline =
        json!({ "types": ["org.example.*"], "not_types": ["org.example.a"], "limit": 9 });
    let sync = ask(&bob, Some(&since), json!({ "timeline": timeline }), "").await?;
    assert_eq!(told(&sync, "join", &room_id).0, ["1", "2", "3"]);
    assert_eq!(sync["rooms"]["join"][&room_id]["timeline"]["limited"], json!(false));
    let only = json!({ "rooms": [room_id], "timeline": { "senders": [bob.user_id] } });
    let sync = ask(&bob, Some(&since), only, "").await?;
    assert_eq!(told(&sync, "join", &room_id).0, Vec::<String>::new());
    assert!(sync["rooms"]["join"].get(&other).is_none(), "{sync}");
    let not = ask(&bob, Some(&since), json!({ "not_rooms": [room_id] }), "").await?;
    assert_eq!(told(&not, "join", &other).0, ["1"]);
    assert!(not["rooms"]["join"].get(&room_id).is_none(), "{not}");

    let refused = bob.refusal("GET", "/sync?filter=%7B", Value::Null).await?;
    assert_eq!(refused, (400, "M_NOT_JSON".to_owned()));
    let refused = bob.refusal("GET", "/sync?filter=none", Value::Null).await?;
    assert_eq!(refused, (400, "M_INVALID_PARAM".to_owned()));
    Ok(())
}
