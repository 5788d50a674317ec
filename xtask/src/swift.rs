//! The Swift side: the tests of its two packages, and the commands of its programs.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    failure::Failure,
    homeserver::Homeserver,
    paths::{native, workspace},
    process,
    toolchain::swift::Swift,
};

/// The package with the generated code, the layer and the sample.
const PACKAGE: &str = "bindings/swift";

/// The package that apps for Apple's systems use.
const IOS: &str = "ios";

/// Runs all tests of the package. Warnings are errors.
pub fn tests(swift: &Swift, homeserver: &Homeserver) -> Command {
    test(swift, PACKAGE, homeserver)
}

/// Runs all tests of the iOS package that Linux can run.
pub fn ios_tests(swift: &Swift, homeserver: &Homeserver) -> Command {
    test(swift, IOS, homeserver)
}

fn test(swift: &Swift, package: &str, homeserver: &Homeserver) -> Command {
    let arguments = ["test", "-Xswiftc", "-warnings-as-errors"];
    let mut command = package_command(swift, package, &native(), &arguments);
    command.env("MATRIX_MLS_HOMESERVER", homeserver.url());
    command
}

/// Builds the sample's device, and returns the command that runs it.
pub fn device(swift: &Swift) -> Result<Command, Failure> {
    product(swift, "Device", "debug")
}

/// Builds the program that measures calls, and returns the command that runs it.
pub fn calls(swift: &Swift) -> Result<Command, Failure> {
    product(swift, "Calls", "release")
}

/// The commands that write the library's reference as HTML into `pages`, by way of what the
/// compiler says of its symbols.
pub fn reference(swift: &Swift, docc: &str, symbols: &Path, pages: &Path) -> [Command; 2] {
    let (directory, pages) = (symbols.to_string_lossy(), pages.to_string_lossy());
    // What was built already would say nothing, so this is a build of its own.
    let scratch = workspace().join("target/swift/docs");
    let scratch = scratch.to_string_lossy();
    let mut build = vec!["build", "--target", "MatrixMls", "--scratch-path", &scratch];
    for argument in ["-emit-symbol-graph", "-emit-symbol-graph-dir", &directory] {
        build.extend(["-Xswiftc", argument]);
    }
    let convert = [
        "convert",
        "--additional-symbol-graph-dir",
        &directory,
        "--fallback-display-name",
        "MatrixMls",
        "--fallback-bundle-identifier",
        "org.matrixmls",
        "--output-path",
        &pages,
    ];
    let package = workspace().join(PACKAGE);
    [swift.command(&package, "swift", &build), swift.command(&package, docc, &convert)]
}

/// Builds a program of the package, and returns the command that runs it.
fn product(swift: &Swift, name: &str, configuration: &str) -> Result<Command, Failure> {
    let arguments = ["build", "--product", name, "--configuration", configuration];
    let mut build = package_command(swift, PACKAGE, &native(), &arguments);
    // Standard output is for figures.
    build.stdout(std::io::stderr());
    process::run(&format!("building the Swift program {name}"), &mut build)?;
    let program = scratch(PACKAGE).join(configuration).join(name);
    Ok(swift.command(workspace(), &program.to_string_lossy(), &[]))
}

/// The `swift` of a package, with these arguments and the native library in this directory.
pub fn package_command(swift: &Swift, package: &str, native: &Path, arguments: &[&str]) -> Command {
    let scratch = scratch(package);
    let library = format!("-L{}", native.display());
    let (native, scratch) = (native.to_string_lossy(), scratch.to_string_lossy());
    let always = [
        "--scratch-path",
        &scratch,
        "-Xlinker",
        &library,
        "-Xlinker",
        "-rpath",
        "-Xlinker",
        &native,
    ];
    swift.command(&workspace().join(package), "swift", &[arguments, &always].concat())
}

/// The directory that a package is built in.
fn scratch(package: &str) -> PathBuf {
    workspace().join("target/swift").join(package.replace('/', "-"))
}
