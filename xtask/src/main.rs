//! The project's commands, started by `cargo xtask COMMAND`. Each command sets up what it needs.
//!
//! `cli` has the command line. Most commands have a module of their own with a `run` function; the
//! other modules are what several commands share. This package has few dependencies, because it is
//! built before any command can run.

#![deny(missing_docs, unsafe_code)]

mod android;
mod bench;
mod beside;
mod bindings;
mod cli;
mod clients;
mod conformance;
mod demo;
mod deny;
mod docs;
mod failure;
mod federation;
mod fuzz;
mod homeserver;
mod inspect;
mod ios;
mod kotlin;
mod lowest_rust;
mod newcomer;
mod one_library;
mod paths;
mod plan;
mod process;
mod release;
mod side_by_side;
mod simulate;
mod size;
mod swift;
mod test;
mod toolchain;
mod vectors;

use std::process::ExitCode;

use clap::Parser as _;
use cli::{Command, CommandLine};
use failure::Failure;

fn main() -> ExitCode {
    match run(CommandLine::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("[xtask] {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Demo(options) => demo::run(&options),
        Command::Homeserver(options) => homeserver::run(&options),
        Command::Inspect(options) => inspect::run(&options),
        Command::Newcomer => newcomer::run(),
        Command::Test(options) => test::run(&options),
        Command::Conformance(options) => conformance::run(&options),
        Command::Federation => federation::run(),
        Command::Simulate(options) => simulate::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Vectors => vectors::run(),
        Command::Bench(options) => bench::run::run(&options),
        Command::Bindings => bindings::run(),
        Command::Android => android::run(),
        Command::Ios => ios::run(),
        Command::Release(options) => release::run(&options),
        Command::Docs => docs::run(),
        Command::Deny => deny::run(),
        Command::LowestRust => lowest_rust::run(),
    }
}
