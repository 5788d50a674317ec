//! A run: measures the parts that are asked for, keeps the figures as JSON and writes the report.

use std::fs;

use super::{
    calls,
    figures::{Figure, Results},
    machine,
    options::{Options, Part},
    programs, report,
};
use crate::{failure::Failure, paths::target_directory, plan::Plan, process, size};

/// Runs what is asked for.
pub fn run(options: &Options) -> Result<(), Failure> {
    let directory = options.directory();
    let file = directory.join("results.json");
    if options.only_report() {
        return report::write(&Results::read(&file)?, &directory);
    }
    fs::create_dir_all(&directory).map_err(Failure::io(&directory))?;
    let parts = options.parts();
    let mut plan = Plan::new(parts.len() + 2);
    plan.step(
        "writing the groups that all contenders enter (the first time this builds for minutes)",
        || write_groups(&options.sizes_of(Part::Graph)),
    )?;
    for part in parts {
        let what = format!("measuring: {} (the first time this builds for minutes)", part.name());
        plan.step(&what, || {
            let figures = measure(*part, &options.sizes_of(*part))?;
            // Each part is kept at once, because the next one may fail.
            let mut results = Results::read(&file)?;
            results.replace(figures, machine::describe());
            results.write(&file)
        })?;
    }
    plan.step("writing tables and plots", || report::write(&Results::read(&file)?, &directory))?;
    plan.finish("bench");
    eprintln!("[xtask] {}", directory.join("README.md").display());
    Ok(())
}

/// Writes the groups of these sizes into files.
fn write_groups(sizes: &[u64]) -> Result<(), Failure> {
    let mut command = process::cargo(["run", "--quiet", "--release", "--locked"]);
    command
        .args(["-p", "matrix-mls-kit", "--bin", "written", "--", &groups()])
        .args(sizes.iter().map(u64::to_string));
    process::run("writing the groups", &mut command)
}

/// The directory of the groups' files.
fn groups() -> String {
    target_directory().join("bench").display().to_string()
}

/// Measures one part in rooms of these sizes.
fn measure(part: Part, sizes: &[u64]) -> Result<Vec<Figure>, Failure> {
    match part {
        Part::Graph | Part::Operations => contenders(part.name(), sizes),
        Part::Day => programs::measure(
            "measuring an app's day",
            &["bench", "--locked", "-p", "matrix-mls", "--bench", "day"],
            &[],
        ),
        Part::Bindings => calls::measure(),
        Part::Size => size::measure().map(|bytes| vec![Figure::size(bytes)]),
    }
}

/// Measures this library, and then the others that cannot be linked beside it.
fn contenders(part: &str, sizes: &[u64]) -> Result<Vec<Figure>, Failure> {
    let mut figures = programs::measure(
        &format!("measuring matrix-mls ({part})"),
        &["bench", "--locked", "-p", "matrix-mls", "--bench", part, "--"],
        sizes,
    )?;
    let peers = ["run", "--release", "--locked", "--manifest-path", "benches/peers/Cargo.toml"];
    figures.extend(programs::measure(
        &format!("measuring the other libraries ({part})"),
        &[&peers[..], &["--", &groups(), part]].concat(),
        sizes,
    )?);
    Ok(figures)
}
