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
mod plot;
mod report;

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use figures::{Figure, Results};

use crate::{
    bindings::target_directory,
    size,
    step::{Failure, Plan, cargo, workspace},
};

/// Sizes of rooms on the graph.
const GRAPH: [u64; 12] = [2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];
/// Sizes of rooms of the operations.
const OPERATIONS: [u64; 4] = [10, 100, 1_000, 10_000];
/// The largest with `--quick`.
const QUICK: u64 = 1_000;

/// What can be asked for.
pub const USAGE: &str =
    "bench [--part graph|operations|day|bindings|size]… [--sizes N,N…] [--quick] | --report";

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Graph,
    Operations,
    Day,
    Bindings,
    Size,
}

impl Part {
    const ALL: [Self; 5] = [Self::Graph, Self::Operations, Self::Day, Self::Bindings, Self::Size];

    fn name(self) -> &'static str {
        match self {
            Self::Graph => "graph",
            Self::Operations => "operations",
            Self::Day => "day",
            Self::Bindings => "bindings",
            Self::Size => "size",
        }
    }
}

struct Options {
    parts: Vec<Part>,
    sizes: Option<Vec<u64>>,
    quick: bool,
}

impl Options {
    fn parse(arguments: &[&str]) -> Option<Self> {
        let mut options = Self { parts: Vec::new(), sizes: None, quick: false };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match *argument {
                "--quick" => options.quick = true,
                "--part" => {
                    let name = arguments.next()?;
                    options.parts.push(Part::ALL.into_iter().find(|part| part.name() == *name)?);
                }
                "--sizes" => {
                    let sizes = arguments.next()?.split(',').map(|size| size.parse().ok());
                    options.sizes = Some(sizes.collect::<Option<_>>()?);
                }
                _ => return None,
            }
        }
        if options.parts.is_empty() {
            options.parts = Part::ALL.to_vec();
        }
        Some(options)
    }

    fn sizes(&self, default: &[u64]) -> Vec<String> {
        let most = if self.quick { QUICK } else { u64::MAX };
        let sizes = self.sizes.as_deref().unwrap_or(default);
        sizes.iter().filter(|size| **size <= most).map(ToString::to_string).collect()
    }

    /// Where the results go.
    fn directory(&self) -> PathBuf {
        let partial = self.quick || self.sizes.is_some();
        if partial { target_directory().join("bench") } else { workspace().join("docs/bench") }
    }
}

/// Runs what is asked for.
pub fn run(arguments: &[&str]) -> Result<(), Failure> {
    if let ["--report"] = arguments {
        // The pages anew, from figures that are there.
        let directory = workspace().join("docs/bench");
        return report::write(&Results::read(&directory.join("results.json"))?, &directory);
    }
    let options = Options::parse(arguments)
        .ok_or_else(|| Failure::Missing(format!("usage: cargo xtask {USAGE}")))?;
    let directory = options.directory();
    fs::create_dir_all(&directory).map_err(Failure::io(&directory))?;
    let mut plan = Plan::new(options.parts.len() + 2);
    let write = words(
        &["run", "--quiet", "--release", "--locked", "-p", "matrix-mls-kit", "--bin", "written"],
        &["--", &groups()],
        &options.sizes(&GRAPH),
    );
    plan.command(
        "writing the groups that all contenders enter (the first time this builds for minutes)",
        Command::new(cargo()).args(write).current_dir(workspace()),
    )?;
    let file = directory.join("results.json");
    for part in &options.parts {
        let what = format!("measuring: {} (the first time this builds for minutes)", part.name());
        plan.step(&what, || {
            let figures = measure(*part, &options)?;
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
    let sizes = match part {
        Part::Graph => options.sizes(&GRAPH),
        _ => options.sizes(&OPERATIONS),
    };
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
