//! `cargo xtask inspect`: how a store stands, for whoever looks for a bug.

use std::{path::PathBuf, process::Command};

use crate::{failure::Failure, paths, process};

/// The options of `cargo xtask inspect`.
///
/// The store's key is read from the environment: `MATRIX_MLS_STORE_KEY` has 64 hex digits,
/// `MATRIX_MLS_STORE_PASSPHRASE` has a passphrase. Without both the store counts as unprotected.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The directory of the store: `MachineConfig::store_path`.
    #[arg(value_name = "STORE")]
    store: PathBuf,

    /// Print the report as JSON.
    #[arg(long, conflicts_with = "graph")]
    json: bool,

    /// Draw a room's epochs into this file instead.
    #[arg(long, value_name = "FILE.svg")]
    graph: Option<PathBuf>,

    /// The room to draw, by its short name in the report. It is needed where there are several.
    #[arg(long, value_name = "ROOM", requires = "graph")]
    room: Option<String>,
}

/// Prints the report, or draws the picture. The store stays as it is, and may be in use.
pub fn run(options: &Options) -> Result<(), Failure> {
    process::run("building the program that inspects", process::build().arg("--quiet"))?;
    let mut run = Command::new(paths::program("debug", "inspect"));
    run.arg(&options.store);
    if options.json {
        run.arg("--json");
    }
    if let Some(graph) = &options.graph {
        run.arg("--graph").arg(graph);
    }
    if let Some(room) = &options.room {
        run.args(["--room", room]);
    }
    process::run("inspecting the store", &mut run)
}
