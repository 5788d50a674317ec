//! `cargo xtask bench`: what everything costs by the size of the room, all contenders side by side in one run.
//!
//! Each program prints a JSON line a figure (`figures`). The results are kept as JSON, drawn (`plot`) and put
//! into tables beside what was aimed at (`report`, `aims`) in docs/bench. A run of some sizes only goes to
//! target/bench instead.

mod aims;
mod calls;
mod figures;
mod guard;
mod machine;
pub mod options;
mod plot;
mod report;

use std::{
    fs,
    process::{Command, Stdio},
};

use figures::{Figure, Results};
use options::{Options, Part};

use crate::{
    bindings::target_directory,
    size,
    step::{Failure, Plan, cargo, workspace},
};

/// Runs what is asked for.
pub fn run(options: &Options) -> Result<(), Failure> {
    let directory = options.directory();
    if options.only_report() {
        return report::write(&Results::read(&directory.join("results.json"))?, &directory);
    }
    let parts = options.parts();
    fs::create_dir_all(&directory).map_err(Failure::io(&directory))?;
    let mut plan = Plan::new(parts.len() + 2);
    let write = words(
        &["run", "--quiet", "--release", "--locked", "-p", "matrix-mls-kit", "--bin", "written"],
        &["--", &groups()],
        &texts(&options.sizes_of(Part::Graph)),
    );
    plan.command(
        "writing the groups that all contenders enter (the first time this builds for minutes)",
        Command::new(cargo()).args(write).current_dir(workspace()),
    )?;
    let file = directory.join("results.json");
    for part in parts {
        let what = format!("measuring: {} (the first time this builds for minutes)", part.name());
        plan.step(&what, || {
            let figures = measure(*part, options)?;
            // Kept as they come: the next part may fail.
            let mut results = Results::read(&file)?;
            results.replace(figures, machine::describe());
            results.write(&file)
        })?;
    }
    plan.step("writing tables and pictures", || report::write(&Results::read(&file)?, &directory))?;
    plan.finish("bench");
    eprintln!("[xtask] {}", directory.join("README.md").display());
    Ok(())
}

/// The short version of the tests: what must not grow with the room does not.
pub fn guard() -> Result<(), Failure> {
    let sizes = guard::SIZES.map(|size| size.to_string());
    let bench = ["test", "--quiet", "--workspace", "--locked", "--bench", "operations"];
    let command = words(&bench, &["--", "--constant"], &sizes);
    let figures = collect("what must not grow with the room", &command)?;
    guard::check(&figures).map_err(Failure::Missing)
}

fn measure(part: Part, options: &Options) -> Result<Vec<Figure>, Failure> {
    let bench = ["bench", "--locked", "-p", "matrix-mls", "--bench"];
    let peers = ["run", "--release", "--locked", "--manifest-path", "benches/peers/Cargo.toml"];
    let sizes = texts(&options.sizes_of(part));
    match part {
        Part::Graph | Part::Operations => {
            let name = part.name();
            let mut figures = collect(name, &words(&bench, &[name, "--"], &sizes))?;
            let peers = words(&peers, &["--", &groups(), name], &sizes);
            figures.extend(collect("other libraries", &peers)?);
            Ok(figures)
        }
        Part::Day => collect("an app's day", &words(&bench, &["day"], &[])),
        Part::Bindings => calls::measure(),
        Part::Size => size::figure().map(|bytes| vec![Figure::size(bytes)]),
    }
}

fn groups() -> String {
    target_directory().join("bench").display().to_string()
}

fn texts(sizes: &[u64]) -> Vec<String> {
    sizes.iter().map(ToString::to_string).collect()
}

fn words(first: &[&str], second: &[&str], third: &[String]) -> Vec<String> {
    let words = first.iter().chain(second).map(ToString::to_string);
    words.chain(third.iter().cloned()).collect()
}

/// Runs cargo, and reads the figures it prints.
fn collect(what: &str, arguments: &[String]) -> Result<Vec<Figure>, Failure> {
    let output = Command::new(cargo())
        .args(arguments)
        .current_dir(workspace())
        .stderr(Stdio::inherit())
        .output()
        .map_err(Failure::start("cargo"))?;
    if !output.status.success() {
        return Err(Failure::Step { what: what.to_owned(), status: output.status });
    }
    Ok(figures::parse(&String::from_utf8_lossy(&output.stdout)))
}
