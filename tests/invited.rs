//! Who is invited reads what the room's history visibility lets an invited person read.

use matrix_mls::RoomSettings;
use matrix_mls_kit::{
    Homeserver, Result,
    together::{all_talk, quiet, texts, two_phones},
};
use serde_json::json;

/// Alice invites Bob into a new room with this history visibility, says something, and only then
/// Bob joins; whether he reads it.
async fn reads_what_was_said_before_joining(
    homeserver: &Homeserver,
    visibility: &str,
    settings: RoomSettings,
) -> Result<bool> {
    let (alice, bob) = two_phones(homeserver).await?;
    let room = alice
        .create_room_from(json!({
            "preset": "trusted_private_chat", "is_direct": true, "invite": [bob.user_id()],
            "initial_state": [{
                "type": "m.room.history_visibility", "state_key": "",
                "content": { "history_visibility": visibility },
            }],
        }))
        .await?;
    alice.settle().await?;
    alice.enable(&room, settings).await?;
    alice.send_text(&room, "hello, Bob").await?;
    alice.rotate_keys(&room).await?;
    alice.send_text(&room, "are you there?").await?;
    quiet(&[&alice, &bob]).await;
    bob.join(&room).await?;
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    let read = texts(&bob, &room).await;
    let all = ["hello, Bob", "are you there?"].map(|text| read.contains(&text.to_owned()));
    assert!(all[0] == all[1], "{read:?}");
    Ok(all[0])
}

#[tokio::test]
async fn the_first_message_of_a_direct_chat_is_read() -> Result {
    for visibility in ["shared", "invited", "world_readable"] {
        let homeserver = Homeserver::embedded()?;
        let settings = RoomSettings::default();
        assert!(
            reads_what_was_said_before_joining(&homeserver, visibility, settings).await?,
            "{visibility}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn nobody_reads_what_was_said_before_joining_where_the_room_forbids_it() -> Result {
    let homeserver = Homeserver::embedded()?;
    let settings = RoomSettings::default();
    assert!(!reads_what_was_said_before_joining(&homeserver, "joined", settings).await?);
    let homeserver = Homeserver::embedded()?;
    let settings = RoomSettings { include_invited: false, ..RoomSettings::default() };
    assert!(!reads_what_was_said_before_joining(&homeserver, "shared", settings).await?);
    Ok(())
}

#[tokio::test]
async fn who_declines_is_removed_before_the_next_message() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let room = alice.create_room(&[&bob]).await?;
    alice.settle().await?;
    alice.enable(&room, RoomSettings::default()).await?;
    alice.send_text(&room, "to whom I invited").await?;
    assert_eq!(alice.members(&room).await?.len(), 2);
    bob.leave(&room).await?;
    quiet(&[&alice, &bob]).await;
    alice.send_text(&room, "alone").await?;
    assert_eq!(alice.members(&room).await?.len(), 1);
    Ok(())
}
