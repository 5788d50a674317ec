//! Nothing that prints shows a secret or a message, and deleting a store leaves nothing of it.

use std::{
    fmt::Debug,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use matrix_mls::{
    BackupSecret, EventOutcome, EventResult, ExportedSecret, LogLevel, LogSink, MachineConfig,
    MlsError, MlsMachine, RecoveryKey, RoomSettings, StoreKey, set_log_sink, wipe_store,
};
use matrix_mls_kit::{
    Homeserver, OrMissing as _, Refused as _, Result, config,
    together::{pair, quiet},
};
use serde_json::json;

#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl Lines {
    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogSink for Lines {
    fn on_log(&self, _: LogLevel, _: String, message: String) {
        self.lines().push(message);
    }
}

fn printed(value: &impl Debug) -> Vec<String> {
    vec![format!("{value:?}"), format!("{value:#?}")]
}

fn printed_error(error: &MlsError) -> Vec<String> {
    let mut out = printed(error);
    out.push(error.to_string());
    out
}

#[tokio::test]
async fn nothing_that_prints_shows_a_secret() -> Result {
    let lines = Arc::new(Lines::default());
    set_log_sink(LogLevel::Debug, Some(lines.clone()))?;
    let said = "the secret message";
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    alice.send_text(&room, said).await?;
    quiet(&[&alice, &bob]).await;
    let events = bob.history(&room).await?;
    let handle = bob.room(&room).await?;
    let mut messages = Vec::new();
    for event in &events {
        messages.extend(handle.decrypt(event.to_string()).await.ok());
    }
    let message = messages.into_iter().find(|message| message.content.contains(said));
    let message = message.or_missing("the message")?;
    let mut all = printed(&message);
    all.extend(printed(&EventResult {
        event_id: None,
        outcome: EventOutcome::Message { message },
    }));
    for content in [said.to_owned(), json!([said]).to_string()] {
        let error = handle.encrypt("m.room.message".into(), content).await.refused()?;
        all.extend(printed_error(&error));
    }
    let raw = b"0123456789-secret-key-0123456789".to_vec();
    let passphrase = StoreKey::Passphrase { passphrase: "the secret passphrase".into() };
    for key in [StoreKey::Raw { key: raw.clone() }, passphrase.clone(), StoreKey::Unprotected] {
        let directory = tempfile::tempdir()?;
        let config =
            MachineConfig { store_key: key.clone(), ..config("@a:b", "PHONE", directory.path()) };
        all.extend(printed(&key));
        all.extend(printed(&config));
    }
    let key = RecoveryKey::generate()?;
    let text = key.text();
    let backup = bob.machine()?.backup();
    backup.create(key.clone(), false).await?;
    // So often that the log warns of it.
    for _ in 0..5 {
        all.extend(printed(&bob.machine()?.outgoing_requests().await?));
    }
    let auth = json!({ "type": "m.login.password", "password": "the secret password" });
    let identity = bob.machine()?.identity();
    if let Err(error) = identity.authorize(auth.to_string()).await {
        all.extend(printed_error(&error));
    }
    bob.drive().await?;
    let secret = backup.secret().await?.or_missing("the secret of the backup")?;
    all.extend(printed(&secret));
    all.extend(printed(&key));
    all.extend(printed(&BackupSecret { name: "n".into(), value: text.clone().into_bytes() }));
    all.extend(printed(&ExportedSecret { secret: raw.clone(), epoch: 7, epoch_id: "00".into() }));
    all.extend(printed_error(&RecoveryKey::parse(text[1..].to_owned()).refused()?));
    let imported = backup.import_history(said.into(), "the secret passphrase".into()).await;
    all.extend(printed_error(&imported.refused()?));
    set_log_sink(LogLevel::Debug, None)?;
    assert!(!lines.lines().is_empty(), "the log was heard");
    all.extend(lines.lines().iter().cloned());

    let bytes = key.bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let value = String::from_utf8(secret.value.clone())?;
    let list = |bytes: &[u8]| format!("{bytes:?}").trim_matches(['[', ']']).to_owned();
    for hidden in [
        "secret message".to_owned(),
        "secret pass".to_owned(),
        "secret-key".to_owned(),
        text.clone(),
        text.replace(' ', ""),
        text[..14].to_owned(),
        hex,
        value.clone(),
        list(&bytes[..8]),
        list(&raw[..8]),
    ] {
        let with: Vec<_> = all.iter().filter(|line| line.contains(&hidden)).collect();
        assert!(with.is_empty(), "{hidden} in {with:?}");
    }
    Ok(())
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

#[tokio::test]
async fn wiping_deletes_every_file_of_a_store_and_nothing_else() -> Result {
    let parent = tempfile::tempdir()?;
    let directory = parent.path().join("store");
    let path = directory.display().to_string();
    let machine = MlsMachine::open(config("@alice:example.org", "PHONE", &directory)).await?;
    machine.room("!a:example.org".into())?.enable(RoomSettings::default()).await?;
    assert!(names(&directory)?.len() >= 2, "{:?}", names(&directory)?);
    let error = wipe_store(path.clone()).await.refused()?;
    assert!(matches!(error, MlsError::StoreInUse { .. }), "{error}");
    assert!(directory.join("matrix-mls.db").exists(), "nothing was deleted");
    machine.wipe().await?;
    assert!(!directory.exists());
    assert_eq!(machine.rooms().await.refused()?.code(), "closed");
    // Again, and where there has never been a store.
    machine.wipe().await?;
    wipe_store(path.clone()).await?;
    wipe_store(parent.path().join("never").display().to_string()).await?;

    // A store that does not open any more goes as well, and what is not the library's stays.
    std::fs::create_dir(&directory)?;
    for name in ["matrix-mls.db", "matrix-mls.db-wal", "matrix-mls.db-shm", "matrix-mls.db-journal"]
    {
        std::fs::write(directory.join(name), "garbage")?;
    }
    std::fs::write(directory.join("of the app"), "stays")?;
    wipe_store(path.clone()).await?;
    assert_eq!(names(&directory)?, ["of the app"]);
    let machine = MlsMachine::open(config("@alice:example.org", "PHONE", &directory)).await?;
    assert_eq!(machine.rooms().await?, Vec::<String>::new());
    // Another machine has the store by now.
    machine.shutdown().await?;
    let other = MlsMachine::open(config("@alice:example.org", "PHONE", &directory)).await?;
    let error = machine.wipe().await.refused()?;
    assert!(matches!(error, MlsError::StoreInUse { .. }), "{error}");
    other.wipe().await?;
    Ok(())
}
