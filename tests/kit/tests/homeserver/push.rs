//! Push rules: what notifies, what is counted as unread, and how a rule silences events by their
//! content.

use matrix_mls_kit::{Homeserver, KitError, Result, bail};
use serde_json::{Value, json};

use super::{
    device::{Device, list},
    sliding_sync::{all_rooms, ask, invite, join},
};

/// The user's unread and highlighted events in a room, as `/notifications` lists them. A sync must
/// count as many; but Synapse counts one twice when its counting job, each half a minute, comes in
/// between.
async fn unread(server: &Homeserver, device: &Device, room_id: &str) -> Result<(usize, usize)> {
    let answer = device.get("/notifications?limit=500").await?;
    let unread = list(&answer, "/notifications").iter().filter(|note| {
        note["room_id"] == room_id
            && note["read"] == false
            && note["event"]["type"] != "m.room.member"
    });
    let highlights = |note: &&Value| {
        let actions = list(note, "/actions").iter();
        let mut tweaks = actions.filter(|action| action["set_tweak"] == "highlight");
        tweaks.any(|tweak| tweak.get("value").is_none_or(|value| value == &json!(true)))
    };
    let listed = (unread.clone().count(), unread.filter(highlights).count());
    let sync = device.latest_sync(None).await?;
    let counts = &sync["rooms"]["join"][room_id]["unread_notifications"];
    let slack = usize::from(server.controls().is_none());
    for (name, listed) in [("notification_count", listed.0), ("highlight_count", listed.1)] {
        let count = counts[name].as_u64().and_then(|count| usize::try_from(count).ok());
        if !count.is_some_and(|count| (listed..=listed + slack).contains(&count)) {
            bail!("{name}: {count:?} are counted and {listed} listed");
        }
    }
    Ok(listed)
}

async fn send(
    by: &Device,
    room_id: &str,
    kind: &str,
    txn: &str,
    content: Value,
) -> Result<String, KitError> {
    let answer = by.put(&format!("/rooms/{room_id}/send/{kind}/{txn}"), content).await?;
    Ok(answer["event_id"].as_str().unwrap_or_default().to_owned())
}

fn text(body: &str) -> Value {
    json!({ "msgtype": "m.text", "body": body })
}

pub async fn messages_and_encrypted_events_are_counted(server: &Homeserver) -> Result {
    let alice = Device::register(server, "push-count-alice").await?;
    let bob = Device::register(server, "push-count-bob").await?;
    let carol = Device::register(server, "push-count-carol").await?;
    let room_id = alice.room_with(&[&bob, &carol]).await?;
    assert_eq!(unread(server, &bob, &room_id).await?, (0, 0));
    let encrypted = json!({ "algorithm": "org.example" });
    let first = send(&alice, &room_id, "m.room.encrypted", "t1", encrypted.clone()).await?;
    assert_eq!(unread(server, &bob, &room_id).await?, (1, 0));
    send(&alice, &room_id, "m.room.message", "t2", text("hi")).await?;
    assert_eq!(unread(server, &bob, &room_id).await?, (2, 0));
    // Neither other types, nor notices, nor state.
    send(&alice, &room_id, "org.example.message", "t3", json!({})).await?;
    let notice = json!({ "msgtype": "m.notice", "body": "hi" });
    send(&alice, &room_id, "m.room.message", "t4", notice).await?;
    alice.put(&format!("/rooms/{room_id}/state/m.room.topic/"), json!({ "topic": "x" })).await?;
    assert_eq!(unread(server, &bob, &room_id).await?, (2, 0));
    let mut mention = text("look");
    mention["m.mentions"] = json!({ "user_ids": [bob.user_id] });
    let last = send(&alice, &room_id, "m.room.message", "t5", mention).await?;
    assert_eq!(unread(server, &bob, &room_id).await?, (3, 1));
    assert_eq!(unread(server, &carol, &room_id).await?, (3, 0));
    assert_eq!(unread(server, &alice, &room_id).await?, (0, 0));
    // Saying something oneself reads nothing; receipts do, and go forward only.
    send(&bob, &room_id, "m.room.message", "t6", text("me too")).await?;
    assert_eq!(unread(server, &bob, &room_id).await?, (3, 1));
    let since = bob.caught_up().await?;
    let receipt = |event_id: &str| format!("/rooms/{room_id}/receipt/m.read/{event_id}");
    bob.post(&receipt(&first), json!({})).await?;
    assert_eq!(unread(server, &bob, &room_id).await?, (2, 1));
    let news = bob.latest_sync(Some(&since)).await?;
    let room = &news["rooms"]["join"][&room_id];
    assert!(room["unread_notifications"]["notification_count"].is_u64(), "{room}");
    let told = &list(room, "/ephemeral/events")[0];
    assert_eq!(told["type"], json!("m.receipt"));
    assert!(told["content"][&first]["m.read"].get(&bob.user_id).is_some(), "{told}");
    let markers = json!({ "m.fully_read": last, "m.read": last });
    bob.post(&format!("/rooms/{room_id}/read_markers"), markers).await?;
    assert_eq!(unread(server, &bob, &room_id).await?, (0, 0));
    bob.post(&receipt(&first), json!({})).await?;
    assert_eq!(unread(server, &bob, &room_id).await?, (0, 0));
    let nonsense = format!("/rooms/{room_id}/receipt/m.nonsense/{first}");
    let refused = bob.refusal("POST", &nonsense, json!({})).await?;
    assert_eq!(refused, (400, "M_UNKNOWN".to_owned()));
    // Sliding sync leaves counting to the client.
    send(&alice, &room_id, "m.room.encrypted", "t7", encrypted).await?;
    let sliding = ask(&bob, &all_rooms(json!([]), 1), None).await?;
    let room = &sliding["rooms"][&room_id];
    assert_eq!((&room["notification_count"], &room["highlight_count"]), (&json!(0), &json!(0)));
    assert_eq!(unread(server, &bob, &room_id).await?, (1, 0));
    Ok(())
}

