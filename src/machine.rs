//! `MlsMachine`: one device of one user, as an app holds it.
//!
//! Thin: it parses arguments, moves the work off the async executor's threads, and puts results
//! into exported shapes. The rule of every call that changes something: it happens as a whole and is
//! on disk before the call returns, or it does not happen; a caller that is cancelled changes nothing
//! about that.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use ruma::{DeviceId, RoomId, UserId};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::{
    engine::{Engine, ToDeviceOutcome},
    error::MlsError,
    group::timeline::parse,
    identity,
    key_backup::MlsBackup,
    protocol::SyncResponse,
    requests::{OutgoingRequest, RequestOutcome},
    room::{EventResult, MlsRoom},
    store::StoreKeyMaterial,
    updates::{Subscription, UpdateObserver},
};

/// What a machine needs to open.
#[derive(Clone, uniffi::Record)]
pub struct MachineConfig {
    /// The Matrix user id, `@alice:example.org`.
    pub user_id: String,
    /// The Matrix device id that the app's login gave.
    pub device_id: String,
    /// A directory that belongs to this device alone; made when it does not exist.
    pub store_path: String,
    /// How the store is sealed.
    pub store_key: StoreKey,
    /// Whether this library publishes the device's keys itself.
    pub publishing: Publishing,
}

/// How the store's random data key is sealed.
#[derive(Clone, uniffi::Enum)]
pub enum StoreKey {
    /// 32 bytes from the platform's key store (Android Keystore, iOS Keychain).
    Raw {
        /// The key.
        key: Vec<u8>,
    },
    /// A passphrase, stretched with PBKDF2: opening takes a noticeable time.
    Passphrase {
        /// The passphrase.
        passphrase: String,
    },
    /// No protection beyond the file system's. For tests.
    Unprotected,
}

/// Who uploads this device's `device_keys`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Enum)]
pub enum Publishing {
    /// This library does: the device has no Olm machine.
    Alone,
    /// The app's Olm machine does, with what [`MlsMachine::sign_device_keys`] adds.
    BesideOlm,
}

/// What one sync response brought, however the app got it.
#[derive(Debug, Clone, Default, uniffi::Record)]
pub struct SyncChanges {
    /// The to-device events, each as JSON.
    #[uniffi(default = [])]
    pub to_device: Vec<String>,
    /// `device_lists.changed`.
    #[uniffi(default = [])]
    pub changed_devices: Vec<String>,
    /// `device_lists.left`.
    #[uniffi(default = [])]
    pub left_devices: Vec<String>,
    /// `device_one_time_keys_count`, or nothing where the response did not say.
    #[uniffi(default = None)]
    pub one_time_key_counts: Option<HashMap<String, u64>>,
    /// `device_unused_fallback_key_types`, or nothing where the response did not say.
    #[uniffi(default = None)]
    pub unused_fallback_key_types: Option<Vec<String>>,
    /// What changed in each room.
    #[uniffi(default = [])]
    pub rooms: Vec<RoomChanges>,
    /// `next_batch`.
    pub next_batch: String,
}

/// What one sync response brought for one room.
#[derive(Debug, Clone, Default, uniffi::Record)]
pub struct RoomChanges {
    /// The room.
    pub room_id: String,
    /// State events (those before the timeline), each as JSON.
    #[uniffi(default = [])]
    pub state: Vec<String>,
    /// Timeline events in the order the server gave, each as JSON. State events among them count as state too.
    #[uniffi(default = [])]
    pub timeline: Vec<String>,
}

/// What the machine made of a sync.
#[derive(Debug, Clone, Default, uniffi::Record)]
pub struct SyncSummary {
    /// A result for each room's events, in order; events that waited and could now be read come at the end.
    pub rooms: Vec<RoomSummary>,
    /// A result for each to-device event, in order.
    pub to_device: Vec<ToDeviceResult>,
}

/// The results of one room's events.
#[derive(Debug, Clone, uniffi::Record)]
pub struct RoomSummary {
    /// The room.
    pub room_id: String,
    /// A result an event.
    pub events: Vec<EventResult>,
}

