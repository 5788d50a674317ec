//! `Mls`: a machine that is attached to a client.

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::{Duration, SystemTime},
};

use futures_util::Stream;
use matrix_mls::{MachineConfig, MlsError, MlsMachine, MlsRoom, Publishing};
use matrix_sdk::{
    Client,
    event_handler::EventHandlerDropGuard,
    ruma::{RoomId, events::AnySyncTimelineEvent, serde::Raw},
};
use serde::Deserialize;
use tokio::sync::{Notify, watch};

use crate::{
    Config, Error,
    connection::Connection,
    driver::{self, State},
    position::PositionFile,
    timeline::{Decrypted, Timeline, TimelineItem},
    to_device,
};

/// A machine that is attached to a client. Clones are handles of the same.
#[derive(Clone)]
pub struct Mls {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) client: Client,
    pub(crate) machine: Arc<MlsMachine>,
    pub(crate) connection: tokio::sync::Mutex<Connection>,
    /// Held while requests are handed out and sent, so that nobody else sends the same ones.
    pub(crate) sending: tokio::sync::Mutex<()>,
    pub(crate) timeline: Timeline,
    pub(crate) state: watch::Sender<State>,
    /// When the last sync was taken in; nothing before the first, and after one that failed.
    pub(crate) synced: watch::Sender<Option<SystemTime>>,
    pub(crate) is_running: AtomicBool,
    /// Whether `run` is to end.
    pub(crate) is_closed: watch::Sender<bool>,
    /// Ends pauses of `run`.
    pub(crate) wake: Notify,
    to_device: Mutex<Option<EventHandlerDropGuard>>,
}

impl Mls {
    /// Opens the machine of the client's device, or makes it, and follows the client's to-device
    /// events from now on. It asks nothing of the homeserver.
    ///
    /// Call it before the client syncs, and once for a client. Fails with `NotLoggedIn` without a
    /// session, and with `Mls` as `MlsMachine::open` does.
    pub async fn attach(client: &Client, config: Config) -> Result<Self, Error> {
        let session = client.session_meta().ok_or(Error::NotLoggedIn)?;
        let store = config.directory.join("store");
        let position = PositionFile::in_directory(&config.directory);
        let (path, file) = (store.clone(), position.clone());
        blocking(move || make_directory(&path, &file)).await?;
        let machine = MlsMachine::open(MachineConfig {
            user_id: session.user_id.to_string(),
            device_id: session.device_id.to_string(),
            store_path: store.to_string_lossy().into_owned(),
            store_key: config.store_key,
            publishing: Publishing::BesideOlm,
            member_policy: config.member_policy,
        })
        .await?;
        let inner = Arc::new(Inner {
            client: client.clone(),
            machine,
            connection: tokio::sync::Mutex::new(Connection::new(position, config.timeline_limit)),
            sending: tokio::sync::Mutex::new(()),
            timeline: Timeline::new(),
            state: watch::Sender::new(State::Stopped),
            synced: watch::Sender::new(None),
            is_running: AtomicBool::new(false),
            is_closed: watch::Sender::new(false),
            wake: Notify::new(),
            to_device: Mutex::new(None),
        });
        let guard = to_device::follow(&inner);
        *inner.to_device.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard);
        Ok(Self { inner })
    }

    /// Takes the to-device events that the homeserver still has, which a run of the app that was
    /// killed may have left. It acknowledges none. Comes back when the machine has them on its
    /// disk, so without a network it waits.
    ///
    /// Call it at each start, before the client syncs, and whenever something else has synced for
    /// the device meanwhile. Fails where trying again is of no use.
    pub async fn before_sync(&self) -> Result<(), Error> {
        let mut pause = driver::Pause::default();
        loop {
            match self.inner.look_at_to_device().await {
                Err(error) if error.is_transient() => pause.after(&error, &self.inner.wake).await,
                done => return done,
            }
        }
    }

    /// Syncs the connection of this crate once, waiting this long for news, and gives the response
    /// to the machine. [`run`](Self::run) does it by itself; this is for a fetch in the background.
    pub async fn sync_once(&self, timeout: Duration) -> Result<(), Error> {
        self.inner.sync(timeout).await
    }

    /// The decrypted events of syncs from now on. Each call gives a stream of its own.
    ///
    /// A listener that is slow misses the oldest and is told so. What was decrypted while nobody
    /// listened is decrypted again with [`decrypt`](Self::decrypt).
    pub fn timeline(&self) -> impl Stream<Item = TimelineItem> + Send + Unpin + use<> {
        self.inner.timeline.stream()
    }

    /// Decrypts an event of a room, as the SDK's timeline has it
    /// (`EventTimelineItem::original_json`). It changes nothing and can be repeated, but for rooms
    /// that are read once.
    ///
    /// What cannot be read has its cause in `MlsError::unreadable_cause`.
    pub async fn decrypt(
        &self,
        room_id: &RoomId,
        event: &Raw<AnySyncTimelineEvent>,
    ) -> Result<Decrypted, Error> {
        #[derive(Deserialize)]
        struct Time {
            origin_server_ts: Option<u64>,
        }
        let text = event.json().get();
        let message = self.room(room_id)?.decrypt(text.to_owned()).await?;
        let time = serde_json::from_str::<Time>(text).ok().and_then(|time| time.origin_server_ts);
        Decrypted::of(room_id, message, time, false)
    }

    /// The machine, for all that this crate adds nothing to.
    pub fn machine(&self) -> &Arc<MlsMachine> {
        &self.inner.machine
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// The machine's handle of a room.
    pub fn room(&self, room_id: &RoomId) -> Result<Arc<MlsRoom>, Error> {
        Ok(self.inner.machine.room(room_id.to_string())?)
    }

    /// Whether a room uses MLS, as far as the syncs have shown: then [`send`](Self::send) sends
    /// there, and the client's own `Room::send` does not.
    pub async fn uses_mls(&self, room_id: &RoomId) -> Result<bool, Error> {
        Ok(self.room(room_id)?.is_enabled().await?)
    }

    /// Ends [`run`](Self::run), closes the store and releases its lock.
    ///
    /// End the client's own sync before: a Welcome that comes after this is read at the next start
    /// only if the client does not acknowledge it.
    pub async fn close(&self) -> Result<(), Error> {
        drop(self.inner.to_device.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.inner.is_closed.send_replace(true);
        Ok(self.inner.machine.shutdown().await?)
    }
}

impl fmt::Debug for Mls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, device) = (self.inner.machine.user_id(), self.inner.machine.device_id());
        write!(formatter, "Mls({user}|{device})")
    }
}

/// Makes the directory. A position without a store is that of another store.
fn make_directory(store: &Path, position: &PositionFile) -> Result<(), Error> {
    if !store.exists() {
        std::fs::create_dir_all(store).map_err(Error::Position)?;
        position.forget()?;
    }
    Ok(())
}

/// Runs what touches the disk off the executor's threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Position(std::io::Error::other(error))),
    }
}

/// Whether an error says that the machine was closed.
pub(crate) fn is_closed(error: &Error) -> bool {
    matches!(error, Error::Mls(MlsError::Closed { .. }))
}
