//! Plays somebody who has just cloned the repository: takes the commands out of README.md and the
//! guide's first chapter, as a reader copies them, and runs them on Synapse.
//!
//! The newcomer has a home directory of its own, with nothing in it, and nothing that this project
//! has ever installed for Maven. What any machine has to have stays: the toolchains, the crates and
//! the libraries that others publish, and what cargo has built from this checkout.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::{
        fs::{PermissionsExt as _, symlink},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    failure::Failure,
    paths::workspace,
    process::{self, shell_text},
    toolchain::{
        cache,
        java::{self, repository},
        swift::Swift,
    },
};

/// The pages, and what their commands print once each.
const PAGES: [&str; 2] = ["README.md", "docs/guide/00-first-steps.md"];
/// The address in the pages.
const ADDRESS: &str = "http://localhost:8008";
/// The command that runs until somebody ends it.
const HOMESERVER: &str = "cargo xtask homeserver";
/// What Bob reads at the end of each program.
const READ: &str = "Hello, Bob";
/// How long a homeserver may take to end.
const ENDING: Duration = Duration::from_secs(20);

/// Runs what the pages say.
pub fn run() -> Result<(), Failure> {
    java::require()?;
    check(&Swift::require()?)
}

/// The same with a Swift that is there.
pub fn check(swift: &Swift) -> Result<(), Failure> {
    let mut all: Vec<String> = Vec::new();
    for page in PAGES {
        let path = workspace().join(page);
        let blocks = blocks(&fs::read_to_string(&path).map_err(Failure::io(&path))?);
        let programs = blocks.iter().filter(|block| block.contains(ADDRESS)).count();
        if !blocks.iter().any(|block| block == HOMESERVER) || programs != 3 {
            return Err(Failure::Message(format!(
                "{page} must have `{HOMESERVER}` and a program in each of three languages, each in \
                 a block ```sh of its own"
            )));
        }
        all.extend(blocks);
    }
    let home = Home::make(swift)?;
    let homeserver = Homeserver::start(&home)?;
    let mut done: Vec<String> = Vec::new();
    for block in all.into_iter().filter(|block| block != HOMESERVER) {
        // What both pages say is said once.
        if done.contains(&block) {
            continue;
        }
        eprintln!("[xtask] {}", block.replace('\n', "\n[xtask] "));
        let commands = format!("set -e\n{}", block.replace(ADDRESS, &homeserver.address));
        let mut shell = home.shell(&commands);
        let printed = process::output("a command of the README", &mut shell)?;
        if block.contains(ADDRESS) && !printed.contains(READ) {
            return Err(Failure::Message(format!("Bob has read nothing:\n{printed}")));
        }
        done.push(block);
    }
    homeserver.end()
}

/// The blocks of commands in a page.
fn blocks(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "```sh" {
            let inside: Vec<&str> =
                lines.by_ref().take_while(|line| line.trim() != "```").collect();
            found.push(inside.join("\n"));
        }
    }
    found
}

/// A home directory with nothing in it.
struct Home {
    directory: PathBuf,
}

impl Home {
    fn make(swift: &Swift) -> Result<Self, Failure> {
        let directory = workspace().join("target/newcomer");
        if directory.exists() {
            fs::remove_dir_all(&directory).map_err(Failure::io(&directory))?;
        }
        let home = Self { directory };
        home.make_repository()?;
        // A Swift that is not on the PATH is one that `cargo xtask test` has set up.
        if let Swift::InRoot(_) = swift {
            let command = shell_text(&swift.command(workspace(), "swift", &[]))?;
            let program = home.programs().join("swift");
            make(&home.programs())?;
            let script = format!("#!/bin/sh\nexec {command} \"$@\"\n");
            fs::write(&program, script).map_err(Failure::io(&program))?;
            let runnable = fs::Permissions::from_mode(0o755);
            fs::set_permissions(&program, runnable).map_err(Failure::io(&program))?;
        }
        Ok(home)
    }

    fn programs(&self) -> PathBuf {
        self.directory.join("bin")
    }

    fn repository(&self) -> PathBuf {
        self.directory.join("m2")
    }

    /// Makes a repository for Maven that has what others have published, and nothing of ours.
    fn make_repository(&self) -> Result<(), Failure> {
        let ours = self.repository();
        make(&ours.join("org"))?;
        let Some(known) = repository().filter(|known| known.is_dir()) else { return Ok(()) };
        link_all(&known, &ours, "org")?;
        let organisations = known.join("org");
        if organisations.is_dir() {
            link_all(&organisations, &ours.join("org"), "matrixmls")?;
        }
        Ok(())
    }

