//! Starting other programs. A program that fails becomes a [`Failure`] that says what it was run
//! for.

use std::{
    ffi::OsStr,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{failure::Failure, paths::workspace};

/// The cargo that runs this program.
pub fn cargo_path() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// Cargo in the workspace, with these arguments.
pub fn cargo<Argument: AsRef<OsStr>>(arguments: impl IntoIterator<Item = Argument>) -> Command {
    let mut command = Command::new(cargo_path());
    command.args(arguments).current_dir(workspace());
    command
}

/// Builds the libraries and programs of the workspace.
///
/// Every command of xtask that needs a program builds all of them this way, and so do the tests.
/// An example stands among them because it has the dependencies of the tests: what cargo is asked
/// for decides which features a crate is built with, and so whether it is built once or twice.
pub fn build() -> Command {
    let what = ["--workspace", "--lib", "--bins", "--example", "two_devices"];
    cargo(["build", "--locked"].into_iter().chain(what))
}

/// Runs a command, and fails when the command does.
pub fn run(what: &str, command: &mut Command) -> Result<(), Failure> {
    let status = command.status().map_err(Failure::start(program_of(command)))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::Program { what: what.to_owned(), status })
}

/// Runs a command and returns what it printed. Its errors go to the terminal.
pub fn output(what: &str, command: &mut Command) -> Result<String, Failure> {
    let output =
        command.stderr(Stdio::inherit()).output().map_err(Failure::start(program_of(command)))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Failure::Program { what: what.to_owned(), status: output.status })
}

/// Whether a program starts and succeeds with these arguments. It prints nothing.
pub fn succeeds(program: impl AsRef<OsStr>, arguments: &[&str]) -> bool {
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// A command as text for a shell, for a program that starts it later. The text holds the command's
/// environment and arguments, and leaves its directory out.
pub fn shell_text(command: &Command) -> Result<String, Failure> {
    let text = |part: &OsStr| part.to_string_lossy().into_owned();
    let mut words = vec!["env".to_owned()];
    for (name, value) in command.get_envs() {
        words.push(format!("{}={}", text(name), value.map(text).unwrap_or_default()));
    }
    words.push(text(command.get_program()));
    words.extend(command.get_args().map(text));
    shlex::try_join(words.iter().map(String::as_str))
        .map_err(|error| Failure::Message(format!("{words:?} is no shell command: {error}")))
}

fn program_of(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_program_is_named_by_what_it_was_run_for() {
        let mut command = cargo(["--no-such-flag"]);
        let failure = run("asking for nonsense", command.stderr(Stdio::null()));
        let text = failure.unwrap_err().to_string();
        assert!(text.starts_with("asking for nonsense failed ("), "{text}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let mut command = Command::new("matrix-mls-no-such-program");
        let text = output("anything", &mut command).unwrap_err().to_string();
        assert!(text.starts_with("cannot run matrix-mls-no-such-program: "), "{text}");
        assert!(!succeeds("matrix-mls-no-such-program", &[]));
    }

    #[test]
    #[cfg(unix)]
    fn a_shell_runs_the_text_of_a_command() {
        let mut command = Command::new("printenv");
        command.arg("MATRIX_MLS_TEXT").env("MATRIX_MLS_TEXT", "it's $HOME; 2 > 1");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(shell_text(&command).unwrap());
        assert_eq!(output("printing", &mut shell).unwrap(), "it's $HOME; 2 > 1\n");
    }

    #[test]
    fn what_a_program_prints_is_returned() {
        let text = output("asking for the version", &mut cargo(["--version"])).unwrap();
        assert!(text.starts_with("cargo "), "{text}");
    }
}