/// What became of one to-device event.
#[derive(Debug, Clone, PartialEq, uniffi::Enum)]
pub enum ToDeviceResult {
    /// It is none of this library's.
    Ignored,
    /// It was a Welcome, and this device is now in the room's group.
    Joined {
        /// The room.
        room_id: String,
        /// The number of the epoch it entered.
        epoch: u64,
    },
    /// A member who has added this device gave it what was said before, as far as the room lets it read that.
    HistoryShared {
        /// The room.
        room_id: String,
    },
    /// It was a Welcome, or history, that needs a value which is still to be fetched (see `outgoing_requests`).
    Waiting {
        /// What it waits for.
        error: MlsError,
    },
    /// It could not be used.
    Failed {
        /// Why.
        error: MlsError,
    },
}

/// Device keys with this device's MLS credential in them.
#[derive(Debug, Clone, uniffi::Record)]
pub struct SignedDeviceKeys {
    /// The `device_keys` object with our algorithm, key and signature merged in. Other signatures
    /// stay only if nothing that they cover has changed.
    pub device_keys: String,
    /// The canonical JSON that the Olm machine's Ed25519 device key must sign; add that signature under
    /// `signatures.USER["ed25519:DEVICE"]` and upload.
    pub to_sign: String,
}

/// One device of one user.
///
/// Open it once, feed it every sync, send the requests it hands out, and get a room's handle for
/// everything that concerns one room. All methods may be called from any thread.
#[derive(uniffi::Object)]
pub struct MlsMachine {
    user_id: String,
    device_id: String,
    engine: Arc<EngineSlot>,
}

/// The engine until the machine is closed. Every handle shares it.
pub(crate) struct EngineSlot(RwLock<Option<Engine>>);

impl EngineSlot {
    /// Runs blocking work on the engine, off the executor's threads. The work goes on if the caller
    /// goes away.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Engine) -> Result<T, MlsError> + Send + 'static,
    ) -> Result<T, MlsError> {
        let slot = self.clone();
        blocking(move || {
            let engine = slot.0.read().unwrap_or_else(PoisonError::into_inner);
            work(engine.as_ref().ok_or_else(MlsError::closed)?)
        })
        .await
    }
}

/// Runs blocking work off the executor's threads; a panic in it is an `Internal` error.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MlsError> + Send + 'static,
) -> Result<T, MlsError> {
    let result = Arc::new(Mutex::new(None));
    let slot = result.clone();
    // Boxed, so that the executor's part is compiled once and not for each call (docs/decisions/005).
    let work: Box<dyn FnOnce() + Send> = Box::new(move || {
        let value = work();
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    });
    // The transaction of one that panics was rolled back when the stack unwound.
    let ended = tokio::task::spawn_blocking(work).await;
    let value = result.lock().unwrap_or_else(PoisonError::into_inner).take();
    value.unwrap_or_else(|| {
        let why = ended.err().map_or_else(|| "no result".to_owned(), |error| error.to_string());
        Err(MlsError::internal("panic", why))
    })
}

#[uniffi::export(async_runtime = "tokio")]
impl MlsMachine {
    /// Opens a device's store, or makes it.
    ///
    /// Fails with `StoreWrongKey`, `StoreDamaged`, `StoreTooNew`, `StoreInUse`, `StoreFull` or
    /// `StoreIo`, each of which leaves what is on disk as it was, and with `InvalidInput` when an
    /// id is malformed or the store belongs to another device.
    #[uniffi::constructor]
    pub async fn open(config: MachineConfig) -> Result<Arc<Self>, MlsError> {
        let user_id = UserId::parse(&config.user_id)
            .map_err(|error| MlsError::invalid("bad_user_id", format!("user_id: {error}")))?;
        if config.device_id.is_empty() {
            return Err(MlsError::invalid("bad_device_id", "device_id: it is empty"));
        }
        let device_id = <&DeviceId>::from(config.device_id.as_str()).to_owned();
        let engine = blocking(move || {
            let directory = PathBuf::from(&config.store_path);
            let publishing = match config.publishing {
                Publishing::Alone => identity::Publishing::Alone,
                Publishing::BesideOlm => identity::Publishing::BesideOlm,
            };
            let key = config.store_key.checked()?;
            Engine::open(user_id, device_id, publishing, &directory, key.material())
        })
        .await?;
        let name = engine.identity().name();
        Ok(Arc::new(Self {
            user_id: name.0.to_string(),
            device_id: name.1.to_string(),
            engine: Arc::new(EngineSlot(RwLock::new(Some(engine)))),
        }))
    }