    /// A shell in the workspace that runs these commands.
    fn shell(&self, commands: &str) -> Command {
        let mut shell = Command::new("bash");
        shell.args(["-c", commands]).current_dir(workspace()).stdin(Stdio::null());
        let kept = |name: &str, directory: &str| {
            std::env::var_os(name).map(PathBuf::from).or_else(|| {
                std::env::var_os("HOME").map(|home| PathBuf::from(home).join(directory))
            })
        };
        for (name, directory) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
            if let Some(directory) = kept(name, directory) {
                shell.env(name, directory);
            }
        }
        if let Ok(cache) = cache::directory() {
            shell.env("MATRIX_MLS_CACHE", cache);
        }
        // These would point at what cargo runs now.
        for name in ["CARGO", "CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
            shell.env_remove(name);
        }
        let path = std::env::var("PATH").unwrap_or_default();
        shell
            .env("HOME", &self.directory)
            .env("PATH", format!("{}:{path}", self.programs().display()))
            .env("MAVEN_OPTS", format!("-Dmaven.repo.local={}", self.repository().display()));
        shell
    }
}

fn make(directory: &Path) -> Result<(), Failure> {
    fs::create_dir_all(directory).map_err(Failure::io(directory))
}

/// Links everything of a directory into another, but for one name.
fn link_all(from: &Path, to: &Path, but: &str) -> Result<(), Failure> {
    for entry in fs::read_dir(from).map_err(Failure::io(from))? {
        let entry = entry.map_err(Failure::io(from))?;
        if entry.file_name() != but {
            let link = to.join(entry.file_name());
            symlink(entry.path(), &link).map_err(Failure::io(&link))?;
        }
    }
    Ok(())
}

/// The homeserver of the pages, on Synapse. Dropping this ends it.
struct Homeserver {
    child: Child,
    output: BufReader<ChildStdout>,
    address: String,
}

impl Homeserver {
    fn start(home: &Home) -> Result<Self, Failure> {
        let mut shell = home.shell(&format!("exec {HOMESERVER} synapse"));
        let started = shell.stdout(Stdio::piped()).process_group(0).spawn();
        let mut child = started.map_err(Failure::start("bash"))?;
        let Some(output) = child.stdout.take() else {
            return Err(Failure::Message("the homeserver has no output".to_owned()));
        };
        let mut homeserver = Self { child, output: BufReader::new(output), address: String::new() };
        loop {
            let mut line = String::new();
            let read = homeserver.output.read_line(&mut line);
            if read.map_err(Failure::io("the homeserver's output"))? == 0 {
                return Err(Failure::Message("the homeserver printed no address".to_owned()));
            }
            if line.trim().starts_with("http://") {
                line.trim().clone_into(&mut homeserver.address);
                return Ok(homeserver);
            }
        }
    }

    /// Ends it as Ctrl-C does, and waits until it has.
    fn end(mut self) -> Result<(), Failure> {
        let id = self.child.id().to_string();
        process::run("ending the homeserver", Command::new("kill").args(["-INT", &id]))?;
        let began = Instant::now();
        while began.elapsed() < ENDING {
            if let Ok(Some(status)) = self.child.try_wait() {
                let mut rest = String::new();
                let read = self.output.read_to_string(&mut rest);
                read.map_err(Failure::io("the homeserver's output"))?;
                if status.success() && rest.contains("is deleted") {
                    return Ok(());
                }
                let why = format!("the homeserver ended with {status}, and printed: {rest}");
                return Err(Failure::Message(why));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(Failure::Message("the homeserver does not end on Ctrl-C".to_owned()))
    }
}

impl Drop for Homeserver {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_taken_as_they_stand() {
        let page = "a\n```sh\none \\\n    two\n```\nb\n```kotlin\nnone\n```\n```sh\nthree\n```\n";
        assert_eq!(blocks(page), ["one \\\n    two", "three"]);
    }

    #[test]
    fn what_we_have_installed_is_not_there_for_a_newcomer() {
        let (known, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in ["com", "org/matrixmls", "org/jetbrains"] {
            fs::create_dir_all(known.path().join(name)).unwrap();
        }
        fs::create_dir(ours.path().join("org")).unwrap();
        link_all(known.path(), ours.path(), "org").unwrap();
        link_all(&known.path().join("org"), &ours.path().join("org"), "matrixmls").unwrap();
        assert!(ours.path().join("com").is_dir() && ours.path().join("org/jetbrains").is_dir());
        assert!(!ours.path().join("org/matrixmls").exists());
    }
}
