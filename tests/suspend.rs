//! Suspending and resuming a machine: what is released, what is refused, what goes on.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use matrix_mls::{
    MachineConfig, MlsError, MlsMachine, MlsReader, RoomSettings, SyncChanges, Update,
};
use matrix_mls_kit::{
    Heard, Homeserver, OrMissing as _, Refused as _, Result, config, store_key,
    together::{all_talk, pair, phone_of, quiet, texts},
};

fn of_alice(directory: &Path) -> MachineConfig {
    config("@alice:example.org", "PHONE", directory)
}

fn is_suspended(error: &MlsError) -> bool {
    matches!(error, MlsError::Suspended { details } if details.code == "suspended" && details.retryable)
}

/// The files below a directory that this process has open.
#[cfg(target_os = "linux")]
fn open_files(directory: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut open = Vec::new();
    for handle in std::fs::read_dir("/proc/self/fd")? {
        // A handle may be closed while this looks.
        let Ok(path) = std::fs::read_link(handle?.path()) else { continue };
        if path.starts_with(directory) {
            open.push(path);
        }
    }
    Ok(open)
}

#[tokio::test]
async fn a_suspended_machine_holds_nothing_and_refuses_everything() -> Result {
    let directory = tempfile::tempdir()?;
    let machine = MlsMachine::open(of_alice(directory.path())).await?;
    let room = machine.room("!room:example.org".into())?;
    machine.suspend().await?;
    machine.suspend().await?;
    #[cfg(target_os = "linux")]
    assert!(open_files(directory.path())?.is_empty());
    let errors = [
        machine.outgoing_requests().await.err(),
        machine.pending_requests().await.err(),
        machine.network_available().await.err(),
        machine.access_token_renewed().await.err(),
        machine.mark_request_as_sent("1".into(), 200, Vec::new()).await.err(),
        machine.receive_sync(SyncChanges::default()).await.err(),
        machine.rooms().await.err(),
        machine.binding_to_sign().await.err(),
        machine.bind_device("AAAA".into(), HashMap::new()).await.err(),
        machine.change_store_key(store_key()).await.err(),
        machine.backup().state().await.err(),
        room.is_enabled().await.err(),
        room.enable(RoomSettings::default()).await.err(),
        room.set_members(Vec::new()).await.err(),
        room.prepare_to_send().await.err(),
        room.encrypt("m.room.message".into(), "{}".into()).await.err(),
        room.receive_events(Vec::new()).await.err(),
        room.rotate_keys().await.err(),
        room.members().await.err(),
        room.epochs().await.err(),
        room.leave().await.err(),
    ];
    for (number, error) in errors.into_iter().enumerate() {
        assert!(error.as_ref().is_some_and(is_suspended), "call {number}: {error:?}");
    }
    // Nobody is kept out, and the machine does not come back while somebody is in.
    let other = MlsMachine::open(of_alice(directory.path())).await?;
    let error = machine.resume().await.refused()?;
    assert!(matches!(error, MlsError::StoreInUse { .. }), "{error}");
    assert!(is_suspended(&machine.rooms().await.refused()?));
    other.shutdown().await?;
    machine.resume().await?;
    machine.resume().await?;
    assert_eq!(machine.rooms().await?, [""; 0]);
    let error = MlsMachine::open(of_alice(directory.path())).await.refused()?;
    assert!(matches!(error, MlsError::StoreInUse { .. }), "{error}");
    machine.suspend().await?;
    machine.shutdown().await?;
    let error = machine.resume().await.refused()?;
    assert!(matches!(error, MlsError::Closed { .. }), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_store_whose_file_is_gone_or_another_is_not_resumed() -> Result {
    let (directory, elsewhere) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let machine = MlsMachine::open(of_alice(directory.path())).await?;
    machine.suspend().await?;
    let file = directory.path().join("matrix-mls.db");
    std::fs::rename(&file, elsewhere.path().join("kept"))?;
    let error = machine.resume().await.refused()?;
    assert!(matches!(error, MlsError::StoreIo { .. }), "{error}");
    std::fs::copy(elsewhere.path().join("kept"), &file)?;
    let error = machine.resume().await.refused()?;
    assert!(matches!(error, MlsError::StoreDamaged { .. }), "{error}");
    std::fs::rename(elsewhere.path().join("kept"), &file)?;
    machine.resume().await?;
    Ok(())
}

#[tokio::test]
async fn a_conversation_goes_on_after_each_pause() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let (heard, _subscription) = Heard::of(&bob).await?;
    for round in 0..3 {
        bob.machine()?.suspend().await?;
        alice.rotate_keys(&room).await?;
        alice.send_text(&room, &format!("round {round}")).await?;
        bob.machine()?.resume().await?;
        // In the epoch that it had before, with what it has in memory.
        bob.send_text(&room, &format!("answer {round}")).await?;
        quiet(&[&alice, &bob]).await;
        all_talk(&[&alice, &bob], &room).await;
    }
    heard.wait_for(|update| matches!(update, Update::EpochChanged { .. })).await?;
    Ok(())
}

/// Another machine has sealed messages while this one was suspended: no generation is used twice.
#[tokio::test]
async fn what_another_opener_did_meanwhile_counts() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    alice.send_text(&room, "before").await?;
    let machine = alice.machine()?;
    machine.suspend().await?;
    let path = alice.store_path();
    let other = MlsMachine::open(config(alice.user_id(), alice.device_id(), &path)).await?;
    let handle = other.room(room.clone())?;
    for number in 0..40 {
        let content = r#"{"body":"meanwhile","msgtype":"m.text"}"#;
        let sealed = handle.encrypt("m.room.message".into(), content.into()).await?;
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.encrypted/other{number}");
        alice.http().put(&path, serde_json::from_str(&sealed)?).await?;
    }
    other.shutdown().await?;
    drop(handle);
    machine.resume().await?;
    alice.send_text(&room, "after").await?;
    quiet(&[&alice, &bob]).await;
    let read = texts(&bob, &room).await;
    assert_eq!(read.iter().filter(|text| *text == "meanwhile").count(), 40, "{read:?}");
    assert!(read.contains(&"after".to_owned()), "{read:?}");
    Ok(())
}

