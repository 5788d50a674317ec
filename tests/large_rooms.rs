//! Rooms that no event could describe: commits, ratchet trees and Welcomes by way of the media
//! repository.

use std::time::Instant;

use matrix_mls::{EventOutcome, MlsError, RoomSettings};
use matrix_mls_kit::{
    Client, Homeserver, OrMissing as _, Refused as _, Result, Target, crowd, is_commit,
    together::{log_in, pair_without_a_group, texts},
};

/// A room of Alice's in which many devices are, and Bob's phone.
async fn large(
    homeserver: &Homeserver,
    devices: usize,
) -> Result<(Client, Client, Vec<crowd::Offline>, String)> {
    let (alice, bob, room) = pair_without_a_group(homeserver).await?;
    let crowd = crowd::register(homeserver, "crowd", devices - 2).await?;
    crowd::enter_room(&alice, &room, &crowd).await?;
    alice.settle().await?;
    alice.enable(&room, RoomSettings::default()).await?;
    Ok((alice, bob, crowd, room))
}

async fn whole_life(homeserver: &Homeserver, devices: usize) -> Result {
    let (alice, bob, mut crowd, room) = large(homeserver, devices).await?;
    let start = Instant::now();
    alice.send_text(&room, "to all of you").await?;
    eprintln!("{devices} devices added and written to in {:.1} s", start.elapsed().as_secs_f64());
    let members = alice.members(&room).await?;
    assert_eq!(members.len(), devices);
    let largest = alice.commits(&room).await?.iter().map(|event| event.to_string().len()).max();
    assert!(largest.or_missing("commit")? < 65_536, "{largest:?}");

    // One that shares no code with this library finds its way in by what the Welcome names.
    let events = alice.history(&room).await?;
    let last = crowd.last_mut().or_missing("device")?;
    let size = last.join_group().await?;
    assert!(size < 4_000, "a Welcome takes {size} bytes however many are added");
    let message = events.iter().rev().find(|event| !is_commit(event)).or_missing("message")?;
    assert_eq!(last.read(message).as_deref(), Some("to all of you"));

    // Bob's Welcome waits for the ratchet tree, and the message for Bob.
    bob.settle().await?;
    bob.settle().await?;
    assert_eq!(texts(&bob, &room).await, ["to all of you"]);

    // A commit with a path to everybody: one that renews keys, by Bob.
    bob.rotate_keys(&room).await?;
    bob.send_text(&room, "fresh keys").await?;
    alice.settle().await?;
    alice.settle().await?;
    assert_eq!(texts(&alice, &room).await, ["to all of you", "fresh keys"]);

    // A new device joins with nobody online.
    let laptop = log_in(homeserver, "bob", "LAPTOP").await?;
    laptop.join_externally(&room).await?;
    laptop.settle().await?;
    laptop.send_text(&room, "by myself").await?;
    for client in [&alice, &bob] {
        client.settle().await?;
        client.settle().await?;
        assert!(texts(client, &room).await.contains(&"by myself".to_owned()));
    }
    assert_eq!(alice.members(&room).await?.len(), devices + 1);
    Ok(())
}

#[tokio::test]
async fn a_room_of_300_devices_lives_on_the_embedded_homeserver() -> Result {
    whole_life(&Homeserver::embedded()?, 300).await
}

#[tokio::test]
async fn a_room_of_2_000_devices_lives_on_the_embedded_homeserver() -> Result {
    whole_life(&Homeserver::embedded()?, 2_000).await
}

#[tokio::test]
async fn what_the_media_repository_loses_or_changes_breaks_one_device_for_a_while() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, _crowd, room) = large(&homeserver, 200).await?;
    alice.send_text(&room, "to all of you").await?;
    // Whatever Bob downloads is not what was uploaded: the hash says so, nothing is parsed.
    let controls = homeserver.controls().or_missing("controls")?;
    let downloads = Target::path("/media/download/").user(bob.user_id());
    let fault = controls.tamper_bytes(downloads, |body| {
        if let Some(byte) = body.get_mut(100) {
            *byte ^= 1;
        }
    });
    bob.settle().await?;
    bob.settle().await?;
    assert!(fault.hits() > 0);
    let error = bob.room(&room).await?.members().await.refused()?;
    assert!(matches!(error, MlsError::NotInGroup { .. }), "{error}");
    fault.stop();
    // The next commit brings another tree: Bob joins by that.
    alice.rotate_keys(&room).await?;
    alice.send_text(&room, "once more").await?;
    bob.settle().await?;
    bob.send_text(&room, "here I am").await?;
    alice.settle().await?;
    alice.settle().await?;
    let summary = alice.sync().await?.summary;
    let failed = summary
        .rooms
        .iter()
        .flat_map(|room| &room.events)
        .any(|event| matches!(event.outcome, EventOutcome::Failed { .. }));
    assert!(!failed, "{summary:?}");
    assert!(texts(&alice, &room).await.contains(&"here I am".to_owned()));
    Ok(())
}
