//! Old epochs' keys are deleted when a room's settings want it: here, and in the backup. One test,
//! as the clock is the whole process's.

use matrix_mls::{RecoveryKey, RestoreScope, RoomSettings, test_hooks::set_clock_ms};
use matrix_mls_kit::{
    Client, Fields as _, Homeserver, Refused as _, Result,
    together::{all_talk, log_in, pair, say_in_a_new_epoch, texts},
};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

async fn sessions(client: &Client, room: &str) -> Result<usize> {
    let path = "/_matrix/client/v3/room_keys/keys?version=1";
    let keys = client.http().get(path).await?;
    let sessions = keys["rooms"][room].object("sessions")?;
    Ok(sessions.keys().filter(|id| !id.starts_with("leaves")).count())
}

#[tokio::test]
async fn what_is_too_old_is_deleted_here_and_in_the_backup() -> Result {
    // From today on: key packages have lifetimes, which OpenMLS measures by the real clock.
    let today = std::time::UNIX_EPOCH.elapsed()?;
    let mut now = today.as_millis() as u64;
    set_clock_ms(now);
    let homeserver = Homeserver::embedded()?;
    let (mut alice, bob, room) = pair(&homeserver).await;
    let backup = alice.machine()?.backup();
    let key = RecoveryKey::generate()?;
    backup.create(key.clone(), false).await?;
    say_in_a_new_epoch(&alice, &room, "on the first day").await?;
    let whole = backup.export_history(None, "a".to_owned()).await?;
    let settings = RoomSettings {
        keep_history_ms: Some(2 * DAY_MS),
        kept_epochs: 0,
        kept_for_ms: DAY_MS,
        ..RoomSettings::default()
    };
    let handle = alice.room(&room).await?;
    handle.set_settings(settings.clone()).await?;
    assert_eq!(handle.settings().await?, settings);
    now += DAY_MS;
    set_clock_ms(now);
    say_in_a_new_epoch(&alice, &room, "on the second day").await?;
    let everything = ["first", "on the first day", "on the second day"];
    assert_eq!(texts(&alice, &room).await, everything);
    let counts = backup.counts().await?;
    assert_eq!((counts.backed_up, counts.total), (4, 4));
    assert_eq!(sessions(&alice, &room).await?, 4);

    // Two days after the first day's epoch has ended. That of the second day has not.
    now += 2 * DAY_MS + 1;
    set_clock_ms(now);
    alice.settle().await?;
    assert_eq!(texts(&alice, &room).await, ["on the second day"]);
    let unreadable = alice.read(&room).await?.remove(0).message.refused()?;
    assert_eq!(unreadable.code(), "history_deleted");
    assert_eq!(sessions(&alice, &room).await?, 1);
    let counts = backup.counts().await?;
    assert_eq!((counts.backed_up, counts.total), (1, 1));
    alice.restart().await?;
    assert_eq!(texts(&alice, &room).await, ["on the second day"]);

    // What comes back by a file is as old as it was.
    let backup = alice.machine()?.backup();
    assert_eq!(backup.import_history(whole, "a".to_owned()).await?.epochs, 3);
    assert_eq!(texts(&alice, &room).await, everything);
    now += DAY_MS / 2;
    set_clock_ms(now);
    alice.settle().await?;
    assert_eq!(texts(&alice, &room).await, ["on the second day"]);
    assert_eq!(sessions(&alice, &room).await?, 1);

    // Bob keeps all, and the room goes on. A new phone of Alice's finds what was kept.
    bob.settle().await?;
    assert_eq!(texts(&bob, &room).await, everything);
    all_talk(&[&alice, &bob], &room).await;
    let phone = log_in(&homeserver, "alice", "NEW").await?;
    phone.machine()?.backup().restore(Some(key), RestoreScope::AllRooms).await?;
    phone.drive().await?;
    assert_eq!(texts(&phone, &room).await[0], "on the second day");
    set_clock_ms(0);
    Ok(())
}
