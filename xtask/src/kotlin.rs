//! The Kotlin side: its tests, the checks of the Android side, and the commands of its programs.

use std::process::Command;

use crate::{
    bindings::native,
    homeserver::Homeserver,
    step::{Failure, workspace},
    toolchain::java::maven,
};

/// The Maven project of the library, the sample and the tests.
const PROJECT: &str = "bindings/kotlin/pom.xml";

/// All tests; what they need is generated and built.
pub fn tests(homeserver: &Homeserver) -> Command {
    let mut command = maven(PROJECT, &native(), &["verify"]);
    command.env("MATRIX_MLS_HOMESERVER", homeserver.url());
    command
}

/// Builds the sample, and gives the shell command that runs its device.
pub fn device() -> Result<String, Failure> {
    let class_path = package("sample")?;
    Ok(format!(
        "java '-Djna.library.path={}' -cp '{class_path}' org.matrixmls.sample.DeviceKt",
        native().display(),
    ))
}

/// Builds the program that measures calls, and gives the command that runs it.
pub fn calls() -> Result<Command, Failure> {
    let class_path = package("calls")?;
    let mut command = Command::new("java");
    command.arg(format!("-Djna.library.path={}", native().display())).args([
        "-cp",
        &class_path,
        "org.matrixmls.calls.CallsKt",
    ]);
    Ok(command)
}

/// Builds a module with programs; gives their class path.
fn package(module: &str) -> Result<String, Failure> {
    let modules = format!("library,{module}");
    let mut build = maven(PROJECT, &native(), &["package", "-DskipTests", "-pl", &modules]);
    let status = build.status().map_err(Failure::start("mvn"))?;
    if !status.success() {
        return Err(Failure::Step { what: format!("building the Kotlin {module}"), status });
    }
    let target = workspace().join("bindings/kotlin").join(module).join("target");
    let list = target.join("classpath");
    let dependencies = std::fs::read_to_string(&list).map_err(Failure::io(&list))?;
    Ok(format!("{}:{}", target.join("classes").display(), dependencies.trim()))
}
