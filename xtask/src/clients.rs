//! The scenario between languages: a device in each language in one room, each in a process of its
//! own. `cargo xtask demo --clients` runs it, and the tests do.

use std::process::Command;

use crate::{
    bindings,
    failure::Failure,
    homeserver::HomeserverKind,
    kotlin, paths,
    plan::Plan,
    process::{self, shell_text},
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
    /// matrix-sdk, with the adapter beside its Olm machine (Rust).
    Sdk,
}

/// A device in another language, as the test kit wants it: `NAME=COMMAND`.
pub struct Client(String);

impl Client {
    /// Builds the Kotlin device. A JDK must be there.
    pub fn kotlin() -> Result<Self, Failure> {
        Ok(Self(format!("kotlin={}", shell_text(&kotlin::device()?)?)))
    }

    /// Builds the Swift device.
    pub fn swift(swift: &Swift) -> Result<Self, Failure> {
        Ok(Self(format!("swift={}", shell_text(&swift::device(swift)?)?)))
    }

    /// As the programs of the test kit want it.
    pub fn argument(&self) -> String {
        self.0.clone()
    }

    /// Builds the device of matrix-sdk's.
    pub fn sdk() -> Result<Self, Failure> {
        let what = "building the device of matrix-sdk's";
        let package = ["--manifest-path", "adapters/matrix-sdk/Cargo.toml"];
        // With the features that the tests build it with: it is there then.
        let build = ["build", "--quiet", "--workspace", "--locked", "--example", "device"];
        process::run(what, &mut process::cargo(build.iter().chain(&package)))?;
        let device = Command::new(paths::adapter_program("device"));
        Ok(Self(format!("sdk={}", shell_text(&device)?)))
    }
}

/// Builds the devices of these languages and runs the scenario.
pub fn demo(languages: &[Language], homeserver: HomeserverKind) -> Result<(), Failure> {
    let mut plan = Plan::new(4);
    plan.command(
        "building the library and the Rust client (the first time: some minutes)",
        &mut process::build(),
    )?;
    plan.step("generating Kotlin and Swift", || {
        bindings::install("debug")?;
        bindings::generate(&paths::native().join("api.txt"))
    })?;
    let clients = plan.step("building the other clients (the first time: minutes)", || {
        languages.iter().map(|language| build(*language)).collect::<Result<Vec<_>, _>>()
    })?;
    plan.step("running the scenario", || run(homeserver, &clients))?;
    plan.finish("demo");
    Ok(())
}

fn build(language: Language) -> Result<Client, Failure> {
    match language {
        Language::Kotlin => {
            java::require()?;
            Client::kotlin()
        }
        Language::Swift => Client::swift(&Swift::require()?),
        Language::Sdk => Client::sdk(),
    }
}

/// Runs the scenario between these devices.
pub fn run(homeserver: HomeserverKind, clients: &[Client]) -> Result<(), Failure> {
    let mut command = Command::new(paths::program("debug", "clients"));
    command
        .args(["--homeserver", homeserver.name()])
        .args(clients.iter().map(|client| &client.0))
        .current_dir(paths::workspace());
    process::run("the scenario between languages", &mut command)
}
