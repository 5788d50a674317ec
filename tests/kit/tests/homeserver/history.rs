//! What of a room's past a user may read: single events and pages.

use matrix_mls_kit::{Homeserver, KitError, Result, bail};
use serde_json::{Value, json};

use super::{
    device::{Device, list},
    sync::timeline,
};

/// A room in which Alice says something before Bob is invited (0), then (1), while he is joined
/// (2), and when he has gone (3).
struct Past<'a> {
    room_id: String,
    said: Vec<String>,
    alice: &'a Device,
}

impl<'a> Past<'a> {
    async fn begin(alice: &'a Device, visibility: &str) -> Result<Self, KitError> {
        let state = json!({
            "type": "m.room.history_visibility", "state_key": "",
            "content": { "history_visibility": visibility },
        });
        let room_id = alice.create_room(json!({ "initial_state": [state] })).await?;
        Ok(Self { room_id, said: Vec::new(), alice })
    }

    async fn say(&mut self) -> Result<(), KitError> {
        let number = self.said.len();
        let content = json!({ "number": number });
        self.said.push(self.alice.send(&self.room_id, &format!("t{number}"), content).await?);
        Ok(())
    }

    async fn bob(&self, action: &str, bob: &Device) -> Result<Value, KitError> {
        let by = if action == "join" { bob } else { self.alice };
        let body = if action == "join" { json!({}) } else { json!({ "user_id": bob.user_id }) };
        by.post(&format!("/rooms/{}/{action}", self.room_id), body).await
    }

    /// The numbers of what this device can fetch by id. What it cannot is not found.
    async fn fetched(&self, by: &Device) -> Result<String> {
        let mut numbers = String::new();
        for (number, event_id) in self.said.iter().enumerate() {
            let path = format!("/rooms/{}/event/{event_id}", self.room_id);
            let answer = by.ask("GET", &path, Value::Null).await?;
            match answer.status {
                200 => {
                    assert_eq!(answer.json()["content"]["number"], json!(number));
                    numbers.push_str(&number.to_string());
                }
                404 => assert_eq!(answer.json()["errcode"], json!("M_NOT_FOUND")),
                other => bail!("{path}: {other}"),
            }
        }
        Ok(numbers)
    }

    /// The numbers in the room's pages, oldest first; `-` where they are forbidden.
    async fn paged(&self, by: &Device) -> Result<String, KitError> {
        let path = format!("/rooms/{}/messages?dir=b&limit=100", self.room_id);
        let answer = by.ask("GET", &path, Value::Null).await?;
        if answer.status == 403 {
            return Ok("-".to_owned());
        }
        let page = answer.json();
        let numbers = list(&page, "/chunk").iter().rev();
        Ok(numbers
            .filter_map(|event| event["content"]["number"].as_u64())
            .fold(String::new(), |numbers, number| format!("{numbers}{number}")))
    }
}

/// For each history visibility: what Bob can fetch, and page through, as a stranger, invited,
/// joined and gone.
pub async fn visibility_and_membership_decide(server: &Homeserver) -> Result {
    let expected = [
        ("world_readable", ["0 0", "01 01", "012 012", "0123 012"]),
        ("shared", [" -", " -", "012 012", "2 012"]),
        ("invited", [" -", "1 -", "12 12", "12 12"]),
        ("joined", [" -", " -", "2 2", "2 2"]),
    ];
    for (visibility, expected) in expected {
        let alice = Device::register(server, &format!("see-alice-{visibility}")).await?;
        let bob = Device::register(server, &format!("see-bob-{visibility}")).await?;
        let mut past = Past::begin(&alice, visibility).await?;
        let mut seen = Vec::new();
        for action in ["", "invite", "join", "kick"] {
            if !action.is_empty() {
                past.bob(action, &bob).await?;
            }
            past.say().await?;
            seen.push(format!("{} {}", past.fetched(&bob).await?, past.paged(&bob).await?));
        }
        assert_eq!(seen, expected, "{visibility}");
        assert_eq!(past.fetched(&alice).await?, "0123");
    }
    Ok(())
}

pub async fn a_sync_shows_no_more_than_may_be_seen(server: &Homeserver) -> Result {
    let alice = Device::register(server, "see-sync-alice").await?;
    let bob = Device::register(server, "see-sync-bob").await?;
    let mut past = Past::begin(&alice, "joined").await?;
    past.say().await?;
    past.bob("invite", &bob).await?;
    past.say().await?;
    past.bob("join", &bob).await?;
    past.say().await?;
    let sync = bob.sync(None).await?;
    let numbers: Vec<u64> = timeline(&sync, "join", &past.room_id)
        .iter()
        .filter_map(|event| event["content"]["number"].as_u64())
        .collect();
    assert_eq!(numbers, [2]);
    Ok(())
}

