//! The chapter of a room that no event could describe: three hundred devices.

use super::{Cast, Listener, Stage, StoryError, expect, reads, settle};
use crate::crowd;
use matrix_mls::RoomSettings;

/// How many devices the room has.
const DEVICES: usize = 300;

/// Alice's phone makes a room for many devices of people who are offline.
pub(super) async fn room(
    stage: Stage<'_>,
    cast: &Cast,
    listener: &mut dyn Listener,
) -> Result<(), StoryError> {
    listener.chapter(&format!("A room of {DEVICES} devices"));
    let (alice, bob) = (&cast.alice_phone, &cast.bob_phone);
    // Two of Alice's and one of Bob's are here; the others are offline, and share no code with the
    // library.
    let mut crowd = crowd::register(stage.homeserver, &stage.name("crowd"), DEVICES - 3).await?;
    let room = alice.create_room(&[bob]).await?;
    bob.join(&room).await?;
    crowd::enter_room(alice, &room, &crowd).await?;
    alice.settle().await?;
    alice.enable(&room, RoomSettings::default()).await?;
    alice.send_text(&room, "to all of you").await?;
    let members = alice.members(&room).await?;
    expect("how many devices are in the group", &DEVICES, &members.len())?;
    listener.line(&format!("alice's phone has added {DEVICES} devices and said something"));

    let events = alice.history(&room).await?;
    let largest = events.iter().map(|event| event.to_string().len()).max().unwrap_or_default();
    expect("whether every event fits Matrix's limit", &true, &(largest < 65_536))?;
    listener.line(&format!(
        "the largest event has {} kB: the ratchet tree went by way of the media repository",
        largest / 1_000
    ));
    let message = events.iter().rev().find(|event| super::is_message(event));
    if let (Some(one), Some(message)) = (crowd.last_mut(), message) {
        let welcome = one.join_group().await?;
        let read = one.read(message);
        expect("what one of them reads", &Some("to all of you".to_owned()), &read)?;
        listener.line(&format!(
            "one of them, of plain OpenMLS, joins by a Welcome of {welcome} bytes, and reads it"
        ));
    }

    let tablet = stage.log_in("bob", "SECOND").await?;
    tablet.settle().await?;
    tablet.join_externally(&room).await?;
    tablet.settle().await?;
    tablet.send_text(&room, "from a new device").await?;
    settle(&[alice, bob]).await?;
    for client in [alice, bob] {
        reads(client, &room, &["to all of you", "from a new device"]).await?;
    }
    listener.line("a new device of Bob's joins by itself, and all read it");
    tablet.log_out().await?;
    Ok(())
}
