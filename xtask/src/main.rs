//! The project's commands, each of which does its own set-up (see `USAGE`); it depends on next to
//! nothing, so that this builds in a moment.

#![deny(missing_docs, unsafe_code)]

mod android;
mod bench;
mod bindings;
mod clients;
mod deny;
mod homeserver;
mod ios;
mod kotlin;
mod size;
mod step;
mod swift;
mod test;
mod toolchain;

use std::process::ExitCode;

use step::{Failure, Plan};

const USAGE: &str = "\
usage: cargo xtask <command>

  test                                    everything: lints, and the tests of Rust, Kotlin and Swift
  demo [--homeserver embedded|synapse]    three people, five devices, one MLS room, told step by step
       [--graph FILE.svg]                 and a picture of the room's epochs, forks and all
       [--clients kotlin,swift]           or: devices in these languages and Rust in one room
  federation                              a room on two Synapses, their link cut and healed
  bindings                                the Kotlin, the Swift, and the listing of the exported API
  android                                 the native libraries of the AAR (needs the NDK)
  ios                                     the XCFramework (needs a Mac with Xcode)
  bench [--quick] [--part NAME] …         what everything costs by the size of the room, beside others (docs/bench)
  simulate [--schedules N] [--seed S] [--jobs N] …
                                          histories of a room in which everything goes wrong (docs/simulator.md)
  deny                                    licences, advisories and sources of all dependencies";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        ["test"] => test::run(),
        ["demo", "--clients", languages] => clients::demo(languages, "embedded"),
        ["demo", "--clients", languages, "--homeserver", kind @ ("embedded" | "synapse")]
        | ["demo", "--homeserver", kind @ ("embedded" | "synapse"), "--clients", languages] => {
            clients::demo(languages, kind)
        }
        // The demo itself says what is wrong with the others.
        ["demo", options @ ..] => demo(options),
        ["federation"] => federation(),
        ["bindings"] => bindings::run(),
        ["android"] => android::run(),
        ["ios"] => ios::run(),
        ["bench", options @ ..] => bench::run(options),
        ["simulate", options @ ..] => simulate(options),
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

fn federation() -> Result<(), Failure> {
    let mut plan = Plan::new(2);
    let test = ["test", "--locked", "-p", "matrix-mls-kit", "--test", "federation"];
    plan.cargo(
        "building the test (the first time: several minutes)",
        &[&test[..], &["--no-run"]].concat(),
    )?;
    plan.cargo(
        "cutting and healing (the first time this installs Synapse: about a minute)",
        &[&test[..], &["an_mls_room_gets_over_cuts", "--", "--nocapture"]].concat(),
    )?;
    plan.finish("federation");
    Ok(())
}

fn demo(options: &[&str]) -> Result<(), Failure> {
    let mut plan = Plan::new(2);
    let package = ["--release", "--locked", "-p", "matrix-mls-kit", "--bin", "demo"];
    plan.cargo(
        "building the demo (the first time: several minutes)",
        &[&["build"][..], &package].concat(),
    )?;
    let run = [&["run", "--quiet"][..], &package, &["--"], options].concat();
    plan.cargo("running the demo", &run)?;
    plan.finish("demo");
    Ok(())
}

fn simulate(options: &[&str]) -> Result<(), Failure> {
    let mut plan = Plan::new(2);
    let package = ["--release", "--locked", "-p", "matrix-mls-kit", "--bin", "simulate"];
    plan.cargo(
        "building the simulator (the first time: several minutes)",
        &[&["build"][..], &package].concat(),
    )?;
    plan.cargo("simulating", &[&["run", "--quiet"][..], &package, &["--"], options].concat())?;
    plan.finish("simulate");
    Ok(())
}
