//! Where the sync connection of this crate stands, in a file beside the machine's store.
//!
//! It is written after the machine has a response on its disk, so it is never ahead of the machine.
//! A file that is lost or damaged is as none: the connection begins anew, and the machine asks for
//! what it may have missed.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::Error;

/// The position of the connection, and how many rooms its list wants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Sliding sync's `pos`; nothing where the connection begins.
    pub(crate) pos: Option<String>,
    /// How many rooms the next request wants; 0 for the least.
    #[serde(default)]
    pub(crate) window: u64,
}

/// The file.
#[derive(Debug, Clone)]
pub(crate) struct PositionFile(PathBuf);

impl PositionFile {
    pub(crate) fn in_directory(directory: &Path) -> Self {
        Self(directory.join("position.json"))
    }

    /// What is in the file.
    pub(crate) fn load(&self) -> Position {
        let text = fs::read(&self.0).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Replaces the file as a whole: after a crash it is the old one or the new one.
    pub(crate) fn store(&self, position: &Position) -> Result<(), Error> {
        let write = || -> io::Result<()> {
            let new = self.0.with_extension("new");
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec(position)?)?;
            file.sync_data()?;
            fs::rename(new, &self.0)
        };
        write().map_err(Error::Position)
    }

    /// Has the connection begin anew.
    pub(crate) fn forget(&self) -> Result<(), Error> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::Position(error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_kept_and_a_damaged_one_is_none() -> Result<(), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        let file = PositionFile::in_directory(directory.path());
        assert_eq!(file.load(), Position::default());
        let kept = Position { pos: Some("5".into()), window: 120 };
        file.store(&kept)?;
        assert_eq!(file.load(), kept);
        fs::write(directory.path().join("position.json"), "{\"pos\": ")?;
        assert_eq!(file.load(), Position::default());
        file.forget()?;
        file.forget()?;
        assert_eq!(file.load(), Position::default());
        Ok(())
    }
}
