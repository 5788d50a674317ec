//! The test kit's homeservers: their kinds, and one that runs for the tests of other languages.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use crate::{failure::Failure, paths};

/// The kinds of homeserver that the test kit can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum HomeserverKind {
    /// The small one that is part of the test kit.
    Embedded,
    /// A Synapse; the test kit installs it the first time.
    Synapse,
}

impl HomeserverKind {
    /// The kind's name on the command lines of the test kit.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Synapse => "synapse",
        }
    }
}

/// A running embedded homeserver. Dropping this stops it.
pub struct Homeserver {
    child: Child,
    url: String,
}

impl Homeserver {
    /// Starts it. The test kit must be built.
    pub fn start() -> Result<Self, Failure> {
        let mut child = Command::new(paths::program("debug", "homeserver"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Failure::start("homeserver"))?;
        let mut url = String::new();
        if let Some(output) = child.stdout.take() {
            let read = BufReader::new(output).read_line(&mut url);
            read.map_err(Failure::io("the homeserver's output"))?;
        }
        let url = url.trim().to_owned();
        if url.is_empty() {
            return Err(Failure::Message("the homeserver did not start".to_owned()));
        }
        Ok(Self { child, url })
    }

    /// Its base URL.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Homeserver {
    fn drop(&mut self) {
        // The homeserver also ends by itself when its input closes. Both calls fail only if it has.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
