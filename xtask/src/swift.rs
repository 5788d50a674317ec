//! The Swift side: the package's tests, those of the iOS package, and the commands of its programs.

use std::{path::PathBuf, process::Command};

use crate::{
    bindings::native,
    homeserver::Homeserver,
    step::{Failure, workspace},
    toolchain::swift::Swift,
};

/// The package with the generated code, the layer and the sample.
const PACKAGE: &str = "bindings/swift";

/// The package that apps for Apple's systems use.
const IOS: &str = "ios";

/// All tests of the package; warnings are errors.
pub fn tests(swift: &Swift, homeserver: &Homeserver) -> Command {
    test(swift, PACKAGE, homeserver)
}

/// All tests of the iOS package that Linux can run.
pub fn ios_tests(swift: &Swift, homeserver: &Homeserver) -> Command {
    test(swift, IOS, homeserver)
}

fn test(swift: &Swift, package: &str, homeserver: &Homeserver) -> Command {
    let mut command =
        package_command(swift, package, &["swift", "test", "-Xswiftc", "-warnings-as-errors"]);
    command.env("MATRIX_MLS_HOMESERVER", homeserver.url());
    command
}

/// Builds the sample's device, and gives the shell command that runs it.
pub fn device(swift: &Swift) -> Result<String, Failure> {
    let program = product(swift, "Device", "debug")?;
    Ok(swift.shell(workspace(), &[&program.to_string_lossy()]))
}

/// Builds the program that measures calls, and gives the command that runs it.
pub fn calls(swift: &Swift) -> Result<Command, Failure> {
    let program = product(swift, "Calls", "release")?;
    Ok(swift.command(workspace(), &[&program.to_string_lossy()]))
}

/// Builds a program of the package.
fn product(swift: &Swift, name: &str, configuration: &str) -> Result<PathBuf, Failure> {
    let arguments = ["swift", "build", "--product", name, "--configuration", configuration];
    let mut build = package_command(swift, PACKAGE, &arguments);
    // What it says is no figure.
    let status = build.stdout(std::io::stderr()).status().map_err(Failure::start("swift"))?;
    if !status.success() {
        return Err(Failure::Step { what: format!("building the Swift program {name}"), status });
    }
    Ok(scratch(PACKAGE).join(configuration).join(name))
}

fn package_command(swift: &Swift, package: &str, arguments: &[&str]) -> Command {
    let (native, scratch) = (native(), scratch(package));
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
    swift.command(&workspace().join(package), &[arguments, &always].concat())
}

fn scratch(package: &str) -> PathBuf {
    workspace().join("target/swift").join(package.replace('/', "-"))
}
