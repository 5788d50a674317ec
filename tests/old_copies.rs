//! A store that is not what its device left: edited by somebody without the key, opened by a second
//! opener, or brought back in place. No key seals two messages, and what is sent arrives.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use matrix_mls::{MlsMachine, MlsRoom, RollbackGuard, RoomSettings, SendPlan, Update};
use matrix_mls_kit::{
    Client, ClientOptions, Heard, Homeserver, Refused as _, Result, config,
    together::{all_talk, pair, phone_of, quiet, texts},
};
use serde_json::json;

/// The path of a store's database.
fn database(store: &Path) -> PathBuf {
    store.join("matrix-mls.db")
}

/// Changes rows as somebody does who can write the file and has no key to it.
fn edit(store: &Path, sql: &str) -> Result {
    rusqlite::Connection::open(database(store))?.execute_batch(sql)?;
    Ok(())
}

/// Everything that was sent is read, each message once and none as another's repetition.
async fn all_read(reader: &Client, room: &str, expected: &[String]) -> Result {
    quiet(&[reader]).await;
    for event in reader.read(room).await? {
        if let Err(error) = &event.message {
            panic!("{} cannot read an event: {error}", reader.name());
        }
    }
    let read = texts(reader, room).await;
    for text in expected {
        assert_eq!(read.iter().filter(|other| *other == text).count(), 1, "{text}: {read:?}");
    }
    Ok(())
}

/// Sends as an app does: where the device has to be made ready again, it is.
async fn send(client: &Client, room: &str, text: &str) -> Result {
    for _ in 0..3 {
        match client.send_text(room, text).await {
            Ok(_) => return Ok(()),
            Err(error) if error.to_string().contains("changed by somebody else") => {}
            Err(error) => return Err(error.into()),
        }
    }
    panic!("{text:?} cannot be sent");
}

/// Somebody without the key to Alice's store edits it while her app is closed.
#[tokio::test]
async fn a_store_edited_without_its_key_makes_no_key_seal_twice() -> Result {
    let edits = [
        // Everything that could be a counter in clear.
        "UPDATE namespace SET generation = 0",
        "UPDATE namespace SET counter = NULL",
        "UPDATE namespace SET counter = NULL, generation = 0; DELETE FROM meta WHERE name LIKE '%file%'",
        "UPDATE namespace SET counter = (SELECT counter FROM namespace WHERE id = 0)",
    ];
    for sql in edits {
        let homeserver = Homeserver::embedded()?;
        let (mut alice, bob, room) = pair(&homeserver).await;
        let mut sent = Vec::new();
        for number in 0..5 {
            sent.push(format!("before {number}"));
            alice.send_text(&room, &sent[number]).await?;
        }
        alice.close().await?;
        edit(&alice.store_path(), sql)?;
        alice.restart().await?;
        for number in 0..3 {
            sent.push(format!("after {number}"));
            send(&alice, &room, &sent[5 + number]).await?;
        }
        all_read(&bob, &room, &sent).await?;
        all_talk(&[&alice, &bob], &room).await;
    }
    Ok(())
}

/// Whoever copies a file can write into it whose copy it is. That is noticed, as the mark is
/// sealed.
#[tokio::test]
async fn a_copy_whose_mark_was_deleted_is_a_copy() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (mut alice, bob, room) = pair(&homeserver).await;
    alice.close().await?;
    let bytes = std::fs::read(database(&alice.store_path()))?;
    alice.restart().await?;
    let mut sent = Vec::new();
    for number in 0..5 {
        sent.push(format!("after the backup {number}"));
        alice.send_text(&room, &sent[number]).await?;
    }
    alice.close().await?;
    std::fs::remove_file(database(&alice.store_path()))?;
    bring_back(&alice.store_path(), &bytes)?;
    edit(&alice.store_path(), "DELETE FROM meta WHERE name NOT IN ('key_mode', 'cipher')")?;
    alice.restart().await?;
    let handle = alice.room(&room).await?;
    let error = handle.encrypt("m.room.message".into(), "{}".into()).await.refused()?;
    assert_eq!(error.code(), "not_ready");
    drop(handle);
    sent.push("found back".to_owned());
    send(&alice, &room, &sent[5]).await?;
    all_read(&bob, &room, &sent).await?;
    Ok(())
}

/// Seals a message with a machine that has no client around it.
async fn seal(handle: &MlsRoom, text: &str) -> Result<String> {
    for _ in 0..3 {
        if let SendPlan::Ready = handle.prepare_to_send().await? {
            break;
        }
    }
    let content = json!({ "msgtype": "m.text", "body": text }).to_string();
    Ok(handle.encrypt("m.room.message".into(), content).await?)
}

async fn post(client: &Client, room: &str, content: &str, transaction: &str) -> Result {
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.encrypted/{transaction}");
    client.http().put(&path, serde_json::from_str(content)?).await?;
    Ok(())
}

