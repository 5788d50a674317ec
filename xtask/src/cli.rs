//! The command line: every command with its options, and the help pages made from them.

use clap::{Parser, Subcommand};

use crate::{bench, conformance, demo, fuzz, homeserver, inspect, release, simulate, test};

/// The commands of matrix-mls. Each one sets up what it needs.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub struct CommandLine {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Tell the story of a room, step by step: three people, five devices.
    Demo(demo::Options),
    /// Run a homeserver to try things on, until Ctrl-C: a small one, or Synapse.
    Homeserver(homeserver::Options),
    /// Say how a store stands: rooms, epochs, forks, what waits. It reads, and changes nothing.
    Inspect(inspect::Options),
    /// Run the commands of the README and of the guide's first chapter, as a newcomer would.
    Newcomer,
    /// Run all lints, and the tests of Rust, Kotlin and Swift.
    Test(test::Options),
    /// Have clients go through the scenarios of docs/spec/8-conformance.md.
    Conformance(conformance::Options),
    /// Run a room on two Synapses while their link is cut and healed.
    Federation,
    /// Run invented histories of a room in which everything goes wrong (docs/simulator.md).
    Simulate(simulate::Options),
    /// Give hostile inputs to every parser and to devices in a room (CONTRIBUTING.md, "Fuzzing").
    Fuzz(fuzz::Options),
    /// Write the specification's test vectors anew (docs/spec/vectors), and check them.
    Vectors,
    /// Measure what everything costs by the size of the room, and write docs/bench.
    Bench(bench::options::Options),
    /// Generate the Kotlin, the Swift and the listing of the exported API.
    Bindings,
    /// Build the native libraries of the AAR (needs the Android NDK).
    Android,
    /// Build the XCFramework (needs a Mac with Xcode).
    Ios,
    /// Make and check everything of a release that this machine can make. It publishes nothing.
    Release(release::Options),
    /// Make the reference of each language and the guide as HTML, as far as this machine can.
    Docs,
    /// Check the licences, advisories and sources of all dependencies.
    Deny,
    /// Build the library and the adapter with the oldest Rust that an app may have.
    LowestRust,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, error::ErrorKind};

    use super::*;

    fn parse(line: &str) -> Result<CommandLine, clap::Error> {
        CommandLine::try_parse_from(["cargo xtask"].into_iter().chain(line.split_whitespace()))
    }

    #[test]
    fn the_definition_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_documented_line_is_understood() {
        for line in [
            "demo",
            "demo --graph graph.svg",
            "demo --graph graph.svg --homeserver synapse",
            "demo --clients kotlin,swift",
            "demo --clients kotlin --homeserver embedded",
            "demo --clients sdk --homeserver synapse",
            "demo --homeserver synapse --clients kotlin,swift",
            "homeserver",
            "homeserver synapse --port 8008",
            "inspect /data/mls",
            "inspect /data/mls --json",
            "inspect /data/mls --graph room.svg --room 1a2b3c4d5e",
            "newcomer",
            "test",
            "test --only adapter",
            "conformance",
            "conformance --homeserver synapse --client second --json",
            "conformance --client rust --client ./adapter.py --only backup --patience 30",
            "federation",
            "simulate",
            "simulate --schedules 5000 --seed 1 --jobs 2",
            "simulate --only Losses --again 7700213",
            "simulate --patience 5 --findings 1 --report report.txt",
            "fuzz",
            "fuzz --seconds 60 --only to_device",
            "fuzz --only room --again fuzz/corpus/room/event-00",
            "vectors",
            "bench",
            "bench --report",
            "bench --quick --part graph --part day --sizes 10,100",
            "bindings",
            "android",
            "ios",
            "release",
            "release --rehearse",
            "docs",
            "deny",
            "lowest-rust",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
        }
    }

    #[test]
    fn a_mistake_is_found_before_anything_is_built() {
        for line in [
            "",
            "dmeo",
            "demo --clients java",
            "demo --homeserver dendrite",
            "homeserver dendrite",
            "homeserver --port 0",
            "homeserver --port any",
            "inspect",
            "inspect /data/mls --room 1a2b3c4d5e",
            "inspect /data/mls --json --graph room.svg",
            "demo --clients kotlin --graph graph.svg",
            "conformance --homeserver dendrite",
            "conformance --patience 0",
            "simulate --only Everything",
            "simulate --seed minus-one",
            "fuzz --only everything",
            "fuzz --seconds 0",
            "fuzz --again fuzz/corpus/room/event-00",
            "bench --part graphs",
            "bench --sizes 10,0",
            "bench --report --quick",
            "test --fast",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn every_command_has_a_page() {
        let mut lines = vec!["help".to_owned(), "--help".to_owned(), "-h".to_owned()];
        for command in CommandLine::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            lines.push(format!("{} --help", command.get_name()));
        }
        for line in lines {
            assert_eq!(parse(&line).unwrap_err().kind(), ErrorKind::DisplayHelp, "{line}");
        }
    }
}
