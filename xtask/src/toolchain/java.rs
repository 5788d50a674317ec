//! A JDK and Maven, for the Kotlin side.

use std::{path::Path, process::Command};

use super::{apt, runs};
use crate::step::{Failure, workspace};

/// Makes sure that there are a JDK and Maven.
pub fn require() -> Result<(), Failure> {
    let is_there = || runs("javac", &["--version"]) && runs("mvn", &["--version"]);
    if is_there() {
        return Ok(());
    }
    if apt::is_there() {
        apt::install(&["openjdk-17-jdk-headless", "maven"])?;
    }
    if is_there() {
        return Ok(());
    }
    Err(Failure::Missing(
        "the Kotlin side needs JDK 17 and Maven. Install them: apt-get install openjdk-17-jdk-headless maven"
            .to_owned(),
    ))
}

/// Maven on a project of this workspace, with these arguments. The native library is where
/// `bindings::library` puts it.
pub fn maven(project: &str, library: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("mvn");
    command
        .args(["-q", "-B", "-f"])
        .arg(workspace().join(project))
        .arg(format!("-Dmatrixmls.library.dir={}", library.display()))
        .args(arguments)
        .current_dir(workspace());
    command
}
