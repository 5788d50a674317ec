//! `cargo xtask android`: the native libraries of the AAR, one for each ABI.
//!
//! cargo-ndk and the NDK build them, aligned to pages of 16 KB (Android 15 and later). The stripped
//! libraries go into `android/library/src/main/jniLibs`. The unstripped ones stay in
//! `target/android/symbols` for crash reports.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use object::{File, Object as _, ObjectSegment as _};

use crate::{
    bindings,
    failure::Failure,
    paths::workspace,
    plan::Plan,
    process::{self, succeeds},
    size::PROFILE,
    toolchain::rust,
};

/// The ABIs, each with its Rust target. A test compares them with the Gradle files.
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
        let mut build =
            process::cargo(["ndk", "--target", abi, "--platform", MIN_SDK, "--output-dir"]);
        build
            .arg(&symbols)
            .args(["build", "--locked", "--profile", PROFILE, "-p", "matrix-mls", "--lib"])
            .env(
                format!("CARGO_TARGET_{}_RUSTFLAGS", target.to_uppercase().replace('-', "_")),
                format!(
                    "-Clink-arg=-Wl,-z,max-page-size={PAGE} -Clink-arg=-Wl,--icf=safe \
                     -Clink-arg=-Wl,--pack-dyn-relocs=android"
                ),
            )
            // The libraries are stripped below, so that the symbols can be kept.
            .env("CARGO_PROFILE_MOBILE_STRIP", "none")
            .env("CARGO_PROFILE_MOBILE_DEBUG", "line-tables-only");
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

/// Makes sure that everything is there that the build needs, and returns the NDK's directory.
fn require() -> Result<PathBuf, Failure> {
    let ndk = ["ANDROID_NDK_HOME", "ANDROID_NDK_ROOT"].iter().find_map(std::env::var_os);
    let ndk = ndk.map(PathBuf::from).filter(|ndk| ndk.is_dir()).ok_or_else(|| {
        Failure::Message(
            "the Android NDK (r27 or newer) is missing. Install it with Android Studio's SDK \
             manager and set ANDROID_NDK_HOME"
                .to_owned(),
        )
    })?;
    if !succeeds("cargo-ndk", &["--version"]) {
        return Err(Failure::Message(
            "cargo-ndk is missing. Install it: cargo install cargo-ndk --version 4.1.2 --locked"
                .to_owned(),
        ));
    }
    for (_, target) in ABIS {
        rust::require_target(target)?;
    }
    Ok(ndk)
}

/// The NDK's program that strips. The NDK has it for the machine that it runs on.
fn strip_program(ndk: &Path) -> Result<PathBuf, Failure> {
    let hosts = ndk.join("toolchains/llvm/prebuilt");
    let entries = fs::read_dir(&hosts).map_err(Failure::io(&hosts))?;
    let found = entries
        .flatten()
        .map(|host| host.path().join("bin/llvm-strip"))
        .find(|strip| strip.is_file());
    found.ok_or_else(|| Failure::Message(format!("there is no llvm-strip in {}", hosts.display())))
}

fn strip_into(strip: &Path, library: &Path, directory: &Path) -> Result<(), Failure> {
    fs::create_dir_all(directory).map_err(Failure::io(directory))?;
    let mut command = Command::new(strip);
    command.arg("--strip-unneeded").arg("-o").arg(directory.join(LIBRARY)).arg(library);
    process::run(&format!("stripping {}", library.display()), &mut command)
}

/// Prints a library's size, and fails if a system with large pages could not load it.
fn check(library: &Path) -> Result<(), Failure> {
    let bytes = fs::read(library).map_err(Failure::io(library))?;
    eprintln!("[xtask] {:>6.2} MB  {}", bytes.len() as f64 / 1e6, library.display());
    check_alignment(&bytes)
        .map_err(|problem| Failure::Message(format!("{}: {problem}", library.display())))
}

/// Fails with a sentence if a 64-bit system with pages of [`PAGE`] bytes could not load this ELF
/// library. A 32-bit system has pages of 4 KB, so any alignment will do.
fn check_alignment(library: &[u8]) -> Result<(), String> {
    let file = File::parse(library).map_err(|error| format!("no ELF library: {error}"))?;
    let alignments: Vec<u64> = file.segments().map(|segment| segment.align()).collect();
    if alignments.is_empty() {
        return Err("nothing in it is loaded".to_owned());
    }
    if file.is_64() && alignments.iter().any(|alignment| alignment % PAGE != 0) {
        return Err(format!("not aligned to pages of {PAGE} bytes: {alignments:?}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use object::{
        Endianness, elf,
        write::elf::{FileHeader, ProgramHeader, Writer},
    };

    use super::*;

    fn gradle(module: &str) -> String {
        fs::read_to_string(workspace().join("android").join(module).join("build.gradle.kts"))
            .unwrap()
    }

    /// An ELF library with one segment that is loaded.
    fn library(is_64: bool, alignment: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(Endianness::Little, is_64, &mut bytes);
        writer.reserve_file_header();
        writer.reserve_program_headers(1);
        writer
            .write_file_header(&FileHeader {
                os_abi: elf::ELFOSABI_NONE,
                abi_version: 0,
                e_type: elf::ET_DYN,
                e_machine: if is_64 { elf::EM_AARCH64 } else { elf::EM_ARM },
                e_entry: 0,
                e_flags: elf::FileFlags(0),
            })
            .unwrap();
        writer.write_program_header(&ProgramHeader {
            p_type: elf::PT_LOAD,
            p_flags: elf::PF_R | elf::PF_X,
            p_offset: 0,
            p_vaddr: 0,
            p_paddr: 0,
            p_filesz: 0,
            p_memsz: 0,
            p_align: alignment,
        });
        bytes
    }

    #[test]
    fn only_a_64_bit_library_needs_large_pages() {
        assert_eq!(check_alignment(&library(true, 16 * 1024)), Ok(()));
        assert_eq!(check_alignment(&library(true, 64 * 1024)), Ok(()));
        let small = check_alignment(&library(true, 4096)).unwrap_err();
        assert_eq!(small, "not aligned to pages of 16384 bytes: [4096]");
        assert_eq!(check_alignment(&library(false, 4096)), Ok(()));
    }

    #[test]
    fn a_file_that_is_no_library_fails() {
        let whole = library(true, 16 * 1024);
        for length in 0..whole.len() {
            assert!(check_alignment(&whole[..length]).is_err(), "the first {length} bytes");
        }
        assert!(check_alignment(b"MZ and something else altogether").is_err());
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
