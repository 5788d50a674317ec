//! From a seed to a schedule, and from a failing schedule to a short one.

use std::{
    fmt,
    time::{Duration, Instant},
};

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde::{Deserialize, Serialize};

use super::{Outcome, Profile, Schedule, Violation, dice::mix, images::Images, run::run};

/// How long a failing schedule is made shorter for.
const PATIENCE: Duration = Duration::from_secs(90);

/// A schedule that breaks an invariant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Finding {
    /// What its steps were drawn from.
    pub profile: Profile,
    /// The seed.
    pub seed: u64,
    /// What is broken by the shortest schedule that was found.
    pub violation: Violation,
    /// That schedule.
    pub schedule: Schedule,
    /// What happens in it.
    pub trace: Vec<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { profile, seed, violation, schedule, trace } = self;
        writeln!(formatter, "seed {seed} ({profile:?}) breaks {violation}")?;
        writeln!(
            formatter,
            "again: MATRIX_MLS_SEED={profile:?}:{seed} cargo test --test simulator -- --nocapture"
        )?;
        for line in trace {
            writeln!(formatter, "  {line}")?;
        }
        writeln!(formatter, "the schedule, for tests/simulator.jsonl:")?;
        writeln!(formatter, "{}", serde_json::to_string(schedule).unwrap_or_default())
    }
}

/// Runs schedules in this process, one after the other.
pub struct Search {
    runtime: tokio::runtime::Runtime,
    images: Images,
}

impl Search {
    /// Begins without images.
    pub fn new() -> Result<Self, Violation> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Violation::simulator)?;
        Ok(Self { runtime, images: Images::new()? })
    }

    /// Runs one schedule.
    pub fn run(&mut self, schedule: &Schedule) -> Outcome {
        let Self { runtime, images } = self;
        runtime.block_on(run(images, schedule))
    }

    /// Runs the schedule of a seed.
    pub fn seed(&mut self, profile: Profile, seed: u64) -> Outcome {
        self.run(&draw(profile, seed).current())
    }

    /// Makes the failing schedule of a seed as short as patience allows.
    pub fn shrink(&mut self, profile: Profile, seed: u64, first: Outcome) -> Option<Finding> {
        let mut violation = first.violation?;
        let mut trace = first.trace;
        let mut tree = draw(profile, seed);
        let mut schedule = tree.current();
        let began = Instant::now();
        let mut more = tree.simplify();
        while more && began.elapsed() < PATIENCE {
            let candidate = tree.current();
            let outcome = self.run(&candidate);
            match outcome.violation {
                // The same kind of failure: another one is another story.
                Some(found) if found.invariant == violation.invariant => {
                    (violation, trace, schedule) = (found, outcome.trace, candidate);
                    more = tree.simplify();
                }
                _ => more = tree.complicate(),
            }
        }
        Some(Finding { profile, seed, violation, schedule, trace })
    }
}

/// The schedule of a seed, ready to be shrunk.
fn draw(profile: Profile, seed: u64) -> impl ValueTree<Value = Schedule> {
    let mut bytes = [0; 32];
    for (number, chunk) in bytes.chunks_mut(8).enumerate() {
        chunk.copy_from_slice(&mix(seed ^ mix(number as u64 + 1)).to_le_bytes());
    }
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let tree = profile.schedules().new_tree(&mut runner);
    tree.unwrap_or_else(|reason| unreachable!("schedules are never refused: {reason}"))
}
