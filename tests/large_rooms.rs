//! Rooms that no event could describe: commits, ratchet trees and Welcomes by way of the media repository.

use std::time::Instant;

use matrix_mls::{EventOutcome, MlsError, RoomSettings};
use matrix_mls_kit::{Client, Homeserver, Target, crowd, together::texts};
use serde_json::Value;

/// A room of Alice's in which many devices are, and Bob's phone.
async fn large(
    homeserver: &Homeserver,
    devices: usize,
) -> (Client, Client, Vec<crowd::Offline>, String) {
    let alice = Client::register(homeserver, "alice", "PHONE").await.unwrap();
    let bob = Client::register(homeserver, "bob", "PHONE").await.unwrap();
    for client in [&alice, &bob] {
        client.settle().await.unwrap();
    }
    let crowd = crowd::register(homeserver, "crowd", devices - 2).await.unwrap();
    let room = alice.create_room(&[&bob]).await.unwrap();
    bob.join(&room).await.unwrap();
    crowd::enter_room(&alice, &room, &crowd).await.unwrap();
    alice.settle().await.unwrap();
    alice.room(&room).await.unwrap().enable(RoomSettings::default()).await.unwrap();
    (alice, bob, crowd, room)
}

async fn commits(client: &Client, room: &str) -> Vec<Value> {
    let events = client.history(room).await.unwrap();
    events.into_iter().filter(|e| e["content"].get("public_group_state").is_some()).collect()
}

async fn whole_life(homeserver: &Homeserver, devices: usize) {
    let (alice, bob, mut crowd, room) = large(homeserver, devices).await;
    let start = Instant::now();
    alice.send_text(&room, "to all of you").await.unwrap();
    eprintln!("{devices} devices added and written to in {:.1} s", start.elapsed().as_secs_f64());
    let members = alice.room(&room).await.unwrap().members().await.unwrap();
    assert_eq!(members.len(), devices);
    let largest = commits(&alice, &room).await.iter().map(|event| event.to_string().len()).max();
    assert!(largest.unwrap() < 65_536, "{largest:?}");

    // One that shares no code with this library finds its way in by what the Welcome names.
    let events = alice.history(&room).await.unwrap();
    let last = crowd.last_mut().unwrap();
    let size = last.join_group().await.unwrap();
    assert!(size < 4_000, "a Welcome takes {size} bytes however many are added");
    let message = events.iter().rev().find(|e| e["content"].get("public_group_state").is_none());
    assert_eq!(last.read(message.unwrap()).as_deref(), Some("to all of you"));

    // Bob's Welcome waits for the ratchet tree, and the message for Bob.
    bob.settle().await.unwrap();
    bob.settle().await.unwrap();
    assert_eq!(texts(&bob, &room).await, ["to all of you"]);

    // A commit with a path to everybody: one that renews keys, by Bob.
    bob.room(&room).await.unwrap().rotate_keys().await.unwrap();
    bob.send_text(&room, "fresh keys").await.unwrap();
    alice.settle().await.unwrap();
    alice.settle().await.unwrap();
    assert_eq!(texts(&alice, &room).await, ["to all of you", "fresh keys"]);

    // A new device joins with nobody online.
    let laptop = Client::log_in(homeserver, "bob", "LAPTOP").await.unwrap();
    laptop.settle().await.unwrap();
    laptop.room(&room).await.unwrap().join_externally().await.unwrap();
    laptop.settle().await.unwrap();
    laptop.send_text(&room, "by myself").await.unwrap();
    for client in [&alice, &bob] {
        client.settle().await.unwrap();
        client.settle().await.unwrap();
        assert!(texts(client, &room).await.contains(&"by myself".to_owned()));
    }
    assert_eq!(alice.room(&room).await.unwrap().members().await.unwrap().len(), devices + 1);
}

#[tokio::test]
async fn a_room_of_300_devices_lives_on_the_embedded_homeserver() {
    whole_life(&Homeserver::embedded().unwrap(), 300).await;
}

#[tokio::test]
async fn a_room_of_2_000_devices_lives_on_the_embedded_homeserver() {
    whole_life(&Homeserver::embedded().unwrap(), 2_000).await;
}

#[tokio::test]
async fn what_the_media_repository_loses_or_changes_breaks_one_device_for_a_while() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, _crowd, room) = large(&homeserver, 200).await;
    alice.send_text(&room, "to all of you").await.unwrap();
    // Whatever Bob downloads is not what was uploaded: the hash says so, nothing is parsed.
    let controls = homeserver.controls().unwrap();
    let downloads = Target::path("/media/download/").user(bob.user_id());
    let fault = controls.tamper_bytes(downloads, |body| {
        if let Some(byte) = body.get_mut(100) {
            *byte ^= 1;
        }
    });
    bob.settle().await.unwrap();
    bob.settle().await.unwrap();
    assert!(fault.hits() > 0);
    let error = bob.room(&room).await.unwrap().members().await.unwrap_err();
    assert!(matches!(error, MlsError::NotInGroup { .. }), "{error}");
    fault.stop();
    // The next commit brings another tree: Bob joins by that.
    alice.room(&room).await.unwrap().rotate_keys().await.unwrap();
    alice.send_text(&room, "once more").await.unwrap();
    bob.settle().await.unwrap();
    bob.send_text(&room, "here I am").await.unwrap();
    alice.settle().await.unwrap();
    alice.settle().await.unwrap();
    let summary = alice.sync().await.unwrap().summary;
    let failed = summary
        .rooms
        .iter()
        .flat_map(|room| &room.events)
        .any(|event| matches!(event.outcome, EventOutcome::Failed { .. }));
    assert!(!failed, "{summary:?}");
    assert!(texts(&alice, &room).await.contains(&"here I am".to_owned()));
}
