//! The apps on `adapters/sdk-ffi`: one native library with matrix-sdk and this library inside.
//!
//! It is built, and Kotlin and Swift are generated from it, as a team with a fork of matrix-sdk-ffi
//! does it (docs/element-x.md). Only `matrix-mls-bindgen mend` is this project's own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    bindings,
    failure::Failure,
    homeserver::Homeserver,
    paths::{adapter_directory, adapter_program, shared_library, workspace},
    process, swift,
    toolchain::{java::maven, swift::Swift},
};

/// Where Debian has the certificates of authorities.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The Maven project of the app in Kotlin.
const KOTLIN: &str = "adapters/sdk-ffi/kotlin/pom.xml";
/// The package of the app in Swift.
const SWIFT: &str = "adapters/sdk-ffi/swift";

/// Builds the library and the generator, and generates the code of both languages.
pub fn generate() -> Result<(), Failure> {
    let build = ["build", "--quiet", "--workspace", "--locked", "--lib", "--example", "bindgen"];
    let adapter = ["--manifest-path", "adapters/matrix-sdk/Cargo.toml"];
    let what = "building the one library and its generator";
    process::run(what, &mut process::cargo(build.iter().chain(&adapter)))?;
    let library = shared_library("sdk_ffi");
    let (from, to) = (adapter_directory().join(&library), directory().join(&library));
    fs::create_dir_all(directory()).map_err(Failure::io(directory()))?;
    fs::copy(&from, &to).map_err(Failure::io(&from))?;
    let kotlin = directory().join("kotlin");
    bindgen(&to, "kotlin", &kotlin)?;
    // The SDK's own crates are set up for Android, whose classes the JVM does not have.
    let android = kotlin.join("uniffi");
    fs::remove_dir_all(&android).map_err(Failure::io(&android))?;
    bindings::mend(&kotlin.join("org/matrixmls/matrix_mls.kt"))?;
    let swift = directory().join("swift");
    bindgen(&to, "swift", &swift)?;
    bindings::mend(&swift.join("MatrixMls.swift"))?;
    arrange(&swift)
}

/// Runs the app in Kotlin.
pub fn kotlin_tests(homeserver: &Homeserver) -> Command {
    let mut command = maven(KOTLIN, &directory(), &["test"]);
    command.env("MATRIX_MLS_HOMESERVER", homeserver.url());
    command
}

/// Runs the app in Swift.
pub fn swift_tests(swift: &Swift, homeserver: &Homeserver) -> Command {
    let mut command = swift::package_command(swift, SWIFT, &directory(), &["test"]);
    command.env("MATRIX_MLS_HOMESERVER", homeserver.url());
    // The SDK makes no client without roots for TLS, and a Swift in a root of its own sees none.
    let (system, here) = (Path::new(CERTIFICATES), directory().join("certificates.pem"));
    if fs::copy(system, &here).is_ok() {
        command.env("SSL_CERT_FILE", &here);
    }
    command
}

/// Where the library and the generated code are. The pom names it as well.
fn directory() -> PathBuf {
    workspace().join("target/one-library")
}

fn bindgen(library: &Path, language: &str, out: &Path) -> Result<(), Failure> {
    let mut command = Command::new(adapter_program("bindgen"));
    // Where `cargo metadata` finds the crates of the library.
    let workspace = workspace().join("adapters/matrix-sdk");
    command.arg(library).arg(language).arg(out).current_dir(workspace);
    process::run(&format!("generating {language} from the one library"), &mut command)
}

/// Puts the generated Swift into modules: one for this library and its layer, and one for the rest.
fn arrange(generated: &Path) -> Result<(), Failure> {
    let sources = workspace().join(SWIFT).join("Sources");
    let (headers, ours) = (sources.join("Headers"), sources.join("MatrixMls"));
    let others = sources.join("SdkFfi/Generated");
    let mut map = String::new();
    for file in files(generated)? {
        match extension(&file) {
            "h" => copy(&file, &headers)?,
            "modulemap" => map += &read(&file)?,
            "swift" if file.ends_with("MatrixMls.swift") => copy(&file, &ours)?,
            "swift" => copy(&file, &others)?,
            _ => {}
        }
    }
    write(&headers.join("module.modulemap"), &map)?;
    for file in files(&workspace().join("bindings/swift/Sources/MatrixMls"))? {
        copy(&file, &ours)?;
    }
    Ok(())
}

fn copy(file: &Path, directory: &Path) -> Result<(), Failure> {
    write(&directory.join(file.file_name().unwrap_or_default()), &read(file)?)
}

/// Writes a file, if it is another one than before: Swift then builds it anew.
fn write(file: &Path, text: &str) -> Result<(), Failure> {
    if fs::read_to_string(file).is_ok_and(|before| before == text) {
        return Ok(());
    }
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory).map_err(Failure::io(directory))?;
    }
    fs::write(file, text).map_err(Failure::io(file))
}

fn read(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(Failure::io(file))
}

/// The files in a directory, without those in directories in it, by name.
fn files(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = fs::read_dir(directory).map_err(Failure::io(directory))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(Failure::io(directory))?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn extension(file: &Path) -> &str {
    file.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}
