//! `cargo xtask test`: everything, in the order in which a mistake is found soonest.

use std::thread;

use crate::{
    bench, bindings,
    clients::{self, Language},
    homeserver::{Homeserver, HomeserverKind},
    kotlin, size,
    step::{self, Failure, Plan, workspace},
    swift,
    toolchain::{java, swift::Swift},
};

/// Runs all of it.
pub fn run() -> Result<(), Failure> {
    step::require_component("fmt", "rustfmt")?;
    step::require_component("clippy", "clippy")?;
    java::require()?;
    // Mostly waiting for a download: beside the first steps.
    let swift = thread::spawn(Swift::require);
    let mut plan = Plan::new(12);
    plan.cargo("checking the formatting", &["fmt", "--all", "--check"])?;
    plan.cargo(
        "linting (the first time this builds all dependencies: several minutes)",
        &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"],
    )?;
    plan.cargo(
        "testing (the first time this installs Synapse: about a minute)",
        &["test", "--workspace", "--locked"],
    )?;
    plan.step("measuring what must not grow with the room", bench::guard)?;
    plan.cargo(
        "building the library, with the hooks of the tests",
        &["build", "--workspace", "--locked"],
    )?;
    plan.step("generating Kotlin and Swift, and comparing the API with its listing", || {
        bindings::install("debug")?;
        bindings::check_listing()?;
        bindings::generate(&workspace().join("target/native/api.txt"))
    })?;
    let homeserver = Homeserver::start()?;
    plan.command(
        "testing Kotlin and the Android side (the first time this downloads their libraries)",
        &mut kotlin::tests(&homeserver),
    )?;
    let swift = plan.step("waiting for Swift (set up meanwhile, the first time)", || {
        swift.join().unwrap_or_else(|_| Err(Failure::Missing("setting up Swift failed".to_owned())))
    })?;
    plan.command("testing Swift", &mut swift::tests(&swift, &homeserver))?;
    plan.command("testing the iOS side", &mut swift::ios_tests(&swift, &homeserver))?;
    plan.step("Rust, Kotlin and Swift in one room, on Synapse", || {
        let commands = clients::commands(&[Language::Kotlin, Language::Swift], Some(&swift))?;
        clients::tell(HomeserverKind::Synapse, &commands)
    })?;
    plan.step("building for release and checking the library's size", size::check)?;
    plan.finish("test");
    Ok(())
}