pub async fn an_event_is_found_by_its_room_and_id_alone(server: &Homeserver) -> Result {
    let alice = Device::register(server, "see-id").await?;
    let room_id = alice.room_with(&[]).await?;
    let other = alice.room_with(&[]).await?;
    let event_id = alice.send(&room_id, "t", json!({ "body": "here" })).await?;
    let event = alice.get(&format!("/rooms/{room_id}/event/{event_id}")).await?;
    assert_eq!(event["content"], json!({ "body": "here" }));
    assert_eq!((&event["event_id"], &event["room_id"]), (&json!(event_id), &json!(room_id)));
    for path in [
        format!("/rooms/{other}/event/{event_id}"),
        format!("/rooms/{room_id}/event/$nothing-of-that-name"),
        format!("/rooms/!nowhere:elsewhere.test/event/{event_id}"),
    ] {
        let refused = alice.refusal("GET", &path, Value::Null).await?;
        assert_eq!(refused, (404, "M_NOT_FOUND".to_owned()), "{path}");
    }
    Ok(())
}

pub async fn pages_can_be_filtered(server: &Homeserver) -> Result {
    let alice = Device::register(server, "filter-alice").await?;
    let bob = Device::register(server, "filter-bob").await?;
    let room_id = alice.room_with(&[&bob]).await?;
    for number in 0..12 {
        let (by, kind) = match number % 3 {
            0 => (&alice, "m.room.encrypted"),
            1 => (&bob, "m.room.encrypted"),
            _ => (&alice, "org.example.talk"),
        };
        let path = format!("/rooms/{room_id}/send/{kind}/t{number}");
        by.put(&path, json!({ "number": number })).await?;
    }
    let encrypted = json!({ "types": ["m.room.encrypted"] });
    let of_bob = json!({ "types": ["m.room.encrypted"], "senders": [bob.user_id] });
    let not_bobs = json!({ "not_senders": [bob.user_id], "not_types": ["m.room.*"] });
    let talk = json!({ "types": ["org.*", "m.none"], "lazy_load_members": true });
    for (filter, numbers) in [
        (encrypted, vec![10, 9, 7, 6, 4, 3, 1, 0]),
        (of_bob, vec![10, 7, 4, 1]),
        (not_bobs, vec![11, 8, 5, 2]),
        (talk, vec![11, 8, 5, 2]),
    ] {
        // The limit counts what passes, and the end is told by a page without one.
        let mut seen = Vec::new();
        let mut from = String::new();
        let mut pages = 0;
        loop {
            let filter = encoded(&filter.to_string());
            let path = format!("/rooms/{room_id}/messages?dir=b&limit=3&filter={filter}{from}");
            let page = alice.get(&path).await?;
            let chunk = list(&page, "/chunk");
            seen.extend(chunk.iter().filter_map(|event| event["content"]["number"].as_u64()));
            pages += 1;
            match page["end"].as_str() {
                Some(end) => from = format!("&from={end}"),
                None => break,
            }
            assert!(pages < 10, "the pages end: {page}");
        }
        assert_eq!(seen, numbers, "{filter}");
        assert_eq!(pages, numbers.len().div_ceil(3) + 1, "{filter}");
    }
    let path = format!("/rooms/{room_id}/messages?dir=b&filter=%7B");
    let refused = alice.refusal("GET", &path, Value::Null).await?;
    assert_eq!(refused, (400, "M_NOT_JSON".to_owned()));
    Ok(())
}

