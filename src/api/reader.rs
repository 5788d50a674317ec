//! `MlsReader`: reads messages beside a running machine, for a process that must not change
//! anything, such as an iOS notification extension. Thin, like `machine`.

use std::{path::PathBuf, sync::Arc};

use super::{
    error::MlsError, event::DecryptedMessage, follow::MlsFollower, ids, slot::blocking,
    store_key::StoreKey,
};
use crate::engine::{Follow, ReadOnlyEngine};

/// A device's store, opened for reading only.
///
/// A reader takes no lock: a [`MlsMachine`](crate::MlsMachine) may have the store open, in another
/// process or in this one. The next call sees whatever the machine has committed. A reader writes
/// nothing: a message of an epoch that the machine has not seen yet fails with `UnknownEpoch`.
/// [`follow`](Self::follow) reads such a message, too, with a few requests to the homeserver.
#[derive(uniffi::Object)]
pub struct MlsReader {
    pub(super) reader: Arc<ReadOnlyEngine>,
}

#[uniffi::export(async_runtime = "tokio")]
impl MlsReader {
    /// Opens the store in a directory, with the key that the machine was opened with.
    ///
    /// Fails with `StoreIo` if no machine has made a store there yet (`"store_missing"`) or if a
    /// machine of this version must upgrade it first (`"store_not_upgraded"`), and with
    /// `StoreWrongKey`, `StoreDamaged`, `StoreTooNew` and `StoreIo` like a machine.
    #[uniffi::constructor]
    pub async fn open(store_path: String, store_key: StoreKey) -> Result<Arc<Self>, MlsError> {
        let reader = blocking(move || {
            let key = store_key.checked()?;
            Ok(ReadOnlyEngine::open(&PathBuf::from(&store_path), key.material())?)
        })
        .await?;
        Ok(Arc::new(Self { reader: Arc::new(reader) }))
    }

    /// Waits for running calls, then closes the store's file. Until
    /// [`resume`](Self::resume) every call fails with `Suspended`.
    ///
    /// A reader holds SQLite's locks only while a call runs, and a handle of the file all the
    /// while. An app that is about to be suspended closes that too. Suspending again does nothing.
    pub async fn suspend(&self) -> Result<(), MlsError> {
        let reader = self.reader.clone();
        blocking(move || {
            reader.suspend();
            Ok(())
        })
        .await
    }

    /// Opens the store's file again after [`suspend`](Self::suspend), without the store's key.
    ///
    /// Fails with `StoreIo` or `StoreDamaged` if the file is gone or damaged; the reader then stays
    /// suspended. Resuming a reader that is not suspended does nothing.
    pub async fn resume(&self) -> Result<(), MlsError> {
        let reader = self.reader.clone();
        blocking(move || Ok(reader.resume()?)).await
    }

    /// Decrypts one `m.room.encrypted` message event of a room, given as JSON.
    ///
    /// Fails like [`MlsRoom::decrypt`](crate::MlsRoom::decrypt). Messages of a room with
    /// `RoomSettings::read_once` always fail with the code `"read_once"`.
    pub async fn decrypt(
        &self,
        room_id: String,
        event: String,
    ) -> Result<DecryptedMessage, MlsError> {
        let room = ids::room_id("room_id", &room_id)?;
        let reader = self.reader.clone();
        blocking(move || Ok(reader.decrypt(&room, &event)?)).await.map(Into::into)
    }

    /// Begins to read one message event of a room, given as JSON, of whatever epoch.
    ///
    /// The machine may not have seen that epoch yet. The commits that lead to it are fetched and
    /// followed in memory: the store stays as it is, and the machine follows the same commits when
    /// it comes to them. See [`MlsFollower`].
    ///
    /// Fails as [`decrypt`](Self::decrypt) does where the event is no message of MLS.
    pub async fn follow(
        &self,
        room_id: String,
        event: String,
    ) -> Result<Arc<MlsFollower>, MlsError> {
        let room = ids::room_id("room_id", &room_id)?;
        let follow = Follow::new(self.reader.clone(), room, event)?;
        Ok(MlsFollower::new(follow))
    }
}
