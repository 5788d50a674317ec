//! An app, as small as one can be: an account, a device, its engine, and the loop between them.
//!
//! It does what README.md tells an app to do and nothing cleverer, so that a test
//! which passes here says that an app can pass it. Its store lives in a directory of its own,
//! beside the sync token, which is written only after the engine has taken a sync's changes: a
//! crash between the two brings the same sync again.

mod account;
mod group;
mod history;
mod identity;
mod media;
mod rooms;
mod snapshot;
mod syncing;
mod transport;

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU32},
    time::Duration,
};

use matrix_mls::{
    DecryptedMessage, MachineConfig, MemberPolicy, MlsError, MlsMachine, MlsRoom, Publishing,
    RollbackGuard, StoreKey, SyncSummary,
};
use serde_json::Value;
use tempfile::TempDir;

pub use account::password_auth;
pub use rooms::{ReadEvent, is_commit};
pub use snapshot::Snapshot;
pub use syncing::SyncBy;
pub use transport::Driven;

use crate::{Http, KitError, store_key};
use syncing::SyncPosition;

/// How a client is set up, where that differs from the usual.
#[derive(Clone)]
pub struct ClientOptions {
    /// Where the store lives; a temporary directory when not said.
    pub directory: Option<PathBuf>,
    /// How the store is sealed.
    pub store_key: StoreKey,
    /// Whether the engine publishes the device's keys itself.
    pub publishing: Publishing,
    /// Which devices it lets into groups; the engine's default when not said.
    pub member_policy: Option<MemberPolicy>,
    /// The number that the app keeps outside the store, if it keeps one.
    pub guard: Option<Arc<dyn RollbackGuard>>,
    /// How it syncs.
    pub sync_by: SyncBy,
    /// How long [`Client::drive`] and [`Client::prepare`] go on before they give up.
    pub patience: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            directory: None,
            store_key: store_key(),
            publishing: Publishing::Alone,
            member_policy: None,
            guard: None,
            sync_by: SyncBy::Tokens,
            // On a loaded machine a commit that adds hundreds of devices takes its time.
            patience: Duration::from_secs(180),
        }
    }
}

/// What one sync brought.
#[derive(Debug, Clone, Default)]
pub struct Synced {
    /// The messages it made readable, and those that syncs inside other calls did before it.
    pub messages: Vec<DecryptedMessage>,
    /// The engine's results, of this sync alone.
    pub summary: SyncSummary,
    /// The response itself; by sliding sync, that of the connection with the rooms.
    pub response: Value,
    /// Whether it has no news.
    pub is_quiet: bool,
}

/// One device of one user, with its engine.
pub struct Client {
    user_id: String,
    device_id: String,
    password: String,
    http: Http,
    options: ClientOptions,
    directory: PathBuf,
    /// Deletes the directory at the end, where it is a temporary one.
    _temporary: Option<TempDir>,
    machine: Option<Arc<MlsMachine>>,
    /// Where the next sync starts. Its lock lets one sync run at a time.
    position: tokio::sync::Mutex<SyncPosition>,
    /// Part of every sync since the token was last forgotten. A homeserver answers a repeated sync
    /// from a cache, so a client that begins anew would be shown the past for two minutes.
    sync_nonce: AtomicU32,
    /// Messages that came while a call other than `sync` had to sync.
    unread: Mutex<VecDeque<DecryptedMessage>>,
    /// Parts of paths whose next answers are to be thrown away.
    forgotten_answers: Mutex<Vec<(String, u32)>>,
}

impl Client {
    /// `@user:server/DEVICE`, as it is named in errors.
    pub fn name(&self) -> String {
        format!("{}/{}", self.user_id, self.device_id)
    }

    /// The Matrix user id.
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// The Matrix device id.
    pub fn device_id(&self) -> &str {
        &self.device_id
    }

    /// The password that [`Client::register`] chose.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The directory of the engine's store.
    pub fn store_path(&self) -> PathBuf {
        self.directory.join("store")
    }

    /// This device's own requests, for what the client has no method for.
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// The engine.
    pub fn machine(&self) -> Result<&Arc<MlsMachine>, KitError> {
        self.machine.as_ref().ok_or_else(|| self.gave_up("using the engine", "it is closed"))
    }

    /// The engine's handle of a room.
    pub async fn room(&self, room_id: &str) -> Result<Arc<MlsRoom>, KitError> {
        let room = self.machine()?.room(room_id.to_owned());
        room.map_err(self.engine(format!("opening room {room_id}")))
    }

    /// Sets which devices it lets into groups, from its next start on.
    pub fn set_member_policy(&mut self, policy: Option<MemberPolicy>) {
        self.options.member_policy = policy;
    }

    async fn open_machine(&mut self) -> Result<(), KitError> {
        let config = MachineConfig {
            user_id: self.user_id.clone(),
            device_id: self.device_id.clone(),
            store_path: self.store_path().to_string_lossy().into_owned(),
            store_key: self.options.store_key.clone(),
            publishing: self.options.publishing,
            member_policy: self.options.member_policy,
        };
        let machine = match self.options.guard.clone() {
            Some(guard) => MlsMachine::open_guarded(config, guard).await,
            None => MlsMachine::open(config).await,
        };
        self.machine = Some(machine.map_err(self.engine("opening the engine"))?);
        *self.position.get_mut() = self.stored_position();
        Ok(())
    }

    /// Closes the engine.
    pub async fn close(&mut self) -> Result<(), KitError> {
        match self.machine.take() {
            Some(machine) => machine.shutdown().await.map_err(self.engine("closing the engine")),
            None => Ok(()),
        }
    }

    /// Closes the engine and opens it again from what is on disk, as a restart of the app does.
    pub async fn restart(&mut self) -> Result<(), KitError> {
        self.close().await?;
        self.open_machine().await
    }

    /// Opens the engine again without having closed it, as after the app was killed. Handles of
    /// rooms must have been dropped before.
    pub async fn crash(&mut self) -> Result<(), KitError> {
        drop(self.machine.take());
        self.open_machine().await
    }

    /// Deletes the store and the sync token and begins anew with the same device id.
    pub async fn wipe(&mut self) -> Result<(), KitError> {
        self.close().await?;
        std::fs::remove_dir_all(self.store_path()).map_err(KitError::io("deleting the store"))?;
        self.forget_sync_token().await?;
        self.open_machine().await
    }

    fn unread(&self) -> MutexGuard<'_, VecDeque<DecryptedMessage>> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn engine(&self, what: impl Into<String>) -> impl FnOnce(MlsError) -> KitError {
        let (device, what) = (self.name(), what.into());
        move |error| KitError::Engine { device, what, error: Box::new(error) }
    }

    fn gave_up(&self, what: impl Into<String>, reason: impl Into<String>) -> KitError {
        KitError::GaveUp { device: self.name(), what: what.into(), reason: reason.into() }
    }
}
