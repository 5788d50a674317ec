//! A homeserver for the tests of other languages: the kit's program, for as long as this is held.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use crate::{bindings, step::Failure};

/// A running homeserver.
pub struct Homeserver {
    child: Child,
    url: String,
}

impl Homeserver {
    /// Starts the embedded one.
    pub fn start() -> Result<Self, Failure> {
        let mut child = Command::new(bindings::program("debug", "homeserver"))
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
            return Err(Failure::Missing("the homeserver did not start".to_owned()));
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
        // Closing its input ends it too; this does not wait for that.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
