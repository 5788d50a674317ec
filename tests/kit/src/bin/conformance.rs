//! The conformance run: `conformance [--homeserver embedded|synapse] [--json] [--only NAME]
//! [--patience SECONDS] NAME=COMMAND …`. Each command starts a client as docs/spec/8-conformance.md
//! says.

use std::process::ExitCode;

use matrix_mls_kit::{
    HomeserverKind, Result, bail,
    conformance::{self, Options, Outcome, Program},
    eyre,
};

const USAGE: &str = "usage: conformance [--homeserver embedded|synapse] [--json] [--only NAME] \
                     [--patience SECONDS] NAME=COMMAND …";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("conformance: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all passed.
fn run() -> Result<bool> {
    let mut options = Options { homeserver: HomeserverKind::Embedded, only: None, patience: None };
    let (mut json, mut programs) = (false, Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| eyre!(USAGE));
        match &*argument {
            "--homeserver" => options.homeserver = value()?.parse()?,
            "--only" => options.only = Some(value()?),
            "--patience" => options.patience = Some(value()?.parse()?),
            "--json" => json = true,
            _ => {
                let (name, command) = argument.split_once('=').ok_or_else(|| eyre!(USAGE))?;
                let (name, command) = (name.to_owned(), command.to_owned());
                programs.push(Program { name, command });
            }
        }
    }
    if programs.is_empty() {
        bail!(USAGE);
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let mut reports = Vec::new();
    for program in &programs {
        if !json {
            println!("\n{}, on {:?}:", program.name, options.homeserver);
        }
        let told = |outcome: &Outcome| {
            if !json {
                println!("{}", outcome.text());
            }
        };
        let report = runtime.block_on(conformance::run(&options, program, told))?;
        if !json {
            let (name, left_out) = (&program.name, report.left_out);
            println!(
                "{name}: {} passed, {} failed, {left_out} left out",
                report.passed, report.failed
            );
        }
        reports.push(report);
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&reports)?);
    }
    Ok(reports.iter().all(|report| report.failed == 0))
}
