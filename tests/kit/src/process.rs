//! A device in a process of its own, in whichever language: it takes steps on its standard input
//! and answers each with its result lines and `ok` or `failed` (see `bin/device.rs`).

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::KitError;

/// A running device. It is ended when this is dropped.
pub struct DeviceProcess {
    name: String,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl DeviceProcess {
    /// Starts one: `command` is a shell's, and is given the four arguments of a device.
    pub fn start(name: &str, command: &str, arguments: [&str; 4]) -> Result<Self, KitError> {
        let mut child = Command::new("sh")
            .args(["-c", &format!("exec {command} \"$@\""), "sh"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(KitError::io(format!("starting {name}: {command}")))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (Some(input), Some(output)) = (input, output) else {
            return Err(KitError::Setup(format!("{name} has no standard input and output")));
        };
        Ok(Self { name: name.to_owned(), child, input, output: BufReader::new(output) })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Has it do a step; the lines it answers.
    pub fn does(&mut self, step: &str) -> Result<Vec<String>, KitError> {
        writeln!(self.input, "{step}").map_err(KitError::io(format!("{}: {step}", self.name)))?;
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line);
            let gave_up = |reason: &str| KitError::GaveUp {
                device: self.name.clone(),
                what: step.to_owned(),
                reason: reason.to_owned(),
            };
            if read.map_err(KitError::io(format!("{}: {step}", self.name)))? == 0 {
                return Err(gave_up("its process ended"));
            }
            let line = line.trim_end_matches('\n');
            match line.strip_prefix("failed ") {
                Some(reason) => return Err(gave_up(reason)),
                None if line == "ok" => return Ok(lines),
                None => lines.push(line.to_owned()),
            }
        }
    }

    /// Has it end, and waits for that.
    pub fn quit(mut self) -> Result<(), KitError> {
        let what = format!("{}: quit", self.name);
        writeln!(self.input, "quit").map_err(KitError::io(what.clone()))?;
        let status = self.child.wait().map_err(KitError::io(what))?;
        if status.success() {
            return Ok(());
        }
        Err(KitError::GaveUp {
            device: self.name.clone(),
            what: "quit".to_owned(),
            reason: status.to_string(),
        })
    }
}

impl Drop for DeviceProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
