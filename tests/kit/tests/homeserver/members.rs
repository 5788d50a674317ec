//! Who is in a room, now and in the past, and pages of its events with their members.

use matrix_mls_kit::{Homeserver, Result};
use serde_json::{Value, json};

use super::{
    device::{Device, list},
    sliding_sync::{brief, invite, join, leave, say},
};

fn members(answer: &Value) -> Vec<String> {
    let mut members: Vec<String> = list(answer, "/chunk").iter().map(brief).collect();
    members.sort();
    members
}

pub async fn members_can_be_asked_for(server: &Homeserver) -> Result {
    let alice = Device::register(server, "mem-ask-alice").await?;
    let bob = Device::register(server, "mem-ask-bob").await?;
    let carol = Device::register(server, "mem-ask-carol").await?;
    let stranger = Device::register(server, "mem-ask-stranger").await?;
    let room_id = alice.room_with(&[&bob, &carol]).await?;
    let then = alice.caught_up().await?;
    leave(&carol, &room_id).await?;
    invite(&alice, &room_id, &stranger).await?;
    let path = format!("/rooms/{room_id}/members");
    let ask = async |query: &str| alice.get(&format!("{path}{query}")).await;
    let now = ["alice join", "bob join", "carol leave", "stranger invite"];
    assert_eq!(members(&ask("").await?), now);
    assert_eq!(members(&ask("?membership=join").await?), now[..2]);
    let here = ["alice join", "bob join", "stranger invite"];
    assert_eq!(members(&ask("?not_membership=leave").await?), here);
    let before = ["alice join", "bob join", "carol join"];
    assert_eq!(members(&ask(&format!("?at={then}")).await?), before);
    let none = ask(&format!("?at={then}&not_membership=join")).await?;
    assert_eq!(members(&none), Vec::<String>::new());
    let refused = alice.refusal("GET", &format!("{path}?at=nonsense"), Value::Null).await?;
    assert_eq!(refused, (400, "M_UNKNOWN".to_owned()));

    let joined = alice.get(&format!("/rooms/{room_id}/joined_members")).await?;
    let profile = |name: &str| json!({ "display_name": name, "avatar_url": null });
    assert_eq!(
        joined["joined"],
        json!({
            &alice.user_id: profile("mem-ask-alice"), &bob.user_id: profile("mem-ask-bob"),
        })
    );
    // Who has left sees who was there then, and not who is; who is invited sees neither.
    invite(&alice, &room_id, &carol).await?;
    join(&carol, &room_id).await?;
    leave(&carol, &room_id).await?;
    leave(&bob, &room_id).await?;
    let hers = carol.get(&path).await?;
    let expected = ["alice join", "bob join", "carol leave", "stranger invite"];
    assert_eq!(members(&hers), expected);
    for who in [&carol, &stranger] {
        let path = format!("/rooms/{room_id}/joined_members");
        assert_eq!(who.refusal("GET", &path, Value::Null).await?, (403, "M_FORBIDDEN".to_owned()));
    }
    let refused = stranger.refusal("GET", &path, Value::Null).await?;
    assert_eq!(refused, (403, "M_FORBIDDEN".to_owned()));
    Ok(())
}

pub async fn pages_bring_the_members_they_need(server: &Homeserver) -> Result {
    let alice = Device::register(server, "mem-page-alice").await?;
    let bob = Device::register(server, "mem-page-bob").await?;
    let carol = Device::register(server, "mem-page-carol").await?;
    let room_id = alice.room_with(&[&bob, &carol]).await?;
    for n in 1..=4 {
        say(if n % 2 == 0 { &bob } else { &alice }, &room_id, n).await?;
    }
    leave(&bob, &room_id).await?;
    let path = format!("/rooms/{room_id}/messages");
    let filter = json!({ "lazy_load_members": true, "types": ["org.example.message"] }).to_string();
    let filter: String = filter.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let page = alice.get(&format!("{path}?dir=b&limit=3&filter={filter}")).await?;
    let shown: Vec<String> = list(&page, "/chunk").iter().map(brief).collect();
    assert_eq!(shown, ["4", "3", "2"]);
    // The members are as of the first event of the page.
    let mut state: Vec<String> = list(&page, "/state").iter().map(brief).collect();
    state.sort();
    assert_eq!(state, ["alice join", "bob join"]);
    let plain = alice.get(&format!("{path}?dir=b&limit=3")).await?;
    assert_eq!(plain.get("state"), None);
    // What the requesting user was at each event.
    let was = &list(&page, "/chunk")[0]["unsigned"]["membership"];
    assert_eq!(was, &json!("join"));
    Ok(())
}

