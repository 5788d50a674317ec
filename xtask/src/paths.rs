//! Where things are: the workspace, cargo's target directory, and the native library that tests
//! and samples of other languages load.

use std::path::{Path, PathBuf};

/// The workspace's directory.
pub fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// The directory that cargo builds in.
pub fn target_directory() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => workspace().join(directory),
        None => workspace().join("target"),
    }
}

/// A program of the workspace that cargo has built with `profile`.
pub fn program(profile: &str, name: &str) -> PathBuf {
    target_directory().join(profile).join(name)
}

/// The directory that cargo builds the adapter for matrix-sdk in, and what belongs to it.
pub fn adapter_directory() -> PathBuf {
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(_) => target_directory(),
        None => workspace().join("adapters/matrix-sdk/target"),
    };
    target.join("debug")
}

/// An example of the adapter for matrix-sdk, or of what belongs to it.
pub fn adapter_program(name: &str) -> PathBuf {
    adapter_directory().join("examples").join(name)
}

/// The directory of the native library that tests and samples of other languages load.
///
/// It is inside the workspace even if cargo builds elsewhere, because a Swift in a root of its own
/// sees only the workspace. It is a copy, so a later build does not change it.
pub fn native() -> PathBuf {
    workspace().join("target/native")
}

/// The file name of the native library on this system, such as `libmatrix_mls.so`.
pub fn library_name() -> String {
    shared_library("matrix_mls")
}

/// The file name of a shared library on this system.
pub fn shared_library(name: &str) -> String {
    format!("{}{name}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX)
}
