//! What was said before somebody came: given by who adds them, as far as the room's history
//! visibility lets them read it.

use matrix_mls::{MlsDevice, RoomSettings, ToDeviceResult, Verdict};
use matrix_mls_kit::{
    Client, Fields as _, Homeserver, OrMissing as _, Result,
    peer::ALGORITHM,
    together::{all_talk, log_in, phone_of, quiet, say_in_a_new_epoch, texts, two_phones},
};
use serde_json::{Value, json};

fn sharing() -> RoomSettings {
    RoomSettings { share_history: true, ..RoomSettings::default() }
}

/// A room of Alice's with Bob in it.
async fn room(
    alice: &Client,
    bob: &Client,
    visibility: &str,
    settings: RoomSettings,
) -> Result<String> {
    let request = json!({
        "preset": "private_chat", "invite": [bob.user_id()],
        "creation_content": { "encryption": { "algorithm": ALGORITHM } },
        "initial_state": [{
            "type": "m.room.history_visibility", "state_key": "",
            "content": { "history_visibility": visibility },
        }],
    });
    let room = alice.create_room_from(request).await?;
    bob.join(&room).await?;
    alice.settle().await?;
    alice.enable(&room, settings).await?;
    alice.send_text(&room, "hello").await?;
    quiet(&[alice, bob]).await;
    Ok(room)
}

async fn set_visibility(client: &Client, room: &str, visibility: &str) -> Result {
    let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.history_visibility/");
    client.http().put(&path, json!({ "history_visibility": visibility })).await?;
    client.settle().await?;
    Ok(())
}

async fn bring(by: &Client, room: &str, who: &Client) -> Result {
    by.invite(room, who.user_id()).await?;
    who.join(room).await?;
    by.settle().await?;
    by.send_text(room, "welcome").await?;
    by.settle().await?;
    Ok(())
}

#[tokio::test]
async fn who_comes_later_reads_what_was_said_before() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let carol = phone_of(&homeserver, "carol").await?;
    let room = room(&alice, &bob, "shared", sharing()).await?;
    for text in ["one", "two"] {
        say_in_a_new_epoch(&alice, &room, text).await?;
        quiet(&[&bob]).await;
        say_in_a_new_epoch(&bob, &room, &format!("{text}, says Bob")).await?;
        quiet(&[&alice]).await;
    }
    bring(&alice, &room, &carol).await?;
    let synced = carol.sync().await?;
    let waits = synced.summary.to_device.iter().any(|result| {
        matches!(result, ToDeviceResult::Waiting { .. } | ToDeviceResult::HistoryShared { .. })
    });
    assert!(waits, "{:?}", synced.summary.to_device);
    carol.settle().await?;
    let said = ["hello", "one", "one, says Bob", "two", "two, says Bob", "welcome"];
    assert_eq!(texts(&carol, &room).await, said);
    let alice_device =
        MlsDevice { user_id: alice.user_id().to_owned(), device_id: "PHONE".to_owned() };
    for (at, event) in carol.read(&room).await?.into_iter().enumerate() {
        let message = event.message?;
        let by = (at < 5).then(|| alice_device.clone());
        assert_eq!(message.shared_by, by, "{at}");
        assert_eq!(message.verdict, Verdict::NotSignedByOwner);
    }
    all_talk(&[&alice, &bob, &carol], &room).await;

    // It stays Alice's word on Carol's next phone, which has it from Carol's backup.
    let key = carol.back_up_history().await?;
    let next = log_in(&homeserver, "carol", "NEXT").await?;
    next.restore_history(&key).await?;
    let restored = next.read(&room).await?;
    for (at, event) in restored.into_iter().enumerate().take(said.len()) {
        let message = event.message?;
        assert_eq!(message.shared_by, (at < 5).then(|| alice_device.clone()), "{at}");
    }
    Ok(())
}