pub async fn a_rule_silences_events_by_their_content(server: &Homeserver) -> Result {
    let alice = Device::register(server, "push-rule-alice").await?;
    let bob = Device::register(server, "push-rule-bob").await?;
    let room_id = alice.room_with(&[&bob]).await?;
    let commit = json!({ "algorithm": "org.example", "org.example.commit": true });
    let message = json!({ "algorithm": "org.example", "org.example.commit": false });
    send(&alice, &room_id, "m.room.encrypted", "t1", commit.clone()).await?;
    assert_eq!(unread(server, &bob, &room_id).await?, (1, 0));
    let since = bob.caught_up().await?;
    let rule = json!({
        "conditions": [
            { "kind": "event_match", "key": "type", "pattern": "m.room.encrypted" },
            { "kind": "event_property_is", "key": "content.org\\.example\\.commit", "value": true },
        ],
        "actions": [],
    });
    let path = "/pushrules/global/override/org.example.commits";
    bob.put(path, rule.clone()).await?;
    // The account's other devices are told.
    let sync = bob.latest_sync(Some(&since)).await?;
    let noted = list(&sync, "/account_data/events");
    assert_eq!(noted.iter().map(|event| &event["type"]).collect::<Vec<_>>(), ["m.push_rules"]);
    let mut shown = bob.get(path).await?;
    assert_eq!((&shown["default"], &shown["enabled"]), (&json!(false), &json!(true)));
    if let Some(shown) = shown.as_object_mut() {
        shown.retain(|name, _| rule.get(name).is_some());
    }
    assert_eq!(shown, rule);
    // From now on, and for these events alone.
    send(&alice, &room_id, "m.room.encrypted", "t2", commit.clone()).await?;
    assert_eq!(unread(server, &bob, &room_id).await?, (1, 0));
    send(&alice, &room_id, "m.room.encrypted", "t3", message).await?;
    assert_eq!(unread(server, &bob, &room_id).await?, (2, 0));
    bob.put(&format!("{path}/enabled"), json!({ "enabled": false })).await?;
    send(&alice, &room_id, "m.room.encrypted", "t4", commit.clone()).await?;
    assert_eq!(unread(server, &bob, &room_id).await?, (3, 0));
    bob.put(&format!("{path}/enabled"), json!({ "enabled": true })).await?;
    bob.put(
        &format!("{path}/actions"),
        json!({ "actions": ["notify", { "set_tweak": "highlight" }] }),
    )
    .await?;
    send(&alice, &room_id, "m.room.encrypted", "t5", commit).await?;
    assert_eq!(unread(server, &bob, &room_id).await?, (4, 1));
    assert_eq!(bob.get(&format!("{path}/enabled")).await?, json!({ "enabled": true }));
    bob.http.json("DELETE", &format!("/_matrix/client/v3{path}"), json!({})).await?;
    let gone = bob.refusal("GET", path, Value::Null).await?;
    assert_eq!(gone, (404, "M_NOT_FOUND".to_owned()));
    Ok(())
}

