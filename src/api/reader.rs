//! `MlsReader`: reads messages beside a running machine, for a process that must not change
//! anything, such as an iOS notification extension. Thin, like `machine`.

use std::{path::PathBuf, sync::Arc};

use ruma::RoomId;

use super::{error::MlsError, event::DecryptedMessage, slot::blocking, store_key::StoreKey};
use crate::engine::ReadOnlyEngine;

/// A device's store, opened for reading only.
///
/// It takes no lock: a [`MlsMachine`](crate::MlsMachine) may have the store open in another process
/// or in this one, and what that commits is seen by the next call. It writes nothing, so it cannot
/// take in a commit: a message of an epoch that the machine has not yet seen is `UnknownEpoch`, and a
/// notification for it can only say that there is a message.
#[derive(uniffi::Object)]
pub struct MlsReader {
    reader: Arc<ReadOnlyEngine>,
}

#[uniffi::export(async_runtime = "tokio")]
impl MlsReader {
    /// Opens the store in a directory, with the key that the machine was opened with.
    ///
    /// Fails with `StoreIo` (code `store_missing`) when no machine has made one there yet, and with
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

    /// Decrypts one `m.room.encrypted` message event of a room, given as JSON.
    pub async fn decrypt(
        &self,
        room_id: String,
        event: String,
    ) -> Result<DecryptedMessage, MlsError> {
        let room = RoomId::parse(&room_id)
            .map_err(|error| MlsError::invalid("bad_room_id", format!("room_id: {error}")))?;
        let reader = self.reader.clone();
        blocking(move || Ok(reader.decrypt(&room, &event)?)).await.map(Into::into)
    }
}
