//! Why a command stopped, as a sentence for the person who ran it.

use std::{io, path::PathBuf, process::ExitStatus};

/// Why a command stopped.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A program ended with an error.
    #[error("{what} failed ({status})")]
    Program {
        /// What the program was run for.
        what: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// A program did not start.
    #[error("cannot run {program}: {source}")]
    Start {
        /// The program's name or path.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file's path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Anything else. The sentence says what is wrong and, where it can, what to do about it.
    #[error("{0}")]
    Message(String),
}

impl Failure {
    /// Turns the system's error about this file into a failure.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// Turns the system's error about starting this program into a failure.
    pub fn start(program: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let program = program.into();
        move |source| Self::Start { program, source }
    }
}
