//! Scenarios: the key backup, shared history, and what is kept when the process is killed.

use std::time::Duration;

use matrix_mls::RoomSettings;

use super::{
    keys::device_keys,
    stage::{Meeting, Stage},
};
use crate::{
    OrMissing as _, Result,
    together::{say_in_a_new_epoch, texts},
};

/// After how many milliseconds a client is killed that has begun to send. Whether it has sent by
/// then depends on the machine.
const KILLED_AFTER_MS: [u64; 4] = [0, 15, 60, 200];

pub async fn its_backup_is_read(stage: &Stage) -> Result {
    let mut meeting = stage.meet().await?;
    meeting.talk().await?;
    let key = meeting.tested.does("back-up").await?.key.or_missing("line `key` of `back-up`")?;
    let library = stage.log_in("tested", "LIBRARY").await?;
    let read = texts(&library, &meeting.room).await.len();
    stage.equal("how much another device reads before it has the key", &0, &read)?;
    let epochs = library.restore_history(&key).await?;
    stage.holds("how many epochs the backup has", "some", epochs, epochs > 0)?;
    let mut expected = texts(&meeting.alice, &meeting.room).await;
    let mut read = texts(&library, &meeting.room).await;
    expected.sort();
    read.sort();
    stage.equal("what another device reads with the key", &expected, &read)
}

pub async fn reads_a_backup(stage: &Stage) -> Result {
    let mut meeting = stage.meet().await?;
    // Another device of the client's user is of the library.
    let library = stage.log_in("tested", "LIBRARY").await?;
    meeting.talk().await?;
    library.settle().await?;
    let key = library.back_up_history().await?;
    let mut tablet = stage.device(&meeting.tested.user_id, "TABLET").await?;
    let before = tablet.reading(&meeting.room).await?;
    stage.equal("how much it reads before", &0, &before.texts.len())?;
    // A key with a letter changed.
    let wrong: String = key.chars().rev().collect();
    let taken = tablet.tries(&format!("restore {wrong}")).await?.is_some();
    stage.equal("whether another key is taken", &false, &taken)?;
    let restored = tablet.does(&format!("restore {key}")).await?.restored;
    let some = restored.is_some_and(|epochs| epochs > 0);
    stage.holds("how many epochs come back", "some", restored, some)?;
    let mut expected = texts(&library, &meeting.room).await;
    let facts = tablet.reading(&meeting.room).await?;
    let mut read: Vec<String> = facts.texts.into_iter().map(|text| text.body).collect();
    expected.sort();
    read.sort();
    stage.equal("what it reads with the key", &expected, &read)?;
    let Meeting { alice, room, .. } = meeting;
    let mut meeting = Meeting { stage, alice, tested: tablet, room, rounds: 0 };
    meeting.tested_says("from a new device").await?;
    meeting.is_read(&meeting.alice, "from a new device", true).await
}

pub async fn takes_offered_history(stage: &Stage) -> Result {
    let alice = stage.phone("alice").await?;
    let room = alice.create_room(&[]).await?;
    alice.settle().await?;
    let settings = RoomSettings { share_history: true, ..RoomSettings::default() };
    alice.enable(&room, settings).await?;
    alice.send_text(&room, "before you came").await?;
    let mut tested = stage.client().await?;
    alice.invite(&room, &tested.user_id).await?;
    tested.does(&format!("join {room}")).await?;
    alice.settle().await?;
    alice.send_text(&room, "after you came").await?;
    alice.settle().await?;
    let mut meeting = Meeting { stage, alice, tested, room, rounds: 0 };
    meeting.quiet().await?;
    meeting.tested_reads("after you came", 1).await?;
    meeting.tested_reads("before you came", 1).await?;
    meeting.talk().await
}

pub async fn goes_on_after_a_kill(stage: &Stage) -> Result {
    let mut meeting = stage.meet().await?;
    meeting.talk().await?;
    let room = meeting.room.clone();
    let keys = device_keys(&meeting.alice, &meeting.tested).await?;
    meeting.tested.does(&format!("send {room} before the kill")).await?;
    meeting.tested.kill();
    meeting.alice.settle().await?;
    say_in_a_new_epoch(&meeting.alice, &room, "while it was away").await?;
    meeting.tested.start_again().await?;
    meeting.quiet().await?;
    for text in ["tested 1", "before the kill", "while it was away"] {
        meeting.tested_reads(text, 1).await?;
    }
    meeting.one_head().await?;
    for after in KILLED_AFTER_MS {
        let (in_it, behind) = (format!("killed in {after}"), format!("killed after {after}"));
        let time = Duration::from_millis(after);
        meeting.tested.is_killed_in(&format!("send {room} {in_it}"), time).await?;
        meeting.tested_says(&behind).await?;
        meeting.quiet().await?;
        meeting.is_read(&meeting.alice, &behind, true).await?;
        // It was sent or it was not: nobody reads it twice, and no key served for two messages.
        let read = texts(&meeting.alice, &room).await;
        let times = read.iter().filter(|text| **text == in_it).count();
        stage.holds("how often the partner reads it", "at most once", times, times <= 1)?;
        meeting.tested_reads(&in_it, times).await?;
        meeting.tested.is_killed_in(&format!("rotate {room}"), time).await?;
        meeting.quiet().await?;
        meeting.one_head().await?;
    }
    // Whom it was adding is welcomed, and reads what it says next.
    let carol = stage.phone("carol").await?;
    meeting.alice.invite(&room, carol.user_id()).await?;
    carol.join(&room).await?;
    meeting.tested.settle().await?;
    let time = Duration::from_millis(100);
    meeting.tested.is_killed_in(&format!("send {room} welcome, carol"), time).await?;
    meeting.tested_says("welcome once more, carol").await?;
    carol.settle().await?;
    meeting.is_read(&carol, "welcome once more, carol", true).await?;
    let now = device_keys(&meeting.alice, &meeting.tested).await?;
    stage.equal("its device keys", &keys, &now)?;
    meeting.quiet().await?;
    meeting.talk().await
}
