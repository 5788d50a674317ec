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
    /// A file that cannot be read or written.
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something is missing; the sentence says what to do.
    Missing(String),
}

impl Failure {
    /// For errors of a file.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// For programs that do not start.
    pub fn start(program: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let program = program.into();
        move |source| Self::Start { program, source }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step { what, status } => write!(formatter, "{what} failed ({status})"),
            Self::Start { program, source } => write!(formatter, "cannot run {program}: {source}"),
            Self::File { path, source } => write!(formatter, "{}: {source}", path.display()),
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
        let mut command = Command::new(program);
        command.args(arguments).current_dir(workspace());
        self.command(what, &mut command)
    }

    /// Runs a command as the next step.
    pub fn command(&mut self, what: &str, command: &mut Command) -> Result<(), Failure> {
        self.step(what, || {
            let program = command.get_program().to_string_lossy().into_owned();
            let status = command.status().map_err(Failure::start(program))?;
            if status.success() {
                return Ok(());
            }
            Err(Failure::Step { what: what.to_owned(), status })
        })
    }

    /// Does something as the next step.
    pub fn step<T>(
        &mut self,
        what: &str,
        job: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.step += 1;
        let began = Instant::now();
        eprintln!("[xtask] {}/{}: {what}", self.step, self.steps);
        let value = job()?;
        eprintln!("[xtask] {}/{}: {} s", self.step, self.steps, began.elapsed().as_secs());
        Ok(value)
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
