//! The jar for the JVM: the Kotlin, and the native library on the path where JNA looks for it, so
//! that one dependency is all that a program needs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::files::{VERSION, copy, run_step, sum};
use crate::{
    failure::Failure,
    homeserver::Homeserver,
    kotlin,
    paths::{library_name, native, program, workspace},
    process,
    toolchain::java::maven,
};

const PROJECT: &str = "bindings/kotlin/pom.xml";

/// JNA's name of this system, which is the directory of its libraries in a jar.
pub(super) const PLATFORM: &str = if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
    "linux-x86-64"
} else if cfg!(all(target_os = "linux", target_arch = "aarch64")) {
    "linux-aarch64"
} else if cfg!(all(target_os = "macos", target_arch = "aarch64")) {
    "darwin-aarch64"
} else {
    "darwin-x86-64"
};

/// What Bob reads at the end of the program.
const READ: &str = "Hello, Bob";

/// Makes the jar, the jar of its sources and its POMs.
pub(super) fn make(files: &Path, profile: &str) -> Result<(), Failure> {
    let natives = files.join("natives");
    let library = natives.join(PLATFORM);
    fs::create_dir_all(&library).map_err(Failure::io(&library))?;
    copy(&program(profile, &library_name()), &library)?;
    let first = build(&natives)?;
    let sums = first.iter().map(|jar| sum(jar)).collect::<Result<Vec<_>, _>>()?;
    let second = build(&natives)?;
    for (jar, before) in second.iter().zip(sums) {
        if sum(jar)? != before {
            let what = format!("{} differs between two builds of the same sources", jar.display());
            return Err(Failure::Message(what));
        }
        copy(jar, files)?;
    }
    for (pom, name) in [("pom.xml", "matrix-mls-parent"), ("library/pom.xml", "matrix-mls")] {
        let from = workspace().join("bindings/kotlin").join(pom);
        let to = files.join(format!("{name}-{VERSION}.pom"));
        fs::copy(&from, &to).map_err(Failure::io(&from))?;
    }
    let used = "deleting the copy of the library that is in the jar";
    fs::remove_dir_all(&natives).map_err(|_| Failure::Message(format!("{used} failed")))
}

/// Builds both jars from nothing, and returns their paths.
fn build(natives: &Path) -> Result<[PathBuf; 2], Failure> {
    let target = workspace().join("bindings/kotlin/library/target");
    if target.exists() {
        fs::remove_dir_all(&target).map_err(Failure::io(&target))?;
    }
    let arguments = ["package", "-P", "release", "-DskipTests", "-pl", ".,library"];
    let mut build = maven(PROJECT, &native(), &arguments);
    build.arg(format!("-Dmatrixmls.native.dir={}", natives.display()));
    run_step("building the jar", &mut build)?;
    let jar = |kind: &str| target.join(format!("matrix-mls-{VERSION}{kind}.jar"));
    Ok([jar(""), jar("-sources")])
}

/// Runs the sample with the jar, without anything that says where the native library is.
pub(super) fn check(files: &Path, homeserver: &Homeserver) -> Result<(), Failure> {
    let class_path = kotlin::sample_class_path()?;
    let ours = workspace().join("bindings/kotlin/library");
    let others = class_path.split(':').filter(|entry| !Path::new(entry).starts_with(&ours));
    let jar = files.join(format!("matrix-mls-{VERSION}.jar"));
    let class_path = others.chain([&*jar.to_string_lossy()]).collect::<Vec<_>>().join(":");
    let mut program = Command::new("java");
    program.args(["-cp", &class_path, "org.matrixmls.sample.TwoDevicesKt", homeserver.url()]);
    let printed = process::output("a program with the jar", &mut program)?;
    if printed.contains(READ) {
        return Ok(());
    }
    Err(Failure::Message(format!("Bob has read nothing with the jar:\n{printed}")))
}