/// Two processes have one store open, as an app and its extension can on iOS, where the lock is
/// each process's own. Neither uses what the other has used.
#[tokio::test]
async fn a_second_opener_is_noticed() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let mut sent = vec!["of the first".to_owned()];
    alice.send_text(&room, &sent[0]).await?;
    // The lock is gone, and with it what keeps the second out.
    std::fs::remove_file(alice.store_path().join("matrix-mls.lock"))?;
    let config = config(alice.user_id(), alice.device_id(), &alice.store_path());
    let second = MlsMachine::open(config).await?;
    let handle = second.room(room.clone())?;
    let (heard, _watching) = Heard::of(&alice).await?;
    for number in 0..3 {
        let text = format!("of the second {number}");
        let content = seal(&handle, &text).await?;
        post(&alice, &room, &content, &text.replace(' ', "-")).await?;
        sent.push(text);
    }
    // The first still has what it had reserved. Then it notices.
    let mut noticed = 0;
    let first = alice.room(&room).await?;
    for number in 0..8 {
        let text = format!("of the first again {number}");
        let content = json!({ "msgtype": "m.text", "body": text }).to_string();
        match first.encrypt("m.room.message".into(), content).await {
            Ok(content) => post(&alice, &room, &content, &text.replace(' ', "-")).await?,
            Err(error) => {
                assert!(["store_changed", "not_ready"].contains(&error.code()), "{error}");
                noticed += u32::from(error.code() == "store_changed");
                send(&alice, &room, &text).await?;
            }
        }
        sent.push(text);
    }
    assert_eq!(noticed, 1);
    let healed = heard.all().into_iter().any(|update| matches!(update, Update::Healed { .. }));
    assert!(healed, "it joins anew, as with an older copy");
    second.shutdown().await?;
    all_read(&bob, &room, &sent).await?;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// What an app keeps in its Keychain.
#[derive(Default)]
struct Kept {
    count: AtomicU64,
    calls: AtomicU64,
}

impl RollbackGuard for Kept {
    fn load(&self) -> Option<u64> {
        Some(self.count.load(SeqCst)).filter(|count| *count > 0)
    }

    fn store(&self, count: u64) {
        self.count.store(count, SeqCst);
        self.calls.fetch_add(1, SeqCst);
    }
}

/// Brings the whole file of a closed store back, in place: the same file, with what it held.
fn bring_back(store: &Path, bytes: &[u8]) -> Result {
    for suffix in ["-wal", "-shm"] {
        let path = PathBuf::from(format!("{}{suffix}", database(store).display()));
        if path.exists() {
            std::fs::remove_file(path)?;
        }
    }
    std::fs::write(database(store), bytes)?;
    Ok(())
}

async fn brought_back_in_place(settings: RoomSettings) -> Result {
    let homeserver = Homeserver::embedded()?;
    let guard = Arc::new(Kept::default());
    let options = ClientOptions { guard: Some(guard.clone()), ..ClientOptions::default() };
    let mut alice = Client::register_with(&homeserver, "alice", "PHONE", options).await?;
    let bob = phone_of(&homeserver, "bob").await?;
    alice.settle().await?;
    let room = alice.create_group(&[&bob], settings).await?;
    alice.send_text(&room, "first").await?;
    quiet(&[&alice, &bob]).await;
    alice.close().await?;
    let bytes = std::fs::read(database(&alice.store_path()))?;
    alice.restart().await?;
    let mut sent = Vec::new();
    for number in 0..5 {
        sent.push(format!("after the copy {number}"));
        alice.send_text(&room, &sent[number]).await?;
    }
    // Read before the copy comes back: where messages are read once, no second look is possible.
    quiet(&[&bob]).await;
    alice.close().await?;
    bring_back(&alice.store_path(), &bytes)?;
    alice.restart().await?;
    let handle = alice.room(&room).await?;
    let error = handle.encrypt("m.room.message".into(), "{}".into()).await.refused()?;
    assert_eq!(error.code(), "not_ready");
    drop(handle);
    sent.push("found back".to_owned());
    alice.send_text(&room, &sent[5]).await?;
    all_read(&bob, &room, &sent).await?;
    // Once is enough: the next start finds store and guard level.
    alice.restart().await?;
    let handle = alice.room(&room).await?;
    handle.prepare_to_send().await?;
    handle.encrypt("m.room.message".into(), "{}".into()).await?;
    Ok(())
}

#[tokio::test]
async fn a_store_that_was_brought_back_in_place_is_noticed_by_the_apps_count() -> Result {
    brought_back_in_place(RoomSettings::default()).await
}

#[tokio::test]
async fn a_store_of_a_read_once_room_that_was_brought_back_is_noticed() -> Result {
    brought_back_in_place(RoomSettings { read_once: true, ..RoomSettings::default() }).await
}

/// The app is asked to write seldom: once for each run of generations.
#[tokio::test]
async fn the_apps_count_is_written_seldom() -> Result {
    let homeserver = Homeserver::embedded()?;
    let guard = Arc::new(Kept::default());
    let options = ClientOptions { guard: Some(guard.clone()), ..ClientOptions::default() };
    let alice = Client::register_with(&homeserver, "alice", "PHONE", options).await?;
    let bob = phone_of(&homeserver, "bob").await?;
    alice.settle().await?;
    let room = alice.create_group(&[&bob], RoomSettings::default()).await?;
    alice.prepare(&room).await?;
    let handle = alice.room(&room).await?;
    for _ in 0..95 {
        handle.encrypt("m.room.message".into(), "{}".into()).await?;
    }
    let calls = guard.calls.load(SeqCst);
    // Runs of 1, 2, 4, 8, 16, 32, 32.
    assert_eq!(calls, 7);
    Ok(())
}
