//! The story, told to a person: `demo [--homeserver embedded|synapse] [--graph FILE.svg]`.

use std::process::ExitCode;

use matrix_mls_kit::{
    Homeserver, HomeserverKind, Result, SyncBy,
    graph::svg,
    story::{Printer, Stage, tell},
};

const USAGE: &str = "usage: demo [--homeserver embedded|synapse] [--graph FILE.svg]";

fn main() -> ExitCode {
    let mut kind = HomeserverKind::Embedded;
    let mut graph = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = match argument.as_str() {
            "--homeserver" => arguments.next().unwrap_or_default(),
            "--graph" => {
                graph = arguments.next();
                continue;
            }
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
    match runtime.block_on(run(kind, graph.as_deref())) {
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

async fn run(kind: HomeserverKind, graph: Option<&str>) -> Result {
    let homeserver = Homeserver::start(kind).await?;
    println!("An MLS room between devices, on {} ({kind:?}).", homeserver.base_url());
    let stage = Stage { homeserver: &homeserver, tag: "", sync_by: SyncBy::Tokens };
    let epochs = tell(stage, &mut Printer::default()).await?;
    if let Some(path) = graph {
        let title = "The epochs of the demo's room, as Alice's laptop knows them";
        std::fs::write(path, svg(title, &epochs))?;
        println!("\nThe room's epochs are drawn in {path}.");
    }
    Ok(())
}