pub async fn pages_go_both_ways_and_end(server: &Homeserver) -> Result {
    let alice = Device::register(server, "mem-ways-alice").await?;
    let room_id = alice.room_with(&[]).await?;
    let begin = alice.caught_up().await?;
    for n in 1..=4 {
        say(&alice, &room_id, n).await?;
    }
    let end = alice.caught_up().await?;
    say(&alice, &room_id, 5).await?;
    let path = format!("/rooms/{room_id}/messages");
    let ask = async |query: String| alice.get(&format!("{path}?{query}")).await;
    let shown = |page: &Value| list(page, "/chunk").iter().map(brief).collect::<Vec<_>>();
    // Between two tokens.
    let page = ask(format!("dir=f&from={begin}&to={end}&limit=10")).await?;
    assert_eq!(shown(&page), ["1", "2", "3", "4"]);
    let page = ask(format!("dir=b&from={end}&to={begin}&limit=10")).await?;
    assert_eq!(shown(&page), ["4", "3", "2", "1"]);
    // In pages, up to the first that is empty.
    let page = ask(format!("dir=f&from={begin}&to={end}&limit=3")).await?;
    assert_eq!(shown(&page), ["1", "2", "3"]);
    let from = page["end"].as_str().unwrap_or_default().to_owned();
    let page = ask(format!("dir=f&from={from}&to={end}&limit=3")).await?;
    assert_eq!(shown(&page), ["4"]);
    let from = page["end"].as_str().unwrap_or_default().to_owned();
    let page = ask(format!("dir=f&from={from}&to={end}&limit=3")).await?;
    assert_eq!((shown(&page), page.get("end")), (Vec::new(), None));
    // Without a start, from the room's beginning or from its end.
    let page = ask("dir=f&limit=2".to_owned()).await?;
    assert_eq!(shown(&page), ["create", "alice join"]);
    let page = ask("dir=b&limit=1".to_owned()).await?;
    assert_eq!(shown(&page), ["5"]);
    for (query, errcode) in [
        ("dir=x", "M_INVALID_PARAM"),
        ("dir=b&limit=x", "M_INVALID_PARAM"),
        ("dir=b&from=nonsense", "M_UNKNOWN"),
        ("dir=b&to=nonsense", "M_UNKNOWN"),
    ] {
        let refused = alice.refusal("GET", &format!("{path}?{query}"), Value::Null).await?;
        assert_eq!(refused, (400, errcode.to_owned()), "{query}");
    }
    Ok(())
}

/// Of one upload's keys no order is promised; those of an earlier one come first.
pub async fn one_time_keys_are_claimed_oldest_first(server: &Homeserver) -> Result {
    let alice = Device::register(server, "mem-keys-alice").await?;
    let bob = Device::register(server, "mem-keys-bob").await?;
    for id in ["z", "m", "a", "q"] {
        let keys = json!({ "one_time_keys": { format!("org.example.key:{id}"): id } });
        alice.post("/keys/upload", keys).await?;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let request = json!({ "one_time_keys": { &alice.user_id: { "FIRST": "org.example.key" } } });
    let mut claimed = Vec::new();
    for _ in 0..4 {
        let answer = bob.post("/keys/claim", request.clone()).await?;
        let keys = answer["one_time_keys"][&alice.user_id]["FIRST"].as_object();
        claimed.extend(keys.into_iter().flatten().map(|(_, key)| key.clone()));
    }
    assert_eq!(claimed, [json!("z"), json!("m"), json!("a"), json!("q")]);
    let none = bob.post("/keys/claim", request).await?;
    assert_eq!(none["one_time_keys"], json!({}));
    Ok(())
}