#[tokio::test]
async fn only_what_the_visibility_allowed_is_shared() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let carol = phone_of(&homeserver, "carol").await?;
    let room = room(&alice, &bob, "shared", sharing()).await?;
    say_in_a_new_epoch(&alice, &room, "for all").await?;
    set_visibility(&alice, &room, "joined").await?;
    // The running epoch held both kinds, and a new one has begun.
    alice.send_text(&room, "for us").await?;
    say_in_a_new_epoch(&alice, &room, "for us, too").await?;
    set_visibility(&alice, &room, "shared").await?;
    alice.send_text(&room, "for all again").await?;
    quiet(&[&alice, &bob]).await;
    bring(&alice, &room, &carol).await?;
    quiet(&[&carol, &alice]).await;
    let read = texts(&carol, &room).await;
    assert!(read.contains(&"for all again".to_owned()), "{read:?}");
    assert!(!read.iter().any(|text| text.starts_with("for us")), "{read:?}");
    Ok(())
}

#[tokio::test]
async fn nothing_is_shared_where_it_is_not_wanted_or_not_allowed() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let carol = phone_of(&homeserver, "carol").await?;
    for (visibility, settings) in [
        ("shared", RoomSettings::default()),
        ("joined", sharing()),
        ("invited", sharing()),
        ("a secret of ours", sharing()),
    ] {
        let room = room(&alice, &bob, "shared", settings).await?;
        set_visibility(&alice, &room, visibility).await?;
        say_in_a_new_epoch(&alice, &room, "before").await?;
        bring(&alice, &room, &carol).await?;
        quiet(&[&carol, &alice]).await;
        let read = texts(&carol, &room).await;
        assert_eq!(read.last().map(String::as_str), Some("welcome"), "{visibility}");
        assert!(!read.contains(&"before".to_owned()), "{visibility}");
    }
    Ok(())
}

#[tokio::test]
async fn what_a_stranger_or_the_server_offers_is_not_taken() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let mallory = phone_of(&homeserver, "mallory").await?;
    let room = room(&alice, &bob, "shared", sharing()).await?;
    alice.send_text(&room, "first").await?;
    quiet(&[&alice, &bob]).await;
    let commit = bob.head(&room).await?.commit_event.or_missing("event of the commit")?;
    let offer = |sender: &Client, url: &str| {
        json!({
            "algorithm": ALGORITHM.replace("dmls.", "dmls.history."), "room_id": room,
            "sender": [sender.user_id(), "PHONE"], "commit_event": commit, "bundle_id": "AAAA",
            "bundle": {
                "url": url, "size": 2, "sha256": "RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o",
            },
        })
    };
    let tell = async |from: &Client, content: Value| -> Result<ToDeviceResult> {
        let messages = json!({ "messages": { bob.user_id(): { "PHONE": content } } });
        let path = format!(
            "/_matrix/client/v3/sendToDevice/m.room.encrypted/{}-{}",
            from.user_id().len(),
            content.to_string().len()
        );
        from.http().put(&path, messages).await?;
        let synced = bob.sync().await?;
        let [result] = synced.summary.to_device.as_slice() else { panic!("{synced:?}") };
        Ok(result.clone())
    };
    let code = |result: ToDeviceResult| match result {
        ToDeviceResult::Failed { error } | ToDeviceResult::Waiting { error } => {
            error.code().to_owned()
        }
        other => panic!("{other:?}"),
    };
    let media =
        mallory.http().send("POST", "/_matrix/media/v3/upload", "text/plain", b"{}".to_vec());
    let media = media.await?.json().text("content_uri")?.to_owned();
    // Not in the room; in Alice's name; and by Alice, with something that is no bundle.
    assert_eq!(code(tell(&mallory, offer(&mallory, &media)).await?), "stranger");
    assert_eq!(code(tell(&mallory, offer(&alice, &media)).await?), "sender_mismatch");
    assert_eq!(code(tell(&alice, offer(&alice, &media)).await?), "value_in_media");
    quiet(&[&bob, &alice]).await;
    let mut huge = offer(&alice, &media);
    huge["bundle"]["size"] = 1_000_000_000.into();
    assert_eq!(code(tell(&alice, huge).await?), "bad_bundle");
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}
