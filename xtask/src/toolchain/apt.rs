//! Debian's packages, where this is a Debian and we are root.

use std::process::{Command, Stdio};

use super::runs;
use crate::step::Failure;

/// Whether packages can be installed here.
pub fn is_there() -> bool {
    runs("apt-get", &["--version"]) && runs("sh", &["-c", "test $(id -u) = 0"])
}

/// The release's name, such as `bookworm`.
pub fn release() -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(line.trim_matches('"').to_owned())
}

/// Installs packages.
pub fn install(packages: &[&str]) -> Result<(), Failure> {
    eprintln!("[xtask] installing {}", packages.join(", "));
    for arguments in [&["update", "-qq"][..], &[&["install", "-y", "-qq"], packages].concat()] {
        let status = Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null())
            .status()
            .map_err(Failure::start("apt-get"))?;
        if !status.success() {
            let what = format!("apt-get {}", arguments.join(" "));
            return Err(Failure::Step { what, status });
        }
    }
    Ok(())
}
