//! `cargo xtask test`: everything, in the order that finds a mistake soonest.

use std::{ffi::OsStr, io, thread, time::Instant};

use crate::{
    bench,
    beside::Beside,
    bindings,
    clients::{self, Client},
    conformance, docs,
    failure::Failure,
    homeserver::{Homeserver, HomeserverKind},
    kotlin, newcomer, one_library, paths,
    plan::Plan,
    process, side_by_side, size, swift,
    toolchain::{java, rust, swift::Swift},
};

/// The manifest of the adapter for matrix-sdk, and of what belongs to it.
const ADAPTER: [&str; 2] = ["--manifest-path", "adapters/matrix-sdk/Cargo.toml"];

/// The options of the tests.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only this part. Without it, all of them.
    #[arg(long, value_enum, value_name = "PART")]
    only: Option<Part>,
}

/// A part of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The lints, and the tests of the library, of the test kit and of xtask.
    Rust,
    /// Kotlin, Swift and the samples; all languages in one room, on Synapse; the conformance
    /// scenarios; the commands of the README.
    Languages,
    /// What stands on matrix-sdk.
    Adapter,
    /// The size of the library in an app.
    Size,
}

/// Runs all of it, or a part.
pub fn run(options: &Options) -> Result<(), Failure> {
    rust::require_component("fmt", "rustfmt")?;
    rust::require_component("clippy", "clippy")?;
    java::require()?;
    match options.only {
        None => all(),
        Some(Part::Rust) => rust(),
        Some(Part::Languages) => languages(&Swift::require()?),
        Some(Part::Adapter) => adapter(),
        Some(Part::Size) => size(),
    }
}

fn all() -> Result<(), Failure> {
    let began = Instant::now();
    // Setting up Swift is mostly a download, so it goes on beside the first steps.
    let swift = thread::spawn(Swift::require);
    rust()?;
    let mut beside = beside()?;
    let failed = |_| Err(Failure::Message("setting up Swift failed".to_owned()));
    languages(&swift.join().unwrap_or_else(failed)?)?;
    beside.finish("the tests of the adapter, or the size", &mut io::stderr())?;
    eprintln!("[xtask] test: all done in {} s", began.elapsed().as_secs());
    Ok(())
}

/// Starts the other parts in a process of their own.
fn beside() -> Result<Beside, Failure> {
    let this = std::env::current_exe().map_err(Failure::start("xtask"))?;
    let both = r#""$0" test --only size; size=$?; "$0" test --only adapter && exit $size"#;
    let command = [OsStr::new("sh"), OsStr::new("-c"), OsStr::new(both), this.as_os_str()];
    Beside::start(&command, &paths::target_directory().join("beside.log"))
}

fn rust() -> Result<(), Failure> {
    let mut plan = Plan::new(5);
    plan.cargo("checking the formatting", &["fmt", "--all", "--check"])?;
    plan.cargo(
        "linting (the first time this builds all dependencies: several minutes)",
        &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"],
    )?;
    plan.command("checking the links of the Rust reference", &mut docs::rustdoc())?;
    plan.step("testing (the first time this installs Synapse: about a minute)", || {
        side_by_side::cargo_test(&["--workspace"])
    })?;
    plan.step("measuring what must not grow with the room", bench::guard::run)?;
    plan.finish("test of Rust");
    Ok(())
}

fn languages(swift: &Swift) -> Result<(), Failure> {
    let mut plan = Plan::new(8);
    plan.command("building the library with its test hooks", &mut process::build())?;
    plan.step("generating Kotlin and Swift, and comparing the API with its listing", || {
        bindings::install("debug")?;
        bindings::check_listing()?;
        bindings::generate(&paths::native().join("api.txt"))
    })?;
    let homeserver = Homeserver::start()?;
    plan.command(
        "testing Kotlin and the Android side (the first time this downloads their libraries)",
        &mut kotlin::tests(&homeserver),
    )?;
    plan.command("testing Swift", &mut swift::tests(swift, &homeserver))?;
    plan.command("testing the iOS side", &mut swift::ios_tests(swift, &homeserver))?;
    let clients = plan.step("running Rust, Kotlin and Swift in one room, on Synapse", || {
        let clients = [Client::kotlin()?, Client::swift(swift)?];
        clients::run(HomeserverKind::Synapse, &clients)?;
        Ok(clients)
    })?;
    plan.step("running the conformance scenarios with Rust, mls-rs, Kotlin and Swift", || {
        conformance::check(&clients)
    })?;
    plan.step("running the commands of the README, as a newcomer, on Synapse", || {
        newcomer::check(swift)
    })?;
    plan.finish("test of the languages");
    Ok(())
}

fn adapter() -> Result<(), Failure> {
    let mut plan = Plan::new(7);
    plan.cargo(
        "checking the formatting of the adapter",
        &[&["fmt", "--all", "--check"][..], &ADAPTER].concat(),
    )?;
    plan.step(
        "testing the adapter for matrix-sdk, on one SQLite (the first time: some minutes)",
        || side_by_side::cargo_test(&[&["--workspace"][..], &ADAPTER].concat()),
    )?;
    plan.step("running Rust and matrix-sdk in one room, on Synapse", || {
        process::run("building the Rust client", &mut process::build())?;
        clients::run(HomeserverKind::Synapse, &[Client::sdk()?])
    })?;
    plan.step("generating Kotlin and Swift of one library with matrix-sdk inside", || {
        one_library::generate()
    })?;
    let homeserver = Homeserver::start()?;
    plan.command("testing an app in Kotlin on it", &mut one_library::kotlin_tests(&homeserver))?;
    plan.command(
        "testing an app in Swift on it",
        &mut one_library::swift_tests(&Swift::require()?, &homeserver),
    )?;
    let lints = ["clippy", "--workspace", "--all-targets", "--locked"];
    plan.cargo("linting the adapter", &[&lints[..], &ADAPTER, &["--", "-D", "warnings"]].concat())?;
    plan.finish("test of the adapter");
    Ok(())
}

fn size() -> Result<(), Failure> {
    let mut plan = Plan::new(1);
    plan.step("building for release and checking the library's size", size::check)?;
    plan.finish("test of the size");
    Ok(())
}
