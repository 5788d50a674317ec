//! Deleting a device's store, with everything that belongs to it.

use std::path::PathBuf;

use super::{error::MlsError, machine::MlsMachine, slot::blocking};
use crate::store;

/// Deletes the store in a directory: the database with what SQLite keeps beside it, and the lock. The
/// directory goes, too, if nothing else is in it.
///
/// For an app that logs out, or whose store cannot be opened any more. Nothing can be read from the
/// store afterwards; only a key backup brings history back. Delete the store's key from the
/// platform's key store as well: what a flash memory still holds of the file is then of no use.
///
/// A directory without a store is left as it is. Fails with `StoreInUse` while a machine has the
/// store open, in this process or another, and with `StoreIo`.
#[uniffi::export(async_runtime = "tokio")]
pub async fn wipe_store(store_path: String) -> Result<(), MlsError> {
    let directory = PathBuf::from(store_path);
    blocking(move || Ok(store::wipe(&directory)?)).await
}

#[uniffi::export(async_runtime = "tokio")]
impl MlsMachine {
    /// Shuts the machine down, and deletes its store as [`wipe_store`](crate::wipe_store) does.
    ///
    /// Log out from the homeserver first: nobody can do anything in this device's name afterwards.
    /// Fails with `StoreInUse` if a machine that was opened after this one was shut down has the
    /// store open.
    pub async fn wipe(&self) -> Result<(), MlsError> {
        self.shutdown().await?;
        wipe_store(self.store_path.clone()).await
    }
}
