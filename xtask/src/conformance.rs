//! `cargo xtask conformance`: clients, each in a process of its own, go through the scenarios of
//! docs/spec/8-conformance.md.

use std::{convert::Infallible, process::Command, str::FromStr};

use crate::{
    bindings, clients,
    failure::Failure,
    homeserver::HomeserverKind,
    paths,
    plan::Plan,
    process::{self, shell_text},
    toolchain::{java, swift::Swift},
};

/// The options of the run.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The homeserver that the clients meet on.
    #[arg(long, value_enum, value_name = "KIND", default_value = "embedded")]
    homeserver: HomeserverKind,

    /// The clients under test: rust, kotlin, swift, second, or a shell command that starts one.
    #[arg(long = "client", value_name = "CLIENT", default_values = ["rust", "second"])]
    clients: Vec<Tested>,

    /// Print the reports as JSON.
    #[arg(long)]
    json: bool,

    /// Only scenarios whose names hold this.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,

    /// How long a client may take for one step, in seconds.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    patience: Option<u64>,
}

/// A client under test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tested {
    /// The library's device in Rust.
    Rust,
    /// The library's device in Kotlin.
    Kotlin,
    /// The library's device in Swift.
    Swift,
    /// The second implementation, on mls-rs.
    Second,
    /// Any other: a shell command.
    Program(String),
}

impl FromStr for Tested {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "rust" => Self::Rust,
            "kotlin" => Self::Kotlin,
            "swift" => Self::Swift,
            "second" => Self::Second,
            command => Self::Program(command.to_owned()),
        })
    }
}

impl Tested {
    /// Whether it needs the generated code.
    fn is_generated(&self) -> bool {
        matches!(self, Self::Kotlin | Self::Swift)
    }

    /// Builds it; `NAME=COMMAND` as the run wants it.
    fn build(&self) -> Result<String, Failure> {
        match self {
            Self::Rust => Ok(format!("rust={}", shell(&paths::program("debug", "device"))?)),
            Self::Kotlin => {
                java::require()?;
                Ok(clients::Client::kotlin()?.argument())
            }
            Self::Swift => Ok(clients::Client::swift(&Swift::require()?)?.argument()),
            Self::Second => {
                let mut build = process::build();
                build.args(["--quiet", "--example", "second"]);
                process::run("building the second implementation", &mut build)?;
                Ok(format!("second={}", shell(&paths::program("debug", "examples/second"))?))
            }
            Self::Program(command) => Ok(format!("program={command}")),
        }
    }
}

fn shell(program: &std::path::Path) -> Result<String, Failure> {
    shell_text(&Command::new(program))
}

/// Builds the clients and runs the scenarios with each.
pub fn run(options: &Options) -> Result<(), Failure> {
    let mut plan = Plan::new(4);
    plan.command(
        "building the library and the partner (the first time: some minutes)",
        &mut process::build(),
    )?;
    plan.step("generating Kotlin and Swift, where they are asked for", || {
        if !options.clients.iter().any(Tested::is_generated) {
            return Ok(());
        }
        bindings::install("debug")?;
        bindings::generate(&paths::native().join("api.txt"))
    })?;
    let clients = plan.step("building the clients", || {
        options.clients.iter().map(Tested::build).collect::<Result<Vec<_>, _>>()
    })?;
    plan.step("running the scenarios", || {
        let mut command = partner(options.homeserver);
        if options.json {
            command.arg("--json");
        }
        if let Some(only) = &options.only {
            command.args(["--only", only]);
        }
        if let Some(patience) = options.patience {
            command.args(["--patience", &patience.to_string()]);
        }
        process::run("the conformance run", command.args(clients))
    })?;
    plan.finish("conformance");
    Ok(())
}

/// The run of `cargo xtask test`, with these clients beside Rust's and the second implementation.
/// The kit must be built.
pub fn check(others: &[clients::Client]) -> Result<(), Failure> {
    let own = [Tested::Rust.build()?, Tested::Second.build()?];
    let others = others.iter().map(clients::Client::argument);
    let mut command = partner(HomeserverKind::Embedded);
    process::run("the conformance run", command.args(own).args(others))
}

fn partner(homeserver: HomeserverKind) -> Command {
    let mut command = Command::new(paths::program("debug", "conformance"));
    command.args(["--homeserver", homeserver.name()]).current_dir(paths::workspace());
    command
}
