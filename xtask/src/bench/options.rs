//! The options of `cargo xtask bench`: what is measured, in rooms of which sizes, and where the
//! results go.

use std::path::PathBuf;

use crate::paths::{target_directory, workspace};

/// Sizes of rooms for the plots.
const GRAPH: [u64; 12] = [2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];
/// Sizes of rooms for the table of operations.
const OPERATIONS: [u64; 4] = [10, 100, 1_000, 10_000];
/// The largest room with `--quick`.
const QUICK: u64 = 1_000;

/// The options.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Measure this part only. Can be given several times.
    #[arg(long = "part", value_enum, value_name = "PART")]
    parts: Vec<Part>,

    /// Measure rooms of these sizes, in devices, and write to target/bench.
    #[arg(
        long, value_name = "N,…", value_delimiter = ',',
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    sizes: Vec<u64>,

    /// Leave out rooms of more than 1,000 devices, and write to target/bench.
    #[arg(long)]
    quick: bool,

    /// Measure nothing: write the page and the plots again from docs/bench/results.json.
    #[arg(long, conflicts_with_all = ["parts", "sizes", "quick"])]
    report: bool,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Setting up and renewing a room's keys.
    Graph,
    /// Every operation.
    Operations,
    /// A day in an app.
    Day,
    /// Calls from Kotlin and Swift.
    Bindings,
    /// The library's size.
    Size,
}

impl Part {
    const ALL: [Self; 5] = [Self::Graph, Self::Operations, Self::Day, Self::Bindings, Self::Size];

    /// The part's name on the command lines of the contenders and in their figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Graph => "graph",
            Self::Operations => "operations",
            Self::Day => "day",
            Self::Bindings => "bindings",
            Self::Size => "size",
        }
    }
}

impl Options {
    /// Whether the page is only written again.
    pub fn only_report(&self) -> bool {
        self.report
    }

    /// The parts to measure: those that were named, or all.
    pub fn parts(&self) -> &[Part] {
        if self.parts.is_empty() { &Part::ALL } else { &self.parts }
    }

    /// The sizes of rooms that a part is measured in.
    pub fn sizes_of(&self, part: Part) -> Vec<u64> {
        let default = if part == Part::Graph { &GRAPH[..] } else { &OPERATIONS };
        let sizes = if self.sizes.is_empty() { default } else { &self.sizes };
        let most = if self.quick { QUICK } else { u64::MAX };
        sizes.iter().copied().filter(|size| *size <= most).collect()
    }

    /// The directory that the results go to. Results of some sizes only do not belong in docs.
    pub fn directory(&self) -> PathBuf {
        let is_partial = self.quick || !self.sizes.is_empty();
        if is_partial { target_directory().join("bench") } else { workspace().join("docs/bench") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_run_leaves_out_large_rooms_and_stays_out_of_docs() {
        let mut options = Options { parts: vec![], sizes: vec![], quick: false, report: false };
        assert_eq!(options.parts(), Part::ALL);
        assert_eq!(options.sizes_of(Part::Graph), GRAPH);
        assert_eq!(options.sizes_of(Part::Operations), OPERATIONS);
        assert_eq!(options.directory(), workspace().join("docs/bench"));
        options.quick = true;
        assert_eq!(options.sizes_of(Part::Operations), [10, 100, 1_000]);
        assert_eq!(options.directory(), target_directory().join("bench"));
        options.sizes = vec![7, 5_000];
        options.parts = vec![Part::Day];
        assert_eq!(options.parts(), [Part::Day]);
        assert_eq!(options.sizes_of(Part::Graph), [7]);
    }
}
