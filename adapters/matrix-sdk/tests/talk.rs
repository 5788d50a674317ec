//! Apps of matrix-sdk in MLS rooms on Synapse, and in Megolm rooms beside.

mod app;

use app::{App, Setup, eventually};
use matrix_mls_kit::{Homeserver, Result};
use matrix_sdk::ruma::events::room::message::RoomMessageEventContent;
use serde_json::Value;

/// Everybody says something, and everybody reads it.
async fn all_talk(apps: &mut [App], room: &matrix_sdk::ruma::RoomId, words: &str) -> Result {
    for index in 0..apps.len() {
        let text = format!("{words} from {}", apps[index].name);
        let event = apps[index].says(room, &text).await?;
        for app in apps.iter_mut() {
            let read = app.reads(&event).await?;
            assert_eq!(read.body(), Some(&*text), "{}", app.name);
            assert_eq!(read.room_id, room);
            assert!(read.origin_server_ts.is_some(), "{}: when it was sent", app.name);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_apps_talk_over_mls_and_over_megolm() -> Result {
    let homeserver = Homeserver::synapse().await?;
    let alice = App::register(&homeserver, "alice", Setup::default()).await?;
    let bob = App::register(&homeserver, "bob", Setup::default()).await?;
    let room = alice.create_room(&[&bob]).await?;
    let mut apps = [alice, bob];
    all_talk(&mut apps, &room, "hello").await?;
    let [mut alice, mut bob] = apps;

    // Relations stay where the homeserver aggregates them.
    let first = alice.says(&room, "a mistkae").await?;
    let edit = alice.mls.edit(&room, &first, "a mistake").await?;
    let reply = bob.mls.reply(&room, &first, "I see").await?;
    assert_eq!(bob.reads(&edit).await?.content["m.new_content"]["body"], "a mistake");
    let read = alice.reads(&reply).await?;
    assert_eq!(read.content["m.relates_to"]["m.in_reply_to"]["event_id"], first.as_str());
    bob.mls.react(&room, &first, "👍").await?;
    let path = format!("/_matrix/client/v1/rooms/{room}/relations/{first}");
    let related = alice.http.get(&path).await?;
    let kinds: Vec<&str> = related["chunk"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|it| it["type"].as_str())
        .collect();
    assert!(kinds.contains(&"m.reaction") && kinds.contains(&"m.room.encrypted"), "{kinds:?}");

    // What the SDK's timeline has is opened by the same machine.
    let raw = alice.sdk_knows(&room).await?.event(&reply, None).await?;
    let again = alice.mls.decrypt(&room, raw.raw()).await?;
    assert_eq!(again.body(), Some("I see"));
    assert_eq!(alice.sdk_reads(&room, &reply).await?, None, "the SDK cannot open it");
    // The SDK itself sends nothing there.
    let plain = RoomMessageEventContent::text_plain("in the clear");
    assert!(alice.sdk_knows(&room).await?.send(plain).await.is_err());

    // A room of the Olm machine's, beside.
    let other = alice.create_plain_room(&[&bob]).await?;
    let megolm = alice.sdk_knows(&other).await?;
    megolm.enable_encryption().await?;
    let sent = megolm.send(RoomMessageEventContent::text_plain("over Megolm")).await?;
    let event = sent.response.event_id;
    let read = eventually("Bob reads Megolm", async || {
        Ok(bob.sdk_reads(&other, &event).await?.filter(|text| text == "over Megolm"))
    });
    read.await?;
    assert!(!bob.mls.uses_mls(&other).await?);
    alice.says(&room, "still here").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn five_apps_with_one_event_a_room_come_and_go() -> Result {
    let homeserver = Homeserver::synapse().await?;
    let setup = Setup { timeline_limit: 1, ..Setup::default() };
    let mut apps = Vec::new();
    for name in ["anna", "ben", "cleo", "dan"] {
        apps.push(App::register(&homeserver, name, setup).await?);
    }
    let others: Vec<&App> = apps[1..].iter().collect();
    let room = apps[0].create_room(&others).await?;
    all_talk(&mut apps, &room, "hello").await?;

    let eve = App::register(&homeserver, "eve", setup).await?;
    apps[1].act(&room, "invite", serde_json::json!({ "user_id": eve.user() })).await?;
    eve.join(&room).await?;
    apps.push(eve);
    all_talk(&mut apps, &room, "with eve").await?;

    // Somebody leaves while two are not there, and much is said, most of which no sync has.
    let dan = apps.remove(3);
    let eve = apps.pop().map(App::close).into_iter();
    let mut closed = Vec::new();
    for closing in eve {
        closed.push(closing.await?);
    }
    let ben = apps.remove(1);
    closed.push(ben.close().await?);
    dan.act(&room, "leave", Value::Object(Default::default())).await?;
    for number in 0..12 {
        apps[number % 2].says(&room, &format!("number {number}")).await?;
    }
    for app in closed {
        apps.push(app.open(&homeserver).await?);
    }
    all_talk(&mut apps, &room, "back").await?;
    for app in &apps {
        let group = app.group(&room).await?;
        assert_eq!(group.len(), 4, "{}: {group:?}", app.name);
        assert!(!group.iter().any(|name| name.starts_with("@dan:")), "{}: {group:?}", app.name);
    }
    Ok(())
}
