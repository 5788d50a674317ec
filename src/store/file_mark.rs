//! The mark that tells a store's file from a copy of it.
//!
//! It is the file's inode and its time of creation. Both stay when the file is moved or the system
//! restarts; a file restored from a backup has others. Where the system does not tell the time of
//! creation (older Androids), the lock's file beside it serves: that file is made once and nothing
//! of it is ever changed, so the time of its last change is when it was made, and no program can
//! set that time. An inode alone is given to the next file soon.
//!
//! The mark is saved sealed. A mark in clear, as earlier versions saved it, could be written by
//! whoever copies the file.

use std::{
    fs::{self, Metadata},
    path::Path,
    time::UNIX_EPOCH,
};

use rusqlite::OptionalExtension;

use super::{Tx, cipher::Place, error::StoreError};

const SEALED: &str = "sealed_file";
const IN_CLEAR: &str = "file";
const INODE: usize = 8;
const TIME: usize = 16;

/// The mark of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMark(Vec<u8>);

impl FileMark {
    /// The mark of the file at `path`, whose lock is at `lock`; `None` where the system has nothing
    /// to mark a file by.
    pub(super) fn of(path: &Path, lock: &Path) -> Result<Option<Self>, StoreError> {
        let metadata = fs::metadata(path)?;
        let made = made_ns(&metadata).or_else(|| changed_ns(&fs::metadata(lock).ok()?));
        let mark = [&inode(&metadata).to_be_bytes()[..], &made.unwrap_or(0).to_be_bytes()].concat();
        Ok(mark.iter().any(|byte| *byte != 0).then_some(Self(mark)))
    }

    /// Whether a saved mark is of the same file. Earlier versions saved no time where the system
    /// does not tell the time of creation.
    fn is_of(&self, saved: &[u8]) -> bool {
        match saved.split_at_checked(INODE) {
            Some((inode, made)) if made == [0; TIME] => self.0.starts_with(inode),
            _ => self.0 == saved,
        }
    }
}

/// When a file was made, in nanoseconds since 1970.
fn made_ns(metadata: &Metadata) -> Option<u128> {
    Some(metadata.created().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos())
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

/// When anything of a file was last changed, in nanoseconds since 1970.
#[cfg(unix)]
fn changed_ns(metadata: &Metadata) -> Option<u128> {
    use std::os::unix::fs::MetadataExt as _;
    let seconds = u128::try_from(metadata.ctime()).ok()?;
    Some(seconds * 1_000_000_000 + u128::try_from(metadata.ctime_nsec()).ok()?)
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> u64 {
    0
}

#[cfg(not(unix))]
fn changed_ns(_: &Metadata) -> Option<u128> {
    None
}

impl Tx<'_> {
    /// Whether the open file is another than the one that was opened last, such as a copy of it.
    /// A sealed mark that is gone, or not this library's, counts as another file.
    pub fn is_copy(&self, mark: &FileMark) -> Result<bool, StoreError> {
        let Some(sealed) = self.meta(SEALED)? else { return Ok(true) };
        let saved = self.cipher.open(&self.mark_place(), &sealed);
        let saved = saved.and_then(|value| value.decode::<serde_bytes::ByteBuf>());
        Ok(!saved.is_ok_and(|saved| mark.is_of(&saved)))
    }

    /// The same of a store of an earlier version, which has its mark in clear. One whose mark was
    /// never saved counts as the same file.
    pub fn was_copy(&self, mark: &FileMark) -> Result<bool, StoreError> {
        Ok(self.meta(IN_CLEAR)?.is_some_and(|saved| !mark.is_of(&saved)))
    }

    /// Saves the mark of the file that is open now.
    pub fn adopt_file(&self, mark: &FileMark) -> Result<(), StoreError> {
        let sealed = self.cipher.seal(&self.mark_place(), serde_bytes::Bytes::new(&mark.0))?;
        self.execute(
            "INSERT INTO meta (name, value) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (SEALED, sealed),
        )?;
        self.execute("DELETE FROM meta WHERE name = ?1", [IN_CLEAR])?;
        Ok(())
    }

    fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let mut statement = self.statement("SELECT value FROM meta WHERE name = ?1")?;
        Ok(statement.query_row([name], |row| row.get(0)).optional()?)
    }

    fn mark_place(&self) -> Place {
        self.cipher.place("meta", &[SEALED.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_of_its_file_alone() {
        let mark =
            |inode: u64, made: u128| [&inode.to_be_bytes()[..], &made.to_be_bytes()].concat();
        let now = FileMark(mark(7, 5));
        assert!(now.is_of(&mark(7, 5)));
        for other in
            [mark(7, 6), mark(8, 5), mark(8, 0), Vec::new(), vec![0; 3], mark(7, 5)[..9].into()]
        {
            assert!(!now.is_of(&other), "{other:?}");
        }
        // What a system without times of creation had saved before.
        assert!(now.is_of(&mark(7, 0)));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_is_put_back_has_another_time() -> Result<(), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        let (lock, kept) = (directory.path().join("lock"), directory.path().join("kept"));
        fs::write(&lock, b"")?;
        let time = |path: &Path| Ok::<_, std::io::Error>(changed_ns(&fs::metadata(path)?));
        let before = time(&lock)?;
        assert!(before.is_some());
        // Opening and locking changes nothing; neither does moving the directory around it.
        let file = fs::OpenOptions::new().read(true).write(true).open(&lock)?;
        file.try_lock()?;
        drop(file);
        assert_eq!(time(&lock)?, before);
        // A copy with the same times is younger all the same.
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::copy(&lock, &kept)?;
        let times = fs::metadata(&lock)?.modified()?;
        fs::File::options().write(true).open(&kept)?.set_modified(times)?;
        assert!(time(&kept)? > before);
        Ok(())
    }
}
