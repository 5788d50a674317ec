//! `cargo xtask test`: everything, in the order that finds a mistake soonest.

use std::thread;

use crate::{
    ahead::Ahead,
    bench, bindings,
    clients::{self, Client},
    conformance, docs,
    failure::Failure,
    homeserver::{Homeserver, HomeserverKind},
    kotlin, newcomer, one_library, paths,
    plan::Plan,
    process, size, swift,
    toolchain::{java, rust, swift::Swift},
};

/// Runs all of it.
pub fn run() -> Result<(), Failure> {
    rust::require_component("fmt", "rustfmt")?;
    rust::require_component("clippy", "clippy")?;
    java::require()?;
    // Setting up Swift is mostly a download, so it goes on beside the first steps.
    let swift = thread::spawn(Swift::require);
    let mut plan = Plan::new(22);
    plan.cargo("checking the formatting", &["fmt", "--all", "--check"])?;
    plan.cargo(
        "linting (the first time this builds all dependencies: several minutes)",
        &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"],
    )?;
    plan.command("checking the links of the Rust reference", &mut docs::rustdoc())?;
    plan.cargo(
        "testing (the first time this installs Synapse: about a minute)",
        &["test", "--workspace", "--locked", "--no-fail-fast"],
    )?;
    plan.step("measuring what must not grow with the room", bench::guard::run)?;
    plan.command("building the library with its test hooks", &mut process::build())?;
    plan.step("generating Kotlin and Swift, and comparing the API with its listing", || {
        bindings::install("debug")?;
        bindings::check_listing()?;
        bindings::generate(&paths::native().join("api.txt"))
    })?;
    let adapter = ["--manifest-path", "adapters/matrix-sdk/Cargo.toml"];
    let adapter_tests = [&["test", "--quiet", "--workspace", "--locked"][..], &adapter].concat();
    let adapter_lints = [
        &["clippy", "--workspace", "--all-targets", "--locked"][..],
        &adapter,
        &["--", "-D", "warnings"],
    ]
    .concat();
    let ahead = Ahead::start(&[
        size::build(),
        process::cargo([&adapter_tests[..], &["--no-run"]].concat()),
        process::cargo(&adapter_lints),
    ])?;
    let homeserver = Homeserver::start()?;
    plan.command(
        "testing Kotlin and the Android side (the first time this downloads their libraries)",
        &mut kotlin::tests(&homeserver),
    )?;
    let swift = plan.step("waiting for Swift (the first time it is set up meanwhile)", || {
        let failed = |_| Err(Failure::Message("setting up Swift failed".to_owned()));
        swift.join().unwrap_or_else(failed)
    })?;
    plan.command("testing Swift", &mut swift::tests(&swift, &homeserver))?;
    plan.command("testing the iOS side", &mut swift::ios_tests(&swift, &homeserver))?;
    let clients = plan.step("running Rust, Kotlin and Swift in one room, on Synapse", || {
        let clients = [Client::kotlin()?, Client::swift(&swift)?];
        clients::run(HomeserverKind::Synapse, &clients)?;
        Ok(clients)
    })?;
    plan.step("running the conformance scenarios with Rust, mls-rs, Kotlin and Swift", || {
        conformance::check(&clients)
    })?;
    plan.step("running the commands of the README, as a newcomer, on Synapse", || {
        newcomer::check(&swift)
    })?;
    plan.cargo(
        "checking the formatting of the adapter",
        &[&["fmt", "--all", "--check"][..], &adapter].concat(),
    )?;
    plan.cargo(
        "testing the adapter for matrix-sdk, on one SQLite (the first time: some minutes)",
        &adapter_tests,
    )?;
    plan.step("running Rust and matrix-sdk in one room, on Synapse", || {
        clients::run(HomeserverKind::Synapse, &[Client::sdk()?])
    })?;
    plan.step("generating Kotlin and Swift of one library with matrix-sdk inside", || {
        one_library::generate()
    })?;
    plan.command("testing an app in Kotlin on it", &mut one_library::kotlin_tests(&homeserver))?;
    plan.command(
        "testing an app in Swift on it",
        &mut one_library::swift_tests(&swift, &homeserver),
    )?;
    plan.cargo("linting the adapter", &adapter_lints)?;
    plan.step("building for release and checking the library's size", size::check)?;
    drop(ahead);
    plan.finish("test");
    Ok(())
}
