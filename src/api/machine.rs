//! `MlsMachine`: one device of one user, as an app holds it.
//!
//! Thin: it parses arguments, moves the work off the async executor's threads, and puts results
//! into exported shapes. The rule of every call that changes something: it happens as a whole and is
//! on disk before the call returns, or it does not happen; a caller that is cancelled changes nothing
//! about that.

use std::{path::PathBuf, sync::Arc};

use ruma::{DeviceId, RoomId, UserId};

use super::{
    backup::MlsBackup,
    error::MlsError,
    room::MlsRoom,
    slot::{EngineSlot, blocking},
    store_key::StoreKey,
    sync::SyncSummary,
};
use crate::{
    engine::Engine,
    exported::{OutgoingRequest, RequestOutcome, Subscription, SyncChanges, UpdateObserver},
    identity::{self, IdentityError},
    protocol::DeviceName,
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

/// Who uploads this device's `device_keys`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Enum)]
pub enum Publishing {
    /// This library does: the device has no Olm machine.
    Alone,
    /// The app's Olm machine does, with what [`MlsMachine::sign_device_keys`] adds.
    BesideOlm,
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
    own: DeviceName,
    engine: Arc<EngineSlot>,
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
            let engine = Engine::open(user_id, device_id, publishing, &directory, key.material())?;
            Ok(engine)
        })
        .await?;
        let own = engine.identity().name();
        Ok(Arc::new(Self { own, engine: EngineSlot::new(engine) }))
    }

    /// The user this machine belongs to.
    pub fn user_id(&self) -> String {
        self.own.user_id.to_string()
    }

    /// The device this machine is.
    pub fn device_id(&self) -> String {
        self.own.device_id.to_string()
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
        Ok(outcome.into())
    }

    /// The handle of a room. It need not exist yet.
    pub fn room(&self, room_id: String) -> Result<Arc<MlsRoom>, MlsError> {
        #[cfg(feature = "test-hooks")]
        crate::store::hooks::reached(crate::store::hooks::IN_CALL);
        let room_id = RoomId::parse(&room_id)
            .map_err(|error| MlsError::invalid("bad_room_id", format!("room_id: {error}")))?;
        Ok(Arc::new(MlsRoom::new(self.engine.clone(), room_id, self.own.clone())))
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
                Ok::<_, IdentityError>(SignedDeviceKeys {
                    device_keys: signed.device_keys,
                    to_sign: signed.to_sign,
                })
            })
            .await
    }

    /// Seals the store under another key. The store's contents are not rewritten: they are sealed
    /// under a random key, and it is that key which is sealed anew.
    pub async fn change_store_key(&self, new_key: StoreKey) -> Result<(), MlsError> {
        self.engine
            .run(move |engine| {
                let key = new_key.checked()?;
                Ok::<_, MlsError>(engine.change_key(key.material())?)
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
            let engine = slot.close();
            // What could not be written is remembered anew: that keeps nothing from closing.
            if let Some(Err(error)) = engine.as_ref().map(Engine::write_bindings) {
                tracing::warn!(%error, "not all was written before closing");
            }
            drop(engine);
            Ok(())
        })
        .await
    }
}
