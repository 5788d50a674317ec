//! Key backup: a lost phone's history on a new one, through kills, a server that misbehaves, versions
//! that change, and data that somebody has tampered with.

mod keys;
mod losing;
mod servers;
mod synapse;

use std::sync::{Arc, Mutex};

use matrix_mls::{
    BackupCounts, BackupState, HistoryFailure, MlsError, RecoveryKey, RestoreScope, Subscription,
    Update, UpdateObserver, key_of_secret,
};
use matrix_mls_kit::{
    Client, Homeserver, RateLimit,
    together::{all_talk, pair, quiet, texts},
};
use serde_json::{Value, json};

#[derive(Default)]
pub struct Heard(Mutex<Vec<Update>>);

impl UpdateObserver for Heard {
    fn on_update(&self, update: Update) {
        self.0.lock().unwrap().push(update);
    }

    fn on_end(&self) {}
}

impl Heard {
    pub async fn of(client: &Client) -> (Arc<Self>, Arc<Subscription>) {
        let heard = Arc::new(Self::default());
        let subscription = client.machine().unwrap().subscribe(heard.clone()).await.unwrap();
        (heard, subscription)
    }

    /// Waits until an update of this kind has come, and takes all that came until then.
    pub async fn wait_for(&self, is_it: impl Fn(&Update) -> bool) -> Update {
        for _ in 0..500 {
            let found = self.0.lock().unwrap().iter().position(&is_it);
            if let Some(at) = found {
                return self.0.lock().unwrap().drain(..=at).next_back().unwrap();
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("not heard; only {:?}", self.0.lock().unwrap());
    }

    /// Waits for the end of a restore: the epochs that it brought, and what was left out.
    pub async fn restored(&self) -> (u64, Vec<(String, u32)>) {
        match self.wait_for(|update| matches!(update, Update::RestoreFinished { .. })).await {
            Update::RestoreFinished { epochs, failures, .. } => {
                let pair = |failure: HistoryFailure| (failure.code, failure.count);
                (epochs, failures.into_iter().map(pair).collect())
            }
            _ => unreachable!(),
        }
    }

    pub async fn failed(&self) -> String {
        match self.wait_for(|update| matches!(update, Update::BackupFailed { .. })).await {
            Update::BackupFailed { code, .. } => code,
            _ => unreachable!(),
        }
    }
}

pub fn backup(client: &Client) -> Arc<matrix_mls::MlsBackup> {
    client.machine().unwrap().backup()
}

pub async fn state(client: &Client) -> BackupState {
    backup(client).state().await.unwrap()
}

pub async fn counts(client: &Client) -> BackupCounts {
    backup(client).counts().await.unwrap()
}

/// Messages over as many epochs.
pub async fn talk(from: &Client, room: &str, epochs: usize) -> Vec<String> {
    let mut said = Vec::new();
    for epoch in 0..epochs {
        from.room(room).await.unwrap().rotate_keys().await.unwrap();
        for message in 0..2 {
            let text = format!("{epoch}.{message} of {}", from.device_id());
            from.send_text(room, &text).await.unwrap();
            said.push(text);
        }
    }
    said
}

/// A backup of Alice's with a new key.
pub async fn create(client: &Client) -> Arc<RecoveryKey> {
    let key = RecoveryKey::generate().unwrap();
    backup(client).create(key.clone(), false).await.unwrap();
    client.drive().await.unwrap();
    assert!(matches!(state(client).await, BackupState::Enabled { megolm: false, .. }));
    key
}

/// The server's sessions, as a client may read them.
pub async fn sessions(client: &Client) -> (String, Value) {
    let version = client.http().get("/_matrix/client/v3/room_keys/version").await.unwrap();
    let version = version["version"].as_str().unwrap().to_owned();
    let path = format!("/_matrix/client/v3/room_keys/keys?version={version}");
    let keys = client.http().get(&path).await.unwrap();
    (version, keys)
}

/// Puts these in the place of all the sessions that the server has.
pub async fn replace_sessions(client: &Client, version: &str, keys: Value) {
    let path = format!("/_matrix/client/v3/room_keys/keys?version={version}");
    client.http().try_json("DELETE", &path, json!({})).await.unwrap();
    client.http().put(&path, keys).await.unwrap();
}

pub async fn restore_all(client: &Client, key: &Arc<RecoveryKey>) -> (u64, Vec<(String, u32)>) {
    let (heard, _subscription) = Heard::of(client).await;
    backup(client).restore(Some(key.clone()), RestoreScope::AllRooms).await.unwrap();
    client.drive().await.unwrap();
    heard.restored().await
}
