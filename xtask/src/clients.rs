//! The scenario between languages: `cargo xtask demo --clients kotlin,swift`, and a step of the tests.

use std::process::Command;

use crate::{
    bindings, kotlin,
    step::{Failure, Plan, workspace},
    swift,
    toolchain::{java, swift::Swift},
};

/// Builds what is asked for and tells the scenario.
pub fn demo(languages: &str, homeserver: &str) -> Result<(), Failure> {
    let languages: Vec<&str> = languages.split(',').collect();
    if let Some(unknown) = languages.iter().find(|name| !["kotlin", "swift"].contains(name)) {
        return Err(Failure::Missing(format!("there is no client `{unknown}`: kotlin, swift")));
    }
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
        if languages.contains(&"kotlin") {
            java::require()?;
        }
        let swift = languages.contains(&"swift").then(Swift::require).transpose()?;
        commands(&languages, swift.as_ref())
    })?;
    plan.step("running the scenario", || tell(homeserver, &commands))?;
    plan.finish("demo");
    Ok(())
}

/// The commands of the devices of these languages, as `NAME=COMMAND`.
pub fn commands(languages: &[&str], swift: Option<&Swift>) -> Result<Vec<String>, Failure> {
    let mut commands = Vec::new();
    for name in languages {
        let command = match (*name, swift) {
            ("swift", Some(swift)) => swift::device(swift)?,
            _ => kotlin::device()?,
        };
        commands.push(format!("{name}={command}"));
    }
    Ok(commands)
}

/// Tells the scenario between these devices.
pub fn tell(homeserver: &str, commands: &[String]) -> Result<(), Failure> {
    let status = Command::new(bindings::program("debug", "clients"))
        .args(["--homeserver", homeserver])
        .args(commands)
        .current_dir(workspace())
        .status()
        .map_err(Failure::start("clients"))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::Step { what: "the scenario between languages".to_owned(), status })
}
