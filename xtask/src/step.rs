//! Running a command's steps one after the other: each is announced, timed, and when it fails,
//! named in the error.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Instant,
};

/// Why a command stopped.
#[derive(Debug)]
pub enum Failure {
    /// A step's program ended badly.
    Step {
        /// What the step was about.
        what: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// A step's program did not start.
    Start {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// Something is missing; the sentence says what to install.
    Missing(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step { what, status } => write!(formatter, "{what} failed ({status})"),
            Self::Start { program, source } => write!(formatter, "cannot run {program}: {source}"),
            Self::Missing(sentence) => formatter.write_str(sentence),
        }
    }
}

/// A command's steps.
pub struct Plan {
    began: Instant,
    step: usize,
    steps: usize,
}

impl Plan {
    /// A command of so many steps.
    pub fn new(steps: usize) -> Self {
        Self { began: Instant::now(), step: 0, steps }
    }

    /// Runs cargo in the workspace as the next step.
    pub fn cargo(&mut self, what: &str, arguments: &[&str]) -> Result<(), Failure> {
        self.run(what, &cargo(), arguments)
    }

    /// Runs a program in the workspace as the next step.
    pub fn run(&mut self, what: &str, program: &Path, arguments: &[&str]) -> Result<(), Failure> {
        self.step += 1;
        let began = Instant::now();
        eprintln!("[xtask] {}/{}: {what}", self.step, self.steps);
        let status = Command::new(program).args(arguments).current_dir(workspace()).status();
        let status = status
            .map_err(|source| Failure::Start { program: program.display().to_string(), source })?;
        let seconds = began.elapsed().as_secs();
        eprintln!("[xtask] {}/{}: {seconds} s", self.step, self.steps);
        if status.success() {
            return Ok(());
        }
        Err(Failure::Step { what: what.to_owned(), status })
    }

    /// Says that all went well.
    pub fn finish(self, command: &str) {
        eprintln!("[xtask] {command}: done in {} s", self.began.elapsed().as_secs());
    }
}

/// The cargo that runs us.
pub fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// The workspace's directory.
pub fn workspace() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// Makes sure that `cargo subcommand` is there, through rustup where that is how Rust came.
pub fn require_component(subcommand: &str, component: &str) -> Result<(), Failure> {
    let is_there = || {
        let version = Command::new(cargo())
            .args([subcommand, "--version"])
            .current_dir(workspace())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        version.is_ok_and(|status| status.success())
    };
    if is_there() {
        return Ok(());
    }
    eprintln!("[xtask] installing {component}");
    let installed = Command::new("rustup").args(["component", "add", component]).status();
    if installed.is_ok_and(|status| status.success()) && is_there() {
        return Ok(());
    }
    Err(Failure::Missing(format!(
        "`cargo {subcommand}` is missing. Install it: rustup component add {component}"
    )))
}
