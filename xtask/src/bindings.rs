//! `cargo xtask bindings`: the library, and the Kotlin, Swift and API listing made from it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::step::{Failure, Plan, workspace};

/// The listing of the exported API, which is checked in.
const LISTING: &str = "bindings/api.txt";

/// Where cargo builds.
pub fn target_directory() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => workspace().join(directory),
        None => workspace().join("target"),
    }
}

/// Where the native library of this machine is put, for tests and samples. Inside the workspace,
/// wherever cargo builds: there a Swift in a root of its own sees it, and no later build changes it.
pub fn native() -> PathBuf {
    workspace().join("target/native")
}

/// A program of the workspace, as `profile` built it.
pub fn program(profile: &str, name: &str) -> PathBuf {
    target_directory().join(profile).join(name)
}

/// `cargo xtask bindings`.
pub fn run() -> Result<(), Failure> {
    let mut plan = Plan::new(2);
    plan.cargo(
        "building the library and the generator (the first time: some minutes)",
        &["build", "--workspace", "--locked"],
    )?;
    plan.step("generating Kotlin, Swift and the listing of the API", || {
        install("debug")?;
        generate(&workspace().join(LISTING))
    })?;
    plan.finish("bindings");
    Ok(())
}

/// Copies what a profile built to where tests and samples look for it.
pub fn install(profile: &str) -> Result<(), Failure> {
    let native = native();
    fs::create_dir_all(&native).map_err(Failure::io(&native))?;
    let name =
        format!("{}matrix_mls{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let (from, to) = (program(profile, &name), native.join(&name));
    // Never written in place: a process may have it mapped.
    let draft = native.join("draft");
    fs::copy(&from, &draft).map_err(Failure::io(&from))?;
    fs::rename(&draft, &to).map_err(Failure::io(&to))
}

/// Generates the code of both languages, and the listing into `listing`.
pub fn generate(listing: &Path) -> Result<(), Failure> {
    let bindings = workspace().join("bindings");
    let swift = bindings.join("swift/Sources/MatrixMls/Generated");
    bindgen("kotlin", &bindings.join("kotlin/library/generated"))?;
    bindgen("swift", &swift)?;
    // The header belongs to the module of the C symbols; its module map is written by hand.
    let header = "MatrixMlsFFI.h";
    let to = bindings.join("swift/Sources/MatrixMlsFFI").join(header);
    fs::rename(swift.join(header), &to).map_err(Failure::io(&to))?;
    let map = swift.join("MatrixMlsFFI.modulemap");
    fs::remove_file(&map).map_err(Failure::io(&map))?;
    bindgen("api", listing)
}

/// Fails when the checked-in listing is not what the library exports.
pub fn check_listing() -> Result<(), Failure> {
    let made = native().join("api.txt");
    bindgen("api", &made)?;
    let read = |path: &Path| fs::read_to_string(path).map_err(Failure::io(path));
    if read(&made)? == read(&workspace().join(LISTING))? {
        return Ok(());
    }
    Err(Failure::Missing(format!(
        "{LISTING} is not what the library exports. Run `cargo xtask bindings` and commit the change"
    )))
}

fn bindgen(what: &str, out: &Path) -> Result<(), Failure> {
    let name =
        format!("{}matrix_mls{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let status = Command::new(program("debug", "matrix-mls-bindgen"))
        .arg(native().join(name))
        .args(["uniffi.toml", what])
        .arg(out)
        .current_dir(workspace())
        .status()
        .map_err(Failure::start("matrix-mls-bindgen"))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::Step { what: format!("generating {what}"), status })
}
