//! The chapter in which a phone is lost with everything on it, but for a key on paper.

use matrix_mls::RecoveryKey;

use super::{Cast, Listener, Stage, StoryError, engine, expect, members, settle, short, talk};
use crate::{Client, ReadEvent};

/// The new phone's device id.
const NEW: &str = "NEWPHONE";

/// Alice's phone backs up, and is lost; on a new one she types the recovery key.
pub(super) async fn lost(
    stage: Stage<'_>,
    cast: &mut Cast,
    room: &str,
    listener: &mut dyn Listener,
) -> Result<(), StoryError> {
    listener.chapter("Alice loses her phone");
    let phone = &cast.alice_phone;
    let written_down = phone.back_up_history().await?;
    talk(room, &cast.inside(), "before it was lost", listener).await?;
    let counts = phone.machine()?.backup().counts().await;
    let counts = counts.map_err(|error| engine(phone, "counting", error))?;
    expect("how much is backed up", &counts.total, &counts.backed_up)?;
    listener.line(&format!(
        "{} keeps a backup of {} epochs; its key, {} … on paper, has {} characters",
        short(phone),
        counts.backed_up,
        written_down.split(' ').take(2).collect::<Vec<_>>().join(" "),
        written_down.replace(' ', "").len(),
    ));
    let conversation = read(phone, room).await?;

    let old = std::mem::replace(&mut cast.alice_phone, stage.log_in("alice", NEW).await?);
    let lost = old.device_id().to_owned();
    // With its store and all that was in it.
    drop(old);
    let phone = &cast.alice_phone;
    phone.delete_devices(&[lost.as_str()]).await?;
    phone.settle().await?;
    expect("how many old messages it reads", &0, &read(phone, room).await?.len())?;
    listener.line(&format!("{} knows her password, and reads nothing of before", short(phone)));

    let (cut, _) = written_down.rsplit_once(' ').unwrap_or_default();
    let slip = RecoveryKey::parse(cut.to_owned()).err().map(|error| error.code().to_owned());
    expect("what is wrong", &Some("recovery_key_length".to_owned()), &slip)?;
    listener.line("she types the key, and is told that a group of it is missing");
    let epochs = phone.restore_history(&written_down).await?;
    expect("what it reads", &conversation, &read(phone, room).await?)?;
    listener.line(&format!(
        "she types it again: {epochs} epochs come back, and all {} messages are there",
        conversation.len()
    ));

    settle(&cast.inside()).await?;
    talk(room, &cast.inside(), "here again", listener).await?;
    let names = members(&cast.bob_phone, room).await?;
    let seen = [short(&cast.alice_phone), format!("alice's {}", lost.to_lowercase())]
        .map(|name| names.contains(&name));
    expect("whether the new phone is in the group, and the old one", &[true, false], &seen)?;
    listener.line("the new phone is in the group, and the lost one is not");
    Ok(())
}

/// What a device reads of a room's history.
async fn read(client: &Client, room: &str) -> Result<Vec<String>, StoryError> {
    let events = client.read(room).await?;
    Ok(events.iter().filter_map(ReadEvent::text).collect())
}
