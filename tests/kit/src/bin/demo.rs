//! The story, told to a person: `demo [--homeserver embedded|synapse]`.

use std::process::ExitCode;

use matrix_mls_kit::{
    Homeserver, HomeserverKind,
    story::{Printer, tell},
};

const USAGE: &str = "usage: demo [--homeserver embedded|synapse]";

fn main() -> ExitCode {
    let mut kind = HomeserverKind::Embedded;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = match argument.as_str() {
            "--homeserver" => arguments.next().unwrap_or_default(),
            "-h" | "--help" => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            other => {
                eprintln!("there is no option `{other}`\n{USAGE}");
                return ExitCode::from(2);
            }
        };
        match value.parse() {
            Ok(chosen) => kind = chosen,
            Err(error) => {
                eprintln!("{error}\n{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no async runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(kind)) {
        Ok(()) => {
            println!("\nEvery step was as told.");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("\nThe story broke off: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(kind: HomeserverKind) -> Result<(), Box<dyn std::error::Error>> {
    let homeserver = Homeserver::start(kind).await?;
    println!("An MLS room between devices, on {} ({kind:?}).", homeserver.base_url());
    tell(&homeserver, "", &mut Printer::default()).await?;
    Ok(())
}
