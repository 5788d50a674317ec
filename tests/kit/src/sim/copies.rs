//! Directories of stores: copying one, as a backup tool does, and deleting one.

use std::{fs, path::Path};

use super::violation::Violation;

/// What belongs to the process that has the store open, and not to the store.
const TRANSIENT: [&str; 2] = ["-shm", ".lock"];

/// Copies a store's directory.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), Violation> {
    fs::create_dir_all(to).map_err(Violation::simulator)?;
    for entry in fs::read_dir(from).map_err(Violation::simulator)? {
        let entry = entry.map_err(Violation::simulator)?;
        let name = entry.file_name();
        if !TRANSIENT.iter().any(|end| name.to_string_lossy().ends_with(end)) {
            fs::copy(entry.path(), to.join(name)).map_err(Violation::simulator)?;
        }
    }
    Ok(())
}

/// Deletes a store's directory.
pub(super) fn remove(directory: &Path) -> Result<(), Violation> {
    fs::remove_dir_all(directory).map_err(Violation::simulator)
}

/// Deletes what belongs to a database's present content, but not the database.
pub(super) fn remove_log(directory: &Path) -> Result<(), Violation> {
    for entry in fs::read_dir(directory).map_err(Violation::simulator)? {
        let path = entry.map_err(Violation::simulator)?.path();
        let name = path.to_string_lossy();
        if name.ends_with("-wal") || name.ends_with("-shm") {
            fs::remove_file(&path).map_err(Violation::simulator)?;
        }
    }
    Ok(())
}
