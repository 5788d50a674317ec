//! The steps of a command, one after the other. Each step is announced and timed.

use std::{process::Command, time::Instant};

use crate::{failure::Failure, process};

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
        self.command(what, &mut process::cargo(arguments))
    }

    /// Runs a program as the next step.
    pub fn command(&mut self, what: &str, command: &mut Command) -> Result<(), Failure> {
        self.step(what, || process::run(what, command))
    }

    /// Calls a function as the next step.
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

    /// Says that the command is done, and how long it took.
    pub fn finish(self, command: &str) {
        eprintln!("[xtask] {command}: done in {} s", self.began.elapsed().as_secs());
    }
}
