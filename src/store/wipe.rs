//! Deleting a store: the database, what SQLite keeps beside it, and the lock.

use std::{fs, io, path::Path};

use super::{
    error::StoreError,
    handle::DATABASE,
    lock::{self, DirLock},
};

/// The endings of the files that SQLite makes beside a database.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Deletes the store in a directory, unless somebody has it open. Other files stay, and with them
/// the directory.
pub fn wipe(directory: &Path) -> Result<(), StoreError> {
    if !directory.try_exists()? {
        return Ok(());
    }
    // Held until the last file is gone.
    let held = DirLock::take(directory)?;
    // The database goes first: what is beside it is worth nothing without it.
    remove(&directory.join(DATABASE))?;
    for ending in BESIDE {
        remove(&directory.join(format!("{DATABASE}{ending}")))?;
    }
    remove(&lock::path(directory)?)?;
    drop(held);
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(error.into()),
        _ => Ok(()),
    }
}

fn remove(file: &Path) -> Result<(), StoreError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
