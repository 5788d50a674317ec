//! What the parts of a release share: its version, copies, sums, and how a step runs.

use std::{fs, path::Path, process::Command};

use sha2::{Digest as _, Sha256};

use crate::{failure::Failure, process};

/// The version of everything that is released.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Copies a file into a directory, under its own name.
pub(super) fn copy(file: &Path, directory: &Path) -> Result<(), Failure> {
    let to = directory.join(file.file_name().unwrap_or_default());
    fs::copy(file, &to).map(drop).map_err(Failure::io(file))
}

/// A file's SHA-256 in hex.
pub(super) fn sum(file: &Path) -> Result<String, Failure> {
    let bytes = fs::read(file).map_err(Failure::io(file))?;
    Ok(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Runs a step of the release, in the words of its failure.
pub(super) fn run_step(what: &str, command: &mut Command) -> Result<(), Failure> {
    command.stdout(std::io::stderr());
    process::run(what, command)
}
