//! Parts of the Rust toolchain: cargo's components, and the standard library of other targets. And
//! toolchains of other versions.

use crate::{
    failure::Failure,
    process::{cargo_path, succeeds},
};

/// Makes sure that `cargo subcommand` works, and installs its component where rustup can.
pub fn require_component(subcommand: &str, component: &str) -> Result<(), Failure> {
    let works = || succeeds(cargo_path(), &[subcommand, "--version"]);
    if works() {
        return Ok(());
    }
    eprintln!("[xtask] installing {component}");
    if succeeds("rustup", &["component", "add", component]) && works() {
        return Ok(());
    }
    Err(Failure::Message(format!(
        "`cargo {subcommand}` is missing. Install it: rustup component add {component}"
    )))
}

/// Makes sure that rustup has the standard library for this target.
pub fn require_target(target: &str) -> Result<(), Failure> {
    if succeeds("rustup", &["target", "add", target]) {
        return Ok(());
    }
    Err(Failure::Message(format!(
        "Rust's standard library for {target} is missing. Install it: rustup target add {target}"
    )))
}

/// Makes sure that rustup has the toolchain of this version.
pub fn require_toolchain(version: &str) -> Result<(), Failure> {
    if succeeds("rustup", &["run", version, "cargo", "--version"]) {
        return Ok(());
    }
    eprintln!("[xtask] installing Rust {version}");
    let install = ["toolchain", "install", version, "--profile", "minimal", "--no-self-update"];
    if succeeds("rustup", &install) {
        return Ok(());
    }
    Err(Failure::Message(format!(
        "Rust {version} is missing. Install it: rustup toolchain install {version} \
         --profile minimal"
    )))
}
