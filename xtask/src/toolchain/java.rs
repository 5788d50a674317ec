//! A JDK and Maven, for the Kotlin side.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::apt;
use crate::{failure::Failure, paths::workspace, process::succeeds};

/// Makes sure that there are a JDK and Maven.
pub fn require() -> Result<(), Failure> {
    let works = || succeeds("javac", &["--version"]) && succeeds("mvn", &["--version"]);
    if works() {
        return Ok(());
    }
    if apt::is_usable() {
        apt::install(&["openjdk-17-jdk-headless", "maven"])?;
    }
    if works() {
        return Ok(());
    }
    Err(Failure::Message(
        "the Kotlin side needs JDK 17 and Maven. Install them: \
         apt-get install openjdk-17-jdk-headless maven"
            .to_owned(),
    ))
}

/// Where Maven keeps what it has downloaded and installed. It goes by the user's entry in the
/// system's list, and not by `HOME`.
pub fn repository() -> Option<PathBuf> {
    let printed =
        Command::new("java").args(["-XshowSettings:properties", "-version"]).output().ok()?;
    let settings = String::from_utf8_lossy(&printed.stderr).into_owned();
    let home = settings.lines().find_map(|line| line.trim().strip_prefix("user.home = "))?;
    Some(Path::new(home).join(".m2/repository"))
}

/// Maven on a project of this workspace, with these arguments. `library` is the directory of the
/// native library.
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
