//! What calls cost from Rust, Kotlin and Swift. Each language has a program that measures them with
//! the library as it is built for release. They run one after the other.

use super::{figures::Figure, programs};
use crate::{
    bindings,
    failure::Failure,
    kotlin, paths, process, swift,
    toolchain::{java, swift::Swift},
};

/// Builds all three and runs them. Sets up a JDK and Swift if they are missing.
pub fn measure() -> Result<Vec<Figure>, Failure> {
    java::require()?;
    let swift = Swift::require()?;
    let build = |arguments: &[&str]| {
        let mut command = process::cargo(["build", "--locked"]);
        process::run("building the library and the generator", command.args(arguments))
    };
    build(&["-p", "matrix-mls-bindgen"])?;
    build(&["--release", "-p", "matrix-mls"])?;
    bindings::install("release")?;
    bindings::generate(&paths::native().join("api.txt"))?;
    let rust = process::cargo(["bench", "--locked", "-p", "matrix-mls", "--bench", "calls"]);
    let mut figures = Vec::new();
    for (language, mut command) in
        [("Rust", rust), ("Kotlin", kotlin::calls()?), ("Swift", swift::calls(&swift)?)]
    {
        let what = format!("measuring calls from {language}");
        eprintln!("[xtask] {what}");
        figures.extend(programs::figures_of(&what, &mut command)?);
    }
    Ok(figures)
}
