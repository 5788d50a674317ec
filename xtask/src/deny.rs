//! `cargo xtask deny`: runs cargo-deny over deny.toml, and installs it first where it is missing.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::step::{Failure, Plan};

/// The cargo-deny that deny.toml is written for.
const VERSION: &str = "0.20.2";

/// Checks all dependencies. The advisories come last, as only they need the network.
pub fn check() -> Result<(), Failure> {
    let on_path = PathBuf::from("cargo-deny");
    let (mut plan, program) = match works(&on_path) {
        true => (Plan::new(2), on_path),
        false => {
            let root = cache_directory()?.join(format!("cargo-deny-{VERSION}"));
            let mut plan = Plan::new(3);
            let what = format!("installing cargo-deny {VERSION} (once: several minutes)");
            let root_text = root.to_string_lossy();
            let install = ["install", "cargo-deny", "--locked", "--version", VERSION, "--root"];
            // Does nothing when it is there already.
            plan.cargo(&what, &[&install[..], &[&root_text]].concat())?;
            (plan, root.join("bin/cargo-deny"))
        }
    };
    let rules = ["check", "bans", "licenses", "sources"];
    plan.run("checking licences, bans and sources", &program, &rules)?;
    plan.run(
        "checking advisories (fetches github.com/RustSec/advisory-db)",
        &program,
        &["check", "advisories"],
    )?;
    plan.finish("deny");
    Ok(())
}

fn works(program: &PathBuf) -> bool {
    let version =
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// `$MATRIX_MLS_CACHE`, or `matrix-mls` in the user's cache directory, as the test kit has it.
fn cache_directory() -> Result<PathBuf, Failure> {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(directory) = from("MATRIX_MLS_CACHE") {
        return Ok(PathBuf::from(directory));
    }
    let user = from("XDG_CACHE_HOME").map(PathBuf::from);
    let user = user.or_else(|| from("HOME").map(|home| PathBuf::from(home).join(".cache")));
    user.map(|directory| directory.join("matrix-mls")).ok_or_else(|| {
        Failure::Missing(
            "set MATRIX_MLS_CACHE to a directory to install cargo-deny into".to_owned(),
        )
    })
}
