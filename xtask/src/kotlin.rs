//! The Kotlin side: its tests, the checks of the Android side, and the commands of its programs.

use std::{path::Path, process::Command};

use crate::{
    failure::Failure,
    homeserver::Homeserver,
    paths::{native, workspace},
    process,
    toolchain::java::maven,
};

/// The Maven project of the library, the sample and the tests.
const PROJECT: &str = "bindings/kotlin/pom.xml";

/// Builds everything and runs all tests.
pub fn tests(homeserver: &Homeserver) -> Command {
    let mut command = maven(PROJECT, &native(), &["verify"]);
    command.env("MATRIX_MLS_HOMESERVER", homeserver.url());
    command
}

/// Writes the library's reference as HTML into a directory.
pub fn reference(to: &Path) -> Command {
    let mut command = maven(
        PROJECT,
        &native(),
        &[
            "compile",
            "org.jetbrains.dokka:dokka-maven-plugin:dokka",
            "-P",
            "docs",
            "-pl",
            "library",
        ],
    );
    command.arg(format!("-Dmatrixmls.docs.dir={}", to.display()));
    command
}

/// Builds the sample, and returns the command that runs its device.
pub fn device() -> Result<Command, Failure> {
    java("sample", "org.matrixmls.sample.DeviceKt")
}

/// Builds the program that measures calls, and returns the command that runs it.
pub fn calls() -> Result<Command, Failure> {
    java("calls", "org.matrixmls.calls.CallsKt")
}

/// Builds the sample, and returns its class path.
pub fn sample_class_path() -> Result<String, Failure> {
    package("sample")
}

/// Builds a module, and returns the command that runs this class of it.
fn java(module: &str, class: &str) -> Result<Command, Failure> {
    let class_path = package(module)?;
    let mut command = Command::new("java");
    command
        .arg(format!("-Djna.library.path={}", native().display()))
        .args(["-cp", &class_path, class])
        .current_dir(workspace());
    Ok(command)
}

/// Builds a module, and returns its class path.
fn package(module: &str) -> Result<String, Failure> {
    let modules = format!("library,{module}");
    let mut build = maven(PROJECT, &native(), &["package", "-DskipTests", "-pl", &modules]);
    // Standard output is for figures and reports.
    build.stdout(std::io::stderr());
    process::run(&format!("building the Kotlin {module}"), &mut build)?;
    let target = workspace().join("bindings/kotlin").join(module).join("target");
    let list = target.join("classpath");
    let dependencies = std::fs::read_to_string(&list).map_err(Failure::io(&list))?;
    Ok(format!("{}:{}", target.join("classes").display(), dependencies.trim()))
}
