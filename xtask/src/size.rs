//! How large the library is that an app carries, and the most that it may be.

use std::{fs, process::Command};

use crate::{
    bindings::target_directory,
    step::{Failure, cargo, workspace},
};

/// The most that the stripped Linux library may take, in bytes.
const MOST: u64 = 6_650_000;

/// The profile that is built for phones.
pub const PROFILE: &str = "mobile";

/// What the linker is asked on a Linux whose linker is LLVM's, as Rust's is on x86-64: equal functions once,
/// and relocations packed.
const LINK: &str = "-Clink-arg=-Wl,--icf=safe -Clink-arg=-Wl,-z,pack-relative-relocs";

/// Builds the library as for a phone and fails when it is larger than it may be.
pub fn check() -> Result<(), Failure> {
    let bytes = figure()?;
    eprintln!(
        "[xtask] the library takes {:.2} MB of at most {:.2}",
        bytes as f64 / 1e6,
        MOST as f64 / 1e6
    );
    if bytes <= MOST {
        return Ok(());
    }
    Err(Failure::Missing(format!(
        "the library has grown to {bytes} bytes, more than the {MOST} of xtask/src/size.rs"
    )))
}

/// Builds the library as for a phone; gives its size in bytes.
pub fn figure() -> Result<u64, Failure> {
    // One package alone: the hooks of the tests are another's wish.
    let mut build = Command::new(cargo());
    build
        .args(["build", "--locked", "--profile", PROFILE, "-p", "matrix-mls", "--lib"])
        .current_dir(workspace());
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        build.env("RUSTFLAGS", LINK);
    }
    let status = build.status().map_err(Failure::start("cargo"))?;
    if !status.success() {
        return Err(Failure::Step { what: "building for release".to_owned(), status });
    }
    let name =
        format!("{}matrix_mls{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let library = target_directory().join(PROFILE).join(name);
    Ok(fs::metadata(&library).map_err(Failure::io(&library))?.len())
}
