//! `cargo xtask deny`: runs cargo-deny over deny.toml, and installs it first if it is missing.

use std::{path::PathBuf, process::Command};

use crate::{failure::Failure, paths::workspace, plan::Plan, process, toolchain::cache};

/// The cargo-deny that deny.toml is written for.
const VERSION: &str = "0.20.2";

/// Checks all dependencies. The advisories come last, because only they need the network.
pub fn run() -> Result<(), Failure> {
    let on_path = PathBuf::from("cargo-deny");
    let (mut plan, program) = if process::succeeds(&on_path, &["--version"]) {
        (Plan::new(2), on_path)
    } else {
        let root = cache::directory()?.join(format!("cargo-deny-{VERSION}"));
        let mut plan = Plan::new(3);
        // Cargo does nothing if this version is there already.
        let mut install = process::cargo(["install", "cargo-deny", "--locked"]);
        install.args(["--version", VERSION, "--root"]).arg(&root);
        let what = format!("installing cargo-deny {VERSION} (once: several minutes)");
        plan.command(&what, &mut install)?;
        (plan, root.join("bin/cargo-deny"))
    };
    let check = |what: &[&str]| {
        let mut command = Command::new(&program);
        command.arg("check").args(what).current_dir(workspace());
        command
    };
    plan.command(
        "checking licences, bans and sources",
        &mut check(&["bans", "licenses", "sources"]),
    )?;
    plan.command(
        "checking advisories (fetches github.com/RustSec/advisory-db)",
        &mut check(&["advisories"]),
    )?;
    plan.finish("deny");
    Ok(())
}
