//! The project's commands, each of which does its own set-up: `cargo xtask test`, `demo`, `bench`
//! and `deny`; it depends on next to nothing, so that this builds in a moment.

#![deny(missing_docs, unsafe_code)]

mod bench;
mod deny;
mod step;

use std::process::ExitCode;

use step::{Failure, Plan};

const USAGE: &str = "\
usage: cargo xtask <command>

  test                                    formatting, lints and all tests, those against Synapse too
  demo [--homeserver embedded|synapse]    three people, five devices, one MLS room, told step by step
  bench [devices …]                       what a message costs in rooms of these sizes, beside others
  deny                                    licences, advisories and sources of all dependencies";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        ["test"] => test(),
        ["demo"] => demo("embedded"),
        ["demo", "--homeserver", kind @ ("embedded" | "synapse")] => demo(kind),
        ["bench", sizes @ ..] if sizes.iter().all(|size| size.parse::<u32>().is_ok()) => {
            bench::run(sizes)
        }
        ["deny"] => deny::check(),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("[xtask] {failure}");
            ExitCode::FAILURE
        }
    }
}

fn test() -> Result<(), Failure> {
    step::require_component("fmt", "rustfmt")?;
    step::require_component("clippy", "clippy")?;
    let mut plan = Plan::new(3);
    plan.cargo("checking the formatting", &["fmt", "--all", "--check"])?;
    plan.cargo(
        "linting (the first time this builds all dependencies: several minutes)",
        &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"],
    )?;
    plan.cargo(
        "testing (the first time this installs Synapse: about a minute)",
        &["test", "--workspace", "--locked"],
    )?;
    plan.finish("test");
    Ok(())
}

fn demo(homeserver: &str) -> Result<(), Failure> {
    let mut plan = Plan::new(2);
    let package = ["--release", "--locked", "-p", "matrix-mls-kit", "--bin", "demo"];
    plan.cargo(
        "building the demo (the first time: several minutes)",
        &[&["build"][..], &package].concat(),
    )?;
    let run = [&["run", "--quiet"][..], &package, &["--", "--homeserver", homeserver]].concat();
    plan.cargo("running the demo", &run)?;
    plan.finish("demo");
    Ok(())
}
