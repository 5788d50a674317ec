//! Debian's packages. They can be installed only on a Debian, and only by root.

use std::process::{Command, Stdio};

use crate::{
    failure::Failure,
    process::{self, succeeds},
};

/// Whether packages can be installed here.
pub fn is_usable() -> bool {
    succeeds("apt-get", &["--version"]) && succeeds("sh", &["-c", "test $(id -u) = 0"])
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
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        process::run(&format!("apt-get {}", arguments.join(" ")), &mut command)?;
    }
    Ok(())
}
