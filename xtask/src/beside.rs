//! A part of a command that runs beside the rest, in processes of its own: where devices wait for
//! each other, a core is idle. What it prints goes into a file, and is shown when the rest is done.
//! However this program ends, what runs beside it ends as well.

use std::{
    ffi::OsStr,
    fs::File,
    io::{Read as _, Write},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::failure::Failure;

/// How often the file is looked at while it is shown.
const LOOK: Duration = Duration::from_millis(500);

/// Runs a command, and ends its whole process group once nobody holds the other end of the standard
/// input any more: that is when this program has ended, or has dropped it.
const WATCHED: &str = r#"exec 3<&0 </dev/null
{ cat <&3 >/dev/null; kill -s TERM -- "-$$"; } &
exec 3<&-
"$@""#;

/// A command that runs beside the rest. Dropping this ends it, and what it has started.
pub struct Beside {
    child: Child,
    printed: File,
}

impl Beside {
    /// Starts a command, a program with its arguments, which prints into this file.
    pub fn start<Word: AsRef<OsStr>>(command: &[Word], into: &Path) -> Result<Self, Failure> {
        let out = File::create(into).map_err(Failure::io(into))?;
        let errors = out.try_clone().map_err(Failure::io(into))?;
        let mut shell = Command::new("sh");
        shell.args(["-c", WATCHED, "sh"]).args(command).process_group(0);
        shell.stdin(Stdio::piped()).stdout(out).stderr(errors);
        let child = shell.spawn().map_err(Failure::start("sh"))?;
        Ok(Self { child, printed: File::open(into).map_err(Failure::io(into))? })
    }

    /// Shows there what it has printed and what it prints, until it ends.
    pub fn finish(&mut self, what: &str, shown: &mut impl Write) -> Result<(), Failure> {
        loop {
            let ended = self.child.try_wait().map_err(Failure::start(what))?;
            let mut text = Vec::new();
            // What cannot be shown does not change how it went.
            if self.printed.read_to_end(&mut text).is_ok() {
                let _ = shown.write_all(&text);
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
        drop(self.child.stdin.take());
        // It fails only if it was waited for.
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Instant};

    use super::*;

    fn shell(text: &str, into: &Path) -> Beside {
        Beside::start(&["sh", "-c", text], into).unwrap()
    }

    #[test]
    fn what_it_printed_is_shown_and_stays_and_how_it_ended_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("printed");
        let mut shown = Vec::new();
        shell("echo one; echo two >&2", &file).finish("the first", &mut shown).unwrap();
        assert_eq!(String::from_utf8(shown).unwrap(), "one\ntwo\n");
        assert_eq!(fs::read_to_string(&file).unwrap(), "one\ntwo\n");
        let second = shell("exit 3", &file).finish("the second", &mut Vec::new());
        let failure = second.unwrap_err().to_string();
        assert!(failure.starts_with("the second failed"), "{failure}");
    }

    #[test]
    fn dropping_it_ends_all_that_it_has_started() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("printed");
        let began = Instant::now();
        let beside = shell("sleep 600 & echo $!; wait", &file);
        let started = loop {
            match fs::read_to_string(&file).unwrap().trim().parse::<u32>() {
                Ok(started) => break started,
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        };
        drop(beside);
        // Whoever has ended has no name any more, or waits to be taken note of.
        let name = || fs::read_to_string(format!("/proc/{started}/cmdline")).unwrap_or_default();
        while !name().is_empty() {
            assert!(began.elapsed() < Duration::from_secs(60));
            thread::sleep(Duration::from_millis(5));
        }
    }
}
