//! A backup of a phone: everything the client has on disk, and going back to it.

use std::{fs, path::Path};

use tempfile::TempDir;

use super::Client;
use crate::KitError;

/// What a client had on disk at one moment.
pub struct Snapshot(TempDir);

impl Client {
    /// Copies what this client has on disk, as a phone's backup does.
    pub async fn back_up(&mut self) -> Result<Snapshot, KitError> {
        self.close().await?;
        let copy = tempfile::tempdir().map_err(KitError::io("making a directory"))?;
        copy_all(&self.directory, copy.path()).map_err(KitError::io("copying the store"))?;
        self.open_machine().await?;
        Ok(Snapshot(copy))
    }

    /// Brings a backup back: the client is what it was then, and knows nothing of what it did
    /// since.
    pub async fn restore_backup(&mut self, snapshot: &Snapshot) -> Result<(), KitError> {
        self.close().await?;
        fs::remove_dir_all(&self.directory).map_err(KitError::io("deleting the store"))?;
        copy_all(snapshot.0.path(), &self.directory).map_err(KitError::io("copying the store"))?;
        self.open_machine().await
    }
}

fn copy_all(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_all(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