    /// The user this machine belongs to.
    pub fn user_id(&self) -> String {
        self.user_id.clone()
    }

    /// The device this machine is.
    pub fn device_id(&self) -> String {
        self.device_id.clone()
    }

    /// The requests to send now, oldest first. Send each, and tell what came of it with
    /// [`mark_request_as_sent`](Self::mark_request_as_sent). A request is handed out again, the same
    /// to the byte, until its answer is known; one that was told to wait is left out until it is due.
    pub async fn outgoing_requests(&self) -> Result<Vec<OutgoingRequest>, MlsError> {
        self.engine.run(Engine::outgoing_requests).await
    }

    /// Takes in the answer to a request: the HTTP status, whatever it is, and the body. Status 0
    /// stands for no answer at all (a timeout, no network).
    pub async fn mark_request_as_sent(
        &self,
        id: String,
        status: u16,
        body: Vec<u8>,
    ) -> Result<RequestOutcome, MlsError> {
        self.engine.run(move |engine| engine.answered(&id, status, &body)).await
    }

    /// Takes in what a sync brought. When this returns, it is on disk, and the app may store
    /// `next_batch`. Feeding the same sync twice does no harm. A bad event fails alone; the call
    /// itself fails only when the store does, and then nothing of the sync was taken in.
    pub async fn receive_sync(&self, changes: SyncChanges) -> Result<SyncSummary, MlsError> {
        let outcome = self.engine.run(move |engine| engine.receive_sync(&changes)).await?;
        let rooms = outcome.rooms.into_iter().map(|(room_id, events)| RoomSummary {
            room_id: room_id.to_string(),
            events: events.into_iter().map(EventResult::from).collect(),
        });
        let to_device = outcome.to_device.into_iter().map(|event| match event {
            ToDeviceOutcome::Ignored => ToDeviceResult::Ignored,
            ToDeviceOutcome::Joined { room_id, epoch } => {
                ToDeviceResult::Joined { room_id: room_id.to_string(), epoch }
            }
            ToDeviceOutcome::History { room_id } => {
                ToDeviceResult::HistoryShared { room_id: room_id.to_string() }
            }
            ToDeviceOutcome::Waiting(error) => ToDeviceResult::Waiting { error },
            ToDeviceOutcome::Failed(error) => ToDeviceResult::Failed { error },
        });
        Ok(SyncSummary { rooms: rooms.collect(), to_device: to_device.collect() })
    }

    /// The handle of a room. It need not exist yet.
    pub fn room(&self, room_id: String) -> Result<Arc<MlsRoom>, MlsError> {
        #[cfg(feature = "test-hooks")]
        crate::test_hooks::reached(crate::test_hooks::IN_CALL);
        let room_id = RoomId::parse(&room_id)
            .map_err(|error| MlsError::invalid("bad_room_id", format!("room_id: {error}")))?;
        Ok(Arc::new(MlsRoom::new(
            self.engine.clone(),
            room_id,
            (self.user_id.clone(), self.device_id.clone()),
        )))
    }

    /// The key backup.
    pub fn backup(&self) -> Arc<MlsBackup> {
        Arc::new(MlsBackup::new(self.engine.clone()))
    }

    /// The ids of the rooms that use MLS, as far as this device knows.
    pub async fn rooms(&self) -> Result<Vec<String>, MlsError> {
        let rooms = self.engine.run(Engine::rooms).await?;
        Ok(rooms.into_iter().map(|room| room.to_string()).collect())
    }

    /// Puts this device's MLS credential into the `device_keys` that an Olm machine is about to
    /// upload (for [`Publishing::BesideOlm`]). `device_keys` is that object as JSON; it must name
    /// this user and device.
    pub async fn sign_device_keys(
        &self,
        device_keys: String,
    ) -> Result<SignedDeviceKeys, MlsError> {
        self.engine
            .run(move |engine| {
                let signed = engine.identity().sign_device_keys(&device_keys)?;
                Ok(SignedDeviceKeys { device_keys: signed.device_keys, to_sign: signed.to_sign })
            })
            .await
    }

