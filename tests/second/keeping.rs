//! Scenarios: the key backup and shared history.

use matrix_mls::RoomSettings;
use matrix_mls_kit::{
    Result,
    together::{log_in, phone_of, texts},
};

use crate::{
    backup::BackupKey,
    client::Second,
    meeting::{Meeting, holds, scenario},
};

#[tokio::test]
async fn backup_of_the_library_is_read() -> Result {
    let steps = async {
        let mut meeting = Meeting::of_alice().await?;
        meeting.both_talk().await?;
        let room = meeting.room.clone();
        let text = meeting.alice.back_up_history().await?;
        let mut tablet = Second::log_in(&meeting.homeserver, "alice", "TABLET").await?;
        holds(tablet.room(&room)?.texts().is_empty(), || "it reads nothing yet".into())?;
        let wrong = BackupKey::generate()?;
        holds(tablet.restore(&wrong).await.is_err(), || "another key is refused".into())?;
        let epochs = tablet.restore(&BackupKey::parse(&text)?).await?;
        let read = tablet.room(&room)?.texts();
        holds(epochs > 1 && read.len() == 5, || format!("{epochs} epochs, {read:?}"))
    };
    scenario("backup_of_the_library_is_read", "a key that was written down brings back all", steps)
        .await
}

#[tokio::test]
async fn backup_is_read_by_the_library() -> Result {
    let steps = async {
        let mut meeting = Meeting::of_alice().await?;
        meeting.both_talk().await?;
        let key = meeting.second.back_up().await?;
        let library = log_in(&meeting.homeserver, "second", "LIBRARY").await?;
        let epochs = library.restore_history(&key.text()?).await?;
        let read = texts(&library, &meeting.room).await;
        holds(epochs > 0 && read.len() == 5, || format!("{epochs} epochs, {read:?}"))
    };
    scenario("backup_is_read_by_the_library", "exports of mls-rs open messages of both", steps)
        .await
}

#[tokio::test]
async fn takes_offered_history() -> Result {
    let steps = async {
        let meeting = Meeting::of_alice().await?;
        let room = meeting.room.clone();
        let settings = RoomSettings { share_history: true, ..RoomSettings::default() };
        meeting.alice.set_settings(&room, settings).await?;
        meeting.alice.rotate_keys(&room).await?;
        meeting.alice.send_text(&room, "before dora").await?;
        let mut dora = Second::register(&meeting.homeserver, "dora").await?;
        meeting.alice.invite(&room, &dora.device.0).await?;
        dora.join(&room).await?;
        meeting.alice.settle().await?;
        meeting.alice.send_text(&room, "after dora").await?;
        meeting.alice.settle().await?;
        dora.settle().await?;
        let mut taken = 0;
        for (sender, offer) in std::mem::take(&mut dora.offers) {
            taken += dora.take_offer(&sender, &offer).await?;
        }
        let read = dora.room(&room)?.texts();
        holds(taken > 0 && read.contains(&"before dora"), || format!("{taken} epochs: {read:?}"))
    };
    scenario("takes_offered_history", "who comes later reads what was said before", steps).await
}

#[tokio::test]
async fn offers_history() -> Result {
    let steps = async {
        let mut meeting = Meeting::of_second().await?;
        let room = meeting.room.clone();
        let carol = phone_of(&meeting.homeserver, "carol").await?;
        meeting.second.invite(&room, carol.user_id()).await?;
        carol.join(&room).await?;
        carol.settle().await?;
        let settings = RoomSettings { share_history: true, ..RoomSettings::default() };
        carol.set_settings(&room, settings).await?;
        meeting.second.say(&room, "after carol").await?;
        let to = (carol.user_id().to_owned(), carol.device_id().to_owned());
        meeting.second.offer(&room, &to).await?;
        carol.settle().await?;
        let read = texts(&carol, &room).await;
        holds(read == ["from second", "after carol"], || format!("carol reads {read:?}"))
    };
    scenario("offers_history", "the library reads what was said before its device came", steps)
        .await
}
