//! The Kotlin side: its tests, the checks of the Android side, and the command of its device.

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
    let what = "building the Kotlin sample";
    let mut build = maven(PROJECT, &native(), &["package", "-DskipTests", "-pl", "library,sample"]);
    let status = build.status().map_err(Failure::start("mvn"))?;
    if !status.success() {
        return Err(Failure::Step { what: what.to_owned(), status });
    }
    let target = workspace().join("bindings/kotlin/sample/target");
    let list = target.join("classpath");
    let dependencies = std::fs::read_to_string(&list).map_err(Failure::io(&list))?;
    let classes = target.join("classes");
    Ok(format!(
        "java '-Djna.library.path={}' -cp '{}:{}' org.matrixmls.sample.DeviceKt",
        native().display(),
        classes.display(),
        dependencies.trim(),
    ))
}
