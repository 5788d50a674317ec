//! Rooms whose devices have names as long as Matrix allows.

use matrix_mls::RoomSettings;
use matrix_mls_kit::{Client, Homeserver, Result, crowd, together::quiet};

/// Bytes decide what goes to the media repository, and not the number of devices.
#[tokio::test]
async fn a_room_of_long_names_is_sent_to_and_read() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = Client::register(&homeserver, "alice", "PHONE").await?;
    let bob = Client::register(&homeserver, "bob", "PHONE").await?;
    quiet(&[&alice, &bob]).await;
    let long = "x".repeat(230);
    for number in [1, 60, 118] {
        let room = alice.create_group(&[&bob], RoomSettings::default()).await?;
        let name = format!("p{number}{long}").chars().take(230).collect::<String>();
        let people = crowd::register(&homeserver, &name, number).await?;
        crowd::enter_room(&alice, &room, &people).await?;
        quiet(&[&alice, &bob]).await;
        alice.send_text(&room, "hello").await?;
        quiet(&[&alice, &bob]).await;
        bob.send_text(&room, "hello, all of you").await?;
        quiet(&[&alice, &bob]).await;
        let members = bob.room(&room).await?.members().await?;
        assert_eq!(members.len(), number + 2);
        for client in [&alice, &bob] {
            let read = matrix_mls_kit::together::texts(client, &room).await;
            assert_eq!(read, ["hello", "hello, all of you"], "{}", client.name());
        }
    }
    Ok(())
}
