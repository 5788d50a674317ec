//! A part of a command that runs beside the rest, in a process of its own: where devices wait for
//! each other, a core is idle. What it prints goes into a file, and is shown when the rest is done.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::failure::Failure;

/// How often the file is looked at while it is shown.
const LOOK: Duration = Duration::from_millis(500);

/// A command that runs beside the rest. Dropping this ends it, and what it has started.
pub struct Beside {
    child: Child,
    printed: File,
}

impl Beside {
    /// Starts a command, which prints into this file.
    pub fn start(mut command: Command, into: &Path) -> Result<Self, Failure> {
        let file = || File::create(into).map_err(Failure::io(into));
        let out = file()?;
        let errors = out.try_clone().map_err(Failure::io(into))?;
        command.stdin(Stdio::null()).stdout(out).stderr(errors).process_group(0);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(Failure::start(program))?;
        Ok(Self { child, printed: File::open(into).map_err(Failure::io(into))? })
    }

    /// Shows what it has printed and what it prints, until it ends.
    pub fn finish(&mut self, what: &str) -> Result<(), Failure> {
        loop {
            let ended = self.child.try_wait().map_err(Failure::start(what))?;
            let mut text = Vec::new();
            // What cannot be shown does not change how it went.
            if self.printed.read_to_end(&mut text).is_ok() {
                let _ = io::stderr().write_all(&text);
            }
            match ended {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(Failure::Program { what: what.to_owned(), status }),
                None => thread::sleep(LOOK),
            }
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // All fail only if it has ended.
        let group = format!("-{}", self.child.id());
        let mut end = Command::new("kill");
        let _ = end.args(["-TERM", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Instant};

    use super::*;

    fn shell(text: &str, into: &Path) -> Beside {
        let mut command = Command::new("sh");
        command.args(["-c", text]);
        Beside::start(command, into).unwrap()
    }

    #[test]
    fn it_is_told_how_it_ended_and_what_it_printed_stays() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("printed");
        shell("echo one; echo two >&2", &file).finish("the first").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "one\ntwo\n");
        let failure = shell("exit 3", &file).finish("the second").unwrap_err().to_string();
        assert!(failure.starts_with("the second failed"), "{failure}");
    }

    #[test]
    fn dropping_it_ends_what_runs() {
        let directory = tempfile::tempdir().unwrap();
        let began = Instant::now();
        drop(shell("sleep 600 & wait", &directory.path().join("printed")));
        assert!(began.elapsed() < Duration::from_secs(60));
    }
}
