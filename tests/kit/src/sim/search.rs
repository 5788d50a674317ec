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

use super::{
    Outcome, Profile, Schedule, Step, Violation, Weather, dice::mix, images::Images, run::run,
};

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
        writeln!(formatter, "again: cargo xtask simulate --only {profile:?} --again {seed}")?;
        for line in trace {
            writeln!(formatter, "  {line}")?;
        }
        writeln!(formatter, "the schedule:")?;
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
        self.run(&draw(profile, seed))
    }

    /// Makes the failing schedule of a seed as short as patience allows.
    pub fn shrink(
        &mut self,
        profile: Profile,
        seed: u64,
        first: Outcome,
        patience: Duration,
    ) -> Option<Finding> {
        let violation = first.violation?;
        let (schedule, trace) = (draw(profile, seed), first.trace);
        let mut finding = Finding { profile, seed, violation, schedule, trace };
        let until = Instant::now() + patience;
        let mut chunk = finding.schedule.steps.len().div_ceil(2);
        while chunk > 0 && Instant::now() < until {
            let removed = self.without(&mut finding, chunk, until);
            if !removed || chunk > 1 {
                chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2) };
            }
        }
        for gentler in [gentler_faults, gentler_weather, gentler_salts] {
            for candidate in gentler(&finding.schedule) {
                if Instant::now() < until {
                    self.replace(&mut finding, candidate);
                }
            }
        }
        Some(finding)
    }

    /// Takes so many steps away wherever the schedule fails without them; tells whether it did
    /// anywhere.
    fn without(&mut self, finding: &mut Finding, chunk: usize, until: Instant) -> bool {
        let (mut start, mut removed) = (0, false);
        while start < finding.schedule.steps.len() && Instant::now() < until {
            let mut candidate = finding.schedule.clone();
            let end = (start + chunk).min(candidate.steps.len());
            candidate.steps.drain(start..end);
            if self.replace(finding, candidate) {
                removed = true;
            } else {
                start += chunk;
            }
        }
        removed
    }

    /// Takes a schedule instead, if it fails in the same way: another failure is another story.
    fn replace(&mut self, finding: &mut Finding, candidate: Schedule) -> bool {
        if candidate == finding.schedule {
            return false;
        }
        let outcome = self.run(&candidate);
        match outcome.violation {
            Some(violation) if violation.invariant == finding.violation.invariant => {
                finding.violation = violation;
                finding.schedule = candidate;
                finding.trace = outcome.trace;
                true
            }
            _ => false,
        }
    }
}

fn gentler_faults(schedule: &Schedule) -> Vec<Schedule> {
    each_step(schedule, |step| step.fault = None)
}

fn gentler_salts(schedule: &Schedule) -> Vec<Schedule> {
    each_step(schedule, |step| step.salt = 0)
}

/// The schedule with all steps changed, and with each of them.
fn each_step(schedule: &Schedule, change: fn(&mut Step)) -> Vec<Schedule> {
    let mut all = schedule.clone();
    all.steps.iter_mut().for_each(change);
    let mut candidates = vec![all];
    for number in 0..schedule.steps.len() {
        let mut one = schedule.clone();
        change(&mut one.steps[number]);
        candidates.push(one);
    }
    candidates
}

fn gentler_weather(schedule: &Schedule) -> Vec<Schedule> {
    let changes: [fn(&mut Schedule); 11] = [
        |schedule| schedule.weather.expels = false,
        |schedule| schedule.weather.delay_ms = 0,
        |schedule| schedule.weather.hides = false,
        |schedule| schedule.weather.racing = false,
        |schedule| schedule.weather.timeline_limit = 1_000,
        |schedule| schedule.weather.off = Weather::CALM.off,
        |schedule| schedule.weather.slides = 0,
        |schedule| schedule.weather.slides &= 0b1110,
        |schedule| schedule.weather.slides &= 0b1101,
        |schedule| schedule.weather.slides &= 0b1011,
        |schedule| schedule.weather.slides &= 0b0111,
    ];
    let changed = changes.iter().map(|change| {
        let mut candidate = schedule.clone();
        change(&mut candidate);
        candidate
    });
    changed.collect()
}

/// The schedule of a seed.
fn draw(profile: Profile, seed: u64) -> Schedule {
    let mut bytes = [0; 32];
    for (number, chunk) in bytes.chunks_mut(8).enumerate() {
        chunk.copy_from_slice(&mix(seed ^ mix(number as u64 + 1)).to_le_bytes());
    }
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    match profile.schedules().new_tree(&mut runner) {
        Ok(tree) => tree.current(),
        Err(reason) => unreachable!("schedules are never refused: {reason}"),
    }
}
