//! `cargo xtask release`: makes everything of a release that can be made on this machine, checks
//! it, and says what another machine has to make. It publishes nothing.

mod files;
mod jar;
mod sbom;
mod swift_package;

use std::{
    fs,
    path::{Path, PathBuf},
};

use self::files::{VERSION, copy, sum};
use crate::{
    bindings,
    failure::Failure,
    homeserver::Homeserver,
    paths::{self, workspace},
    plan::Plan,
    process::{self, succeeds},
    size,
    toolchain::{java, swift::Swift},
};

/// The options of `cargo xtask release`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Try the command: take the library as tests have it, and do not build the crate from its
    /// package. What this makes is not to be published.
    #[arg(long)]
    rehearse: bool,
}

/// Makes and checks it all.
pub fn run(options: &Options) -> Result<(), Failure> {
    java::require()?;
    let swift = Swift::require()?;
    let files = fresh_directory()?;
    let mut plan = Plan::new(8);
    // What is packaged is what lies here, committed or not.
    let mut package = vec!["package", "--locked", "--allow-dirty", "-p", "matrix-mls"];
    if options.rehearse {
        package.push("--no-verify");
        plan.cargo("packaging the crate", &package)?;
        plan.step("taking the library as tests have it", || Ok(()))?;
    } else {
        plan.cargo("packaging the crate, and building it from its package (minutes)", &package)?;
        plan.step("building the library as it ships, and checking its size", size::check)?;
    }
    plan.command("building the generator and a homeserver", &mut process::build())?;
    plan.step("generating Kotlin and Swift", || {
        bindings::install("debug")?;
        bindings::check_listing()?;
        bindings::generate(&paths::native().join("api.txt"))
    })?;
    plan.step("making the jar for the JVM, twice, and comparing the two", || {
        jar::make(&files, if options.rehearse { "debug" } else { size::PROFILE })
    })?;
    plan.step("running a program with the jar alone", || {
        jar::check(&files, &Homeserver::start()?)
    })?;
    plan.step("making the Swift package, and building it", || {
        swift_package::make(&files)?;
        swift_package::check(&files, &swift)
    })?;
    plan.step("listing the dependencies (SBOM)", || sbom::make(&files))?;
    let package = paths::target_directory().join(format!("package/matrix-mls-{VERSION}.crate"));
    copy(&package, &files)?;
    write_sums(&files)?;
    eprintln!("\n{}", remaining(&files));
    plan.finish("release");
    Ok(())
}

/// An empty directory for what is released.
fn fresh_directory() -> Result<PathBuf, Failure> {
    // Inside the workspace, which is all that a Swift in a root of its own sees.
    let files = workspace().join("target/release-files");
    if files.exists() {
        fs::remove_dir_all(&files).map_err(Failure::io(&files))?;
    }
    fs::create_dir_all(&files).map_err(Failure::io(&files))?;
    Ok(files)
}

/// Writes the sums of all files of the release, as `sha256sum --check` reads them.
fn write_sums(files: &Path) -> Result<(), Failure> {
    let mut names = Vec::new();
    for entry in fs::read_dir(files).map_err(Failure::io(files))? {
        let path = entry.map_err(Failure::io(files))?.path();
        if path.is_file() {
            names.push(path);
        }
    }
    names.sort();
    let mut text = String::new();
    for path in names {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        text += &format!("{}  {name}\n", sum(&path)?);
    }
    let list = files.join("SHA256SUMS");
    fs::write(&list, &text).map_err(Failure::io(&list))?;
    eprint!("{text}");
    Ok(())
}

/// What is made elsewhere, and what is done by hand.
fn remaining(files: &Path) -> String {
    let mut lines = vec![format!("The files are in {}. What remains:", files.display())];
    if !cfg!(target_os = "macos") || !succeeds("xcodebuild", &["-version"]) {
        lines.push(
            "- On a Mac with Xcode 15: `cargo xtask ios` makes the XCFramework and its checksum. \
             Put the checksum into the environment as MATRIX_MLS_XCFRAMEWORK_CHECKSUM and run \
             `cargo xtask release` again: then Package.swift names the framework."
                .to_owned(),
        );
    }
    if std::env::var_os("ANDROID_NDK_HOME").is_none() {
        lines.push(
            "- With the Android NDK: `cargo xtask android`, then `gradle :library:publish…` in \
             android/ (android/README.md)."
                .to_owned(),
        );
    }
    lines.push(format!(
        "- The jar has the native library of this system alone ({}). For other systems run this \
         there, and put their libraries into one jar.",
        jar::PLATFORM
    ));
    lines.push(format!(
        "- By hand: read docs/stability.md, copy bindings/api.txt to bindings/released/{VERSION}.txt, \
         tag v{VERSION}, publish."
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_packages_have_one_version() {
        let read = |path: &str| fs::read_to_string(workspace().join(path)).unwrap();
        for path in ["bindings/kotlin/pom.xml", "android/checks/pom.xml"] {
            assert!(read(path).contains(&format!("<version>{VERSION}</version>")), "{path}");
        }
        assert!(
            read("android/library/build.gradle.kts").contains(&format!("version = \"{VERSION}\""))
        );
    }

    #[test]
    fn sums_are_those_of_other_tools() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a"), "abc").unwrap();
        write_sums(directory.path()).unwrap();
        let list = fs::read_to_string(directory.path().join("SHA256SUMS")).unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(list, format!("{abc}  a\n"));
    }
}
