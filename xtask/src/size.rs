//! The size of the library that an app carries, and the most that it may be.

use std::{fs, process::Command};

use crate::{failure::Failure, paths, process};

/// The most that the stripped Linux library may take, in bytes.
const MOST: u64 = 10_300_000;

/// The profile that is built for phones.
pub const PROFILE: &str = "mobile";

/// The linker flags for x86-64 Linux, where Rust's linker is LLVM's: equal functions are kept once,
/// and relocations are packed.
const LINK: &str = "-Clink-arg=-Wl,--icf=safe -Clink-arg=-Wl,-z,pack-relative-relocs";

/// Builds the library as for a phone, and fails if it is larger than it may be.
pub fn check() -> Result<(), Failure> {
    let bytes = measure()?;
    eprintln!(
        "[xtask] the library takes {:.2} MB of at most {:.2}",
        bytes as f64 / 1e6,
        MOST as f64 / 1e6
    );
    if bytes <= MOST {
        return Ok(());
    }
    Err(Failure::Message(format!(
        "the library has grown to {bytes} bytes, more than the {MOST} of xtask/src/size.rs"
    )))
}

/// Builds the library as for a phone, and returns its size in bytes.
pub fn measure() -> Result<u64, Failure> {
    process::run("building for release", &mut build())?;
    let library = paths::program(PROFILE, &paths::library_name());
    Ok(fs::metadata(&library).map_err(Failure::io(&library))?.len())
}

/// What builds the library as for a phone.
pub fn build() -> Command {
    // Only this package: the test kit would turn on the library's test hooks.
    let mut build = process::cargo(["build", "--locked", "--profile", PROFILE]);
    build.args(["-p", "matrix-mls", "--lib"]);
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        build.env("RUSTFLAGS", LINK);
    }
    build
}
