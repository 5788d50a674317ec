//! What tests ask of several clients in one room: that they see what the others did, that all are on one
//! head, and that whatever one says all read. These fail by panicking, as they are part of tests.

use matrix_mls::RoomSettings;

use crate::{Client, Homeserver, ReadEvent};

/// Has everybody see what the others did, and answer it, some rounds of it.
pub async fn quiet(clients: &[&Client]) {
    for _ in 0..4 {
        for client in clients {
            client.settle().await.expect("a client settles");
        }
    }
}

/// Alice's and Bob's phones in a room of Alice's, in which she has said "first".
pub async fn pair(homeserver: &Homeserver) -> (Client, Client, String) {
    let alice = Client::register(homeserver, "alice", "PHONE").await.expect("an account");
    let bob = Client::register(homeserver, "bob", "PHONE").await.expect("an account");
    quiet(&[&alice, &bob]).await;
    let room = alice.create_group(&[&bob], RoomSettings::default()).await.expect("a room");
    alice.send_text(&room, "first").await.expect("a text is sent");
    quiet(&[&alice, &bob]).await;
    (alice, bob, room)
}

/// The id of the epoch that a client sends in.
pub async fn head(client: &Client, room: &str) -> String {
    let handle = client.room(room).await.expect("a room");
    let epochs = handle.epochs().await.expect("epochs");
    epochs.into_iter().find(|epoch| epoch.is_head).expect("a head").id
}

/// The texts that a client reads in a room's whole history, oldest first.
pub async fn texts(client: &Client, room: &str) -> Vec<String> {
    let events = client.read(room).await.expect("a room's history");
    events.iter().filter_map(ReadEvent::text).collect()
}

/// Everybody says something, everybody reads it, and they end on one head.
pub async fn all_talk(clients: &[&Client], room: &str) {
    for client in clients {
        let text = format!("{} is here", client.name());
        client.send_text(room, &text).await.expect("a text is sent");
        quiet(clients).await;
        for other in clients {
            let read = texts(other, room).await;
            assert!(read.contains(&text), "{} does not read {text}: {read:?}", other.name());
        }
    }
    let mut heads = Vec::new();
    for client in clients {
        heads.push(head(client, room).await);
    }
    assert!(heads.windows(2).all(|two| two[0] == two[1]), "{heads:?}");
}