    /// Seals the store under another key. The store's contents are not rewritten: they are sealed
    /// under a random key, and it is that key which is sealed anew.
    pub async fn change_store_key(&self, new_key: StoreKey) -> Result<(), MlsError> {
        self.engine
            .run(move |engine| {
                let key = new_key.checked()?;
                engine.change_key(key.material())
            })
            .await
    }

    /// Tells an observer of every change from now on, until the subscription is stopped or goes,
    /// or the machine is shut down. There may be several.
    pub async fn subscribe(
        &self,
        observer: Arc<dyn UpdateObserver>,
    ) -> Result<Arc<Subscription>, MlsError> {
        self.engine.run(move |engine| engine.subscribe(observer)).await.map(Arc::new)
    }

    /// Waits for what is running, then closes the store and lets go of its lock. Every later call,
    /// on this machine or on its rooms, fails with `Closed`; shutting down again does nothing.
    ///
    /// Without this the store closes when the last handle of the machine and of its rooms is gone.
    pub async fn shutdown(&self) -> Result<(), MlsError> {
        let slot = self.engine.clone();
        blocking(move || {
            let engine = slot.0.write().unwrap_or_else(PoisonError::into_inner).take();
            // What could not be written is remembered anew: that keeps nothing from closing.
            if let Some(Err(error)) = engine.as_ref().map(Engine::write_bindings) {
                tracing::warn!(code = error.code(), "not all was written before closing");
            }
            drop(engine);
            Ok(())
        })
        .await
    }
}

/// A store key that was checked, and is wiped when it goes.
pub(crate) enum CheckedKey {
    Raw(Zeroizing<[u8; 32]>),
    Passphrase(Zeroizing<String>),
    Unprotected,
}

impl StoreKey {
    pub(crate) fn checked(self) -> Result<CheckedKey, MlsError> {
        match self {
            Self::Raw { key } => {
                let key = Zeroizing::new(key);
                let key = key.as_slice().try_into().map_err(|_| {
                    MlsError::invalid("bad_store_key", "store_key: a raw key has 32 bytes")
                })?;
                Ok(CheckedKey::Raw(Zeroizing::new(key)))
            }
            Self::Passphrase { passphrase } if passphrase.is_empty() => {
                Err(MlsError::invalid("bad_store_key", "store_key: the passphrase is empty"))
            }
            Self::Passphrase { passphrase } => {
                Ok(CheckedKey::Passphrase(Zeroizing::new(passphrase)))
            }
            Self::Unprotected => Ok(CheckedKey::Unprotected),
        }
    }
}

impl CheckedKey {
    pub(crate) fn material(&self) -> StoreKeyMaterial<'_> {
        match self {
            Self::Raw(key) => StoreKeyMaterial::Raw(key),
            Self::Passphrase(passphrase) => StoreKeyMaterial::Passphrase(passphrase),
            Self::Unprotected => StoreKeyMaterial::None,
        }
    }
}

/// Takes what this library needs out of the body of a `/v3/sync` response.
///
/// Fails with `InvalidInput` when the body is not such a response.
#[uniffi::export]
pub fn sync_changes_from_response(response: String) -> Result<SyncChanges, MlsError> {
    let response: SyncResponse = parse(&response, "the sync response")
        .map_err(|error| MlsError::invalid("bad_sync_response", error.reason()))?;
    let texts =
        |events: Vec<Box<RawValue>>| events.iter().map(|event| event.get().to_owned()).collect();
    let rooms = response.rooms.join.into_iter().chain(response.rooms.leave);
    Ok(SyncChanges {
        to_device: texts(response.to_device.events),
        changed_devices: response.device_lists.changed,
        left_devices: response.device_lists.left,
        one_time_key_counts: response.device_one_time_keys_count.map(HashMap::from_iter),
        unused_fallback_key_types: response.device_unused_fallback_key_types,
        rooms: rooms
            .map(|(room_id, room)| RoomChanges {
                room_id,
                state: texts(room.state.events),
                timeline: texts(room.timeline.events),
            })
            .collect(),
        next_batch: response.next_batch,
    })
}