pub async fn rules_are_listed_and_checked(server: &Homeserver) -> Result {
    let alice = Device::register(server, "push-list-alice").await?;
    let all = alice.get("/pushrules/").await?;
    let ids = |kind: &str| {
        let rules = list(&all, &format!("/global/{kind}")).iter();
        rules.filter_map(|rule| rule["rule_id"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let overrides = [
        ".m.rule.master",
        ".m.rule.suppress_notices",
        ".m.rule.invite_for_me",
        ".m.rule.member_event",
        ".m.rule.is_user_mention",
        ".m.rule.is_room_mention",
        ".m.rule.tombstone",
        ".m.rule.reaction",
        ".m.rule.room.server_acl",
        ".m.rule.suppress_edits",
    ];
    for rule in overrides {
        assert!(ids("override").contains(&rule.to_owned()), "{rule}: {all}");
    }
    let underrides = [
        ".m.rule.call",
        ".m.rule.encrypted_room_one_to_one",
        ".m.rule.room_one_to_one",
        ".m.rule.message",
        ".m.rule.encrypted",
    ];
    for rule in underrides {
        assert!(ids("underride").contains(&rule.to_owned()), "{rule}: {all}");
    }
    assert_eq!((ids("room"), ids("sender")), (Vec::new(), Vec::new()));
    assert_eq!(alice.get("/pushrules/global/").await?, all["global"]);
    let note = format!("/user/{}/account_data/m.push_rules", alice.user_id);
    assert_eq!(alice.get(&note).await?, all);
    let rule = json!({ "conditions": [], "actions": [] });
    let unknown = (400, "M_UNKNOWN".to_owned());
    for (path, body, expected) in [
        ("override/.m.mine", rule.clone(), unknown.clone()),
        ("nonsense/mine", rule, unknown.clone()),
        ("override/mine", json!({ "actions": [] }), unknown.clone()),
        ("override/mine", json!({ "conditions": [] }), unknown),
        ("override/mine/enabled", json!({ "enabled": true }), (404, "M_NOT_FOUND".to_owned())),
    ] {
        let path = format!("/pushrules/global/{path}");
        assert_eq!(alice.refusal("PUT", &path, body.clone()).await?, expected, "{path} {body}");
    }
    let gone = alice.refusal("DELETE", "/pushrules/global/override/mine", json!({})).await?;
    assert_eq!(gone, (404, "M_NOT_FOUND".to_owned()));
    Ok(())
}

pub async fn notifications_are_listed(server: &Homeserver) -> Result {
    let alice = Device::register(server, "push-notes-alice").await?;
    let bob = Device::register(server, "push-notes-bob").await?;
    let room_id = alice.room_with(&[]).await?;
    invite(&alice, &room_id, &bob).await?;
    let listed = bob.get("/notifications").await?;
    let kinds = |answer: &Value| {
        let notes = list(answer, "/notifications").iter();
        notes.map(|note| note["event"]["type"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&listed), ["m.room.member"]);
    join(&bob, &room_id).await?;
    let encrypted = json!({ "algorithm": "org.example" });
    let first = send(&alice, &room_id, "m.room.encrypted", "t1", encrypted.clone()).await?;
    send(&alice, &room_id, "m.room.encrypted", "t2", encrypted).await?;
    let mut mention = text("look");
    mention["m.mentions"] = json!({ "user_ids": [bob.user_id] });
    send(&alice, &room_id, "m.room.message", "t3", mention).await?;
    bob.post(&format!("/rooms/{room_id}/receipt/m.read/{first}"), json!({})).await?;
    // The newest first.
    let listed = bob.get("/notifications").await?;
    let all = ["m.room.message", "m.room.encrypted", "m.room.encrypted", "m.room.member"];
    assert_eq!(kinds(&listed), all);
    let notes = list(&listed, "/notifications");
    let read: Vec<&Value> = notes.iter().map(|note| &note["read"]).collect();
    assert_eq!(read, [&json!(false), &json!(false), &json!(true), &json!(true)]);
    assert_eq!(notes[0]["room_id"], json!(room_id));
    assert_eq!(notes[2]["event"]["event_id"], json!(first));
    assert_eq!(notes[2]["actions"][0], json!("notify"));
    let highlights = bob.get("/notifications?only=highlight").await?;
    assert_eq!(kinds(&highlights), ["m.room.message"]);
    let page = bob.get("/notifications?limit=2").await?;
    assert_eq!(kinds(&page), all[..2]);
    let from = page["next_token"].as_str().unwrap_or_default();
    let rest = bob.get(&format!("/notifications?limit=5&from={from}")).await?;
    assert_eq!(kinds(&rest), all[2..]);
    Ok(())
}
