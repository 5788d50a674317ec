//! What tests ask of several clients in one room: that they see what the others did, that all are
//! on one head, and that whatever one says all read.
//!
//! [`pair`], [`quiet`], [`head`], [`texts`] and [`all_talk`] stand in nearly every line of a test,
//! so they have no error to give: they panic, with the sentence of the step that failed.

use matrix_mls::RoomSettings;
use serde_json::Value;

use crate::{
    Client, Fault, Homeserver, KitError, OrMissing as _, ReadEvent, Result, Target, result::sure,
};

/// Has everybody see what the others did, and answer it, some rounds of it.
pub async fn quiet(clients: &[&Client]) {
    for _ in 0..4 {
        for client in clients {
            sure(client.settle().await);
        }
    }
}

/// Alice's and Bob's phones in a room of Alice's, in which she has said "first".
pub async fn pair(homeserver: &Homeserver) -> (Client, Client, String) {
    sure(in_a_group(homeserver).await)
}

async fn in_a_group(homeserver: &Homeserver) -> Result<(Client, Client, String), KitError> {
    let (alice, bob) = two_phones(homeserver).await?;
    let room = room_with(&alice, &[&bob]).await?;
    Ok((alice, bob, room))
}

/// A room of a host's with these others, in which the host has said "first".
pub async fn room_with(host: &Client, others: &[&Client]) -> Result<String, KitError> {
    let room = host.create_group(others, RoomSettings::default()).await?;
    host.send_text(&room, "first").await?;
    quiet(&[&[host], others].concat()).await;
    Ok(room)
}

/// The same in a room that has no group yet.
pub async fn pair_without_a_group(homeserver: &Homeserver) -> Result<(Client, Client, String)> {
    let (alice, bob) = two_phones(homeserver).await?;
    let room = alice.create_room(&[&bob]).await?;
    bob.join(&room).await?;
    alice.settle().await?;
    Ok((alice, bob, room))
}

/// Alice's and Bob's phones, with published keys and in no room.
pub async fn two_phones(homeserver: &Homeserver) -> Result<(Client, Client), KitError> {
    let alice = phone_of(homeserver, "alice").await?;
    let bob = phone_of(homeserver, "bob").await?;
    alice.settle().await?;
    Ok((alice, bob))
}

/// The phone of a new account, with published keys.
pub async fn phone_of(homeserver: &Homeserver, username: &str) -> Result<Client, KitError> {
    let phone = Client::register(homeserver, username, "PHONE").await?;
    phone.settle().await?;
    Ok(phone)
}

/// Another device of an account, with published keys.
pub async fn log_in(
    homeserver: &Homeserver,
    username: &str,
    device_id: &str,
) -> Result<Client, KitError> {
    let device = Client::log_in(homeserver, username, device_id).await?;
    device.settle().await?;
    Ok(device)
}

/// The phone of somebody whom `host` invites, and who joins the Matrix room. Nobody syncs after
/// that.
pub async fn newcomer(
    homeserver: &Homeserver,
    username: &str,
    host: &Client,
    room: &str,
) -> Result<Client, KitError> {
    let new = phone_of(homeserver, username).await?;
    host.invite(room, new.user_id()).await?;
    new.join(room).await?;
    Ok(new)
}

/// Says something in an epoch of its own, and sends all that comes with that.
pub async fn say_in_a_new_epoch(client: &Client, room: &str, text: &str) -> Result<(), KitError> {
    client.rotate_keys(room).await?;
    client.send_text(room, text).await?;
    client.settle().await
}

/// Has devices renew the keys that came with a Welcome, as the first message of each would: so a
/// test counts no commits but its own.
pub async fn renew_keys(clients: &[&Client], room: &str) {
    for client in clients {
        sure(client.prepare(room).await);
        quiet(clients).await;
    }
}

/// The id of the epoch that a client sends in.
pub async fn head(client: &Client, room: &str) -> String {
    sure(client.head(room).await).id
}

/// The texts that a client reads in a room's whole history, oldest first.
pub async fn texts(client: &Client, room: &str) -> Vec<String> {
    sure(client.read(room).await).iter().filter_map(ReadEvent::text).collect()
}

/// Everybody says something, everybody reads it, and they end on one head.
pub async fn all_talk(clients: &[&Client], room: &str) {
    for client in clients {
        let text = format!("{} is here", client.name());
        sure(client.send_text(room, &text).await);
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

/// Has the embedded homeserver change what it answers to a client's `/keys/query`.
pub fn lie_about_keys(
    homeserver: &Homeserver,
    told_to: &Client,
    change: impl Fn(&mut Value) + Send + Sync + 'static,
) -> Result<Fault> {
    let controls = homeserver.controls().or_missing("controls")?;
    Ok(controls.tamper(Target::path("/keys/query").user(told_to.user_id()), change))
}
