//! The test kit's homeservers: their kinds, one that runs for the tests of other languages, and one
//! for people (`cargo xtask homeserver`).

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
};

use crate::{failure::Failure, paths, process};

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

/// The options of `cargo xtask homeserver`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Which homeserver.
    #[arg(value_enum, default_value = "embedded")]
    kind: HomeserverKind,

    /// The port. Without one it is 8008, or any that is free where another program has that.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
}

/// Runs a homeserver until Ctrl-C.
pub fn run(options: &Options) -> Result<(), Failure> {
    eprintln!("[xtask] building the homeserver (the first time: several minutes)");
    process::run("building the homeserver", process::build().arg("--quiet"))?;
    let port = options.port.map_or_else(|| "any".to_owned(), |port| port.to_string());
    // In place of this program, so that Ctrl-C and other signals reach it and nobody else.
    let error = Command::new(paths::program("debug", "homeserver"))
        .args([options.kind.name(), "--port", &port])
        .exec();
    Err(Failure::start("homeserver")(error))
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
