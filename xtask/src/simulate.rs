//! `cargo xtask simulate`: builds the simulator of the test kit and runs it.
//!
//! The simulator knows the defaults, so only the options that are given are handed to it.

use std::{
    ffi::OsString,
    path::{self, PathBuf},
};

use crate::{failure::Failure, plan::Plan, process};

/// The options of the simulator.
#[derive(Debug, Default, clap::Args)]
pub struct Options {
    /// How many schedules to run (100,000 if left out).
    #[arg(long, value_name = "N")]
    schedules: Option<u64>,

    /// The first seed (1 if left out). Seeds count up from it.
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,

    /// How many processes to run (one for each core if left out).
    #[arg(long, value_name = "N")]
    jobs: Option<u64>,

    /// Run only schedules of this kind.
    #[arg(long, value_name = "KIND")]
    #[arg(value_parser = ["Calm", "Forks", "Losses", "Hostile", "Phones"])]
    only: Option<String>,

    /// How long to make a failing schedule shorter (90 if left out).
    #[arg(long, value_name = "SECONDS")]
    patience: Option<u64>,

    /// How many failures end a process (3 if left out).
    #[arg(long, value_name = "N")]
    findings: Option<u64>,

    /// Write the report to this file as well.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Run one schedule again, and print everything that happens in it.
    #[arg(long, value_name = "SEED|SCHEDULE")]
    again: Option<String>,
}

impl Options {
    /// The same options as arguments of the simulator.
    fn arguments(&self) -> Result<Vec<OsString>, Failure> {
        let number = |value: Option<u64>| value.map(|value| OsString::from(value.to_string()));
        // Cargo starts the simulator in the workspace. The file is named from where the user is.
        let report = self.report.as_ref();
        let report = report.map(|file| path::absolute(file).map_err(Failure::io(file)));
        let all = [
            ("--schedules", number(self.schedules)),
            ("--seed", number(self.seed)),
            ("--jobs", number(self.jobs)),
            ("--only", self.only.as_ref().map(OsString::from)),
            ("--patience", number(self.patience)),
            ("--findings", number(self.findings)),
            ("--report", report.transpose()?.map(OsString::from)),
            ("--again", self.again.as_ref().map(OsString::from)),
        ];
        let given = all.into_iter().filter_map(|(name, value)| Some([name.into(), value?]));
        Ok(given.flatten().collect())
    }
}

/// Builds the simulator and runs it.
pub fn run(options: &Options) -> Result<(), Failure> {
    let arguments = options.arguments()?;
    let mut plan = Plan::new(2);
    let package = ["--release", "--locked", "-p", "matrix-mls-kit", "--bin", "simulate"];
    plan.cargo(
        "building the simulator (the first time: several minutes)",
        &[&["build"][..], &package].concat(),
    )?;
    let mut run = process::cargo(["run", "--quiet"]);
    run.args(package).arg("--").args(arguments);
    plan.command("simulating", &mut run)?;
    plan.finish("simulate");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_given_is_handed_on() {
        assert!(Options::default().arguments().unwrap().is_empty());
        let options = Options {
            only: Some("Losses".to_owned()),
            report: Some("report.txt".into()),
            again: Some("7700213".to_owned()),
            ..Options::default()
        };
        let report = path::absolute("report.txt").unwrap().into_os_string();
        let expected = ["--only", "Losses", "--report"].map(OsString::from).into_iter();
        let expected = expected.chain([report, "--again".into(), "7700213".into()]);
        assert_eq!(options.arguments().unwrap(), expected.collect::<Vec<_>>());
    }
}
