//! `cargo xtask ios`: the XCFramework of the engine for iPhones, their simulator and Macs.
//!
//! `ios/slices.txt` lists what is built. Header and module map go into the framework; the Swift
//! sources stay in the package beside it. The framework is zipped, and the zip's checksum is
//! printed: a package manifest that downloads the zip needs it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    bindings,
    failure::Failure,
    paths::{target_directory, workspace},
    plan::Plan,
    process::{self, succeeds},
    size::PROFILE,
    toolchain::rust,
};

const FRAMEWORK: &str = "ios/MatrixMlsFFI.xcframework";
const LIBRARY: &str = "libmatrix_mls.a";
const HEADER: &str = "MatrixMlsFFI.h";

/// The module map inside the framework. It links nothing by name, as a framework brings its
/// library.
const MODULE_MAP: &str = "module MatrixMlsFFI {\n    header \"MatrixMlsFFI.h\"\n    export *\n}\n";

/// One slice of the framework: a platform's library, of one or more targets joined.
#[derive(Debug, PartialEq, Eq)]
struct Slice {
    platform: String,
    oldest: String,
    targets: Vec<String>,
}

/// Builds the framework.
pub fn run() -> Result<(), Failure> {
    if !cfg!(target_os = "macos") || !succeeds("xcodebuild", &["-version"]) {
        return Err(Failure::Message(
            "`cargo xtask ios` needs a Mac with Xcode 15 or newer (xcode-select --install is not \
             enough)"
                .to_owned(),
        ));
    }
    let list = workspace().join("ios/slices.txt");
    let slices = parse(&fs::read_to_string(&list).map_err(Failure::io(&list))?)?;
    let targets: usize = slices.iter().map(|slice| slice.targets.len()).sum();
    bindings::run()?;
    let mut plan = Plan::new(targets + 2);
    let mut libraries = Vec::new();
    for slice in &slices {
        for target in &slice.targets {
            build(&mut plan, slice, target)?;
        }
        libraries.push(join(slice)?);
    }
    let headers = headers()?;
    let framework = workspace().join(FRAMEWORK);
    if framework.exists() {
        fs::remove_dir_all(&framework).map_err(Failure::io(&framework))?;
    }
    let mut create = Command::new("xcodebuild");
    create.arg("-create-xcframework");
    for library in &libraries {
        create.arg("-library").arg(library).arg("-headers").arg(&headers);
    }
    plan.command("making the XCFramework", create.arg("-output").arg(&framework))?;
    plan.step("zipping it", || zip(&framework))?;
    plan.finish("ios");
    Ok(())
}

/// Reads the list of slices: a platform, its oldest version and its targets a line.
fn parse(text: &str) -> Result<Vec<Slice>, Failure> {
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split_whitespace().map(ToOwned::to_owned);
            let slice = words.next().zip(words.next()).map(|(platform, oldest)| Slice {
                platform,
                oldest,
                targets: words.collect(),
            });
            slice
                .filter(|slice| !slice.targets.is_empty())
                .ok_or_else(|| Failure::Message(format!("ios/slices.txt: `{line}` is no slice")))
        })
        .collect()
}

/// Builds the static library of one target.
fn build(plan: &mut Plan, slice: &Slice, target: &str) -> Result<(), Failure> {
    rust::require_target(target)?;
    let oldest = match slice.platform.as_str() {
        "macos" => "MACOSX_DEPLOYMENT_TARGET",
        _ => "IPHONEOS_DEPLOYMENT_TARGET",
    };
    let mut build = process::cargo(["build", "--locked", "--profile", PROFILE]);
    build.args(["-p", "matrix-mls", "--lib", "--target", target]).env(oldest, &slice.oldest);
    plan.command(&format!("building for {target}"), &mut build)
}

/// Joins the libraries of a slice's targets into one, and returns its path.
fn join(slice: &Slice) -> Result<PathBuf, Failure> {
    let directory = workspace().join("target/ios").join(&slice.platform);
    fs::create_dir_all(&directory).map_err(Failure::io(&directory))?;
    let joined = directory.join(LIBRARY);
    let built = |target: &String| target_directory().join(target).join(PROFILE).join(LIBRARY);
    let mut lipo = Command::new("lipo");
    lipo.arg("-create").args(slice.targets.iter().map(built)).arg("-output").arg(&joined);
    process::run("lipo", &mut lipo)?;
    Ok(joined)
}

/// Puts the header and its module map into a directory, and returns it. Inside they are in a
/// directory with the module's name, so that the maps of two frameworks do not collide in the app's
/// build.
fn headers() -> Result<PathBuf, Failure> {
    let headers = workspace().join("target/ios/headers");
    let directory = headers.join("MatrixMlsFFI");
    fs::create_dir_all(&directory).map_err(Failure::io(&directory))?;
    let header = workspace().join("bindings/swift/Sources/MatrixMlsFFI").join(HEADER);
    fs::copy(&header, directory.join(HEADER)).map_err(Failure::io(&header))?;
    let map = directory.join("module.modulemap");
    fs::write(&map, MODULE_MAP).map_err(Failure::io(&map))?;
    Ok(headers)
}

/// Zips the framework, and prints the zip's checksum.
fn zip(framework: &Path) -> Result<(), Failure> {
    let zip = framework.with_extension("xcframework.zip");
    let mut ditto = Command::new("ditto");
    ditto.args(["-c", "-k", "--sequesterRsrc", "--keepParent"]).arg(framework).arg(&zip);
    process::run("ditto", &mut ditto)?;
    let mut checksum = Command::new("swift");
    eprintln!("[xtask] {} has the checksum", zip.display());
    process::run("swift", checksum.args(["package", "compute-checksum"]).arg(&zip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_holds_iphones_simulators_and_macs() {
        let text = fs::read_to_string(workspace().join("ios/slices.txt")).unwrap();
        let slices = parse(&text).unwrap();
        let platforms: Vec<&str> = slices.iter().map(|slice| slice.platform.as_str()).collect();
        assert_eq!(platforms, ["ios", "ios-simulator", "macos"]);
        for slice in &slices {
            let simulator = slice.targets.iter().any(|target| target.ends_with("-sim"));
            assert_eq!(simulator, slice.platform == "ios-simulator", "{slice:?}");
            let mac = slice.targets.iter().all(|target| target.ends_with("-darwin"));
            assert_eq!(mac, slice.platform == "macos", "{slice:?}");
        }
        assert!(parse("ios 15.0").is_err());
    }

    #[test]
    fn the_framework_s_module_is_the_one_that_the_sources_import() {
        let map = workspace().join("bindings/swift/Sources/MatrixMlsFFI/module.modulemap");
        let ours = fs::read_to_string(map).unwrap();
        let module = |text: &str| text.lines().next().map(ToOwned::to_owned);
        assert_eq!(module(&ours), module(MODULE_MAP));
        for text in [&ours, MODULE_MAP] {
            assert!(text.contains(&format!("header \"{HEADER}\"")));
        }
    }
}