/// Many calls are under way while a machine is suspended and resumed: each ends as a whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_under_way_end_as_a_whole() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let machine: Arc<MlsMachine> = alice.machine()?.clone();
    let mut calls = Vec::new();
    for number in 0..8 {
        let handle = machine.room(room.clone())?;
        calls.push(tokio::spawn(async move {
            let (mut done, mut refused) = (0, 0);
            for round in 0..60 {
                let content = format!(r#"{{"body":"{number}.{round}","msgtype":"m.text"}}"#);
                let result = match round % 3 {
                    0 => handle.members().await.map(drop),
                    1 => handle.set_settings(RoomSettings::default()).await,
                    _ => handle.encrypt("m.room.message".into(), content).await.map(drop),
                };
                match result {
                    Ok(()) => done += 1,
                    Err(error) if is_suspended(&error) => refused += 1,
                    // The settings ask for a look at the members first.
                    Err(MlsError::NotReady { .. }) => done += 1,
                    Err(error) => return Err(error),
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok((done, refused))
        }));
    }
    for _ in 0..10 {
        machine.suspend().await?;
        tokio::time::sleep(Duration::from_millis(3)).await;
        machine.resume().await?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (mut done, mut refused) = (0, 0);
    for call in calls {
        let (some, others) = call.await??;
        done += some;
        refused += others;
    }
    assert!(done > 0 && refused > 0, "{done} done, {refused} refused");
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// An answer that came while the machine was suspended is not lost: its request is given again.
#[tokio::test]
async fn an_answer_that_comes_too_late_is_asked_for_again() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let room = alice.create_room(&[]).await?;
    alice.settle().await?;
    alice.enable(&room, RoomSettings::default()).await?;
    let machine = alice.machine()?;
    let request = machine.outgoing_requests().await?.remove(0);
    machine.suspend().await?;
    let answer = alice.transmit(&request).await?;
    let error = machine.mark_request_as_sent(request.id.clone(), answer.status, answer.body).await;
    assert!(is_suspended(&error.refused()?));
    machine.resume().await?;
    assert_eq!(machine.outgoing_requests().await?[0], request);
    alice.send_text(&room, "hello").await?;
    Ok(())
}

#[tokio::test]
async fn a_reader_goes_on_beside_and_can_be_suspended_itself() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    alice.send_text(&room, "for the reader").await?;
    let events =
        alice.http().get(&format!("/_matrix/client/v3/rooms/{room}/messages?dir=b")).await?;
    let event = events["chunk"][0].to_string();
    let path = bob.store_path().to_string_lossy().into_owned();
    quiet(&[&bob]).await;
    let reader = MlsReader::open(path.clone(), store_key()).await?;
    bob.machine()?.suspend().await?;
    let message = reader.decrypt(room.clone(), event.clone()).await?;
    assert!(message.content.contains("for the reader"), "{}", message.content);
    reader.suspend().await?;
    #[cfg(target_os = "linux")]
    assert!(open_files(Path::new(&path))?.is_empty());
    assert!(is_suspended(&reader.decrypt(room.clone(), event.clone()).await.refused()?));
    reader.resume().await?;
    reader.decrypt(room.clone(), event.clone()).await?;
    // A reader may be opened while the machine is suspended, too.
    MlsReader::open(path, store_key()).await?.decrypt(room.clone(), event).await?;
    bob.machine()?.resume().await?;
    let events = bob.machine()?.rooms().await?;
    events.first().or_missing("room")?;
    Ok(())
}
