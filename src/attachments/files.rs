//! Files that are sealed and opened from disk to disk, in pieces.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf},
};

use openmls_traits::random::OpenMlsRand;
use zeroize::Zeroizing;

use super::{
    cipher::{AttachmentError, Opening, Sealing},
    description::AttachmentKey,
};

/// How much is in memory at once, in bytes.
const PIECE: usize = 256 * 1024;
/// What the name of an unfinished file ends with.
const UNFINISHED: &str = ".part";

/// Why a file could not be sealed or opened. What was written so far is gone.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// The cipher.
    #[error(transparent)]
    Attachment(#[from] AttachmentError),
    /// The disk.
    #[error("{path}: {error}", path = path.display())]
    Io { path: PathBuf, error: io::Error },
    /// Whoever asked for it has given up.
    #[error("it was given up")]
    GivenUp,
}

/// Seals a file into another one. `go_on` hears how many bytes are done, and says whether to go on.
pub(crate) fn seal_file(
    random: &impl OpenMlsRand,
    source: &Path,
    target: &Path,
    go_on: impl FnMut(u64) -> bool,
) -> Result<AttachmentKey, FileError> {
    let mut sealing = Sealing::new(random)?;
    let made = rewrite(source, target, go_on, |bytes| sealing.piece(bytes))?;
    made.keep()?;
    Ok(sealing.finish())
}

/// Opens a file into another one, which is there only if the hash is right.
pub(crate) fn open_file(
    key: &AttachmentKey,
    source: &Path,
    target: &Path,
    go_on: impl FnMut(u64) -> bool,
) -> Result<(), FileError> {
    let mut opening = Opening::new(key);
    let made = rewrite(source, target, go_on, |bytes| opening.piece(bytes))?;
    opening.finish()?;
    made.keep()
}

/// Takes a file through the cipher, into an unfinished one.
fn rewrite(
    source: &Path,
    target: &Path,
    mut go_on: impl FnMut(u64) -> bool,
    mut work: impl FnMut(&mut [u8]) -> Result<(), AttachmentError>,
) -> Result<Unfinished, FileError> {
    let mut from = File::open(source).map_err(at(source))?;
    let mut made = Unfinished::new(target)?;
    let mut piece = Zeroizing::new(vec![0; PIECE]);
    let mut done = 0;
    loop {
        if !go_on(done) {
            return Err(FileError::GivenUp);
        }
        let length = match from.read(&mut piece) {
            Ok(0) => return Ok(made),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(at(source)(error)),
        };
        let bytes = piece.get_mut(..length).unwrap_or_default();
        work(bytes)?;
        made.write(bytes)?;
        done += length as u64;
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> FileError {
    move |error| FileError::Io { path: path.to_owned(), error }
}

/// A file that is not all there yet. It is gone when it is dropped.
struct Unfinished {
    file: File,
    path: PathBuf,
    target: PathBuf,
}

impl Unfinished {
    fn new(target: &Path) -> Result<Self, FileError> {
        let mut path = target.as_os_str().to_owned();
        path.push(UNFINISHED);
        let path = PathBuf::from(path);
        let file = File::create(&path).map_err(at(&path))?;
        Ok(Self { file, path, target: target.to_owned() })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.file.write_all(bytes).map_err(at(&self.path))
    }

    /// It is whole: puts it in its place.
    fn keep(self) -> Result<(), FileError> {
        self.file.sync_all().map_err(at(&self.path))?;
        fs::rename(&self.path, &self.target).map_err(at(&self.target))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // One that was kept has no such name any more. What cannot be deleted is told by nobody.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use openmls_rust_crypto::RustCrypto;

    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn names(directory: &Path) -> Result<Vec<String>, io::Error> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    #[test]
    fn a_file_of_many_pieces_comes_back() -> Outcome {
        let (random, directory) = (RustCrypto::default(), tempfile::tempdir()?);
        let [plain, sealed, opened] =
            ["plain", "sealed", "opened"].map(|name| directory.path().join(name));
        for length in [0, 1, PIECE, PIECE + 1, 3 * PIECE + 7] {
            let text: Vec<u8> = (0..length).map(|at| (at % 253) as u8).collect();
            fs::write(&plain, &text)?;
            let mut heard = Vec::new();
            let key = seal_file(&random, &plain, &sealed, |done| {
                heard.push(done);
                true
            })?;
            assert!(heard.is_sorted() && heard.last() == Some(&(length as u64)), "{heard:?}");
            assert_eq!(fs::metadata(&sealed)?.len(), length as u64);
            open_file(&key, &sealed, &opened, |_| true)?;
            assert_eq!(fs::read(&opened)?, text);
        }
        assert_eq!(names(directory.path())?, ["opened", "plain", "sealed"]);
        Ok(())
    }

    #[test]
    fn nothing_is_left_of_a_file_that_was_changed_or_given_up() -> Outcome {
        let (random, directory) = (RustCrypto::default(), tempfile::tempdir()?);
        let [plain, sealed, opened] =
            ["plain", "sealed", "opened"].map(|name| directory.path().join(name));
        fs::write(&plain, vec![7; 2 * PIECE])?;
        let key = seal_file(&random, &plain, &sealed, |_| true)?;
        fs::write(&opened, "what was there before")?;
        let given_up = open_file(&key, &sealed, &opened, |done| done == 0);
        assert!(matches!(given_up, Err(FileError::GivenUp)), "{given_up:?}");
        let mut bytes = fs::read(&sealed)?;
        *bytes.last_mut().ok_or("the file is empty")? ^= 1;
        fs::write(&sealed, bytes)?;
        let changed = open_file(&key, &sealed, &opened, |_| true);
        assert!(
            matches!(changed, Err(FileError::Attachment(AttachmentError::Changed))),
            "{changed:?}"
        );
        assert_eq!(fs::read(&opened)?, b"what was there before");
        assert_eq!(names(directory.path())?, ["opened", "plain", "sealed"]);
        let nowhere = directory.path().join("no such folder").join("file");
        assert!(matches!(open_file(&key, &nowhere, &opened, |_| true), Err(FileError::Io { .. })));
        let made = seal_file(&random, &plain, &nowhere, |_| true);
        assert!(matches!(made, Err(FileError::Io { .. })), "{made:?}");
        Ok(())
    }
}
