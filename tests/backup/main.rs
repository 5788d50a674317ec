//! Key backup: a lost phone's history on a new one, through kills, a server that misbehaves,
//! versions that change, and data that somebody has tampered with.

mod keys;
mod losing;
mod servers;
mod synapse;

use std::sync::Arc;

use matrix_mls::{
    BackupCounts, BackupState, HistoryFailure, MlsBackup, MlsError, RecoveryKey, RestoreScope,
    Update, key_of_secret,
};
use matrix_mls_kit::{
    Client, Fields as _, Heard, Homeserver, OrMissing as _, RateLimit, Refused as _, Result,
    Target,
    together::{all_talk, log_in, pair, quiet, texts},
};
use serde_json::{Value, json};

/// Waits for the end of a restore: the epochs that it brought, and what was left out.
pub async fn restored(heard: &Heard) -> Result<(u64, Vec<(String, u32)>)> {
    let of = |failure: &HistoryFailure| (failure.code.clone(), failure.count);
    let tell = |update: &Update| match update {
        Update::RestoreFinished { epochs, failures, .. } => {
            Some((*epochs, failures.iter().map(of).collect()))
        }
        _ => None,
    };
    heard.hear(tell).await
}

/// Waits for a backup to fail: with what code.
pub async fn failed(heard: &Heard) -> Result<String> {
    let tell = |update: &Update| match update {
        Update::BackupFailed { code, .. } => Some(code.clone()),
        _ => None,
    };
    heard.hear(tell).await
}

pub fn backup(client: &Client) -> Result<Arc<MlsBackup>> {
    Ok(client.machine()?.backup())
}

pub async fn state(client: &Client) -> Result<BackupState> {
    Ok(backup(client)?.state().await?)
}

pub async fn counts(client: &Client) -> Result<BackupCounts> {
    Ok(backup(client)?.counts().await?)
}

/// Messages over as many epochs.
pub async fn talk(from: &Client, room: &str, epochs: usize) -> Result<Vec<String>> {
    let mut said = Vec::new();
    for epoch in 0..epochs {
        from.rotate_keys(room).await?;
        for message in 0..2 {
            let text = format!("{epoch}.{message} of {}", from.device_id());
            from.send_text(room, &text).await?;
            said.push(text);
        }
    }
    Ok(said)
}

/// A backup of Alice's with a new key.
pub async fn create(client: &Client) -> Result<Arc<RecoveryKey>> {
    let key = RecoveryKey::generate()?;
    backup(client)?.create(key.clone(), false).await?;
    client.drive().await?;
    assert!(matches!(state(client).await?, BackupState::Enabled { megolm: false, .. }));
    Ok(key)
}

/// The server's sessions, as a client may read them.
pub async fn sessions(client: &Client) -> Result<(String, Value)> {
    let version = client.http().get("/_matrix/client/v3/room_keys/version").await?;
    let version = version.text("version")?.to_owned();
    let path = format!("/_matrix/client/v3/room_keys/keys?version={version}");
    let keys = client.http().get(&path).await?;
    Ok((version, keys))
}

/// Puts these in the place of all the sessions that the server has.
pub async fn replace_sessions(client: &Client, version: &str, keys: Value) -> Result {
    let path = format!("/_matrix/client/v3/room_keys/keys?version={version}");
    client.http().try_json("DELETE", &path, json!({})).await?;
    client.http().put(&path, keys).await?;
    Ok(())
}

pub async fn restore_all(
    client: &Client,
    key: &Arc<RecoveryKey>,
) -> Result<(u64, Vec<(String, u32)>)> {
    let (heard, _subscription) = Heard::of(client).await?;
    backup(client)?.restore(Some(key.clone()), RestoreScope::AllRooms).await?;
    client.drive().await?;
    restored(&heard).await
}
