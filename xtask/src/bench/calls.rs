//! What calls cost from Kotlin and from Swift, beside Rust: the program `Calls` of each, on the library as it is
//! built for release, one after the other.

use std::process::{Command, Stdio};

use super::figures::{self, Figure};
use crate::{
    bindings, kotlin,
    step::{Failure, cargo, workspace},
    swift,
    toolchain::{java, swift::Swift},
};

/// Builds all three and runs them; gives their figures. Sets up a JDK and Swift where there are none.
pub fn measure() -> Result<Vec<Figure>, Failure> {
    java::require()?;
    let swift = Swift::require()?;
    build(&["build", "--locked", "-p", "matrix-mls-bindgen"])?;
    build(&["build", "--release", "--locked", "-p", "matrix-mls"])?;
    bindings::install("release")?;
    bindings::generate(&bindings::native().join("api.txt"))?;
    let mut rust = Command::new(cargo());
    rust.args(["bench", "--locked", "-p", "matrix-mls", "--bench", "calls"]);
    let mut figures = Vec::new();
    for (what, command) in
        [("Rust", rust), ("Kotlin", kotlin::calls()?), ("Swift", swift::calls(&swift)?)]
    {
        figures.extend(figures_of(what, command)?);
    }
    Ok(figures)
}

fn build(arguments: &[&str]) -> Result<(), Failure> {
    let mut command = Command::new(cargo());
    let status = command.args(arguments).current_dir(workspace()).status();
    let status = status.map_err(Failure::start("cargo"))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::Step { what: format!("cargo {}", arguments.join(" ")), status })
}

fn figures_of(what: &str, mut command: Command) -> Result<Vec<Figure>, Failure> {
    eprintln!("[xtask] measuring calls from {what}");
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.current_dir(workspace()).stderr(Stdio::inherit()).output();
    let output = output.map_err(Failure::start(program))?;
    if !output.status.success() {
        let what = format!("measuring calls from {what}");
        return Err(Failure::Step { what, status: output.status });
    }
    Ok(figures::parse(&String::from_utf8_lossy(&output.stdout)))
}
