//! The Swift package as SwiftPM fetches it: a directory to be pushed as a repository of its own,
//! with Package.swift at its root and the generated sources in it.

use std::{fs, path::Path};

use super::files::{self, VERSION};
use crate::{
    failure::Failure,
    paths::{native, workspace},
    process,
    toolchain::swift::Swift,
};

/// The variable with the XCFramework's checksum, which only a Mac can make.
const CHECKSUM: &str = "MATRIX_MLS_XCFRAMEWORK_CHECKSUM";

/// The sources of the package, and where they are here.
const SOURCES: [(&str, &str); 3] = [
    ("MatrixMls", "bindings/swift/Sources/MatrixMls"),
    ("MatrixMlsKeychain", "ios/Sources/MatrixMlsKeychain"),
    ("MatrixMlsPush", "ios/Sources/MatrixMlsPush"),
];

/// Writes the package.
pub(super) fn make(files: &Path) -> Result<(), Failure> {
    let package = files.join("matrix-mls-swift");
    let sources = package.join("Sources");
    for (name, from) in SOURCES {
        copy_all(&workspace().join(from), &sources.join(name))?;
    }
    // The module of the C symbols, for Linux. Apple's systems have it in the framework.
    copy_all(
        &workspace().join("bindings/swift/Sources/MatrixMlsFFI"),
        &sources.join("MatrixMlsFFI"),
    )?;
    for name in ["LICENSE-APACHE", "LICENSE-MIT"] {
        files::copy(&workspace().join(name), &package)?;
    }
    let manifest = package.join("Package.swift");
    let text = manifest_text(std::env::var(CHECKSUM).ok().as_deref());
    fs::write(&manifest, text).map_err(Failure::io(&manifest))
}

/// Builds the package as it was written, on Linux with the library of this build.
pub(super) fn check(files: &Path, swift: &Swift) -> Result<(), Failure> {
    let package = files.join("matrix-mls-swift");
    let library = format!("-L{}", native().display());
    let scratch = workspace().join("target/swift/released");
    let scratch = scratch.to_string_lossy();
    let arguments = ["build", "--scratch-path", &scratch, "-Xlinker", &library];
    process::run("building the Swift package", &mut swift.command(&package, "swift", &arguments))
}

fn copy_all(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::create_dir_all(to).map_err(Failure::io(to))?;
    for entry in fs::read_dir(from).map_err(Failure::io(from))? {
        let entry = entry.map_err(Failure::io(from))?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_all(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).map_err(Failure::io(entry.path()))?;
        }
    }
    Ok(())
}

/// The manifest. Without a checksum it says on a Mac what is missing, and does not resolve.
fn manifest_text(checksum: Option<&str>) -> String {
    let framework = match checksum {
        Some(checksum) => format!(
            "let engine: Target = .binaryTarget(
    name: \"MatrixMlsFFI\",
    url: \"https://github.com/matrix-mls/matrix-mls/releases/download/v{VERSION}/\\
MatrixMlsFFI.xcframework.zip\",
    checksum: \"{checksum}\")"
        ),
        None => "let engine: Target = {
    fatalError(\"this package was made without an XCFramework: see `cargo xtask release`\")
}()"
        .to_owned(),
    };
    let framework = framework.replace("\\\n", "");
    format!(
        "// swift-tools-version: 5.9
// MatrixMls {VERSION}: Messaging Layer Security (RFC 9420) for Matrix rooms. Needs Xcode 15 or
// newer.
//
// Written by `cargo xtask release`.
import PackageDescription

#if os(Linux)
let engine: Target = .systemLibrary(name: \"MatrixMlsFFI\")
#else
{framework}
#endif

let package = Package(
    name: \"matrix-mls-swift\",
    platforms: [.iOS(.v15), .macOS(.v12)],
    products: [
        .library(name: \"MatrixMls\", targets: [\"MatrixMls\"]),
        .library(name: \"MatrixMlsKeychain\", targets: [\"MatrixMlsKeychain\"]),
        .library(name: \"MatrixMlsPush\", targets: [\"MatrixMlsPush\"]),
    ],
    targets: [
        engine,
        .target(name: \"MatrixMls\", dependencies: [\"MatrixMlsFFI\"]),
        .target(name: \"MatrixMlsKeychain\", dependencies: [\"MatrixMls\"]),
        .target(name: \"MatrixMlsPush\", dependencies: [\"MatrixMls\"]),
    ],
    swiftLanguageVersions: [.v5, .version(\"6\")]
)
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_names_the_framework_of_this_version() {
        let text = manifest_text(Some("abc"));
        let url = format!("/v{VERSION}/MatrixMlsFFI.xcframework.zip\"");
        assert!(text.contains(&url) && text.contains("checksum: \"abc\""), "{text}");
        assert!(manifest_text(None).contains("fatalError"));
    }

    #[test]
    fn the_package_has_the_products_that_apps_use() {
        let package = fs::read_to_string(workspace().join("ios/Package.swift")).unwrap();
        for (name, from) in SOURCES {
            assert!(package.contains(&format!(".library(name: \"{name}\"")), "{name}");
            assert!(workspace().join(from).is_dir(), "{from}");
        }
    }
}