/// `/context` gives an event, what is around it, and the tokens from which pages go on both ways.
pub async fn an_event_has_a_place_from_which_pages_go_on(server: &Homeserver) -> Result {
    let alice = Device::register(server, "place-alice").await?;
    let bob = Device::register(server, "place-bob").await?;
    let room_id = alice.room_with(&[]).await?;
    let mut said = Vec::new();
    for number in 0..12 {
        let kind = if number % 3 == 2 { "org.example.talk" } else { "m.room.encrypted" };
        let path = format!("/rooms/{room_id}/send/{kind}/p{number}");
        let answer = alice.put(&path, json!({ "number": number })).await?;
        said.push(answer["event_id"].as_str().unwrap_or_default().to_owned());
    }
    let numbers = |page: &Value, part: &str| -> Vec<u64> {
        list(page, part).iter().filter_map(|event| event["content"]["number"].as_u64()).collect()
    };
    let filter = json!({ "types": ["m.room.encrypted"], "lazy_load_members": true });
    let filter = encoded(&filter.to_string());
    // Without anything around it: all that is needed to go on from what is known.
    let path = format!("/rooms/{room_id}/context/{}?limit=0&filter={filter}", said[4]);
    let place = alice.get(&path).await?;
    assert_eq!(place["event"]["event_id"], json!(said[4]));
    for part in ["/events_before", "/events_after", "/state"] {
        assert!(list(&place, part).is_empty(), "{part}: {place}");
    }
    // Forwards it goes on behind the event, and the end is told by a page without one.
    let mut from = place["end"].as_str().unwrap_or_default().to_owned();
    let mut pages = Vec::new();
    loop {
        let path = format!("/rooms/{room_id}/messages?dir=f&limit=2&from={from}&filter={filter}");
        let page = alice.get(&path).await?;
        pages.push(numbers(&page, "/chunk"));
        match page["end"].as_str() {
            Some(end) => from = end.to_owned(),
            None => break,
        }
        assert!(pages.len() < 10, "the pages end: {page}");
    }
    assert_eq!(pages, [vec![6, 7], vec![9, 10], vec![]]);
    // Backwards before it.
    let start = place["start"].as_str().unwrap_or_default();
    let path = format!("/rooms/{room_id}/messages?dir=b&limit=2&from={start}&filter={filter}");
    assert_eq!(numbers(&alice.get(&path).await?, "/chunk"), [3, 1]);
    // What is around it, half of it on each side, and the tokens are behind that.
    let path = format!("/rooms/{room_id}/context/{}?limit=5", said[4]);
    let around = alice.get(&path).await?;
    assert_eq!(numbers(&around, "/events_before"), [3, 2]);
    assert_eq!(numbers(&around, "/events_after"), [5, 6, 7]);
    let members = |event: &&Value| event["type"] == "m.room.member";
    assert_eq!(list(&around, "/state").iter().filter(members).count(), 1);
    let end = around["end"].as_str().unwrap_or_default();
    let path = format!("/rooms/{room_id}/messages?dir=f&limit=1&from={end}");
    assert_eq!(numbers(&alice.get(&path).await?, "/chunk"), [8]);
    // A token of a sync will do as well.
    let since = alice.sync(None).await?["next_batch"].as_str().unwrap_or_default().to_owned();
    alice.send(&room_id, "late", json!({ "number": 12 })).await?;
    let path = format!("/rooms/{room_id}/messages?dir=f&limit=5&from={since}");
    assert_eq!(numbers(&alice.get(&path).await?, "/chunk"), [12]);
    let nowhere = format!("/rooms/{room_id}/context/$nothing-of-that-name");
    let refused = alice.refusal("GET", &nowhere, Value::Null).await?;
    assert_eq!(refused, (404, "M_NOT_FOUND".to_owned()));
    let path = format!("/rooms/{room_id}/context/{}", said[4]);
    let refused = bob.refusal("GET", &path, Value::Null).await?;
    assert_eq!(refused, (403, "M_FORBIDDEN".to_owned()));
    Ok(())
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

pub async fn bodies_and_answers_may_be_megabytes(server: &Homeserver) -> Result {
    let alice = Device::register(server, "mega").await?;
    let room_id = alice.room_with(&[]).await?;
    let text = "x".repeat(60_000);
    for number in 0..40 {
        alice.send(&room_id, &format!("t{number}"), json!({ "number": number, "c": text })).await?;
    }
    let path = format!("/_matrix/client/v3/rooms/{room_id}/messages?dir=b&limit=1000");
    let answer = alice.http.try_json("GET", &path, Value::Null).await?;
    assert!(answer.body.len() > 2_400_000, "{}", answer.body.len());
    let page = answer.json();
    let whole = list(&page, "/chunk").iter().filter(|event| event["content"]["c"] == text.as_str());
    assert_eq!(whole.count(), 40);

    let devices: Value = (0..100).map(|n| (format!("NONE{n}"), json!({ "c": text }))).collect();
    let body = json!({ "messages": { &alice.user_id: devices } });
    assert!(body.to_string().len() > 6_000_000);
    alice.put("/sendToDevice/m.room.encrypted/mega", body).await?;
    Ok(())
}
