//! `cargo xtask demo`: the story of a room, or the scenario between languages.

use std::path::{self, PathBuf};

use crate::{
    clients::{self, Language},
    failure::Failure,
    homeserver::HomeserverKind,
    plan::Plan,
    process,
};

/// The options of the demo.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The homeserver that the room is on.
    #[arg(long, value_enum, value_name = "KIND", default_value = "embedded")]
    homeserver: HomeserverKind,

    /// Draw the room's epochs into this file, forks and all.
    #[arg(long, value_name = "FILE.svg", conflicts_with = "clients")]
    graph: Option<PathBuf>,

    /// Instead of the story, run devices in these languages and in Rust in one room.
    #[arg(long, value_enum, value_name = "LANGUAGE,…", value_delimiter = ',')]
    clients: Vec<Language>,
}

/// Runs the story, or the scenario if other languages are asked for.
pub fn run(options: &Options) -> Result<(), Failure> {
    if options.clients.is_empty() {
        return story(options);
    }
    clients::demo(&options.clients, options.homeserver)
}

fn story(options: &Options) -> Result<(), Failure> {
    let mut plan = Plan::new(2);
    let package = ["--release", "--locked", "-p", "matrix-mls-kit", "--bin", "demo"];
    plan.cargo(
        "building the demo (the first time: several minutes)",
        &[&["build"][..], &package].concat(),
    )?;
    let mut run = process::cargo(["run", "--quiet"]);
    run.args(package).args(["--", "--homeserver", options.homeserver.name()]);
    if let Some(graph) = &options.graph {
        // Cargo starts the demo in the workspace. The file is named from where the user is.
        run.arg("--graph").arg(path::absolute(graph).map_err(Failure::io(graph))?);
    }
    plan.command("running the demo", &mut run)?;
    plan.finish("demo");
    Ok(())
}
