//! The scenario between languages: `cargo xtask demo --clients kotlin,swift`, and a step of the tests.

use std::process::Command;

use crate::{
    bindings,
    homeserver::HomeserverKind,
    kotlin,
    step::{Failure, Plan, workspace},
    swift,
    toolchain::{java, swift::Swift},
};

/// The languages of devices beside the Rust one, which is always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// Kotlin on the JVM.
    Kotlin,
    /// Swift.
    Swift,
}

/// Builds the devices of these languages and runs the scenario.
pub fn demo(languages: &[Language], homeserver: HomeserverKind) -> Result<(), Failure> {
    let mut plan = Plan::new(4);
    plan.cargo(
        "building the library and the Rust client (the first time: some minutes)",
        &["build", "--workspace", "--locked"],
    )?;
    plan.step("generating Kotlin and Swift", || {
        bindings::install("debug")?;
        bindings::generate(&workspace().join("target/native/api.txt"))
    })?;
    let commands = plan.step("building the other clients (the first time: minutes)", || {
        if languages.contains(&Language::Kotlin) {
            java::require()?;
        }
        let swift = languages.contains(&Language::Swift).then(Swift::require).transpose()?;
        commands(languages, swift.as_ref())
    })?;
    plan.step("running the scenario", || tell(homeserver, &commands))?;
    plan.finish("demo");
    Ok(())
}

/// The commands of the devices of these languages, as `NAME=COMMAND`.
pub fn commands(languages: &[Language], swift: Option<&Swift>) -> Result<Vec<String>, Failure> {
    let mut commands = Vec::new();
    for language in languages {
        commands.push(match (language, swift) {
            (Language::Swift, Some(swift)) => format!("swift={}", swift::device(swift)?),
            _ => format!("kotlin={}", kotlin::device()?),
        });
    }
    Ok(commands)
}

/// Tells the scenario between these devices.
pub fn tell(homeserver: HomeserverKind, commands: &[String]) -> Result<(), Failure> {
    let status = Command::new(bindings::program("debug", "clients"))
        .args(["--homeserver", homeserver.name()])
        .args(commands)
        .current_dir(workspace())
        .status()
        .map_err(Failure::start("clients"))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::Step { what: "the scenario between languages".to_owned(), status })
}
