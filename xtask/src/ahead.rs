//! Builds beside other steps what later steps need: where devices wait for each other, a core is
//! idle. It only fills cargo's directories. The later step builds the same again, and tells what
//! is wrong.

use std::{
    fs::File,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
};

use crate::{failure::Failure, paths::workspace, process};

/// Builds that go on beside the steps. Dropping this ends them.
pub struct Ahead {
    shell: Child,
}

impl Ahead {
    /// Starts these commands, one after the other, behind all others. What they print goes to
    /// `target/ahead.log`.
    pub fn start(commands: &[Command]) -> Result<Self, Failure> {
        let texts: Result<Vec<String>, Failure> =
            commands.iter().map(process::shell_text).collect();
        let path = workspace().join("target/ahead.log");
        let log = File::create(&path).map_err(Failure::io(&path))?;
        let errors = log.try_clone().map_err(Failure::io(&path))?;
        let mut shell = Command::new("nice");
        shell.args(["-n", "10", "sh", "-c", &texts?.join("\n")]).current_dir(workspace());
        shell.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
        Ok(Self { shell: shell.spawn().map_err(Failure::start("nice"))? })
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // All fail only if the builds have ended.
        let group = format!("-{}", self.shell.id());
        let mut end = Command::new("kill");
        let _ = end.args(["-TERM", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn dropping_it_ends_what_runs() {
        let began = Instant::now();
        let mut sleep = Command::new("sleep");
        sleep.arg("600");
        drop(Ahead::start(&[sleep]).unwrap());
        assert!(began.elapsed() < Duration::from_secs(60));
    }
}
