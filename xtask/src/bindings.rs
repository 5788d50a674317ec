//! `cargo xtask bindings`: the native library, and the Kotlin, the Swift and the listing of the API
//! that are generated from it.

use std::{fs, path::Path, process::Command};

use crate::{
    failure::Failure,
    paths::{library_name, native, program, workspace},
    plan::Plan,
    process,
};

/// The checked-in listing of the exported API.
const LISTING: &str = "bindings/api.txt";

/// Builds and generates everything.
pub fn run() -> Result<(), Failure> {
    let mut plan = Plan::new(2);
    plan.command(
        "building the library and the generator (the first time: some minutes)",
        &mut process::build(),
    )?;
    plan.step("generating Kotlin, Swift and the listing of the API", || {
        install("debug")?;
        generate(&workspace().join(LISTING))
    })?;
    plan.finish("bindings");
    Ok(())
}

/// Copies the library that a profile has built to where tests and samples load it from.
pub fn install(profile: &str) -> Result<(), Failure> {
    let native = native();
    fs::create_dir_all(&native).map_err(Failure::io(&native))?;
    let (from, to) = (program(profile, &library_name()), native.join(library_name()));
    // A process may have the old library mapped, so it is replaced and never written into.
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
    // The header belongs to the module of the C symbols, whose module map is written by hand.
    let header = "MatrixMlsFFI.h";
    let to = bindings.join("swift/Sources/MatrixMlsFFI").join(header);
    fs::rename(swift.join(header), &to).map_err(Failure::io(&to))?;
    let map = swift.join("MatrixMlsFFI.modulemap");
    fs::remove_file(&map).map_err(Failure::io(&map))?;
    bindgen("api", listing)
}

/// Fails if the checked-in listing differs from what the library exports.
pub fn check_listing() -> Result<(), Failure> {
    let made = native().join("api.txt");
    bindgen("api", &made)?;
    let read = |path: &Path| fs::read_to_string(path).map_err(Failure::io(path));
    if read(&made)? == read(&workspace().join(LISTING))? {
        return Ok(());
    }
    Err(Failure::Message(format!(
        "{LISTING} differs from what the library exports. \
         Run `cargo xtask bindings` and commit the change"
    )))
}

/// Makes Kotlin or Swift, which another generator has written from a library with this one inside,
/// what the layer expects.
pub fn mend(file: &Path) -> Result<(), Failure> {
    let mut command = Command::new(program("debug", "matrix-mls-bindgen"));
    command.arg("mend").arg(file).current_dir(workspace());
    process::run("mending generated code", &mut command)
}

fn bindgen(what: &str, out: &Path) -> Result<(), Failure> {
    let mut command = Command::new(program("debug", "matrix-mls-bindgen"));
    command
        .arg(native().join(library_name()))
        .args(["uniffi.toml", what])
        .arg(out)
        .current_dir(workspace());
    process::run(&format!("generating {what}"), &mut command)
}
