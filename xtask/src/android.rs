//! `cargo xtask android`: the native libraries of the AAR, one for each ABI.
//!
//! Built with cargo-ndk and the NDK, aligned to pages of 16 KB (Android 15 and later), stripped into
//! `android/library/src/main/jniLibs`; what the stripping took is kept aside for crash reports.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    bindings, elf,
    size::PROFILE,
    step::{Failure, Plan, cargo, workspace},
    toolchain::runs,
};

/// The ABIs, each with its Rust target. The Gradle files name the same, which a test compares.
const ABIS: [(&str, &str); 3] = [
    ("arm64-v8a", "aarch64-linux-android"),
    ("armeabi-v7a", "armv7-linux-androideabi"),
    ("x86_64", "x86_64-linux-android"),
];

/// The oldest Android that the library runs on, as its API level.
const MIN_SDK: &str = "24";

/// The page size that a 64-bit Android may have, in bytes.
const PAGE: u64 = 16 * 1024;

const LIBRARY: &str = "libmatrix_mls.so";

/// Builds all ABIs.
pub fn run() -> Result<(), Failure> {
    let ndk = require()?;
    let strip = strip_program(&ndk)?;
    let libraries = workspace().join("android/library/src/main/jniLibs");
    let symbols = workspace().join("target/android/symbols");
    let mut plan = Plan::new(ABIS.len() + 2);
    bindings::run()?;
    for (abi, target) in ABIS {
        let mut build = Command::new(cargo());
        build
            .args(["ndk", "--target", abi, "--platform", MIN_SDK, "--output-dir"])
            .arg(&symbols)
            .args(["build", "--locked", "--profile", PROFILE, "-p", "matrix-mls", "--lib"])
            .env(
                format!("CARGO_TARGET_{}_RUSTFLAGS", target.to_uppercase().replace('-', "_")),
                format!(
                    "-Clink-arg=-Wl,-z,max-page-size={PAGE} -Clink-arg=-Wl,--icf=safe \
                     -Clink-arg=-Wl,--pack-dyn-relocs=android"
                ),
            )
            // Stripped below, so that the symbols can be kept.
            .env("CARGO_PROFILE_MOBILE_STRIP", "none")
            .env("CARGO_PROFILE_MOBILE_DEBUG", "line-tables-only")
            .current_dir(workspace());
        plan.command(&format!("building for {abi}"), &mut build)?;
    }
    plan.step("stripping", || {
        for (abi, _) in ABIS {
            strip_into(&strip, &symbols.join(abi).join(LIBRARY), &libraries.join(abi))?;
        }
        Ok(())
    })?;
    plan.step("checking sizes and alignment", || {
        ABIS.iter().try_for_each(|(abi, _)| check(&libraries.join(abi).join(LIBRARY)))
    })?;
    eprintln!("[xtask] symbols for crash reports: {}", symbols.display());
    plan.finish("android");
    Ok(())
}

fn require() -> Result<PathBuf, Failure> {
    let ndk = ["ANDROID_NDK_HOME", "ANDROID_NDK_ROOT"].iter().find_map(std::env::var_os);
    let ndk = ndk.map(PathBuf::from).filter(|ndk| ndk.is_dir()).ok_or_else(|| {
        Failure::Missing(
            "the Android NDK (r27 or newer) is missing. Install it with Android Studio's SDK manager and set ANDROID_NDK_HOME"
                .to_owned(),
        )
    })?;
    if !runs("cargo-ndk", &["--version"]) {
        return Err(Failure::Missing(
            "cargo-ndk is missing. Install it: cargo install cargo-ndk --version 4.1.2 --locked"
                .to_owned(),
        ));
    }
    for (_, target) in ABIS {
        if !runs("rustup", &["target", "add", target]) {
            return Err(Failure::Missing(format!(
                "Rust's standard library for {target} is missing. Install it: rustup target add {target}"
            )));
        }
    }
    Ok(ndk)
}

/// The NDK has one for the machine that it runs on.
fn strip_program(ndk: &Path) -> Result<PathBuf, Failure> {
    let hosts = ndk.join("toolchains/llvm/prebuilt");
    let entries = fs::read_dir(&hosts).map_err(Failure::io(&hosts))?;
    let found = entries
        .flatten()
        .map(|host| host.path().join("bin/llvm-strip"))
        .find(|strip| strip.is_file());
    found.ok_or_else(|| Failure::Missing(format!("there is no llvm-strip in {}", hosts.display())))
}

fn strip_into(strip: &Path, library: &Path, directory: &Path) -> Result<(), Failure> {
    fs::create_dir_all(directory).map_err(Failure::io(directory))?;
    let status = Command::new(strip)
        .arg("--strip-unneeded")
        .arg("-o")
        .arg(directory.join(LIBRARY))
        .arg(library)
        .status()
        .map_err(Failure::start("llvm-strip"))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::Step { what: format!("stripping {}", library.display()), status })
}

/// Prints a library's size, and fails when a system with large pages could not load it.
fn check(library: &Path) -> Result<(), Failure> {
    let bytes = fs::read(library).map_err(Failure::io(library))?;
    let segments = elf::load_segments(&bytes)
        .ok_or_else(|| Failure::Missing(format!("{} is no ELF library", library.display())))?;
    eprintln!("[xtask] {:>6.2} MB  {}", bytes.len() as f64 / 1e6, library.display());
    // 32-bit systems have pages of 4 KB.
    if segments.wide && segments.alignments.iter().any(|alignment| alignment % PAGE != 0) {
        return Err(Failure::Missing(format!(
            "{} is not aligned to pages of {PAGE} bytes: {:?}",
            library.display(),
            segments.alignments
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradle(module: &str) -> String {
        fs::read_to_string(workspace().join("android").join(module).join("build.gradle.kts"))
            .unwrap()
    }

    #[test]
    fn gradle_packs_the_abis_that_are_built() {
        let gradle = gradle("library");
        let line = gradle.lines().find(|line| line.contains("abiFilters")).unwrap();
        let mut named: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
        named.sort_unstable();
        assert_eq!(named, ABIS.map(|(abi, _)| abi));
    }

    #[test]
    fn gradle_has_the_same_oldest_android() {
        for module in ["library", "sample"] {
            let gradle = gradle(module);
            let line = gradle.lines().find(|line| line.contains("minSdk")).unwrap();
            let digits: String = line.chars().filter(char::is_ascii_digit).collect();
            assert_eq!(digits, MIN_SDK, "{module}");
        }
    }
}
